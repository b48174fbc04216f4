"""The shipped translation pipeline: its data, its score, a critic that is never satisfied, and who sees what."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from analysis.proposers.ideas import changed_by, ideas_in
from experiments.inbox import grouped
from experiments.translation import generate
from experiments.translation.checks import deterministic, significant
from experiments.translation.experiment import HERE, experiment
from experiments.translation.grader import ReferenceGrader, chrf, facts_of
from experiments.translation.grammar import in_english, kinds, large, understood, value_of
from experiments.translation.scripted import CONTRADICTS, FUSSY, ScriptedCritic, ScriptedTranslator, chance
from harness.agent.inbox import Inbox
from harness.contract import faults, lints
from harness.graders.judge import Judge
from harness.hygiene import leaks, twins
from harness.ledger import journal_file, open_run
from harness.models.routing import Routes
from harness.protocols import Message, Model, Work
from harness.testing import ScriptedModel
from harness.text import validate
from harness.trials import DurableTrials
from traces.journal import read
from traces.records import Record, Review, Span, Task, Trial

A = "a" * 40
TEXT = {
    path.relative_to(HERE / "harness").as_posix(): path.read_text("utf-8")
    for path in sorted((HERE / "harness").rglob("*.*"))
}
IDEAS = {idea.name: idea for idea in ideas_in(HERE / "ideas")}
TASKS = {task.id: task for task in experiment.tasks}
IDIOMS = [task for task in experiment.tasks if task.tags == ("idiom",)]
GRADER = ReferenceGrader()


# ── a trial through the ledger ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Watched:
    """*model*, with each request shown to *see* before it is made."""

    model: Model
    see: Callable[[Sequence[Message]], object] = field(repr=False)
    takes_tools: bool = True
    price_known: bool = True

    @property
    def name(self) -> str:
        return self.model.name

    def complete(self, messages, *, seed, tools=(), schema=None):
        self.see(messages)
        return self.model.complete(messages, seed=seed, tools=tools, schema=schema)


@dataclass(frozen=True)
class Played:
    trials: Sequence[Trial]
    records: Sequence[Record]
    directory: Path

    @property
    def inbox(self):
        return Inbox(self.directory).entries()

    def reviews(self) -> list[Review]:
        return [r for r in self.records if isinstance(r, Review)]

    def told(self, tool: str) -> list[str]:
        spans = [r for r in self.records if isinstance(r, Span) and r.operation == "execute_tool"]
        return [str(span.output_preview) for span in spans if span.name == tool]


def play(
    tasks: Sequence[Task],
    directory: Path,
    *,
    text: Mapping[str, str] = TEXT,
    maker: Model | None = None,
    judge: Model | None = None,
    repeats: int = 1,
) -> Played:
    """Trials of these *tasks* in a run in *directory*, taken up again where they were begun."""
    verifier = dataclasses.replace(
        experiment.runner.verifier, judge=Judge(judge or ScriptedCritic(), HERE / "rubric.toml")
    )
    runner = dataclasses.replace(
        experiment.runner, model=Routes(maker or ScriptedTranslator(), judge=verifier.judge.model), verifier=verifier
    )
    played = dataclasses.replace(experiment, runner=runner)
    with open_run(directory, played, A) as ledger, ThreadPoolExecutor(1) as executor:
        trials = DurableTrials(played, ledger, lambda version: text, executor, "round/1", 1)
        [found] = trials.attempt([A], tasks, repeats)
        run = ledger.run.id
    records = [line.record() for line in read(journal_file(directory, run))]
    return Played([trial for task in tasks for trial in found[task.id]], records, directory)


# ── the tasks ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_generator_writes_what_is_committed_byte_for_byte():
    assert (HERE / "tasks.jsonl").read_bytes() == generate.render().encode()


def test_the_tasks_are_told_apart_enough_to_prove_something_on_and_few_of_them_are_idioms():
    counts = Counter(task.tags[0] for task in experiment.tasks)
    assert counts.keys() == {kind.tag for kind in kinds()}
    assert len({task.cluster or task.id for task in experiment.tasks}) == len(experiment.tasks)
    assert len({task.input for task in experiment.tasks}) == len(experiment.tasks)
    assert 0.04 < counts["idiom"] / len(experiment.tasks) < 0.06
    experiment.gate.check(experiment.tasks)
    assert twins(experiment.tasks) == []
    assert leaks(experiment.tasks, TEXT) == []


def test_the_contract_can_be_relied_on_and_another_model_judges_than_makes():
    assert faults(experiment.contract) == []
    assert lints(experiment) == []


def test_the_ideas_apply_in_any_order_and_make_versions_that_validate():
    for seed in range(5):
        text = TEXT
        for name in random.Random(seed).sample(sorted(IDEAS), len(IDEAS)):
            text = changed_by(IDEAS[name], text)
            assert text is not None, name
        validate(text)


def test_numbers_are_written_in_korean_units_and_read_again():
    rng = random.Random(0)
    for number in [10, 12_000, 35_000, 120_000_000, 1_250_000_000, *(rng.randrange(1, 10**10) for _ in range(50))]:
        korean = large(number).korean
        assert value_of(korean) == number, korean
    assert large(35_000).korean == "3만 5천"
    assert significant("1억 2천만") == significant("120,000,000") == significant("120 million") == "12"


# ── the score ──────────────────────────────────────────────────────────────────────────────────────────────────


def said(task: Task, template: str = "said", swap: bool = False) -> str:
    """What the scripted model would say."""
    kind, fillers = understood(task.input)
    return in_english(getattr(kind, template), kind.swapped(fillers) if swap else fillers, spoken=True)


def test_each_reference_scores_1_and_so_does_a_good_translation_in_other_words():
    for task in experiment.tasks:
        assert [GRADER.grade(task, reference).score for reference in task.targets[:-1]] == [1.0] * (
            len(task.targets) - 1
        )
        assert said(task) not in task.targets
        assert GRADER.grade(task, said(task)).score == 1, said(task)
        assert GRADER.grade(task, said(task).replace(". ", ".  ").upper()).score < 1


def test_the_reference_of_another_task_scores_0():
    rng = random.Random(0)
    pairs = [rng.sample(experiment.tasks, 2) for _ in range(400)]
    scores = [GRADER.grade(task, other.targets[0]).score for task, other in pairs]
    assert sum(scores) / len(scores) < 0.01
    alike = sorted(chrf(other.targets[0], task.targets[0]) for task, other in pairs)
    assert alike[len(alike) * 9 // 10] < 0.35


def test_what_says_something_else_scores_0_however_much_it_looks_the_same():
    for task in experiment.tasks:
        facts, right = facts_of(task), task.targets[0]
        kind, _ = understood(task.input)
        for number in facts.numbers:
            wrong = right.replace(f"{number:,}", f"{number * 10:,}").replace(str(number), str(number * 10))
            assert GRADER.grade(task, wrong).score == 0, wrong
        if kind.slip:
            assert GRADER.grade(task, said(task, "slip")).score == 0, said(task, "slip")
        if kind.swaps:
            assert GRADER.grade(task, said(task, swap=True)).score == 0, said(task, swap=True)
        assert GRADER.grade(task, f"{right} ({task.input})").score == 0
    assert GRADER.grade(task, "").score == 0


def test_a_score_s_reason_never_holds_the_answer():
    for task, other in zip(experiment.tasks, experiment.tasks[1:], strict=False):
        reason = GRADER.grade(task, other.targets[0]).reason
        assert not any(phrase in reason for group in facts_of(task).needs[:1] for phrase in group), reason


def test_chrf_is_1_for_the_same_0_for_nothing_in_common_and_counts_what_is_missing_more():
    assert chrf("It rains.", "It rains.") == pytest.approx(1)
    assert chrf("xyz", "abc") == chrf("", "abc") == 0
    whole = "The meeting will be held in Busan."
    assert chrf("The meeting", whole) < chrf(whole, "The meeting")


# ── the critic ─────────────────────────────────────────────────────────────────────────────────────────────────


def criticised(task: Task, output: str) -> list[str]:
    """The deterministic criteria that *output* does not meet."""
    checks = experiment.runner.verifier.checks
    return [m.criterion for check in checks for m in check.check(task, output, Work(task, {})) if not m.passed]


def test_the_checks_let_every_reference_pass_and_know_nothing_of_it():
    for task in experiment.tasks:
        bare = task.model_copy(update={"targets": ()})
        for output in (*task.targets[:-1], said(task)):
            assert criticised(bare, output) == [], output
    assert len(deterministic()) == 4


def test_the_checks_find_what_is_lost_left_or_added():
    task = next(t for t in experiment.tasks if t.tags == ("number",) and "인구" in t.input)
    right, [number] = task.targets[0], facts_of(task).numbers
    assert criticised(task, right.replace(f"{number:,}", "many")) == ["numbers"]
    assert criticised(task, f"{right} This is a free translation.") == ["sentences"]
    assert criticised(task, f"Here it is:\n{right}") == ["sentences"]
    city = facts_of(task).needs[0][0]
    assert criticised(task, right.replace(city, "The city")) == ["terms"]
    assert "hangul" in criticised(task, right.replace(city, task.input[:2]))
    assert criticised(task, str(number)) == ["terms", "length"]
    assert criticised(task, f"{right[:-1]}, {'and so on ' * 20}.") == ["length"]


def test_a_number_that_is_out_by_ten_passes_the_critic_s_checks_and_not_the_score():
    task = next(t for t in experiment.tasks if t.tags == ("number",) and "인구" in t.input)
    [number] = facts_of(task).numbers
    wrong = task.targets[0].replace(f"{number:,}", f"{number * 10:,}")
    assert criticised(task, wrong) == []
    assert GRADER.grade(task, wrong).score == 0


# ── the critic that is never satisfied ─────────────────────────────────────────────────────────────────────────


def test_a_critic_that_is_never_satisfied_is_ended_by_rule_and_the_inbox_names_the_criterion(tmp_path):
    played = play([IDIOMS[0]], tmp_path)

    [trial] = played.trials
    assert (trial.ended, trial.error) == ("unsatisfied", None)
    assert trial.grade.score == 1  # whatever the critic thinks of it
    assert [(r.verdict, r.attempt) for r in played.reviews()] == [("needs_revision", n) for n in (1, 2, 3)]
    [entry] = played.inbox
    e = entry.escalation
    assert (e.kind, e.concern, e.owner) == ("notice", "verification_failed", "the translation desk")
    assert e.summary == "still wrong after 3 attempts: fluency"
    assert len(e.evidence) == 1
    assert e.evidence[0].startswith("fluency, 3x since attempt 1: it can be understood, and could be more natural | ")
    assert e.trial == trial.id


def test_many_such_trials_are_one_line_of_the_inbox(tmp_path):
    tasks = IDIOMS[:3]
    played = play(tasks, tmp_path, repeats=3)
    assert len(played.inbox) == 9
    assert [len(group) for group in grouped(played.inbox)] == [9]


def test_a_critic_that_contradicts_itself_is_asked_again_and_no_verdict_is_lost(tmp_path):
    def draws(task: Task, what: str, share: float) -> bool:
        return chance(share, task.input, said(task), what)

    plain = (t for t in experiment.tasks if t.tags != ("idiom",) and not draws(t, "fussy", FUSSY))
    task = next(t for t in plain if draws(t, "contradicts", CONTRADICTS))
    asked: list[Sequence[Message]] = []
    maker = ScriptedModel(said(task))
    played = play([task], tmp_path, maker=maker, judge=Watched(ScriptedCritic(), asked.append))

    assert [len(messages) for messages in asked] == [2, 4]
    assert "its verdict is needs_revision, and the criteria that do not pass by its own choices are: none" in (
        asked[1][-1].content
    )
    assert [review.verdict for review in played.reviews()] == ["satisfied"]
    assert (maker.calls, played.trials[0].ended, played.inbox) == (1, "done", [])


# ── who sees what ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_maker_sees_neither_a_reference_nor_what_the_critic_thought_beyond_its_faults(tmp_path):
    seen: list[Sequence[Message]] = []
    verdicts: list[str] = []

    @dataclass(frozen=True)
    class Noted(ScriptedCritic):
        def complete(self, messages, **more):
            reply = super().complete(messages, **more)
            verdicts.append(reply.text)
            return reply

    task = IDIOMS[0]
    play([task], tmp_path, maker=Watched(ScriptedTranslator(), seen.append), judge=Noted())

    told = [m.content for m in seen[-1] if m.role != "assistant"]
    for text in told:
        quoted = "\n".join(line for line in text.splitlines() if not line.startswith("  > "))  # of its own work
        assert not any(reference in quoted for reference in task.targets[:-1])
        assert "worst to best" not in text
        assert '"verdict"' not in text
        assert not any(verdict in text for verdict in verdicts)
    faults_told = [text for text in told if "fluency (" in text]
    assert len(faults_told) == 2
    for text in faults_told:
        assert "it can be understood, and could be more natural" in text
        assert "These passed, and must stay so: hangul, numbers, terms, length, sentences, adequacy" in text
        assert text.count("\n  > ") == 1
    assert task.targets[-1] not in str(seen)


def test_the_critic_sees_the_two_texts_in_a_fresh_conversation_each_time_and_nothing_of_the_making(tmp_path):
    seen: list[Sequence[Message]] = []
    task = IDIOMS[0]
    played = play([task], tmp_path, judge=Watched(ScriptedCritic(), seen.append))

    first = [messages for messages in seen if len(messages) == 2]
    assert len(first) == 3
    for messages in first:
        shown = "\n".join(m.content for m in messages)
        assert task.input in shown
        for making in ("My plan", "I keep this wording", "memory", "skill", "From Korean into English", "attempt"):
            assert making not in shown, making
    assert len({messages[1].content.split("<work-")[1] for messages in first}) == 3
    assert played.trials[0].output in first[-1][1].content


def test_spending_is_told_apart_by_role(tmp_path):
    played = play([IDIOMS[0]], tmp_path)
    spans = [r for r in played.records if isinstance(r, Span) and r.operation == "chat"]
    assert {(s.role, s.name) for s in spans} == {("maker", "scripted:translator"), ("judge", "scripted:critic")}


# ── the translation memory ─────────────────────────────────────────────────────────────────────────────────────


def test_the_memory_holds_each_wording_within_a_trial_and_nothing_of_it_reaches_the_next(tmp_path):
    files: list[str] = []

    def look(messages: Sequence[Message]) -> None:
        files.extend(path.read_text("utf-8") for path in tmp_path.rglob("memory.md"))

    played = play([IDIOMS[0]], tmp_path, repeats=2, maker=Watched(ScriptedTranslator(), look))

    assert played.told("recall") == ["Nothing like it was kept yet."] * 2
    assert [t.rpartition("version ")[2] for t in played.told("remember")] == [
        f"{n} of the memory." for n in (1, 2, 3)
    ] * 2
    assert max(text.count("⇒") for text in files) == 3
    assert list(tmp_path.rglob("memory.md")) == []


# ── killed ─────────────────────────────────────────────────────────────────────────────────────────────────────

SCRIPT = """
import os, sys
from pathlib import Path
from tests.experiments.test_translation import play_mortal
whole, killed = map(Path, sys.argv[1:])
play_mortal(whole, None)
for moment in (1, 3, 5):
    child = os.fork()
    if not child:
        play_mortal(killed, moment)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *killed.rglob("memory.md"), sep="|", flush=True)
