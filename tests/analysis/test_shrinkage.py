"""Whether a failure shrank is told for all findings, paired, by cluster, with an interval."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.findings import findings
from analysis.proposers.examples import proposal_id
from analysis.shrinkage import after_each, by_chance, confirmed, shrinkage, train_trials_by_version
from harness.errors import OutOfIdeas
from harness.gate import PairedGate
from harness.ledger import journal_file, runs
from harness.protocols import History
from tests.conftest import a_checkout
from tests.world import KINDS, PROMPT, an_experiment, play, some_tasks
from traces.journal import Journal
from traces.records import Edit, Finding, Grade, Proposal, Run, Span, Trial, now

WORDS = {"late": "it came too late", "blank": "nothing was written", "": ""}


def a_trial(task: str, shows: str = "", repeat: int = 0, version: str = "v" * 8, cluster: str = "", **more) -> Trial:
    """Of *task*; it shows the failure of that name, or none."""
    return Trial(
        id=f"run/{version}/{task}/{repeat}",
        run="run",
        version=version,
        task=task,
        split="train",
        tags=("kind",),
        cluster=cluster,
        repeat=repeat,
        grade=Grade(score=0.0 if shows else 1.0, reason=WORDS[shows]),
        started=now(),
        seconds=0.0,
    ).model_copy(update=more)


def lost_trial(task: str) -> Trial:
    return a_trial(task, grade=None, error="gone", error_class="connection", boundary="model")


def side(shows: Mapping[str, str], version: str) -> list[Trial]:
    return [a_trial(task, failure, version=version) for task, failure in shows.items()]


def named(found: list[Finding]) -> dict[str, Finding]:
    return {name: f for f in found for name, words in WORDS.items() if words and words in f.title}


def rows_by_name(before, after, answers=()):
    found = named(findings([*before, *after]))
    rows = shrinkage(before, after, list(found.values()), {found[a].id for a in answers})
    return {name: row for row in rows for name, f in found.items() if f.id == row.finding.id}


TASKS = [f"t{i}" for i in range(20)]
LATE = side({t: "late" if i < 12 else "blank" if i < 14 else "" for i, t in enumerate(TASKS)}, "b" * 8)
MENDED = side({t: "blank" if 6 <= i < 16 else "" for i, t in enumerate(TASKS)}, "a" * 8)


def test_a_failure_that_shrank_and_one_that_grew_both_show_with_their_intervals():
    rows = rows_by_name(LATE, MENDED, ["late"])

    late, blank = rows["late"], rows["blank"]
    assert (late.before, late.n_before, late.after, late.n_after, late.clusters) == (12, 20, 0, 20, 20)
    assert late.change == pytest.approx(-0.6)
    assert late.is_rarer
    assert (blank.before, blank.after) == (2, 10)
    assert blank.is_more_frequent
    assert (late.targeted, blank.targeted) == (True, False)
    assert by_chance([*rows.values()]) == pytest.approx(0.2)


def test_what_the_change_answers_comes_first_and_then_what_changed_most():
    assert list(rows_by_name(LATE, MENDED)) == ["late", "blank"]
    assert list(rows_by_name(LATE, MENDED, ["blank"])) == ["blank", "late"]


def test_a_failure_that_only_the_new_version_shows_is_a_row():
    rows = rows_by_name([a_trial(t) for t in TASKS], MENDED)

    assert (rows["blank"].before, rows["blank"].after) == (0, 10)


def test_a_finding_that_no_trial_shows_stays_at_nothing_and_its_interval_says_how_little_that_is():
    known = findings(LATE)
    solved = [a_trial(t) for t in TASKS]

    for row in shrinkage(solved, solved, known, ()):
        assert (row.before, row.after, row.change) == (0, 0, 0.0)
        assert row.low is not None
        assert row.high is not None
        assert row.low < 0 < row.high


def test_trials_of_a_cluster_are_one_observation():
    before = [a_trial(f"t{i}", "late", cluster=f"c{i % 2}") for i in range(20)]
    after = [a_trial(f"t{i}", cluster=f"c{i % 2}") for i in range(20)]
    row = rows_by_name(before, after)["late"]

    assert (row.clusters, row.n_before, row.before, row.change) == (2, 20, 20, -1.0)
    assert not row.is_rarer  # two observations prove nothing
    alone = rows_by_name(before[::2], after[::2])["late"]
    assert (alone.clusters, alone.low, alone.high) == (1, None, None)


def test_only_tasks_tried_on_both_sides_count_and_lost_trials_do_not():
    before = [*side({"a": "late", "b": "late", "c": "late"}, "b" * 8)]
    after = [a_trial("a"), a_trial("b", "late"), lost_trial("c"), a_trial("d", "late")]
    row = rows_by_name(before, after)["late"]

    assert (row.before, row.n_before, row.after, row.n_after, row.clusters, row.change) == (2, 2, 1, 2, 2, -0.5)


def test_repeats_of_a_task_are_shared_out_among_them():
    before = [a_trial("a", "late", repeat=r) for r in range(4)] + [a_trial("b", repeat=r) for r in range(4)]
    after = [a_trial("a"), a_trial("b", "late")]

    assert rows_by_name(before, after)["late"].change == 0.0


def test_with_nothing_in_common_there_is_nothing_to_say():
    found = findings(LATE)

    assert shrinkage(LATE, [], found, ()) == []
    assert shrinkage([], [], found, ()) == []
    assert shrinkage(LATE, [a_trial("elsewhere", "late")], found, ()) == []
    assert shrinkage(LATE, MENDED, [], ()) == []


shows = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.sampled_from(["late", "blank", ""]), st.integers(0, 2)), max_size=20
)


@settings(max_examples=60)
@given(shows, shows)
def test_swapped_sides_flip_the_sign_and_the_interval_holds_the_change(left, right):
    def trials(drawn, version):
        latest = {(task, repeat): failure for task, failure, repeat in drawn}
        return [
            a_trial(task, failure, repeat, version, cluster="ab" if task in "ab" else "")
            for (task, repeat), failure in latest.items()
        ]

    before, after = trials(left, "b" * 8), trials(right, "a" * 8)
    found = findings([*before, *after])
    forth, back = shrinkage(before, after, found, ()), shrinkage(after, before, found, ())

    flipped = [
        replace(
            row,
            before=row.after,
            n_before=row.n_after,
            after=row.before,
            n_after=row.n_before,
            change=-row.change,
            low=None if row.high is None else -row.high,
            high=None if row.low is None else -row.low,
        )
        for row in back
    ]
    assert forth == flipped
    for row in forth:
        assert -1 <= row.change <= 1
        assert 0 <= row.before <= row.n_before
        assert (row.low is None) == (row.clusters == 1)
        if row.low is not None and row.high is not None:
            assert row.low <= row.change <= row.high


def test_a_cause_is_confirmed_where_a_change_that_answers_it_made_it_rarer():
    rows = rows_by_name(LATE, MENDED, ["late", "blank"])
    late, blank = rows["late"], rows["blank"]

    assert confirmed(late.finding.id, [blank, late])
    assert not confirmed(blank.finding.id, [blank, late])  # it grew
    assert not confirmed(late.finding.id, [replace(late, targeted=False)])  # something else did it
    assert not confirmed(late.finding.id, [replace(late, high=0.0)])
    assert not confirmed(late.finding.id, [replace(late, low=None, high=None)])
    assert not confirmed("unknown", [late])


# ── a night ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Answering:
    """Names the kind that fails most often in the prompt, and says which finding that answers."""

    def propose(self, incumbent, text, history: History) -> Proposal:
        mined = findings(history.trials, history.known)
        for finding in mined:
            kind = next(iter(finding.tags), "")
            if kind in KINDS and kind not in text[PROMPT]:
                edits = (Edit(path=PROMPT, text=text[PROMPT].replace("Answer.", f"Answer. Mind the {kind}.")),)
                if history.version_of is not None and history.version_of(edits) not in history.tried:
                    return Proposal(
                        id=proposal_id(incumbent, edits),
                        proposer="Answering",
                        edits=edits,
                        rationale=f"mind the {kind}",
                        answers=(finding.id,),
                        findings=tuple(mined),
                    )
        raise OutOfIdeas("every kind is named")


MANY = some_tasks(40, KINDS[:2])
TRAIN = [task for task in MANY if task.split == "train"]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    root = tmp_path_factory.mktemp("night")
    experiment = an_experiment(tasks=MANY, proposer=Answering(), gate=PairedGate(keep_alpha=0.3, min_clusters=20))
    rounds = play(experiment, a_checkout(root / "repository"), root / "data")
    return rounds, journal_file(root / "data", runs(root / "data", "example")[0])


def test_after_a_night_each_kept_change_and_each_proof_says_what_shrank(night):
    rounds, journal = night
    kept = [r for r in rounds if r.decision and r.decision.verdict == "keep"]
    found = after_each(journal)

    assert kept
    [proven] = [r.certification for r in rounds if r.certification]
    assert proven.verdict == "accept"
    assert [(a.round, a.split, a.incumbent, a.candidate) for a in found.kept] == [
        (r.number, "train", r.incumbent, r.candidate) for r in kept
    ]
    for after, round in zip(found.kept, kept, strict=True):
        first = after.rows[0]
        assert first.targeted
        assert (first.finding.id,) == round.proposal.answers
        assert first.is_rarer
        assert first.n_before == first.n_after == len(TRAIN)  # what the comparison left out was bought after it
        assert {row.finding.id for row in after.rows} >= {f.id for f in round.proposal.findings}
        assert confirmed(first.finding.id, after.rows)
    assert [a.split for a in found.certified] == ["validation", "test"]
    for after in found.certified:
        assert (after.incumbent, after.candidate) == (proven.live, proven.candidate)
        assert [row.finding.id for row in after.rows if row.targeted]
        assert any(row.targeted and row.change < 0 for row in after.rows)


def test_what_is_said_of_kept_changes_holds_no_hidden_trial(night):
    _, journal = night

    for after in after_each(journal).kept:
        for row in after.rows:
            assert all("/certify/" not in trial for trial in row.finding.examples)
    assert {t.split for trials in train_trials_by_version(journal).values() for t in trials} == {"train"}


def test_a_journal_cut_anywhere_tells_of_the_rounds_that_are_whole(night, tmp_path):
    rounds, journal = night
    whole = after_each(journal)
    lines = journal.read_bytes().splitlines(keepends=True)

    for cut in (0, len(lines) // 4, len(lines) // 2, len(lines) - 1):
        part = tmp_path / f"{cut}.jsonl"
        part.write_bytes(b"".join(lines[:cut]) + lines[cut][:7])
        found = after_each(part)
        assert found.kept == whole.kept[: len(found.kept)]
        assert found.certified == whole.certified[: len(found.certified)]
    assert len(whole.kept) == sum(r.decision is not None and r.decision.verdict == "keep" for r in rounds)


def test_the_trials_of_a_version_are_the_latest_of_each_and_never_of_a_certification(tmp_path):
    path = tmp_path / "run.jsonl"
    old, new = a_trial("a/b", "late"), a_trial("a/b", id="run/again")
    with Journal(path) as journal:
        journal.append(Run(id="run", experiment="e", subject="s", live="v" * 8, fingerprint={}, budget={}, tasks={}))
        journal.append(Span(id="s", trial=old.id, operation="execute_tool", name="search", started=now(), seconds=0))
        journal.append(old, key=f"train/{'v' * 8}/a/b/0")
        journal.append(new, key=f"train/{'v' * 8}/a/b/0/refresh1/again1")
        journal.append(a_trial("c"), key=f"round/3/{'v' * 8}/c/0")
        journal.append(a_trial("d"), key=f"round/3/apart/1-2/{'v' * 8}/d/0")
        journal.append(a_trial("e", split="validation"), key=f"certify/1-v/{'v' * 8}/e/0")
        journal.append(a_trial("f"))

    found = train_trials_by_version(path)["v" * 8]

    assert [t.id for t in found] == ["run/again", a_trial("c").id]
    assert after_each(path).kept == ()
