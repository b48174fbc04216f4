"""The shipped agent, as far as it shows without a night: its project, its grader, its scripted model, a few trials."""

import dataclasses
import random
import re
import shutil
from collections import Counter
from collections.abc import Mapping

import pytest

from analysis.proposers import Ideas
from analysis.proposers.ideas import changed_by, ideas_in
from experiments.docs_agent import generate
from experiments.docs_agent.experiment import HERE, PROJECT, experiment
from experiments.docs_agent.generate import patch
from experiments.docs_agent.grader import DocsGrader, Facts, about_page, facts_of, pages_of
from experiments.docs_agent.pages import functions_in, sections_of
from experiments.docs_agent.scripted import SLIPS, UNTOLD, Chat, ScriptedWriter
from harness.contract import faults
from harness.experiment import Budget
from harness.gate import PairedGate
from harness.hygiene import leaks
from harness.protocols import Finished, Message, ToolSpec
from harness.testing import FakeSandbox
from harness.text import render, validate
from harness.trials import outcome_of
from tests.conftest import git
from tests.world import play
from traces.records import Task, ToolCall

TEXT = {
    path.relative_to(HERE / "harness").as_posix(): path.read_text("utf-8")
    for path in sorted((HERE / "harness").rglob("*.*"))
}
IDEAS = {idea.name: idea for idea in ideas_in(HERE / "ideas")}
SKILL = "skills/api-reference/SKILL.md"
TAGS = ("reference", "rename", "example", "link", "summary")

RUNNING = FakeSandbox(lambda command, files: Finished(run_example(files["example.py"]), ""))
"""Runs examples in this process: those of the tests are ours."""


def run_example(source: str) -> int:
    source = re.sub(r"^from pocket\.(\w+) import (\w+)$", r"\2 = library('\1', '\2')", source, flags=re.MULTILINE)
    try:
        exec(source, {"library": library})
    except Exception:  # noqa: BLE001 (whatever an example raises, it failed)
        return 1
    return 0


def library(module: str, name: str) -> object:
    names: dict[str, object] = {}
    exec((PROJECT / "pocket" / f"{module}.py").read_text("utf-8"), names)
    return names[name]


GRADER = DocsGrader(PROJECT, RUNNING)


def some(tag: str, count: int = 1) -> list[Task]:
    return [task for task in experiment.tasks if task.tags == (tag,)][:count]


def rewritten(task: Task, old: str, new: str, *, before: str | None = None) -> str:
    """The right answer to *task*, with *old* changed into *new* in its section."""
    facts = facts_of(task)
    page = (PROJECT / facts.path).read_text("utf-8")
    right = mended(task)
    section = sections_of(right)[facts.function]
    changed = section.replace(old, new)
    assert changed != section, f"{old!r} is not in the section"
    return patch(facts.path, page, right.replace(section, changed))


def mended(task: Task) -> str:
    """The page with the one section mended."""
    facts = facts_of(task)
    for sections in generate.planted().values():
        for planted in sections:
            if planted.true.heading == facts.function:
                page = (PROJECT / facts.path).read_text("utf-8")
                return page.replace(str(planted.shown), str(planted.true))
    raise AssertionError(facts)


# ── the project and its tasks ──────────────────────────────────────────────────────────────────────────────────


