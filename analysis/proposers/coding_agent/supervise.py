"""A program of somebody else's, watched: it ends within its time, when it is silent for too long, when it prints too
much, and at the stop button; and with it all that it has started."""

import marshal
import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Literal

from analysis.proposers.coding_agent.session import Line
from harness.agent import leash
from harness.meter import meter
from harness.models.wire import POLL
from harness.sandboxes import INSIDE
from harness.sandboxes.isolation import GRACE, Isolated, hand_over, mounts_of, spec_of, started
from traces.records import now

MIB = 1 << 20
LONGEST_LINE = 8 * MIB
"""Bytes; what a longer line says beyond it is left out."""
TAIL = 4_000
"""Bytes of what it complained about that are kept, the last ones."""


@dataclass
class Heard:
    """What a program has said so far. Filled while it runs, so that it is there also when the run is stopped."""

    lines: list[Line] = field(default_factory=list[Line])
    complaints: bytearray = field(default_factory=bytearray)
    size: int = 0
    """Bytes, of all that it printed."""
    seconds: float = 0.0
    code: int | None = None
    limit: str = ""
    """Of the sandbox, that it was killed at."""
    ended: Literal["exit", "time", "idle", "output", "stopped"] = "stopped"
    _begun: bytearray = field(default_factory=bytearray)
    _at: datetime | None = None

    def add(self, data: bytes) -> bool:
        """Take in what it printed; was a line among it?"""
        self.size += len(data)
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._begun += part
            self._finish()
        self._begun += rest
        del self._begun[LONGEST_LINE:]
        return bool(whole)

    def close(self) -> None:
        if self._begun:
            self._finish()

    def _finish(self) -> None:
        self.lines.append(Line(now(), bytes(self._begun[:LONGEST_LINE]).decode("utf-8", "replace")))
        self._begun.clear()


@dataclass(frozen=True)
class Limits:
    seconds: float
    idle: float
    """Seconds without a whole line."""
    output: int = 64 * MIB
    """Bytes that it may print."""


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[bytes]
    told: int | None = None
    """Where a sandbox says how its command ended."""

    def outcome(self, code: int) -> tuple[int, str]:
        """Once it has ended, with *code*: that of the command, and the limit of the sandbox that it was killed at."""
        if self.told is None or not (report := os.read(self.told, 1 << 16)):
            return code, ""
        how, status, _ = marshal.loads(report)
        return status, "" if how == "exit" else os.strerror(status) if how == "failed" else how


@contextmanager
def on_a_leash(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Generator[Running]:
    """Run *command* in *folder*. Nothing that it started outlives the context, or this process."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
        bufsize=0,
    )
    try:
        yield Running(process)
    finally:
        process.terminate()  # the leash kills all that the command has started, also what has left its group
        ended(process)


@contextmanager
def in_a_sandbox(
    sandbox: Isolated, command: Sequence[str], session: Path, work: str, environment: Mapping[str, str], seconds: float
) -> Generator[Running]:
    """As ``on_a_leash``, in *work* within the folder *session*, which is all that it can change."""
    mounts = mounts_of(sandbox, session)
    spec = spec_of(sandbox, command, mounts, seconds=seconds + GRACE, environment=environment)
    spec |= {"folder": f"{INSIDE}/{work}", "home": environment["HOME"]}
    told, tell = os.pipe()
    try:
        process = started(sandbox.command(mounts, tell), tell, subprocess.PIPE)
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(tell)
    try:
        hand_over(process, marshal.dumps(spec))
        yield Running(process, told)
    finally:
        assert process.stdin is not None
        process.stdin.close()  # at the end of its input the sandbox ends, and all that is in it
        ended(process)
        os.close(told)


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for it, and kill it where that takes too long."""
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def watch(running: Running, limits: Limits, heard: Heard) -> None:
    """Listen until it has ended or has to be ended; what it said is in *heard*.

    Raises:
        BudgetSpent: the run has to end at once.
    """
    process = running.process
    begun = last = monotonic()
    assert process.stdout is not None
    assert process.stderr is not None
    out = process.stdout.fileno()
    poll = select.poll()
    for stream in (process.stdout, process.stderr):
        os.set_blocking(stream.fileno(), False)
        poll.register(stream, select.POLLIN)
    is_open = {out, process.stderr.fileno()}
    looked = begun
    try:
        while True:
            at = monotonic()
            if at - looked >= POLL or looked == begun:
                meter().check_clock()
                looked = at
            if at - begun >= limits.seconds:
                heard.ended = "time"
                return
            if at - last >= limits.idle:
                heard.ended = "idle"
                return
            if not is_open:
                with suppress(subprocess.TimeoutExpired):
                    heard.code, heard.limit = running.outcome(process.wait(POLL))
                    heard.ended = "exit"
                    return
                continue
            left = min(POLL, limits.seconds - (at - begun), limits.idle - (at - last))
            for source, _ in poll.poll(1000 * max(0.0, left)):
                try:
                    data = os.read(source, 1 << 16)
                except BlockingIOError:
                    continue
                if not data:
                    poll.unregister(source)
                    is_open.discard(source)
                elif source == out:
                    last = monotonic() if heard.add(data) else last
                else:
                    heard.size += len(data)
                    heard.complaints += data
                    del heard.complaints[:-TAIL]
            if heard.size > limits.output:
                heard.ended = "output"
                return
    finally:
        heard.close()
        heard.seconds = monotonic() - begun
