"""What a loop will take is said before anything is spent."""

import json
from dataclasses import dataclass, field, replace

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from experiments.plan import Amount, Loop, Seen, lines, loop_of, plan, plan_of, seen_before
from harness.agent.limits import Limits
from harness.experiment import Budget
from harness.gate import MetricGate
from harness.graders import AtMost, Judge, RubricGrader, RubricVerifier
from harness.graders.judge import TRIES
from harness.graders.metric import MetricGrader
from harness.runners.command import CommandRunner
from harness.runners.metrics import Printed
from harness.testing import ScriptedModel
from harness.text import Rubric
from harness.trials import RETRIES
from tests.conftest import a_checkout
from tests.traces.samples import CHECK
from tests.world import AskingRunner, KnowingRunner, an_experiment, play, some_tasks
from traces.journal import Journal
from traces.places import spool
from traces.records import Estimate, Task

RUBRIC = {"criteria": [{"id": "true", "question": "Is it true?", "choices": ["no", "yes"]}]}

app = typer.Typer()
app.command()(plan)


def said(*arguments):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_twenty_iterations_with_verification_are_at_least_forty_calls():
    assert "at least  40 calls" in said("--iterations", "20", "--verify")
    assert json.loads(said("--iterations", "20", "--verify", "--json"))["least"]["calls"] >= 40
    assert "at least  20 calls" in said("--iterations", "20")


def test_nothing_to_iterate_is_wrong_usage():
    assert CliRunner().invoke(app, ["--iterations", "0"]).exit_code == 2


def test_the_most_is_by_the_caps_of_each_iteration():
    limits = Limits(steps=10, tokens=1000, dollars=0.5, seconds=360)
    assert plan_of(Loop(20, True, limits, attempts=3)).worst == Amount(20 * 13, 20_000, 10.0, 2.0)
    assert plan_of(Loop(20, False, limits)).worst.calls == 200


def test_the_most_is_never_more_than_the_budget():
    loop = Loop(1000, True, Limits(tokens=1000), budget=Budget(tokens=50_000, dollars=3, hours=1))
    worst = plan_of(loop).worst
    assert (worst.tokens, worst.dollars, worst.hours) == (50_000, 3, 1)


def test_what_is_expected_goes_by_earlier_trials():
    seen = Seen("night", 40, Amount(4, 1000, 0.01, 0.001), was_verified=True)
    assert plan_of(Loop(10, True), seen).expected == Amount(40, 10_000, pytest.approx(0.1), pytest.approx(0.01))


def test_a_verification_that_was_not_there_before_counts_as_one_more_call_like_the_others():
    seen = Seen("night", 40, Amount(1, 1000, None, 0.001), was_verified=False)
    assert plan_of(Loop(10, True), seen).expected == Amount(20, 20_000, None, pytest.approx(0.02))


@dataclass(frozen=True)
class AnAgent(KnowingRunner):
    limits: Limits = field(default_factory=lambda: Limits(steps=7))
    tools: tuple = ("look",)
    verifier: object = None


@dataclass(frozen=True)
class AVerifier:
    attempts: int = 2


def test_an_agent_is_planned_by_its_own_limits_and_its_own_verifier():
    worst = plan_of(loop_of(an_experiment(runner=AnAgent(verifier=AVerifier())), 10, verify=False)).worst
    assert worst.calls == 10 * (1 + RETRIES) * (7 + 2)


def test_a_review_counts_only_where_it_asks_a_model():
    looks = RubricVerifier(checks=(AtMost(9),), attempts=2)
    loop = loop_of(an_experiment(runner=AnAgent(verifier=looks)), 10, verify=False)
    assert plan_of(loop).least.calls == 10
    assert plan_of(loop).worst.calls == 10 * (1 + RETRIES) * 7
    assert "7 turns and reviews that ask no model an iteration" in "\n".join(lines(plan_of(loop)))
    judge = Judge(ScriptedModel("x"), Rubric.model_validate(RUBRIC))
    judged = loop_of(an_experiment(runner=AnAgent(verifier=replace(looks, judge=judge))), 10, verify=False)
    assert plan_of(judged).least.calls == 20
    assert plan_of(judged).worst.calls == 10 * (1 + RETRIES) * (7 + 2 * TRIES)
    graded = loop_of(an_experiment(grader=RubricGrader(judge=judge)), 10, verify=False)
    assert plan_of(graded).worst.calls == 10 * (1 + RETRIES) * (1 + TRIES)


def test_the_most_has_room_for_all_promotion_tests_repeats_and_fresh_measurements():
    experiment = an_experiment(budget=Budget(rounds=4, hours=1))
    sizes, gate = experiment.sizes(), experiment.gate
    loop = loop_of(experiment, None, verify=False)
    rounds = sizes["train"] * gate.repeats * (1 + 2 * 4)
    assert plan_of(loop).worst.calls >= (1 + RETRIES) * (rounds + gate.checkpoints * gate.cost(sizes))
    assert plan_of(loop).least.calls == loop.iterations
    capped = loop_of(replace(experiment, budget=Budget(trials=50)), None, verify=False)
    assert plan_of(capped).worst.calls == 50


