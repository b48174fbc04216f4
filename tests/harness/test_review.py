"""Holes that a hostile reader found, each closed by what its test says."""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.errors import ModelError, UserError
from harness.experiment import Budget
from harness.gate import PairedGate
from harness.ledger import journal_file, open_run, runs
from harness.protocols import History, Message
from harness.runners import AgentRunner
from harness.testing import FakeClock, ScriptedModel
from tests.world import PROMPT, KnowingRunner, ListProposer, an_experiment, answer_to, play, some_tasks
from traces.journal import read
from traces.records import Comparison, Grade, Proposal, Span, Task, Usage


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@dataclass(frozen=True)
class FailingInsteadOfWrong:
    """Equally good with every version; a candidate's wrong answers are mostly failures of some kind instead."""

    error: Exception = field(repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        chance = random.Random(seed)
        if chance.random() < 0.6:
            return answer_to(task)
        if "Mind" in text[PROMPT] and chance.random() < 0.9:
            raise self.error
        return "something else"


@pytest.mark.parametrize(
    "error", [ModelError("timeout", "too long"), ModelError("connection", "gone", transient=True), TimeoutError()]
)
def test_a_candidate_gains_nothing_by_failing_where_it_would_be_wrong(checkout, directory, error):
    experiment = an_experiment(
        tasks=some_tasks(60), runner=FailingInsteadOfWrong(error), proposer=ListProposer(("Mind the gap.",))
    )
    rounds = play(experiment, checkout, directory)
    assert not [r for r in rounds if r.certification and r.certification.verdict == "accept"]
    gain = rounds[1].decision.comparison.gain
    assert rounds[1].decision.because == "errors" or abs(gain) < 0.2


def test_pairs_lost_on_one_side_alone_make_a_comparison_invalid():
    values = {
        "incumbent": "a",
        "candidate": "b",
        "split": "train",
        "incumbent_score": 0.5,
        "candidate_score": 0.6,
        "gain": 0.1,
        "low": 0.0,
        "high": 0.2,
        "confidence": 0.9,
    }
    assert Comparison(tasks=200, errors=6, incumbent_errors=3, candidate_errors=3, **values).is_valid
    assert not Comparison(tasks=200, errors=6, incumbent_errors=0, candidate_errors=6, **values).is_valid
    assert not Comparison(tasks=100, errors=6, **values).is_valid


def test_a_night_that_met_a_refused_key_goes_on_as_if_it_had_not_once_the_key_is_mended(checkout, directory):
    key = directory.parent / "key"

    def answer(messages: list[Message]) -> str:
        if not key.exists():
            raise ModelError("auth", "this key has expired")
        return "a" + messages[-1].content.split()[1].rstrip("?")

    experiment = an_experiment(runner=AgentRunner(ScriptedModel(answer)), budget=Budget(rounds=1))
    with pytest.raises(UserError, match="refuses every call"):
        play(experiment, checkout, directory)
    key.touch()
    assert play(experiment, checkout, directory)[0].score == 1


def test_a_baseline_that_failed_can_be_mended_and_measured_again(checkout, directory):
    down = threading.Event()

    class Away(KnowingRunner):
        def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
            if down.is_set():
                raise ConnectionError("nobody there")
            return super().run(task, text, seed)

    experiment = an_experiment(runner=Away(), budget=Budget(rounds=1))
    down.set()
    for _ in range(3):
        with pytest.raises(UserError, match="baseline trials"):
            play(experiment, checkout, directory)
    down.clear()
    rounds = play(experiment, checkout, directory)
    assert rounds[0].score is not None
    [run] = runs(directory, "example")
    trials = [line.data["id"] for line in read(journal_file(directory, run)) if line.type == "Trial"]
    assert len(trials) == len(set(trials))


@pytest.mark.parametrize("tokens", [4000, 5000, 7000])
def test_a_budget_in_tokens_ends_with_the_last_certification_not_before_it(checkout, directory, tokens):
    def answer(messages: list[Message]) -> str:
        task = Task(id="t", input=messages[-1].content)
        knows = task.input.split()[0] in messages[0].content
        return answer_to(task) if knows else "something else"

    experiment = an_experiment(runner=AgentRunner(ScriptedModel(answer)), budget=Budget(tokens=tokens))
    rounds = play(experiment, checkout, directory)
    assert rounds[-1].usage.tokens <= tokens
    kept = [r for r in rounds if r.working != r.incumbent]
    proven = [r.certification for r in rounds if r.certification and r.certification.verdict == "accept"]
    if kept:
        assert proven[-1].candidate == kept[-1].working
        assert proven[-1].measured is not None


def test_calls_from_a_thread_that_the_runner_begins_are_metered(checkout, directory):
    model = ScriptedModel("x")

    class Threaded(KnowingRunner):
        def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
            other = threading.Thread(target=lambda: model.complete([Message("user", "hello")], seed=0))
            other.start()
            other.join()
            return super().run(task, text, seed)

    rounds = play(an_experiment(runner=Threaded(), budget=Budget(rounds=1)), checkout, directory)
    assert rounds[-1].usage.calls == model.calls > 0


def test_a_call_whose_span_forgot_to_count_itself_is_charged_once(directory):
    with open_run(directory, an_experiment(), "0" * 40) as ledger:
        ledger.begin("c", "m", Usage(calls=1, input_tokens=200), 1)
        span = Span(id="c", operation="chat", name="m", started=FakeClock()(), seconds=0, usage=Usage(input_tokens=1))
        ledger.end(span)
        assert ledger.usage == Usage(calls=1, input_tokens=1)
    with open_run(directory, an_experiment(), "0" * 40) as ledger:
        assert ledger.usage == Usage(calls=1, input_tokens=1)


def test_a_limit_of_a_session_counts_from_its_start(directory):
    clock = FakeClock()
    with open_run(directory, an_experiment(budget=Budget(hours=8)), "0" * 40, clock=clock) as ledger:
        clock.sleep(3 * 3600)
        assert ledger.recall("nothing") is None
    again = open_run(directory, an_experiment(budget=Budget(hours=8)), "0" * 40, session_hours=1, clock=clock)
    with again as ledger:
        ledger.check_clock()
        assert ledger.budget.hours == pytest.approx(ledger.seconds / 3600 + 1)


def test_a_proposer_that_repeats_itself_ends_the_run(checkout, directory):
    class Parrot:
        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            return Proposal(id="again", proposer="Parrot", edits=(), rationale="as it is")

    rounds = play(an_experiment(proposer=Parrot(), budget=Budget(trials=1000)), checkout, directory)
    assert rounds[-1].stop == "no-progress"
    assert "not worth a trial" in rounds[-1].detail


def test_a_night_that_fails_does_not_spend_the_error_budget_on_the_dead(checkout, directory):
    calls: list[int] = []

    class Dying(KnowingRunner):
        def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
            calls.append(1)
            if len(calls) > 90:
                raise ConnectionError("gone for good")
            return super().run(task, text, seed)

    lines = tuple(f"Mind the plural, part {i}." for i in range(9))
    experiment = an_experiment(runner=Dying(), proposer=ListProposer(lines), budget=Budget(rounds=9))
    rounds = play(experiment, checkout, directory)
    assert rounds[-1].stop == "failing"
    assert rounds[-1].certification is None


@pytest.mark.parametrize(
    ("runner", "grader", "says"),
    [
        (type("R", (), {"run": lambda self, task, text, seed: None})(), None, r"run\(\) returned NoneType"),
        (None, type("G", (), {"grade": lambda self, task, output: 0.5})(), r"grade\(\) returned float"),
    ],
)
def test_what_is_no_output_or_no_grade_is_said_to_be_none(checkout, directory, runner, grader, says):
    with pytest.raises(UserError, match=says):
        play(an_experiment(runner=runner, grader=grader), checkout, directory)


def test_a_proposer_that_returns_no_proposal_is_told_so(checkout, directory):
    class Silent:
        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> None:
            return None

    rounds = play(an_experiment(proposer=Silent(), budget=Budget(rounds=1)), checkout, directory)
    assert "propose() returned NoneType" in rounds[1].decision.detail


def test_the_runner_is_not_given_the_targets(checkout, directory):
    seen: set[tuple[str, ...]] = set()

    class Cheat(KnowingRunner):
        def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
            seen.add(task.targets)
            return super().run(task, text, seed)

    play(an_experiment(runner=Cheat(), budget=Budget(rounds=1)), checkout, directory)
    assert seen == {()}


def test_two_nights_draw_their_chances_afresh(checkout, directory):
    first, second = (play(an_experiment(budget=Budget(rounds=1)), checkout, directory) for _ in range(2))
    assert first[0].score != second[0].score


def test_a_grade_may_be_a_fraction_and_the_gate_takes_it(checkout, directory):
    class Half:
        def grade(self, task: Task, output: str) -> Grade:
            return Grade(score=0.5 + 0.5 * (output == answer_to(task)), reason="half of it")

    rounds = play(an_experiment(grader=Half(), gate=PairedGate(repeats=2, min_clusters=20)), checkout, directory)
    assert 0.5 < rounds[0].score < 1