play_mortal(killed, None)
"""


def play_mortal(directory: Path, dies_before: int | None) -> None:
    """A trial whose process kills itself before that model call is paid; a byte in ``paid`` for each that is."""
    directory.mkdir(exist_ok=True)
    paid = directory / "paid"

    def pay(messages: Sequence[Message]) -> None:
        if dies_before is not None and paid.exists() and paid.stat().st_size == dies_before:
            os.kill(os.getpid(), signal.SIGKILL)
        with paid.open("ab") as file:
            file.write(b"x")

    played = play(
        [IDIOMS[1]], directory, maker=Watched(ScriptedTranslator(), pay), judge=Watched(ScriptedCritic(), pay)
    )
    [trial] = played.trials
    [entry] = played.inbox
    told = [trial.output, trial.ended, trial.grade.score, entry.escalation.summary, entry.escalation.evidence]
    (directory / "outcome.json").write_text(json.dumps([*told, played.told("remember")]), "utf-8")


def test_killed_with_signal_9_in_the_middle_it_ends_as_if_it_never_was_and_no_turn_is_paid_twice(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(whole), str(killed)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = [line.split("|") for line in done.stdout.splitlines()]
    assert [code for code, *_ in ends] == [str(-signal.SIGKILL)] * 3
    assert [len(memories) for _, *memories in ends] == [0, 1, 1]  # it outlives the process
    assert json.loads((killed / "outcome.json").read_text()) == json.loads((whole / "outcome.json").read_text())
    assert (killed / "paid").stat().st_size == (whole / "paid").stat().st_size
    assert list(killed.rglob("memory.md")) == []


# ── what the ideas do ──────────────────────────────────────────────────────────────────────────────────────────


def score(played: Played) -> float:
    return sum(trial.grade.score for trial in played.trials) / len(played.trials)


def test_each_idea_does_what_it_is_there_for(tmp_path):
    def scored(tag: str, name: str = "") -> float:
        tasks = [task for task in experiment.tasks if task.tags == (tag,)][:9]
        return score(play(tasks, tmp_path / tag / name, text=changed_by(IDEAS[name], TEXT) if name else TEXT))

    numbers, courtesy = scored("number"), scored("honorific")
    assert scored("number", "count-by-ten-thousands") > numbers + 0.3
    assert scored("honorific", "keep-the-courtesy") > courtesy + 0.2
    assert scored("honorific", "say-it-briefly") < courtesy
    assert scored("number", "read-it-aloud") == numbers
