"""Everything goes wrong at once, in a small night: see ``tests.benchmarks.faults`` for the large one."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from harness import models
from harness.agent.context import Context
from harness.agent.limits import Limits
from harness.agent.runner import AgentRunner
from harness.agent.tools import function_tool
from harness.experiment import Budget
from harness.ledger import journal_file, open_run, runs
from harness.models import Breaker, Retry, Routes, model
from harness.testing import ScriptedModel
from harness.trials import DurableTrials
from tests.agent.night import Night, Nights
from tests.agent.outside import Outside
from tests.agent.world import A, agent, calls, script
from tests.benchmarks.faults import checks, play
from tests.models.loopback import provider, stalls
from tests.world import SEED_PROMPT, an_experiment
from traces.journal import read
from traces.records import Review, Trial


def test_whatever_goes_wrong_each_trial_ends_once_and_nothing_happens_twice_or_is_left_behind(begun, tmp_path):
    played = play(begun, tmp_path, count=12, kills=2, fills=1, life=1.0)
    wrong = {what: found for what, found in checks(played).items() if found}
    assert not wrong
    assert played.kills + played.full >= 2
    assert sum(played.plan.met.values()) >= 12


def two_sessions(begun: Nights, root: Path, answer: str, largest: int, **more: object) -> tuple[Night, Trial | None]:
    """A night of one trial whose disk is full at *largest* bytes a file, and again with room: how the first one went,
    and what the trial came to."""
    spec = {"directory": str(root / "data"), "log": str(root / "log"), "count": 1, "workers": 1, **more}
    with provider(Outside(lambda number, turn, body: answer).play) as there:
        first = begun.begin({**spec, "url": there.url, "largest": largest})
        first.wait()
        begun.play({**spec, "url": there.url})
    [run] = runs(root / "data", "example")
    lines = read(journal_file(root / "data", run))
    return first, next((line.record() for line in lines if line.type == "Trial"), None)  # type: ignore[return-value]


def test_a_full_journal_ends_the_run_which_says_so_and_is_no_failure_of_the_version(begun, tmp_path):
    first, trial = two_sessions(begun, tmp_path, "x" * 120_000, 60_000)
    assert trial is not None
    assert (trial.ended, trial.error_class) == ("done", None)
    assert first.wait() != 0
    assert "no space left" in first.said


def test_a_full_disk_for_the_worktree_is_no_failure_of_the_version(begun, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "large.txt").write_text("x" * 300_000)
    _, trial = two_sessions(begun, tmp_path, "done", 200_000, source=str(source))
    assert trial is not None
    assert trial.ended == "done" or trial.is_lost


# ── what is given up ───────────────────────────────────────────────────────────────────────────────────────────


def look(place: str) -> str:
    """What is at a place."""
    return place


LOOK = function_tool(look, effect="none")


class Slow:
    """A verifier that takes its time."""

    attempts = 3

    def review(self, task, output, work, before):
        time.sleep(4)
        return Review(verdict="satisfied")


def test_a_verifier_that_hangs_holds_a_trial_no_longer_than_its_cap(tmp_path):
    started = time.monotonic()
    play_one(agent(script("a0"), verifier=Slow(), limits=Limits(seconds=0.3)), tmp_path)
    assert time.monotonic() - started < 3


def test_a_summary_that_hangs_holds_a_trial_no_longer_than_its_cap(tmp_path):
    def summarise(messages):
        time.sleep(4)
        return "in short"

    wordy = [calls(("look", {"place": f"home {n}"}), text=f"thought {n} " * 1500) for n in range(6)]
    asked = Routes(script(*wordy, "a0"), summariser=ScriptedModel(summarise))
    context = Context(tokens=8000, answer=500, tool_result=3000, keep_recent=2)
    started = time.monotonic()
    played = play_one(agent(asked, LOOK, context=context, limits=Limits(seconds=0.5, idle=20)), tmp_path)
    assert played.trial.ended == "time_cap"
    assert time.monotonic() - started < 3.5


def test_a_model_call_that_was_given_up_is_not_sent_again(tmp_path):
    retry = Retry(attempts=5, first_wait=0.1)
    with provider(stalls) as there:
        asked = model("openai:m", base_url=there.url + "/v1", timeout=0.4, retry=retry, breaker=Breaker(failures=50))
        played = play_one(agent(asked, LOOK, limits=Limits(seconds=1.0)), tmp_path, wait=1.0)
    models.close()
    assert played.trial.ended == "time_cap"
    ended = played.trial.started + timedelta(seconds=played.trial.seconds)
    intents = [line.at for line in read(played.journal) if line.type == "Intent" and line.data["kind"] == "call"]
    assert intents
    assert max(intents) <= ended
    assert played.trial.usage.calls == len(intents)


@dataclass(frozen=True)
class One:
    trial: Trial
    journal: Path


def play_one(runner: AgentRunner, directory: Path, wait: float = 0.0) -> One:
    """A trial, and then a night that goes on for a while."""
    experiment = an_experiment(runner=runner, budget=Budget(rounds=1))
    text = {"prompts/solve.md": SEED_PROMPT}
    with open_run(directory, experiment, A) as ledger, ThreadPoolExecutor(1) as executor:
        trials = DurableTrials(experiment, ledger, lambda version: text, executor, "round/1", 1)
        [found] = trials.attempt([A], experiment.tasks[:1])
        time.sleep(wait)
        [trial] = found[experiment.tasks[0].id]
        return One(trial, journal_file(directory, ledger.run.id))
