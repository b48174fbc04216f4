import re

import pytest

from analysis.findings import findings
from analysis.proposers import Ideas
from harness.errors import OutOfIdeas, UserError
from harness.protocols import History
from tests.analysis.test_findings import trial
from traces.records import Decision, Proposal, Round, now

SKILL = "skills/writing/SKILL.md"
TEXT = {"prompts/solve.md": "# user\n{{ task }}\n", SKILL: "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"}
FAILED = [trial(f"p-{i}", reason="the name is wrong") for i in range(4)] + [
    trial("l-0", tags=("link",), reason="a link leads nowhere")
]


def history(rounds=(), tried=None, trials=FAILED) -> History:
    def version_of(edits):
        return repr([(edit.path, edit.text) for edit in edits])

    return History(run="run", tasks={}, trials=trials, rounds=rounds, tried=tried or {}, version_of=version_of)


def a_round(proposal: Proposal, because: str = "no-improvement") -> Round:
    decision = Decision(verdict="keep" if because == "improved" else "discard", because=because)  # type: ignore[arg-type]
    return Round(
        run="run",
        number=1,
        incumbent="x",
        working="x",
        proposal=proposal,
        decision=decision,
        started=now(),
        seconds=0.0,
    )


@pytest.fixture
def folder(tmp_path):
    """Adds ideas: a name, then path → text."""
    root = tmp_path / "ideas"
    root.mkdir()

    def add(name, files, **header):
        for path, text in files.items():
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (root / name / path).write_text(text)
        if header:
            (root / name / "idea.toml").write_text("".join(f"{k} = {v!r}\n" for k, v in header.items()))
        return root

    return add


def patch(old: str, new: str, before: str = "", after: str = "") -> str:
    lines = [f" {line}" for line in before.split()] + [f"-{old}", f"+{new}"] + [f" {line}" for line in after.split()]
    count = len(lines) - 1
    return f"--- a/{SKILL}\n+++ b/{SKILL}\n@@ -1,{count} +1,{count} @@\n" + "\n".join(lines) + "\n"


def names_tried(proposer, text=TEXT):
    """The names of the ideas, in the order in which they are proposed, and why there are no more."""
    rounds, names = [], []
    while True:
        try:
            proposal = proposer.propose("v", text, history(rounds))
        except OutOfIdeas as end:
            return names, str(end)
        names.append(proposal.rationale.split(":")[0])
        rounds.append(a_round(proposal))


def test_the_idea_that_answers_what_costs_most_goes_first_and_the_rest_by_name(folder):
    folder("a-plain", {"prompts/solve.md": "# user\nPlease: {{ task }}\n"})
    folder("b-links", {SKILL: "links\n"}, answers="link leads")
    folder("z-names", {SKILL: "names\n"}, answers="name (is|was) wrong")
    root = folder("c-plain", {SKILL: "other\n"}, answers="something that never fails")

    assert names_tried(Ideas(root))[0] == ["z-names", "b-links", "a-plain", "c-plain"]


def test_a_proposal_names_the_finding_its_evidence_and_the_gain_it_expects(folder):
    root = folder("names", {SKILL: "names\n"}, answers="name is wrong", rationale="read the code")
    [names, _] = findings(FAILED)

    proposal = Ideas(root).propose("v", TEXT, history())

    assert proposal.rationale == "names: read the code"
    assert (proposal.answers, proposal.evidence) == ((names.id,), names.examples)
    assert proposal.predicted == pytest.approx(0.8 / 2)
    assert [(edit.path, edit.text) for edit in proposal.edits] == [(SKILL, "names\n")]


def test_the_gain_that_its_author_expects_goes_before_what_is_usual(folder):
    root = folder("names", {SKILL: "names\n"}, answers="name is wrong", predicted=0.25)
    assert Ideas(root).propose("v", TEXT, history()).predicted == 0.25


def test_two_patches_of_one_file_are_both_applied_one_after_the_other(folder):
    folder("first", {"skill.patch": patch("two", "2", before="one", after="three")})
    root = folder(
        "second", {"skill.patch": patch("seven", "7", before="four five six").replace("-1,4 +1,4", "-4,4 +4,4")}
    )
    first = Ideas(root).propose("v", TEXT, history())
    kept = {**TEXT, SKILL: first.edits[0].text}

    second = Ideas(root).propose("w", kept, history([a_round(first, "improved")]))

    assert second.edits[0].text == "one\n2\nthree\nfour\nfive\nsix\n7\n"


