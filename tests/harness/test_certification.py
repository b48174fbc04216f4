"""What stands between kept changes and the live version: guards, drift, a stack that does not hold, kills."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.experiment import Budget
from harness.gate import PairedGate
from harness.ledger import is_finished, journal_file, runs
from harness.protocols import History, Message
from harness.testing import ScriptedModel
from harness.verify import verify
from harness.versions import Repo
from tests.conftest import a_checkout
from tests.harness.test_loop import FORK, LINES, written
from tests.world import (
    PROMPT,
    AskingRunner,
    KnowingRunner,
    ListProposer,
    an_experiment,
    answer_to,
    outcome,
    play,
    some_tasks,
)
from traces.journal import read
from traces.places import spool
from traces.records import Certification, Edit, Proposal, Record, Refresh, Round, SplitTest, Task, Trial


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@dataclass(frozen=True)
class ScoringRunner:
    """Solves a task with the chance that a function of the prompt and the task gives."""

    chance: Callable[[str, Task], float] = field(repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        return answer_to(task) if random.Random(seed).random() < self.chance(text[PROMPT], task) else "something else"


def last_certification(rounds: Sequence[Round]) -> Certification:
    found = [r.certification for r in rounds if r.certification]
    assert found
    return found[-1]


def records(directory: Path, kind: type[Record]) -> list[Record]:
    [run] = runs(directory, "example")
    return [line.record() for line in read(journal_file(directory, run)) if line.type == kind.__name__]


# ── guards ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ruins_colours(prompt: str, task: Task) -> float:
    helped = "Mind" in prompt
    if task.tags == ("colour",):
        return 0.1 if helped else 0.9
    return 0.95 if helped else 0.2


def test_a_change_that_ruins_one_kind_of_task_is_blocked_although_the_mean_is_proven_better(checkout, directory):
    rounds = play(
        an_experiment(
            tasks=some_tasks(60), runner=ScoringRunner(ruins_colours), proposer=ListProposer(("Mind everything.",))
        ),
        checkout,
        directory,
    )

    c = last_certification(rounds)
    [slice_] = [g for g in c.guards if g.kind == "slice" and g.name == "colour"]
    assert c.validation is not None
    assert c.validation.verdict is not None
    assert (c.verdict, c.validation.verdict.verdict) == ("blocked", "accept")
    assert slice_.verdict == "block"
    assert c.measured is None
    assert c.detail == "the mean score is proven better, but: slice colour"


def test_a_slice_is_judged_by_a_run_that_was_not_chosen_for_looking_bad(checkout, directory):
    rounds = play(
        an_experiment(
            tasks=some_tasks(60), runner=ScoringRunner(ruins_colours), proposer=ListProposer(("Mind everything.",))
        ),
        checkout,
        directory,
    )

    again = [t for t in records(directory, Trial) if isinstance(t, Trial) and "/again/" in t.id]
    compared = [t for t in records(directory, Trial) if isinstance(t, Trial) and "certify/" in t.id]
    assert {t.tags for t in again} == {("colour",)}
    assert {t.version for t in again} == {last_certification(rounds).live, last_certification(rounds).candidate}
    assert not {t.seed for t in again} & {t.seed for t in compared if "/again/" not in t.id}


def test_a_must_pass_task_that_the_candidate_fails_blocks_its_promotion(checkout, directory):
    tasks = some_tasks(60)
    named = next(task for task in tasks if task.split == "test" and task.tags == ("number",))

    def fails_one(prompt: str, task: Task) -> float:
        return 0.0 if task.id == named.id and "Mind" in prompt else 0.95 if "Mind" in prompt else 0.2

    experiment = an_experiment(
        tasks=tasks,
        runner=ScoringRunner(fails_one),
        proposer=ListProposer(("Mind everything.",)),
        gate=PairedGate(repeats=1, min_clusters=20, must_pass=(named.id,)),
    )
    c = last_certification(play(experiment, checkout, directory))

    [guard] = [g for g in c.guards if g.kind == "must-pass"]
    assert (c.verdict, guard.name, guard.verdict, guard.losses) == ("blocked", named.id, "block", 3)


def test_a_must_pass_task_that_does_not_exist_is_refused_before_the_night(checkout, directory):
    gate = PairedGate(repeats=1, min_clusters=20, must_pass=("no-such-task",))

    with pytest.raises(UserError, match=r"must-pass.*'no-such-task'.*guard nothing"):
        play(an_experiment(gate=gate), checkout, directory)


@dataclass(frozen=True)
class TalkativeRunner:
    """The longer the prompt, the dearer; better with every sentence."""

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        def answer(messages: Sequence[Message]) -> str:
            return KnowingRunner(unknown=0.2).run(task, text, seed)

        return ScriptedModel(answer).complete([Message("user", text[PROMPT])], seed=seed).text


@pytest.mark.parametrize(("cap", "verdict"), [(1.5, "blocked"), (3.9, "accept"), (None, "accept")])
def test_a_change_that_costs_more_than_the_cap_is_blocked_and_without_a_cap_it_is_only_measured(
    checkout, directory, cap, verdict
):
    line = "Mind the plural, the colour, the animal and the number, " + "and think it over twice, " * 2 + "then answer."
    experiment = an_experiment(
        tasks=some_tasks(60),
        runner=TalkativeRunner(),
        proposer=ListProposer((line,)),
        gate=PairedGate(repeats=1, min_clusters=20, max_cost=cap),
    )
    c = last_certification(play(experiment, checkout, directory))

    [cost] = [g for g in c.guards if g.kind == "cost"]
    assert c.verdict == verdict
    assert cost.name == "tokens"
    assert cost.cap == cap
    assert cost.ratio is not None
    assert cost.ratio > 2


# ── less text, not worse ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Shortening:
    """Writes a line that helps and one that does nothing, then takes the second out again."""

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        n = len(history.rounds)
        now = text[PROMPT]
        edited = [
            now.replace("Answer.", "Answer. Mind the plural, colour, animal and number. By the way, it rains."),
            now.replace(" By the way, it rains.", ""),
        ][n]
        return Proposal(id=f"p{n}", proposer="x", edits=(Edit(path=PROMPT, text=edited),), rationale="r")


def steady(prompt: str, task: Task) -> float:
    return float(hash_of(task) < (0.9 if "Mind" in prompt else 0.3))


def hash_of(task: Task) -> float:
    return random.Random(task.id).random()


@pytest.mark.parametrize(("simpler", "because"), [(0.02, "simpler"), (None, "undecided")])
def test_equal_score_with_less_text_is_a_keep(checkout, directory, simpler, because):
    experiment = an_experiment(
        tasks=some_tasks(60),
        runner=ScoringRunner(steady),
        proposer=Shortening(),
        gate=PairedGate(repeats=3, min_clusters=20, simpler=simpler, futility=0.0),
        budget=Budget(rounds=2),
    )
    rounds = play(experiment, checkout, directory)

    assert rounds[1].decision is not None
    assert rounds[2].decision is not None
    assert (rounds[1].decision.because, rounds[2].decision.because) == ("improved", because)


def test_less_text_that_is_worse_is_no_keep(checkout, directory):
    def needs_all(prompt: str, task: Task) -> float:
        return steady(prompt, task) if "rains" in prompt or "Mind" not in prompt else 0.4

    experiment = an_experiment(
        tasks=some_tasks(60), runner=ScoringRunner(needs_all), proposer=Shortening(), budget=Budget(rounds=2)
    )
    rounds = play(experiment, checkout, directory)

    assert rounds[2].decision is not None
    assert rounds[2].decision.verdict == "discard"


# ── a stack that does not hold ─────────────────────────────────────────────────────────────────────────────────────


@dataclass
class FadingRunner:
    """``Shine`` dazzles the first few times that it is tried on train, and does harm from then on."""

    dazzles: int = 60
    tried: int = field(default=0, repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        chance = 0.5
        if "Mind" in text[PROMPT]:
            chance += 0.15
        if "Shine" in text[PROMPT]:
            self.tried += 1
            chance += 0.4 if self.tried <= self.dazzles else -0.5
        return answer_to(task) if random.Random(seed).random() < chance else "something else"


def a_stack_that_fails(directory: Path, checkout: Path) -> list[Round]:
    return play(
        an_experiment(
            tasks=some_tasks(60),
            runner=FadingRunner(),
            proposer=ListProposer(("Mind the plural.", "Shine.", "Say nothing.", "Say nothing more.")),
            gate=PairedGate(repeats=3, min_clusters=20),
            budget=Budget(rounds=4),
        ),
        checkout,
        directory,
        workers=1,
    )


@dataclass(frozen=True)
class Whole:
    """A night that nobody interrupted, and where."""

    checkout: Path
    directory: Path
    rounds: list[Round]


@pytest.fixture(scope="module")
def lost(tmp_path_factory) -> Whole:
    """Its stack is taken apart."""
    folder = tmp_path_factory.mktemp("lost")
    checkout = a_checkout(folder / "repository")
    return Whole(checkout, folder / "data", a_stack_that_fails(folder / "data", checkout))


def test_a_stack_that_loses_is_taken_apart_and_the_night_goes_on_from_what_does_no_harm(lost):
    rounds = lost.rounds

    apart = next(r for r in rounds if r.removals)
    text = Repo.find(lost.checkout).subject("subject").text(apart.working)[PROMPT]
    assert apart.certification is not None
    assert apart.certification.verdict != "accept"
    assert [(x.rounds, x.verdict) for x in apart.removals] == [((1,), "stay"), ((2,), "drop")]
    assert "Mind the plural." in text
    assert "Shine" not in text
    assert apart.score is not None
    assert apart.score > 0.55
    assert rounds[apart.number + 1].incumbent == apart.working
    [run] = runs(lost.directory, "example")
    assert verify(journal_file(lost.directory, run), lost.directory).is_sound


def test_a_stack_taken_apart_resumes_as_it_was(lost, tmp_path):
    whole, expected = lost.directory, outcome(lost.rounds)
    [run] = runs(whole, "example")
    lines = journal_file(whole, run).read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if b'/harm"' in line and b'"type":"Comparison"' in line)
    for at in (cut, cut + 1):
        directory = tmp_path / str(at)
        spool(directory).mkdir(parents=True)
        journal_file(directory, run).write_bytes(b"".join(lines[:at]))
        (spool(directory) / "splits.jsonl").write_bytes((spool(whole) / "splits.jsonl").read_bytes())

        resumed = play_with_a_runner_that_has_faded(directory, lost.checkout)

        assert [o[:4] for o in outcome(resumed)] == [o[:4] for o in expected]


def play_with_a_runner_that_has_faded(directory: Path, checkout: Path) -> list[Round]:
    experiment = an_experiment(
        tasks=some_tasks(60),
        runner=FadingRunner(tried=0),
        proposer=ListProposer(("Mind the plural.", "Shine.", "Say nothing.", "Say nothing more.")),
        gate=PairedGate(repeats=3, min_clusters=20),
        budget=Budget(rounds=4),
    )
    experiment.runner.tried = 10_000  # type: ignore[attr-defined]
    return play(experiment, checkout, directory, workers=1)


# ── drift ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class MovingRunner:
    """Its tool is updated after some trials."""

    until: int
    ran: int = field(default=0, repr=False)

    def conditions(self) -> Mapping[str, str]:
        return {"tool": "2" if self.ran >= self.until else "1"}

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        self.ran += 1
        return KnowingRunner().run(task, text, seed)


def test_when_a_tool_changed_since_the_baseline_the_incumbent_is_measured_again(checkout, directory):
    experiment = an_experiment(tasks=some_tasks(60))
    train = len(experiment.split("train"))
    rounds = play(an_experiment(tasks=some_tasks(60), runner=MovingRunner(until=train)), checkout, directory, workers=1)

    [refresh] = records(directory, Refresh)
    assert isinstance(refresh, Refresh)
    assert (refresh.version, refresh.because, refresh.detail) == (rounds[0].working, "drift", "tool was 1 and 2")
    assert rounds[1].decision is not None
    assert rounds[1].decision.comparison is not None
    assert rounds[1].decision.comparison.is_valid


def test_a_promotion_test_in_which_a_tool_changed_is_invalid(checkout, directory):
    counting = MovingRunner(until=10**9)
    whole = play(an_experiment(tasks=some_tasks(60), runner=counting), checkout, directory / "steady", workers=1)
    before = next(r for r in whole if r.certification).trials
    [first] = [r for r in whole if r.number == next(r for r in whole if r.certification).number]
    assert first.certification is not None
    assert first.certification.validation is not None
    moved = MovingRunner(until=before - 2 * len(an_experiment(tasks=some_tasks(60)).split("test")) - 30)

    rounds = play(an_experiment(tasks=some_tasks(60), runner=moved), checkout, directory / "moved", workers=1)

    c = next(r.certification for r in rounds if r.certification)
    assert c.verdict == "invalid"
    assert c.detail == "the conditions changed during the test: tool was 1 and 2"


def test_scores_older_than_twelve_hours_are_measured_again(checkout, directory):
    late = datetime.now(UTC)

    def clock() -> datetime:
        return late

    class Waiting(ListProposer):
        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            nonlocal late
            if len(history.rounds) == 1:
                late += timedelta(hours=13)
            return super().propose(incumbent, text, history)

    proposer = Waiting(("Say nothing.", "Say nothing more.", "Mind the plural.", "Mind the colour."))
    rounds = play(
        an_experiment(tasks=some_tasks(60), proposer=proposer, budget=Budget(rounds=4)),
        checkout,
        directory,
        clock=clock,
    )

    ages = [r for r in records(directory, Refresh) if isinstance(r, Refresh)]
    assert ages
    assert {(r.because, r.detail) for r in ages} == {("age", "its scores were 13 hours old")}
    assert rounds[-1].stop == "rounds"


# ── what a proposer may know ───────────────────────────────────────────────────────────────────────────────────────


def test_no_message_that_a_proposer_can_send_holds_a_word_of_the_hidden_splits(checkout, directory):
    sent: list[str] = []

    class Telling(ListProposer):
        """Asks a model with all that it was given."""

        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            known = "\n".join(
                [
                    incumbent,
                    *text.values(),
                    *(task.model_dump_json() for task in history.tasks.values()),
                    *(trial.model_dump_json() for trial in history.trials),
                    *(round.model_dump_json() for round in history.rounds),
                    *(f"{version} {where}" for version, where in history.tried.items()),
                    *(str(history.text_of(r.working)) for r in history.rounds if history.text_of),
                ]
            )

            def answer(messages: Sequence[Message]) -> str:
                sent.extend(message.content for message in messages)
                return "go on"

            ScriptedModel(answer).complete([Message("user", known)], seed=0)
            return super().propose(incumbent, text, history)

    kinds = ("plural", "colour", "animal", "number")
    tasks = [
        task.model_copy(update={"input": f"{task.input} {task.split}-word-{i}", "targets": (answer_to(task),)})
        for i, task in enumerate(some_tasks(60, kinds))
    ]
    lines = (*(f"Mind the {kind}." for kind in kinds), "Say nothing.", "Say nothing more.")
    rounds = play(
        an_experiment(
            tasks=tasks, runner=ScoringRunner(ruins_colours), proposer=Telling(lines), budget=Budget(rounds=6)
        ),
        checkout,
        directory,
    )

    hidden = [task for task in tasks if task.split != "train"]
    said = "\n".join(sent)
    assert any(r.certification and r.certification.guards for r in rounds[:-1])
    assert "train-word-" in said
    assert not [task.id for task in hidden if task.id in said or task.input in said]
    assert "validation-word-" not in said
    assert "test-word-" not in said
    assert '"guards":[{' not in said


def test_the_journal_keeps_hidden_tasks_without_what_they_ask_and_want_to_hear(checkout, directory):
    experiment = an_experiment(tasks=some_tasks(60))
    play(experiment, checkout, directory)

    kept = {task.id: task for task in records(directory, Task) if isinstance(task, Task)}
    assert kept.keys() == {task.id for task in experiment.tasks}
    for task in experiment.tasks:
        shown = (kept[task.id].input, kept[task.id].targets)
        assert shown == ((task.input, task.targets) if task.split == "train" else ("", ()))


# ── kills ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def an_asking_night(checkout: Path, directory: Path) -> list[Round]:
    directory.mkdir(exist_ok=True)
    experiment = an_experiment(tasks=some_tasks(40), runner=AskingRunner(directory / "calls"))
    return play(experiment, checkout, directory)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory) -> Whole:
    folder = tmp_path_factory.mktemp("left-alone")
    checkout = a_checkout(folder / "repository")
    return Whole(checkout, folder / "data", an_asking_night(checkout, folder / "data"))


@pytest.mark.parametrize("during", ["validation", "guards", "test"])
def test_killed_with_signal_9_in_a_promotion_test_it_reuses_what_was_paid_and_spends_alpha_once(
    checkout, tmp_path, left_alone, during
):
    directory = tmp_path / "killed"
    process = FORK.Process(target=an_asking_night, args=(checkout, directory))
    process.start()
    begun = f'/{during}","kind":"step"'.encode()
    while process.is_alive():
        found = [journal_file(directory, run).read_bytes() for run in runs(directory, "example")]
        if found and begun in found[0] and (during == "guards" or found[0].partition(begun)[2].count(b"\n") > 30):
            break
        time.sleep(0.002)
    process.kill()
    process.join(60)
    [run] = runs(directory, "example")
    assert not is_finished(journal_file(directory, run))
    paid, before = (directory / "calls").stat().st_size, written(directory)

    rounds = an_asking_night(checkout, directory)

    opened = [line.record() for line in read(spool(directory) / "splits.jsonl") if line.type == "SplitTest"]
    certified = [r.certification for r in rounds if r.certification]
    assert before > 0
    assert paid > 0
    assert [t.number for t in opened if isinstance(t, SplitTest)] == list(range(1, len(certified) + 1))
    assert [o[:-1] for o in outcome(rounds)] == [o[:-1] for o in outcome(left_alone.rounds)]  # all but trials
    ids = [t.id for t in records(directory, Trial) if isinstance(t, Trial)]
    assert len(ids) == len(set(ids))
    assert (directory / "calls").stat().st_size <= (left_alone.directory / "calls").stat().st_size + 4


# ── what a hostile reader found ────────────────────────────────────────────────────────────────────────────────────


def test_what_a_change_was_kept_for_does_not_speak_for_it_when_the_stack_is_taken_apart(checkout, directory):
    """The default gate keeps on one run of each task, and those runs are the change's luck."""
    rounds = play(
        an_experiment(
            tasks=some_tasks(60),
            runner=FadingRunner(dazzles=95),
            proposer=ListProposer(("Mind the plural.", "Shine.", "Say nothing.", "Say nothing more.")),
            gate=PairedGate(min_clusters=20),
            budget=Budget(rounds=4),
        ),
        checkout,
        directory,
        workers=1,
    )

    apart = next(r for r in rounds if r.removals)
    assert (2,) in [x.rounds for x in apart.removals if x.verdict == "drop"]
    assert "Shine" not in Repo.find(checkout).subject("subject").text(apart.working)[PROMPT]


