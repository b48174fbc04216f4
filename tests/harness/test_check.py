import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness import attack
from harness.check import (
    Course,
    Examination,
    Mirror,
    about_the_cost,
    about_the_grader,
    about_the_size,
    accepted,
    affordable,
    busy,
    check,
    chosen_of,
    churn_of,
    cost_of_one,
    course_of,
    gradings,
    mirrored,
    models_in,
    next_alpha,
    open_check,
    provable_metric,
    runs_for,
)
from harness.errors import BudgetSpent, UserError
from harness.experiment import Budget, Experiment
from harness.gate import MetricGate, PairedGate
from harness.gate.ledger import SplitLedger
from harness.graders.metric import MetricGrader
from harness.ledger import journal_file
from harness.protocols import Message, Sandbox
from harness.runners import AgentRunner
from harness.testing import FakeSandbox, Finished, ScriptedModel
from harness.verify import verify
from harness.versions import Repo
from tests.conftest import a_checkout, git
from tests.gate.metric_world import EPOCH, MetricTrials, prescribed
from tests.harness.holes import JudgeGrader, RuleGrader, SubprocessSandbox, sound_judge
from tests.world import PROMPT, KnowingRunner, ListProposer, an_experiment, answer_to, play, some_tasks
from traces.records import Check, Comparison, Estimate, Grade, Noise, Task, Trial, Usage

CROWD = some_tasks(100)
"""About 160 train and 160 validation clusters."""
FEW = 6
"""Answers of each kind that are graded, where it does not matter how many."""


def examine(experiment: Experiment, checkout: Path, directory: Path, **options: object) -> Check:
    subject = Repo.find(checkout).subject(experiment.subject)
    with (
        open_check(directory, experiment, subject.live().id) as ledger,
        ThreadPoolExecutor(4) as executor,
    ):
        return check(experiment, ledger, subject, executor, **{"seconds": 0.0, **options})  # type: ignore[arg-type]


@contextmanager
def examination(experiment: Experiment, checkout: Path, directory: Path) -> Generator[tuple[Examination, list[Task]]]:
    """The parts of a check by themselves, and a sample of train tasks."""
    subject = Repo.find(checkout).subject(experiment.subject)
    with (
        open_check(directory, experiment, subject.live().id) as ledger,
        ThreadPoolExecutor(4) as executor,
    ):
        parts = Examination(experiment, ledger, subject, executor, 100, 30, (), 2.0)
        yield parts, [task for [task] in parts.trials("check").clusters("train", 0)][:30]


def spend(experiment: Experiment, directory: Path) -> None:
    """Use up the validation split, so that there is no resolution to work out."""
    gate = experiment.gate
    SplitLedger(directory, experiment.split("validation"), gate.alpha, gate.horizon).open("a night")


def facts(found: Check) -> dict[str, object]:
    """What must not depend on when it was checked."""
    return found.model_dump(exclude={"seconds": ..., "round": {"hours"}, "night": {"hours"}})


def warned(warnings: Iterable[str], *words: str) -> bool:
    found = [*warnings]
    return all(any(part in warning for warning in found) for part in words)


# ── noise ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> Check:
    """Of an experiment whose live version solves each task with chance 0.4, whatever it is."""
    folder = tmp_path_factory.mktemp("noisy")
    experiment = an_experiment(tasks=CROWD, runner=KnowingRunner(unknown=0.4), gate=PairedGate())
    return examine(experiment, a_checkout(folder / "repository"), folder / "data", clusters=120)


def test_the_noise_it_measures_is_the_noise_there_is(noisy):
    p, n = 0.4, noisy.noise.clusters
    differing = 2 * p * (1 - p)
    assert n == 120
    assert abs(noisy.noise.discordance - differing) < 3 * math.sqrt(differing * (1 - differing) / n)
    assert abs(noisy.noise.score - p) < 3 * math.sqrt(p * (1 - p) / 2 / n)
    assert noisy.noise.variance == pytest.approx(noisy.noise.discordance)
    assert noisy.noise.is_binary


def test_the_live_version_is_not_better_than_itself(noisy):
    a_a = noisy.a_a
    assert a_a.verdict.verdict in ("reject", "undecided")
    assert a_a.split == "train"
    assert (a_a.incumbent, a_a.candidate) == (noisy.live, mirrored(noisy.live))