def test_a_patch_that_no_longer_applies_is_skipped_and_said(folder):
    folder("a-gone", {"skill.patch": patch("zwei", "2", before="one", after="three")})
    root = folder("b-there", {SKILL: "other\n"})

    names, end = names_tried(Ideas(root))

    assert names == ["b-there"]
    assert "skipped a-gone, whose patch does not apply any more" in Ideas(root).propose("v", TEXT, history()).rationale
    assert "a-gone" in end


def test_a_patch_never_leads_out_of_the_subject(folder, tmp_path):
    away = "--- /dev/null\n+++ b/../../away.md\n@@ -0,0 +1 @@\n+here\n"
    with pytest.raises(OutOfIdeas, match="does not apply"):
        Ideas(folder("out", {"out.patch": away})).propose("v", TEXT, history())
    assert not list(tmp_path.rglob("away.md"))


def test_a_patch_may_delete_a_file_and_add_another(folder):
    gone = "\n".join(f"-{line}" for line in TEXT[SKILL].splitlines())
    change = (
        f"--- a/{SKILL}\n+++ /dev/null\n@@ -1,7 +0,0 @@\n{gone}\n"
        "--- /dev/null\n+++ b/skills/new/SKILL.md\n@@ -0,0 +1 @@\n+new\n"
    )
    proposal = Ideas(folder("move", {"move.diff": change})).propose("v", TEXT, history())
    assert {edit.path: edit.text for edit in proposal.edits} == {SKILL: None, "skills/new/SKILL.md": "new\n"}


def test_what_was_tried_in_this_run_or_an_earlier_one_is_not_tried_again(folder):
    root = folder("only", {SKILL: "other\n"})
    proposal = Ideas(root).propose("v", TEXT, history())
    for seen in (history([a_round(proposal)]), history(tried={repr([(SKILL, "other\n")]): "an earlier run"})):
        with pytest.raises(OutOfIdeas, match=rf"no idea is left .* in .*{root.name}/, or take CodeProposer"):
            Ideas(root).propose("w", TEXT, seen)


def test_an_idea_that_broken_machines_kept_from_being_tried_is_tried_again(folder):
    root = folder("only", {SKILL: "other\n"})
    proposal = Ideas(root).propose("v", TEXT, history())
    assert Ideas(root).propose("v", TEXT, history([a_round(proposal, "errors")])) == proposal


def test_an_idea_may_be_added_or_changed_while_the_night_runs(folder):
    root = folder("only", {SKILL: "other\n"})
    rounds = [a_round(Ideas(root).propose("v", TEXT, history()))]
    folder("only", {SKILL: "better\n"})
    rounds.append(a_round(Ideas(root).propose("v", TEXT, history(rounds))))
    folder("new", {SKILL: "new\n"})
    assert Ideas(root).propose("v", TEXT, history(rounds)).rationale.startswith("new")


def test_an_idea_that_is_there_already_is_no_proposal(folder):
    with pytest.raises(OutOfIdeas):
        Ideas(folder("same", {SKILL: TEXT[SKILL]})).propose("v", TEXT, history())


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"idea.toml": "answers = '('"}, "no regular expression"),
        ({"idea.toml": "why = 'because'"}, "may hold rationale, answers and predicted"),
        ({"idea.toml": "= nothing", SKILL: "x"}, "is not TOML"),
        ({"idea.toml": "predicted = 40"}, "predicted"),
        ({"idea.toml": "rationale = 'none'"}, "changes nothing"),
    ],
)
def test_an_idea_that_cannot_be_read_is_refused_with_its_file(folder, files, said):
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        Ideas(folder("bad", files)).propose("v", TEXT, history())
    assert "bad" in str(refused.value)


def test_what_is_no_text_of_its_own_is_refused(folder):
    root = folder("odd", {SKILL: "x"})
    (root / "odd" / "link.md").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="symbolic link"):
        Ideas(root).propose("v", TEXT, history())
    (root / "odd" / "link.md").unlink()
    (root / "odd" / "image.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as text"):
        Ideas(root).propose("v", TEXT, history())


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        Ideas(tmp_path / "ideas").propose("v", TEXT, history())