def test_the_generator_writes_what_is_committed_byte_for_byte():
    written = generate.files()
    there = {
        p.relative_to(PROJECT).as_posix() for p in PROJECT.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert there == set(written)
    for path, text in written.items():
        assert (PROJECT / path).read_bytes() == text.encode(), path
    assert (HERE / "tasks.jsonl").read_bytes() == generate.task_lines().encode()


def test_there_are_two_hundred_tasks_of_five_kinds_and_enough_to_prove_something_on():
    counts = Counter(task.tags[0] for task in experiment.tasks)
    assert counts == {tag: sum(kinds.values()) for tag, kinds in generate.MISTAKES.items()}
    assert sum(counts.values()) == len({task.id for task in experiment.tasks}) == 200
    experiment.gate.check(experiment.tasks)
    assert not any(set(task.targets) & {""} for task in experiment.tasks)


def test_the_code_says_nothing_but_code():
    for path in (PROJECT / "pocket").glob("*.py"):
        assert '"""' not in path.read_text("utf-8")
        assert len(functions_in(path.read_text("utf-8"))) in (0, 10)


def test_no_hidden_task_stands_in_the_subject():
    assert leaks(experiment.tasks, TEXT) == []


def test_the_contract_can_be_relied_on():
    assert faults(experiment.contract) == []


# ── the grader ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_right_answer_is_right_and_every_planted_mistake_is_wrong_for_its_own_reason():
    reasons: dict[str, set[str]] = {}
    pages = pages_of(PROJECT)
    for module, sections in generate.planted().items():
        code, path = GRADER.code(module), f"docs/api/{module}.md"
        for planted in sections:
            facts = Facts(module=module, function=planted.true.heading, section=planted.shown.heading)
            right = pages[path].replace(str(planted.shown), str(planted.true))
            assert [*about_page(facts, pages[path], right, pages, code)] == []
            assert run_example(planted.true.example) == 0
            smoothed = dataclasses.replace(planted.shown, summary=f"{planted.shown.summary} ")
            wrong = pages[path].replace(str(planted.shown), str(smoothed))
            said = [f"{m.criterion}: {m.because}" for m in about_page(facts, pages[path], wrong, pages, code)]
            reasons.setdefault(planted.mistake, set()).add((*said, "nothing, until it is run")[0])
            assert said or run_example(planted.shown.example) == 1
    assert reasons == {
        "renamed_parameter": {"signature: documents a parameter that the code does not have"},
        "extra_parameter": {"signature: documents a parameter that the code does not have"},
        "another_default": {"signature: documents a default that the code does not have"},
        "missing_parameter": {"signature: leaves out a parameter that the code has, or has them in another order"},
        "another_return": {"returns: the type returned is not the code's"},
        "old_name": {"names: there is no section under the name that the function has in the code"},
        "wrong_value": {"nothing, until it is run"},
        "wrong_import": {"nothing, until it is run"},
        "wrong_keyword": {"nothing, until it is run"},
        "wrong_file": {"links: a link leads to no file"},
        "wrong_anchor": {"links: a link leads to no heading"},
        "no_summary": {"summary: there is no sentence that says what the function does"},
    }


@pytest.mark.parametrize("tag", TAGS)
def test_a_task_s_own_patch_is_right_and_one_that_smooths_over_the_mistake_is_wrong(tag):
    [task] = some(tag)
    assert GRADER.grade(task, task.targets[0]).score == 1
    page = (PROJECT / facts_of(task).path).read_text("utf-8")
    shown = sections_of(page)[facts_of(task).section]
    smoothed = patch(facts_of(task).path, page, page.replace(shown, shown.replace("\n\nSignature", " \n\nSignature")))
    assert GRADER.grade(task, smoothed).score == 0


def test_what_is_no_patch_or_a_patch_of_something_else_is_worth_nothing():
    task, other = some("reference", 2)
    code = "--- a/pocket/text.py\n+++ b/pocket/text.py\n@@ -1 +1 @@\n-x\n+y\n"
    torn = task.targets[0].replace("Signature", "Signatur")
    for output in ("", "I have mended it.", other.targets[0], task.targets[1], code, task.targets[0] + code, torn):
        assert GRADER.grade(task, output).score == 0, output[:60]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (r"(?s)```python.*?```\n", "", "shows less of what the function returns"),
        (r"(?m)^assert .*$", "assert True", "shows less of what the function returns"),
        (r"(?m)^assert (\w+)(\(.*\)) (==|is) .*$", r"assert \1\2 == \1\2", "shows less of what the function returns"),
        (r"(?m)^(from pocket.*)$", r"\1\nimport os; os._exit(0)", "does more than import"),
        (r"(?m)^(from pocket.*)$", r"\1\nexec('raise SystemExit')", "does more than import"),
        (r"(?m)^from pocket\.\w+ import (\w+)$", r"from builtins import repr as \1", "does more than import"),
        (r"(?m)^(from pocket\.\w+ import (\w+))$", r"\1\n\2, x = sorted, 1", "does more than import"),
        (r", \[[^`\]]*\]\([^)]*\)", "", "a link was taken out"),
        (r"(?m)^See also: .*$", "", "a link was taken out"),
        (r"\(\.\./guides/", "(https://example.org/", "leads to no file"),
        (r"(?m)^\| `.*\n", "", "leaves out a parameter"),
        (r"(?m)^Signature: (.*)$", r"Signature: \1\nSignature: \1", "no one line with a signature"),
        (r"(?m)^Signature: .*$", "Signature: `see the code`", "no one line with a signature"),
        (r"(?m)^Returns .*$", "Returns something.", "the type returned is not the code's"),
        (r"(?m)^(## .*)\n\n.*$", r"\1\n\nTODO", "no sentence that says"),
        (r"(?m)^(See also.*)$", r"\1\n\n## more\n\nText.\n", "a section was added"),
    ],
)
def test_a_section_that_only_looks_mended_is_worth_nothing(old, new, reason):
    [task] = some("reference")
    section = sections_of(mended(task))[facts_of(task).function]
    grade = GRADER.grade(task, rewritten(task, section, re.sub(old, new, section)))
    assert (grade.score, reason in grade.reason) == (0, True), grade.reason