def test_a_tool_that_changes_in_the_middle_of_a_comparison_ends_it_and_both_are_measured_afresh_later(
    checkout, directory
):
    @dataclass(frozen=True)
    class Persistent(ListProposer):
        """Proposes the same until it was compared."""

        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            compared = [r for r in history.rounds if r.decision and r.decision.because != "drift"]
            return super().propose(incumbent, text, replace(history, rounds=compared))

    tasks = some_tasks(60)
    train = len([task for task in tasks if task.split == "train"])
    experiment = an_experiment(
        tasks=tasks, runner=MovingRunner(until=train + 25), proposer=Persistent(LINES), budget=Budget(rounds=3)
    )
    rounds = play(experiment, checkout, directory, workers=1)

    [run] = runs(directory, "example")
    trials = [t.id for t in records(directory, Trial) if isinstance(t, Trial)]
    assert [r.decision.because for r in rounds if r.decision][:2] == ["drift", "improved"]
    assert rounds[1].candidate == rounds[2].candidate
    assert len(trials) == len(set(trials))
    assert verify(journal_file(directory, run), directory).is_sound


def test_a_chain_of_shortenings_cannot_spend_more_than_one_margin(checkout, directory):
    """Each takes away three points, and none is worse than the one before by much."""

    def wearing(prompt: str, task: Task) -> float:
        return 0.9 - 0.03 * (12 - prompt.count("word"))

    @dataclass(frozen=True)
    class Shortener:
        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            left = text[PROMPT].count("word")
            if not left:
                edited = text[PROMPT].replace("Answer.", "Answer. " + "word " * 12)
            else:
                edited = text[PROMPT].replace("word ", "", 1 + len(history.rounds) % left)
            return Proposal(
                id=f"p{len(history.rounds)}", proposer="s", edits=(Edit(path=PROMPT, text=edited),), rationale="cut"
            )

    experiment = an_experiment(
        tasks=some_tasks(60),
        runner=ScoringRunner(wearing),
        proposer=Shortener(),
        gate=PairedGate(min_clusters=20),
        budget=Budget(rounds=12),
    )
    rounds = play(experiment, checkout, directory)

    kept = [r.decision for r in rounds if r.decision and r.decision.because == "simpler"]
    lost = sum(max(-d.comparison.gain, 0) for d in kept[:-1] if d.comparison and d.comparison.gain is not None)
    assert lost < 0.02


