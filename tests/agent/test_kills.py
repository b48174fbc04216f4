"""A runner killed by signal 9 in the middle of something, and what its successor makes of it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.agent.inbox import Inbox
from harness.ledger import journal_file, runs, stop_run
from tests.agent.night import ROOT, Night, Nights
from tests.agent.outside import Outside
from tests.models.conftest import OPENAI
from tests.models.loopback import provider, streams
from traces.journal import read
from traces.records import Review, Span, Trial

SEND = [("notify", {"text": "hello"})]


def scripted(*steps):
    """The n-th turn of every trial; the last one for ever."""
    return lambda number, turn, body: steps[min(turn, len(steps) - 1)]


@dataclass
class Stopper:
    """Stands in the way of what is outside, once, until it is let go."""

    at: str
    reached: threading.Event
    go: threading.Event

    def __call__(self, what: str) -> None:
        if what == self.at and not self.reached.is_set():
            self.reached.set()
            self.go.wait(30)


@dataclass
class Place:
    nights: Nights
    outside: Outside
    spec: Mapping[str, Any]
    stopper: Stopper

    @property
    def directory(self) -> Path:
        return Path(self.spec["directory"])

    @property
    def journal(self) -> Path:
        [run] = runs(self.directory, "example")
        return journal_file(self.directory, run)

    def records(self, kind):
        return [line.record() for line in read(self.journal) if line.type == kind.__name__]

    @property
    def trial(self) -> Trial:
        [trial] = self.records(Trial)
        return trial

    def statuses(self) -> list[str]:
        return [s.attributes["ratchet.status"] for s in self.records(Span) if s.operation == "execute_tool"]

    def killed_there(self) -> None:
        """Begin it, and kill it where it is stopped."""
        night = self.nights.begin(self.spec)
        sees(lambda: self.stopper.reached.is_set() or night.is_over)
        assert not night.is_over, night.said
        assert night.kill() == -9
        self.stopper.go.set()

    def resumed(self) -> Night:
        return self.nights.play(self.spec)


@contextmanager
def a_place(begun: Nights, root: Path, *steps, at: str = "", fault=None, **more) -> Generator[Place]:
    """A night of one trial whose model says *steps*; it can be stopped *at* something once."""
    stopper = Stopper(at, threading.Event(), threading.Event())

    def disturbed(number: int, turn: int, time: int):
        stopper(f"turn {turn}")
        return fault(turn) if fault else None

    outside = Outside(scripted(*steps), fault=disturbed, after=lambda text, handler: stopper(text))
    with provider(outside.play) as there:
        files = {"directory": str(root / "traces" / "data"), "log": str(root / "log")}
        spec = {"url": there.url, "count": 1, "workers": 1, "hooks": False, **files, **more}
        yield Place(begun, outside, spec, stopper)
        stopper.go.set()


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.txt").write_text("a\n")
    return str(tmp_path / "source")


def sees(condition, seconds: float = 20.0):
    """What *condition* says, as soon as that is something."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def running(marker: str) -> list[int]:
    """Processes that were started with *marker*."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def charged(place: Place) -> int:
    return sum(span.usage.calls for span in place.records(Span))


# ── kill -9 ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_killed_while_a_model_answers_it_pays_for_no_finished_turn_again(begun, tmp_path):
    with a_place(begun, tmp_path, SEND, [("look", {"text": "around"})], "mended", at="turn 2") as place:
        place.killed_there()
        place.resumed()
        assert place.outside.asked == {(0, 0): 1, (0, 1): 1, (0, 2): 2}
        assert charged(place) == 4
        assert (place.trial.ended, place.trial.output, place.trial.attempt) == ("done", "mended", 2)
        assert (place.outside.done["hello"], place.outside.done["around"]) == (1, 1)
        assert place.statuses() == ["ok", "ok"]


def test_killed_while_a_command_changes_the_worktree_it_is_not_run_again_and_the_model_is_told(begun, tmp_path, source):
    marker = f"31337.{os.getpid()}"
    command = f"echo once >> log.txt; sleep {marker}"
    with a_place(begun, tmp_path, [("run_command", {"command": command})], "so be it", source=source) as place:
        night = begun.begin(place.spec)
        [log] = sees(lambda: [*place.directory.glob("work/*/*/tree/log.txt")])
        sees(lambda: log.read_text() and running(marker))
        night.kill()
        sees(lambda: not running(marker), 5)
        place.resumed()
        assert (place.trial.ended, place.trial.output.count("+once")) == ("done", 1)
        assert place.statuses() == ["interrupted"]
        assert "result unknown" in place.outside.bodies[-2]  # the last is of the review
        assert place.outside.asked == {(0, 0): 1, (0, 1): 1}
        assert not [*place.directory.glob("work/*/*")]


def test_killed_within_a_side_effect_it_is_not_had_again_even_if_the_model_asks_for_it(begun, tmp_path):
    with a_place(begun, tmp_path, SEND, SEND, "mended", at="hello", patience=0.2) as place:
        place.killed_there()
        place.resumed()
        assert place.outside.wanted["hello"] == 1
        assert place.statuses() == ["interrupted", "denied"]
        assert any("result unknown" in body for body in place.outside.bodies)
        assert [e.escalation.concern for e in Inbox(place.directory).entries()] == ["repeated_failure"]
        assert place.trial.ended == "done"


def test_killed_while_a_call_is_held_it_is_held_by_the_same_approval_and_made_once(begun, tmp_path):
    with a_place(begun, tmp_path, [("pay", {"text": "five"})], "mended") as place:
        inbox = Inbox(place.directory)
        night = begun.begin(place.spec)
        [before] = sees(inbox.entries)
        night.kill()
        night = begun.begin(place.spec)
        sees(lambda: len(place.journal.read_text().split('"type":"Session"')) == 3)
        [after] = inbox.entries()
        assert (after.escalation.id, after.state, place.outside.wanted["five"]) == (before.escalation.id, "waiting", 0)
        inbox.rule(after.escalation.id, "approved", "ada")
        assert night.wait() == 0, night.said
        assert (place.outside.wanted["five"], [e.state for e in inbox.entries()]) == (1, ["used"])
        assert (place.trial.ended, place.outside.asked) == ("done", {(0, 0): 1, (0, 1): 1})


def test_killed_within_a_review_it_is_reviewed_again_and_nothing_else_is_done_again(begun, tmp_path):
    steps = (SEND, "first", "mended")
    with a_place(begun, tmp_path / "whole", *steps, every=1) as place:
        place.resumed()
        whole = place.trial
    with a_place(begun, tmp_path / "killed", *steps, every=1, at="review 0/0") as place:
        place.killed_there()
        place.resumed()
        assert place.outside.wanted == {"hello": 1, "review 0/0": 2, "review 0/1": 1}
        assert set(place.outside.asked.values()) == {1}
        assert [r.verdict for r in place.records(Review)] == ["needs_revision", "satisfied"]
        assert (place.trial.ended, place.trial.output) == (whole.ended, whole.output) == ("done", "mended")
        assert place.trial.usage.calls == whole.usage.calls


# ── the stop button ────────────────────────────────────────────────────────────────────────────────────────────


def stalled(turn: int):
    body = OPENAI.calls(("c", "notify", {"text": "never"}))
    return streams(OPENAI.streamed(body)[:2], stalls=True)


def test_the_stop_button_ends_it_in_the_middle_of_a_stream(begun, tmp_path):
    with a_place(begun, tmp_path, "mended", fault=stalled, timeout=60.0, first=2) as place:
        night = begun.begin(place.spec)
        sees(lambda: place.outside.asked[2, 0])
        assert stop_run(place.directory, place.journal.stem) == night.pid
        assert night.ends(10)
        night.wait()
        assert (charged(place), place.outside.asked.total()) == (1, 1)


def test_ratchet_stop_ends_it_in_the_middle_of_a_command_with_all_that_it_started(begun, checkout, source):
    marker = f"31338.{os.getpid()}"
    step = [("run_command", {"command": f"touch log.txt; setsid sleep {marker} & sleep {marker}"})]
    with a_place(begun, checkout, step, "mended", source=source) as place:
        night = begun.begin(place.spec)
        sees(lambda: len(running(marker)) >= 3)
        command = [sys.executable, "-m", "experiments.cli", "stop", "example"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        stopped = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert stopped.returncode == 0, stopped.stderr
        assert night.ends(10)
        night.wait()
        sees(lambda: not running(marker), 5)
        assert place.outside.asked.total() == 1