def test_a_section_may_say_more_and_show_more():
    [task] = some("reference")
    section = sections_of(mended(task))[facts_of(task).function]
    assertion = re.search(r"(?m)^assert .*$", section)
    assert assertion is not None
    more = section.replace("\nSee also", "\nIt is fast.\n\nSee also").replace(
        assertion[0], f"{assertion[0]}\n{assertion[0]}"
    )
    assert GRADER.grade(task, rewritten(task, section, more)).score == 1


def test_no_reason_tells_an_answer():
    for task in some("reference", 10):
        reason = GRADER.grade(task, some("link")[0].targets[0]).reason
        assert facts_of(task).function not in reason


# ── the scripted model ─────────────────────────────────────────────────────────────────────────────────────────

TOOLS = [ToolSpec(name, "", {}) for name in ("skill", "read_file", "edit_file", "write_file", "run_command")]


def with_idea(*names: str) -> dict[str, str]:
    text: dict[str, str] = TEXT
    for name in names:
        changed = changed_by(IDEAS[name], text)
        assert changed is not None, name
        text = changed
    return text


def looked_up(text: Mapping[str, str], seed: int) -> set[str]:
    """What the model asks for once it has read the skill and the page, by the kind of call."""
    [task] = some("reference")
    page = (PROJECT / facts_of(task).path).read_text("utf-8")
    shown = "\n".join(f"{n:6}\t{line}" for n, line in enumerate(page.splitlines(), 1))
    skill, read = (
        ToolCall(id="1", name="skill"),
        ToolCall(id="2", name="read_file", arguments={"path": facts_of(task).path}),
    )
    messages = [
        *render(text, task=task.input),
        Message("assistant", "", calls=(skill, read)),
        Message("tool", text[SKILL], answers="1"),
        Message("tool", shown, answers="2"),
    ]
    found: set[str] = set()
    for _ in range(3):
        reply = ScriptedWriter().complete(messages, seed=seed, tools=TOOLS)
        for call in reply.tool_calls:
            found.add(str(call.arguments.get("path") or call.arguments.get("command", ""))[:7])
            messages += [Message("assistant", "", calls=(call,)), Message("tool", "nothing", answers=call.id)]
    return found


def share(text: Mapping[str, str], what: str) -> float:
    return sum(what in looked_up(text, seed) for seed in range(20)) / 20


def test_it_looks_into_the_source_runs_examples_and_looks_up_headings_mostly_where_its_skill_says_so():
    for idea, what in (("read-the-source", "pocket/"), ("run-the-example", "python3"), ("look-up-headings", "grep -r")):
        assert share(TEXT, what) < 0.35
        assert share(with_idea(idea), what) > 0.75


def test_it_does_not_take_the_opposite_for_a_hint_and_forgets_what_stands_in_too_much_text():
    told = with_idea("read-the-source")
    assert share({**TEXT, SKILL: TEXT[SKILL] + "\nDo not read the source.\n"}, "pocket/") < 0.35
    assert share(with_idea("read-the-source", "house-style"), "pocket/") < share(told, "pocket/") - 0.2