def test_numbers_are_written_out():
    loop = Loop(1, False, budget=Budget(tokens=20_000_000, dollars=5, hours=1.5))
    said = "\n".join(lines(plan_of(loop)))
    assert "and the budget of 20,000,000 tokens, $5.00, 1 h 30 min." in said
    assert "1 iteration without" in said
    assert "e+" not in said
    assert "at least  1 call\n" in said


def test_a_runner_without_tools_takes_one_turn():
    loop = loop_of(an_experiment(), 10, verify=False)
    assert plan_of(loop).worst.calls == 10 * (1 + RETRIES)
    assert "1 turn an iteration, in 30 iterations with repeats" in "\n".join(lines(plan_of(loop)))
    assert "and the budget of 1 h 00 min." in "\n".join(lines(plan_of(loop)))


def test_by_default_it_plans_the_trials_that_a_night_may_need():
    experiment = an_experiment(budget=Budget(rounds=4, hours=1))
    sizes, gate = experiment.sizes(), experiment.gate
    assert loop_of(experiment, None, verify=False).iterations == sizes["train"] * (gate.repeats + 4) + gate.cost(sizes)
    assert loop_of(replace(experiment, budget=Budget(trials=50)), None, verify=False).iterations == 50


def test_what_a_night_took_is_found_in_its_journal(tmp_path):
    checkout, directory = a_checkout(tmp_path / "repository"), tmp_path / "data"
    experiment = an_experiment(
        runner=AskingRunner(tmp_path / "counter"), tasks=some_tasks(20), budget=Budget(rounds=1, trials=40)
    )
    assert seen_before(directory, experiment) is None
    play(experiment, checkout, directory)
    seen = seen_before(directory, experiment)
    assert seen is not None
    assert seen.trials > 0
    assert seen.each.calls == 1
    assert seen.each.tokens > 0
    assert f"as {seen.trials:,} trials" in "\n".join(lines(plan_of(loop_of(experiment, 5, verify=True), seen)))


def a_command(seconds: float = 30.0, **budget: float):
    return an_experiment(
        tasks=[Task(id="run", input="", split="train")],
        runner=CommandRunner("python bench.py", metric=Printed("loss"), seconds=seconds),
        grader=MetricGrader("loss"),
        gate=MetricGate("loss", better="lower"),
        budget=Budget(**budget),  # type: ignore[arg-type]
    )


def test_what_asks_no_model_is_planned_in_trials_and_by_the_hours_where_no_rounds_end_it():
    unseen = "\n".join(lines(plan_of(loop_of(a_command(hours=8), None, verify=False))))
    assert "expected  not known, since none has run yet: ratchet check" in unseen
    assert "call" not in unseen
    seen = Seen("night", 40, Amount(0, 0.0, 0.0, 0.001), was_verified=False)
    loop = loop_of(a_command(hours=8), None, verify=False, seen=seen)
    found = plan_of(loop, seen)
    assert found.expected == Amount(0, 0.0, 0.0, pytest.approx(8), trials=8000)
    assert found.worst == Amount(None, hours=8)
    assert "expected  8,000 trials, 8 h 00 min (as 40" in "\n".join(lines(found))


def test_rounds_of_what_asks_no_model_end_at_their_own_limit_of_time_or_at_the_budget():
    found = plan_of(loop_of(a_command(rounds=2, hours=8), None, verify=False))
    assert found.least == Amount(0, trials=3 + 2 + 20)
    assert found.worst.hours == pytest.approx(found.worst.trials * 30 / 3600)
    assert "of 30 s each, and the budget of 8 h 00 min." in "\n".join(lines(found))


def test_a_plan_says_of_a_night_what_the_check_said(tmp_path):
    experiment = a_command(hours=1)
    amount = Estimate(trials=900, calls=0, tokens=0, dollars=0, hours=1)
    spool(tmp_path).mkdir(parents=True)
    with Journal(spool(tmp_path) / f"{experiment.name}-check-x-1.jsonl") as journal:
        journal.append(CHECK.model_copy(update={"night": amount}), key="check")
    seen = seen_before(tmp_path, experiment)
    assert plan_of(loop_of(experiment, None, verify=False, seen=seen), seen).expected.trials == 900


amounts = st.builds(
    Amount,
    calls=st.just(0.0) | st.floats(0.01, 100),
    tokens=st.floats(0, 10_000),
    dollars=st.none() | st.floats(0, 10),
    hours=st.floats(0, 1),
)


@given(st.integers(1, 1000), st.booleans(), st.booleans(), st.none() | amounts, st.booleans())
def test_the_least_is_no_more_than_the_most(iterations, verify, turns, each, was_verified):
    seen = None if each is None else Seen("night", 9, each, was_verified)
    found = plan_of(Loop(iterations, verify, has_turns=turns), seen)
    assert found.least.calls <= found.worst.calls
    assert found.expected is None or found.least.calls <= found.expected.calls
    assert lines(found)