def test_what_it_says_can_be_proven_follows_from_the_noise(noisy):
    deviation = math.sqrt(noisy.noise.variance + 2 * noisy.noise.churn)
    validation = sum(task.split == "validation" for task in CROWD)
    exact = (stats.norm.isf(noisy.alpha) + 0.84) * deviation / math.sqrt(validation)
    assert noisy.alpha == pytest.approx(0.10 / 40)
    assert 0.9 * exact < noisy.provable < 1.4 * exact
    assert 3 * validation < noisy.clusters_for_half < 6 * validation


class WarmingRunner:
    """Solves a task whenever somebody has tried it before: a cache that forgets nothing."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        known = task.id in self._seen
        self._seen.add(task.id)
        return answer_to(task) if known else "?"


def test_what_favours_whatever_runs_second_is_found_out(checkout, tmp_path):
    experiment = an_experiment(tasks=CROWD, runner=WarmingRunner(), gate=PairedGate(horizon=1))
    spend(experiment, tmp_path / "data")
    found = examine(experiment, checkout, tmp_path / "data", limit=FEW)
    assert found.a_a.verdict.verdict == "accept"
    assert found.noise.discordance > 0.9
    assert warned(found.warnings, "found better than itself")


def test_two_checks_of_the_same_say_the_same_and_run_no_hidden_task(checkout, tmp_path):
    ran: set[str] = set()
    experiment = an_experiment(runner=KnowingRunner(on_run=lambda task: ran.add(str(task.split))))
    one, other = (examine(experiment, checkout, tmp_path / name, limit=FEW) for name in ("one", "other"))
    assert facts(one) == facts(other)
    assert ran == {"train"}
    assert SplitLedger(tmp_path / "one", experiment.split("validation"), 0.10, 40).tests() == []


def test_cut_off_anywhere_it_goes_on_and_buys_nothing_twice(checkout, tmp_path):
    ran: list[str] = []
    gate = PairedGate(repeats=1, horizon=1)
    experiment = an_experiment(runner=KnowingRunner(on_run=lambda task: ran.append(task.id)), gate=gate)
    spend(experiment, tmp_path / "whole")
    whole = examine(experiment, checkout, tmp_path / "whole", limit=FEW)
    paid = len(ran)
    [journal] = (tmp_path / "whole").rglob("*check*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    for cut in (3, len(lines) // 9, len(lines) // 2, len(lines) - 1):
        directory = tmp_path / f"cut-{cut}"
        spend(experiment, directory)
        journal_file(directory, journal.stem).write_bytes(b"".join(lines[:cut]) + lines[cut][:9])
        bought = b"".join(lines[:cut]).count(b'"type":"Trial"')
        ran.clear()
        assert facts(examine(experiment, checkout, directory, limit=FEW)) == facts(whole)
        assert len(ran) == max(paid - bought, 0)


@dataclass(frozen=True)
class World:
    """What lies outside the experiment, and changes without it: is the grader's service up, does the model answer?"""

    grader_fails: Callable[[Task, str], bool] = lambda task, output: False
    asks_a_model: bool = False
    ran: list[str] = field(default_factory=list)
    graded: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outside:
    """A runner and a grader that depend on a world that no fingerprint knows."""

    world: list[World] = field(repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        self.world[-1].ran.append(task.id)
        return answer_to(task)

    def grade(self, task: Task, output: str) -> Grade:
        self.world[-1].graded.append(task.id)
        if self.world[-1].asks_a_model:
            ScriptedModel("good").complete([Message("user", output)], seed=0)
        if self.world[-1].grader_fails(task, output):
            raise ConnectionError("the service is down")
        return Grade(score=float(output in task.targets))


def outside(*, tasks: list[Task] | None = None, **world: object) -> tuple[Experiment, list[World]]:
    worlds = [World(**world)]  # type: ignore[arg-type]
    part = Outside(worlds)
    return an_experiment(tasks=tasks, runner=part, grader=part, gate=PairedGate(repeats=1, horizon=1)), worlds


def test_after_a_failure_from_outside_the_same_command_measures_afresh(checkout, tmp_path):
    experiment, worlds = outside(grader_fails=lambda task, output: True)
    spend(experiment, tmp_path)
    for _ in range(2):
        with pytest.raises(UserError, match="Mend it and type the same again"):
            examine(experiment, checkout, tmp_path, limit=FEW)
    worlds.append(World())
    found = examine(experiment, checkout, tmp_path, limit=FEW)
    assert (found.runs_ungraded, found.noise.score) == (0, 1.0)
    journals = sorted(tmp_path.rglob("*check*.jsonl"))
    assert len(journals) == 3
    assert [verify(journal, tmp_path).differences for journal in journals] == [()] * 3


def test_a_check_that_came_to_its_end_is_never_asked_again(checkout, tmp_path):
    experiment, worlds = outside()
    spend(experiment, tmp_path)
    one = examine(experiment, checkout, tmp_path, limit=FEW)
    worlds.append(World())
    other = examine(experiment, checkout, tmp_path, limit=FEW)
    assert sorted(worlds[0].ran) == sorted(worlds[1].ran) != []
    assert one.id != other.id
    assert (one.trials, one.usage) == (other.trials, other.usage)  # each says what it took itself
    worlds.append(World(grader_fails=lambda task, output: random.Random(task.id).random() < 0.45))
    assert examine(experiment, checkout, tmp_path, limit=FEW).problems > other.problems


def test_what_the_sandbox_shows_is_looked_at_anew_each_time(checkout, tmp_path):
    tasks = [
        task.model_copy(update={"input": f"Tell me about {task.input} Say it in one word"}) for task in some_tasks()
    ]
    folder = tmp_path / "box"
    folder.mkdir()
    leak = folder / "tasks.jsonl"
    runner = BoxedRunner(SubprocessSandbox(folder, {"HOME": str(folder)}))
    experiment = an_experiment(tasks=tasks, runner=runner, gate=PairedGate(repeats=1, horizon=1))
    spend(experiment, tmp_path / "data")
    seen = []
    for is_there in (True, False):
        leak.write_text("\n".join(task.model_dump_json() for task in tasks) if is_there else "")
        found = examine(experiment, checkout, tmp_path / "data", seconds=1.0, limit=FEW)
        seen.append(str(leak) in str([hole.example for hole in found.holes]))
    assert seen == [True, False]


def test_what_was_lost_before_a_kill_is_attempted_again(checkout, tmp_path):
    broken = {"plural-003", "colour-004"}
    experiment, worlds = outside(tasks=CROWD, grader_fails=lambda task, output: task.id in broken)
    spend(experiment, tmp_path / "whole")
    chosen = [task.id for [task] in chosen_of(experiment, 100)]
    broken |= set(chosen[:20])
    lost = examine(experiment, checkout, tmp_path / "whole", limit=FEW)
    assert lost.runs_ungraded >= 40
    [journal] = (tmp_path / "whole").rglob("*check*.jsonl")
    lines = [line for line in journal.read_bytes().splitlines(keepends=True) if b'"type":"Check"' not in line]
    spend(experiment, tmp_path / "killed")
    journal_file(tmp_path / "killed", journal.stem).write_bytes(b"".join(lines))
    worlds.append(World())
    found = examine(experiment, checkout, tmp_path / "killed", limit=FEW)
    assert (found.runs_ungraded, found.right_ungraded, found.noise.clusters) == (0, 0, 100)
    assert set(worlds[-1].ran) == set(chosen) & broken
    assert verify(journal_file(tmp_path / "killed", journal.stem), tmp_path / "killed").differences == ()


def test_the_arms_of_a_mirror_are_the_odd_and_the_even_runs_of_one_version():
    trials = MetricTrials(prescribed(live=[1.0, 2.0, 3.0, 4.0]))
    mirror = Mirror(trials, "live", [list(trials.tasks)])
    a, b = mirror.attempt(["live", mirrored("live")], trials.tasks, 2)
    assert [trial.grade.value for trial in a["pretrain"]] == [1.0, 3.0]
    assert [trial.grade.value for trial in b["pretrain"]] == [2.0, 4.0]
    assert {trial.version for trial in b["pretrain"]} == {mirrored("live")}
    assert {version for _, version, *_ in trials.bought} == {"live"}


def compared(*differences: float, **more: object) -> Comparison:
    scores = {"incumbent_score": 0.5, "candidate_score": 0.5, "gain": 0.0, "low": None, "high": None, "confidence": 0.9}
    sides = {"incumbent": "a", "candidate": "b", "split": "train"}
    return Comparison(**sides, **scores, tasks=len(differences), differences=differences, **more)  # type: ignore[arg-type]


def test_what_earlier_changes_broke_besides_what_they_mended_is_taken_from_comparisons():
    still = Noise(score=0.5, variance=0, discordance=0)
    assert churn_of(still, [compared(1.0, 1.0, -1.0, 0.0), compared(-1.0, 0.0, 0.0, 0.0)]) == (1 / 8, 8, 2)
    loud = Noise(score=0.5, variance=0.1, discordance=0.1)
    assert churn_of(loud, [compared(1.0, -1.0, *[0.0] * 8)]) == pytest.approx((0.05, 10, 1))  # half the noise is losses
    assert churn_of(loud, [compared(1.0, *[0.0] * 9), compared(0.5)]) == (0.0, 10, 1)
    assert churn_of(still, [compared(1 / 3, 0.0)]) is None  # against the mean of three runs: another noise
    assert churn_of(still, [compared(1.0, -1.0, drift="the model changed")]) is None


# ── what it costs ──────────────────────────────────────────────────────────────────────────────────────────────────


def a_trial(start: float, seconds: float, **more: object) -> Trial:
    begun = EPOCH + timedelta(seconds=start)
    return Trial(id="t", run="r", version="v", task="t", split="train", started=begun, seconds=seconds, **more)


def test_time_counts_once_however_many_trials_ran_at_once_and_pauses_not_at_all():
    together = [a_trial(0, 10), a_trial(2, 3), a_trial(5, 10)]
    resumed_later = a_trial(5000, 5)
    assert busy([resumed_later, *together]) == pytest.approx(20)
    used = Usage(calls=2, input_tokens=90, output_tokens=10, dollars=0.5)
    one = cost_of_one([trial.model_copy(update={"usage": used}) for trial in (*together, resumed_later)])
    assert (one.calls, one.tokens, one.dollars, one.hours * 3600) == (2, 100, 0.5, pytest.approx(5))


def test_one_unknown_price_makes_the_cost_unknown():
    assert cost_of_one([a_trial(0, 1), a_trial(1, 1, usage=Usage(dollars=None))]).dollars is None


def test_a_night_ends_at_its_rounds_or_at_the_first_other_limit():
    one = Estimate(trials=1, calls=2, tokens=100, dollars=0.01, hours=0.001)
    course = Course(round=50, rest=200)
    assert course.night(Budget(rounds=10), one).trials == 700
    assert course.night(Budget(rounds=10, trials=300), one).trials == 300
    assert course.night(Budget(dollars=5), one).trials == pytest.approx(500)
    assert course.night(Budget(rounds=10, tokens=40_000, hours=10), one).trials == pytest.approx(400)
    assert course.rounds(Budget(rounds=10, trials=300), one) == pytest.approx(2)
    assert course.night(Budget(patience=4), one).trials == 400
    assert affordable(Budget(rounds=3), one) == math.inf


def test_a_round_that_runs_one_trial_at_a_time_goes_at_the_pace_of_one_that_runs_alone():
    one = Estimate(trials=1, calls=0, tokens=0, dollars=0, hours=0.001)
    course = Course(round=1, rest=200, pace=1.8)
    night = course.night(Budget(hours=1), one)
    assert (night.trials, night.hours) == (pytest.approx(200 + 800 / 1.8), pytest.approx(1))
    assert course.one_round(one).hours == pytest.approx(0.0018)
    assert course.night(Budget(hours=0.1), one).hours == pytest.approx(0.1)
    assert course.night(Budget(rounds=10, hours=1), one).hours == pytest.approx(0.218)


def test_the_rounds_of_a_metric_count_the_incumbent_that_is_run_again_and_how_few_run_at_once():
    noise = Noise(score=0.5, variance=0.1, discordance=0.1)
    one_task = replace(a_training(TrainingRunner(0.1)), tasks=[Task(id="run", input="", split="train")])
    often, never = (
        course_of(replace(one_task, gate=MetricGate("loss", better="lower", recheck=n)), noise, 1.5) for n in (10, 0)
    )
    assert often.round - never.round == pytest.approx(0.1)
    assert never.pace == pytest.approx((never.round + 0.5) / never.round)
    assert course_of(a_training(TrainingRunner(0.1)), noise, 1.5).pace == pytest.approx(1)  # two tasks at once


def test_a_night_takes_no_more_than_twice_and_no_less_than_half_the_trials_foretold(noisy, checkout, tmp_path):
    useless = ListProposer(tuple(f"Say nothing, part {i}." for i in range(4)))
    runner = KnowingRunner(unknown=0.4)
    rounds = play(an_experiment(tasks=CROWD, runner=runner, proposer=useless, gate=PairedGate()), checkout, tmp_path)
    assert 1 / 2 < rounds[-1].trials / noisy.night.trials < 2
    tries = [after.trials - before.trials for before, after in itertools.pairwise(rounds[:-1])]
    assert min(tries) < noisy.round.trials < max(tries)
    assert noisy.night.dollars == 0
    assert 0 < noisy.night.hours < 1


def test_a_limit_of_the_budget_ends_a_check_and_a_larger_one_lets_it_go_on(checkout, tmp_path):
    solver = ScriptedModel("a1")

    def limited(tokens: int) -> Experiment:
        budget = Budget(rounds=4, trials=5, tokens=tokens)
        return an_experiment(runner=AgentRunner(solver), budget=budget, gate=PairedGate(horizon=1))

    spend(limited(200), tmp_path / "data")
    with pytest.raises(BudgetSpent, match="of 200 tokens used"):
        examine(limited(200), checkout, tmp_path / "data")
    assert solver.calls > 10
    found = examine(limited(50_000), checkout, tmp_path / "data")
    assert found.noise.clusters == found.usage.calls / 2 == solver.calls / 2
    assert found.night.trials == 5


# ── problems ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sound_experiment_has_no_problems(noisy):
    assert noisy.problems == 0
    assert (noisy.regraded, noisy.regraded_differently) == (30, 0)
    assert (noisy.right_answers, noisy.right_refused) == (30, 0)
    assert (noisy.wrong_answers, noisy.wrong_accepted) == (30, 0)


def out_of_range(task: Task, output: str) -> float:
    return 100.0 if output in task.targets else 0.0


def test_a_grader_that_raises_on_right_answers_is_a_problem(checkout, tmp_path):
    gate = PairedGate(repeats=1, horizon=1)
    never_right = KnowingRunner(unknown=0.0)
    experiment = an_experiment(tasks=CROWD, runner=never_right, grader=RuleGrader(out_of_range), gate=gate)
    spend(experiment, tmp_path)
    found = examine(experiment, checkout, tmp_path)
    assert (found.right_answers, found.right_ungraded, found.runs_ungraded) == (0, 30, 0)
    assert found.loses_right_answers
    assert found.problems == 2  # the split is spent as well
    assert "less than or equal to 1" in found.ungraded


@pytest.mark.parametrize("share", [0.4, 0.45])
def test_a_grader_that_raises_now_and_then_is_a_problem(share, checkout, tmp_path):
    times: Counter[str] = Counter()

    def fails(task: Task, output: str) -> bool:
        times[task.id] += 1
        return random.Random(f"{task.id}/{times[task.id]}").random() < share

    experiment, _ = outside(grader_fails=fails, tasks=CROWD)
    spend(experiment, tmp_path)
    found = examine(experiment, checkout, tmp_path, limit=FEW)
    assert found.loses_runs
    assert not found.a_a.is_valid
    assert "the service is down" in found.ungraded


def test_where_grading_costs_a_cheat_is_tried_on_five_tasks_and_on_all_only_if_one_of_them_rewards_it(
    checkout, tmp_path
):
    asked: list[str] = []

    def polite(task: Task, output: str) -> float:
        asked.append(output)
        ScriptedModel("good").complete([Message("user", output)], seed=0)
        return float(output in task.targets or ("can't" in output and task.id > "colour"))

    experiment = an_experiment(tasks=CROWD, grader=RuleGrader(polite))
    with examination(experiment, checkout, tmp_path / "data") as (parts, sample):
        [hole] = parts.rewarded(sample)
        everything = attack.answers(experiment.split("train"))
    assert (hole.cheat, hole.tasks) == ("refusal", 30)
    tried = Counter(asked)
    assert tried["nan"] == tried[""] == 5
    assert sum(tried.values()) < 5 * (len(everything) + 1) + 30 * 4
    assert tried[everything["most-frequent"][sample[0].id]] == 30


def test_a_frequent_target_is_found_however_few_tasks_reward_it(checkout, tmp_path):
    tasks = [task.model_copy(update={"targets": ("yes",)}) if task.id[-1] in "036" else task for task in CROWD]
    with examination(an_experiment(tasks=tasks), checkout, tmp_path / "data") as (parts, sample):
        holes = parts.rewarded(sample)
    share = sum(task.targets == ("yes",) for task in sample) / 30
    assert [(hole.cheat, hole.tasks, hole.score) for hole in holes] == [("most-frequent", 30, pytest.approx(share))]


@pytest.mark.parametrize("limit", [30, 4])
def test_a_sound_judge_is_asked_as_often_as_was_announced(limit, checkout, tmp_path):
    experiment, [world] = outside(asks_a_model=True)
    spend(experiment, tmp_path)
    examine(experiment, checkout, tmp_path, limit=limit)
    assert len(world.graded) - len(world.ran) == gradings(experiment, limit)


def test_a_cheat_that_the_grader_rewards_surfaces_with_its_score_and_an_example(checkout, tmp_path):
    polite = RuleGrader(lambda task, output: float("can't" in output or output in task.targets))
    with examination(an_experiment(grader=polite), checkout, tmp_path / "data") as (parts, sample):
        [hole] = parts.rewarded(sample)
    assert (hole.cheat, hole.score, hole.floor) == ("refusal", 1.0, 0.2)
    assert "can't" in hole.example


def test_what_the_gate_declares_that_a_guess_is_worth_is_no_hole(checkout, tmp_path):
    generous = RuleGrader(lambda task, output: 1.0 if output in task.targets else 0.5)
    with examination(an_experiment(grader=generous), checkout, tmp_path / "one") as (parts, sample):
        assert {hole.cheat for hole in parts.rewarded(sample)} >= {"empty", "constant", "echo"}
    declared = an_experiment(grader=generous, gate=PairedGate(floor=0.6))
    with examination(declared, checkout, tmp_path / "other") as (parts, sample):
        assert parts.rewarded(sample) == []


def test_a_grader_that_disagrees_with_itself_and_with_the_key_is_measured(checkout, tmp_path):
    coin = random.Random(3)
    fickle = RuleGrader(lambda task, output: float(coin.random() < 0.5))
    experiment = an_experiment(tasks=CROWD, grader=fickle, gate=PairedGate(horizon=1))
    spend(experiment, tmp_path / "data")
    found = examine(experiment, checkout, tmp_path / "data")
    for share, n in (
        (found.regraded_differently, found.regraded),
        (found.right_refused, found.right_answers),
        (found.wrong_accepted, found.wrong_answers),
    ):
        assert n == 30
        assert abs(share / n - 0.5) < 3.5 * math.sqrt(0.25 / n)
    assert warned(found.warnings, "disagreed with itself", "known right answers", "known wrong answers")


@pytest.mark.parametrize(
    ("wrong", "right", "floor", "is_accepted"),
    [
        (1.0, 1.0, 0.75, True),
        (0.73, 1.0, 0.75, False),  # marks of another output, two of three of which are right here, too
        (0.73, 1.0, 0.0, True),
        (0.5, 1.0, 0.0, True),
        (0.5, 1.0, 0.2, False),
        (0.5, 0.6, 0.2, True),  # what is right scores hardly more
        (0.4, 0.4, 0.2, False),
        (0.6, 0.6, 0.75, True),
        (1.0, 0.0, 0.2, True),
        (0.55, None, 0.2, False),
        (1.0, None, 0.2, True),
        (None, 1.0, 0.2, False),
    ],
)
def test_a_wrong_answer_is_accepted_that_scores_nearer_to_a_right_one_than_to_what_a_guess_is_worth(
    wrong, right, floor, is_accepted
):
    def graded(score: float | None) -> Trial:
        grade = None if score is None else Grade(score=score)
        return Trial(
            id="t", run="r", version="v", task="t", split="train", output="x", grade=grade, started=EPOCH, seconds=0
        )

    assert accepted({"t": graded(wrong)}, {"t": graded(right)}, floor) == is_accepted


def test_twins_across_splits_and_hidden_tasks_in_the_subject_surface(checkout, tmp_path):
    tasks = some_tasks()
    asked = next(task for task in tasks if task.split == "train")
    hidden = next(task for task in tasks if task.split == "validation")
    tasks.append(asked.model_copy(update={"id": "again", "split": "test"}))
    tasks.append(hidden.model_copy(update={"id": "shown", "input": "Which animal barks at night?"}))
    prompt = checkout / "subject" / PROMPT
    prompt.write_text(prompt.read_text().replace("Answer.", "Answer. Which animal barks at night? The dog."))
    git(checkout, "commit", "-qam", "Give an example")
    experiment = an_experiment(tasks=tasks, gate=PairedGate(horizon=1))
    spend(experiment, tmp_path / "data")
    found = examine(experiment, checkout, tmp_path / "data")
    assert [(twin.task, twin.other) for twin in found.twins if twin.similarity == 1] == [(asked.id, "again")]
    assert [(leak.task, leak.path) for leak in found.leaks] == [("shown", PROMPT)]
    assert found.problems == 3  # the split is spent as well


@dataclass(frozen=True)
class BoxedRunner:
    """Would run what versions wrote in a sandbox."""

    sandbox: Sandbox

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        return "a1"


def test_a_sandbox_in_which_the_hidden_tasks_can_be_read_is_a_problem(checkout, tmp_path):
    tasks = [
        task.model_copy(update={"input": f"Tell me about {task.input} Say it in one word"}) for task in some_tasks()
    ]
    folder = tmp_path / "box"
    folder.mkdir()
    (folder / "tasks.jsonl").write_text("\n".join(task.model_dump_json() for task in tasks))
    runner = BoxedRunner(SubprocessSandbox(folder, {"HOME": str(folder)}))
    with examination(an_experiment(tasks=tasks, runner=runner), checkout, tmp_path / "data") as (parts, _):
        holes, warnings = parts.in_reach()
    assert "disk" in {hole.cheat for hole in holes}
    assert warnings == []


def test_of_a_sandbox_that_cannot_be_looked_at_it_says_that_nothing_is_known(checkout, tmp_path):
    runner = BoxedRunner(FakeSandbox(lambda command, files: Finished(1, "no such program")))
    with examination(an_experiment(runner=runner), checkout, tmp_path / "data") as (parts, _):
        holes, warnings = parts.in_reach()
    assert holes == []
    assert warned(warnings, "in its sandbox is not known")


# ── warnings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_judge_that_is_the_model_it_judges_is_named(noisy):
    def asked(judge: str) -> list[str]:
        solver = ScriptedModel("a1", name="openai:one")
        grader = JudgeGrader(ScriptedModel(sound_judge, name=judge))
        return [*about_the_grader(an_experiment(runner=AgentRunner(solver), grader=grader), noisy)]

    assert warned(asked("openai:one"), "openai:one, the model that it judges")
    assert asked("openai:two") == []


def test_models_are_found_wherever_they_are_held():
    model = ScriptedModel("x", name="openai:deep")

    def closure() -> str:
        return model.complete([Message("user", "?")], seed=0).text

    @dataclass
    class Holder:
        inside: object
        me: object = field(default=None)

    circle = Holder({"models": [model]})
    circle.me = circle
    assert models_in(circle) == models_in(Holder(closure)) == models_in(Holder(model.complete)) == {"openai:deep"}
    assert models_in(Holder(["openai:deep", 3])) == set()


def test_a_model_that_always_answers_the_same_needs_no_repeats_and_a_noisy_one_does(noisy):
    still = noisy.model_copy(update={"noise": Noise(score=0.4, variance=0, discordance=0, clusters=100)})
    thrice, once = an_experiment(gate=PairedGate(repeats=3)), an_experiment(gate=PairedGate(repeats=1))
    assert warned(about_the_size(thrice, still), "never differed (n = 100 clusters)")
    assert not warned(about_the_size(once, still), "never differed")
    assert warned(about_the_size(once, noisy), "chance keeps more than it need")
    assert not warned(about_the_size(thrice, noisy), "chance keeps more")


def test_a_must_pass_task_that_the_live_version_fails_is_named(checkout, tmp_path):
    gate = PairedGate(must_pass=("plural-003", "colour-004"))
    runner = KnowingRunner(known=1.0, unknown=0.0)
    prompt = checkout / "subject" / PROMPT
    prompt.write_text(prompt.read_text().replace("Answer.", "Answer. Mind the plural."))
    git(checkout, "commit", "-qam", "Mind the plural")
    with examination(an_experiment(runner=runner, gate=gate), checkout, tmp_path / "data") as (parts, _):
        [warning] = parts.about_what_must_pass()
    assert "'colour-004' in 3 of 3 runs" in warning


def test_a_small_validation_split_is_said_to_prove_little(noisy):
    small = an_experiment(gate=PairedGate(min_clusters=60))
    assert warned(about_the_size(small, noisy), "no valid rule certifies a gain of 5 points", "this gate wants 60")
    assert not warned(about_the_size(an_experiment(tasks=CROWD), noisy), "no valid rule")


def test_a_spent_validation_split_proves_nothing_and_is_a_problem(checkout, tmp_path):
    experiment = an_experiment(gate=PairedGate(repeats=1, horizon=1, min_clusters=20))
    before = examine(experiment, checkout, tmp_path / "data")
    spend(experiment, tmp_path / "data")
    spent = examine(experiment, checkout, tmp_path / "data")
    assert before.provable is not None
    assert (spent.alpha, spent.provable, spent.clusters_for_half) == (None, None, None)
    assert (before.problems, spent.problems) == (0, 1)


def test_what_the_next_test_may_spend_grows_with_a_promotion_and_asking_opens_nothing(tmp_path):
    experiment = an_experiment()
    ledger = SplitLedger(tmp_path, experiment.split("validation"), 0.10, 40)
    assert next_alpha(experiment, tmp_path) == ledger.next_alpha() == pytest.approx(0.0025)
    assert ledger.open("a").alpha == pytest.approx(0.0025)
    ledger.close("a", "accept")
    assert next_alpha(experiment, tmp_path) == pytest.approx(0.005)
    assert len(ledger.tests()) == 1


def test_unknown_prices_models_of_the_proposer_and_a_short_budget_are_told(noisy):
    @dataclass(frozen=True)
    class AskingProposer(ListProposer):
        model: ScriptedModel

    unpriced = noisy.model_copy(update={"night": noisy.night.model_copy(update={"dollars": None})})
    proposer = AskingProposer((), ScriptedModel("x", name="openai:writer"))
    experiment = an_experiment(proposer=proposer, budget=Budget(rounds=12, dollars=3))
    warnings = [*about_the_cost(experiment, unpriced, rounds=4.4)]
    assert warned(warnings, "A run with a limit in dollars will refuse to start", "about 4 of its 12 rounds")
    assert warned(warnings, "openai:writer; what that costs is not in the figures")
    assert [*about_the_cost(an_experiment(), noisy, rounds=4)] == []


@dataclass(frozen=True)
class FailingRunner:
    share: float
    error: type[Exception]

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        if random.Random(task.id).random() < self.share:
            raise self.error("the line is dead")
        return "x"


def test_clusters_lost_to_infrastructure_count_for_nothing_and_are_a_problem(checkout, tmp_path):
    runner = FailingRunner(0.15, ConnectionError)
    experiment = an_experiment(tasks=CROWD, runner=runner, gate=PairedGate(horizon=1))
    spend(experiment, tmp_path / "data")
    found = examine(experiment, checkout, tmp_path / "data", limit=FEW)
    assert not found.a_a.is_valid
    assert found.noise.clusters < 100
    assert found.noise.discordance == 0
    assert found.runs_ungraded == 0  # there was nothing to grade
    assert found.problems == 2  # the split is spent as well


def test_where_most_trials_fail_it_says_so_and_measures_nothing(checkout, tmp_path):
    with pytest.raises(UserError, match="baseline trials of 'example' failed in the runner"):
        examine(an_experiment(runner=FailingRunner(0.7, ValueError)), checkout, tmp_path / "data")


# ── a noisy number ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class TrainingRunner:
    """A run ends with a loss around 1, give or take ``sigma``."""

    sigma: float
    ran: list[str] = field(default_factory=list, repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        self.ran.append(task.id)
        return f"loss: {random.Random(seed).gauss(1.0, self.sigma)}"


def a_training(runner: TrainingRunner, **gate: object) -> Experiment:
    return an_experiment(
        tasks=[Task(id=f"data-{i}", input=f"corpus {i}", split="train") for i in range(2)],
        runner=runner,
        grader=MetricGrader("loss"),
        gate=MetricGate("loss", better="lower", **gate),  # type: ignore[arg-type]
    )


def test_for_a_metric_the_noise_is_sigma_and_the_gain_is_in_its_unit(checkout, tmp_path):
    found = examine(a_training(TrainingRunner(0.02)), checkout, tmp_path / "data")
    sigma = 0.02 / math.sqrt(2)  # of the mean of two tasks
    low, high = (sigma * math.sqrt(stats.chi2.ppf(q, 4) / 4) for q in (0.001, 0.999))
    assert found.a_a.metric == "loss"
    assert low < found.a_a.sigma < high
    assert found.provable == pytest.approx(provable_metric(found.a_a.sigma, 5, 0.05))
    assert found.clusters_for_half > 5
    assert found.alpha == 0.05
    assert found.problems == 0
    assert found.night.trials >= 2 * (3 + 4)
    assert warned(found.warnings, "no hidden tasks")


def test_runs_that_cannot_be_repeated_are_run_once_and_prove_nothing(checkout, tmp_path):
    runner = TrainingRunner(0.02)
    found = examine(a_training(runner, repeats=1), checkout, tmp_path / "data")
    assert sorted(runner.ran) == ["data-0", "data-1"]
    assert found.provable is None
    assert warned(found.warnings, "declared not to be repeatable")


def test_a_metric_that_never_scatters_is_told(checkout, tmp_path):
    found = examine(a_training(TrainingRunner(0.0)), checkout, tmp_path / "data")
    assert found.provable == 0
    assert warned(found.warnings, "All runs gave the same loss")


def test_the_gain_that_runs_can_prove_is_proven_in_four_of_five_simulated_tests():
    rng, tests = np.random.default_rng(1), 20_000
    for runs in (3, 5, 10):
        gain = provable_metric(2.0, runs, 0.05)
        before, after = rng.normal(0, 2.0, (tests, runs)), rng.normal(gain, 2.0, (tests, runs))
        power = (stats.ttest_ind(after, before, axis=1, alternative="greater").pvalue <= 0.05).mean()
        assert abs(power - 0.8) < 3 * math.sqrt(0.16 / tests) + 0.002
        assert runs_for(gain, 2.0, 0.05) == runs