def test_what_is_kept_gained_something(checkout, directory):
    lines = tuple(f"Say nothing, part {i}." for i in range(15))
    rounds = play(
        an_experiment(proposer=ListProposer(lines), gate=PairedGate(min_clusters=20), budget=Budget(rounds=15)),
        checkout,
        directory,
    )

    kept = [r.decision.comparison.gain for r in rounds if r.decision and r.decision.because == "improved"]
    assert kept
    assert min(kept) > 0


def test_a_round_that_was_begun_is_finished_whatever_the_limits_of_the_next_session_say(checkout, tmp_path):
    whole = tmp_path / "whole"
    experiment = an_experiment(tasks=some_tasks(60), budget=Budget(rounds=6))
    play(experiment, checkout, whole)
    [run] = runs(whole, "example")
    lines = journal_file(whole, run).read_bytes().splitlines(keepends=True)
    opened = next(i for i, line in enumerate(lines) if b'"key":"certify/1-' in line and b'/validation"' in line)
    directory = tmp_path / "killed"
    spool(directory).mkdir(parents=True)
    journal_file(directory, run).write_bytes(b"".join(lines[:opened]))
    books = (spool(whole) / "splits.jsonl").read_bytes().splitlines(keepends=True)
    (spool(directory) / "splits.jsonl").write_bytes(books[0])

    late = datetime.now(UTC) + timedelta(hours=20)
    rounds = play(experiment, checkout, directory, budget=Budget(rounds=1), clock=lambda: late)

    ledger = [line.record() for line in read(spool(directory) / "splits.jsonl")]
    tests = [test.certification for test in ledger if isinstance(test, SplitTest)]
    certified = [r.certification.id for r in rounds if r.certification]
    assert tests[0] == certified[0]
    assert len(tests) == len(certified)
    assert verify(journal_file(directory, run), directory).is_sound


def test_a_gain_that_could_not_be_measured_is_not_promoted(checkout, directory):
    tasks = some_tasks(60)
    experiment = an_experiment(tasks=tasks, budget=Budget(trials=290))
    rounds = play(experiment, checkout, directory)

    for c in (r.certification for r in rounds if r.certification):
        assert c.verdict != "accept" or c.measured is not None


def test_a_budget_that_is_too_small_for_the_promotion_test_opens_none_and_says_so(checkout, directory):
    tasks = some_tasks(30)
    named = tuple(task.id for task in tasks[:60])
    experiment = an_experiment(
        tasks=tasks, gate=PairedGate(keep_alpha=0.3, min_clusters=20, must_pass=named), budget=Budget(trials=235)
    )
    rounds = play(experiment, checkout, directory, workers=1)

    assert rounds[-1].working != rounds[0].incumbent
    assert all(r.certification is None for r in rounds)
    assert "too little was left for the promotion test, which may take 336 trials" in rounds[-1].detail
    assert not (spool(directory) / "splits.jsonl").exists()
    [run] = runs(directory, "example")
    assert verify(journal_file(directory, run), directory).is_sound