def test_the_same_messages_and_seed_give_the_same_answer_and_another_seed_another():
    [task] = some("link")
    messages = render(TEXT, task=task.input)
    answers = [ScriptedWriter().complete(messages, seed=seed, tools=TOOLS) for seed in (1, 1, *range(40))]
    assert answers[0] == answers[1]
    assert len({str(answer.tool_calls) + answer.text for answer in answers}) > 1


def test_each_of_its_slips_happens_now_and_then():
    slips = Counter(Chat((), seed, frozenset()).slip for seed in range(3000))
    assert slips.keys() == {"", *SLIPS}
    assert slips[""] > 2500


# ── a few trials, from end to end ──────────────────────────────────────────────────────────────────────────────


def seed_of(slip: str) -> int:
    """A seed with which the model goes wrong in that way, and does not look where nothing tells it to."""
    chats = (Chat((), seed, frozenset()) for seed in range(100_000))
    looks = ("source", "example", "headings", "page", "overlooks")
    return next(c.seed for c in chats if c.slip == slip and not any(c.chance(what, UNTOLD) for what in looks))


def attempted(task: Task, text: Mapping[str, str], seed: int):
    return outcome_of(experiment.runner.run(task.model_copy(update={"targets": ()}), text, seed))


@pytest.mark.parametrize("tag", TAGS)
def test_an_agent_that_is_told_where_to_look_mends_a_section_and_one_that_is_not_leaves_it(tag):
    told = with_idea("read-the-source", "run-the-example", "look-up-headings")
    task = some(tag, 3)[-1]
    seed = seed_of("")
    outcome = attempted(task, told, seed)
    assert outcome.ended == "done"
    assert experiment.grader.grade(task, outcome.output).score == 1
    if tag in ("reference", "rename", "example"):
        assert experiment.grader.grade(task, attempted(task, TEXT, seed).output).score == 0


@pytest.mark.parametrize(
    ("slip", "ended"),
    [("refuses", "refused"), ("repeats", "repeated_action"), *((slip, "done") for slip in SLIPS if slip[:2] != "re")],
)
def test_whatever_it_does_a_trial_ends_by_rule_and_only_the_one_page_is_changed(slip, ended):
    [task] = some("summary")
    outcome = attempted(task, TEXT, seed_of(slip))
    assert outcome.ended == ended
    changed = re.findall(r"^\+\+\+ b/(.*)$", outcome.output, re.MULTILINE)
    assert set(changed) <= {facts_of(task).path}
    if ended == "done":
        assert experiment.grader.grade(task, outcome.output).score == 1


# ── the ideas ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_ideas_apply_in_any_order_and_make_versions_that_validate():
    rng = random.Random(0)
    for _ in range(10):
        names = rng.sample(sorted(IDEAS), len(IDEAS))
        validate(with_idea(*names))


def test_the_project_in_the_checkout_is_never_written_to():
    before = {p: p.stat().st_mtime_ns for p in PROJECT.rglob("*") if p.suffix == ".md"}
    attempted(some("link")[0], TEXT, 0)
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.timeout(300)
def test_a_short_night_finds_the_planted_failure_keeps_its_cure_and_certifies_it(tmp_path):
    root = tmp_path / "repository"
    shutil.copytree(HERE / "harness", root / "subject")
    shutil.copytree(HERE / "ideas" / "read-the-source", tmp_path / "ideas" / "read-the-source")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Begin")
    sizes = {"train": 10, "validation": 12, "test": 2}
    tasks = [t for split, size in sizes.items() for t in [t for t in some("reference", 200) if t.split == split][:size]]
    short = dataclasses.replace(
        experiment,
        name="short",
        subject="subject",
        tasks=tasks,
        proposer=Ideas(tmp_path / "ideas"),
        gate=PairedGate(alpha=0.3, horizon=1, checkpoints=1, min_clusters=10),
        budget=Budget(rounds=1),
    )

    rounds = play(short, root, tmp_path / "data", workers=2)

    assert "[reference] wrong answer: signature: documents a" in rounds[1].proposal.findings[0].title
    assert rounds[1].decision.verdict == "keep"
    assert rounds[-1].certification.verdict == "accept"
    assert rounds[1].score > rounds[0].score + 0.5
