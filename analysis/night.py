"""A night as its journal tells it: the run, its rounds, why it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

from traces.journal import read
from traces.records import Certification, Refresh, Round, Run, Session, Span, Stop, Trial, Usage


@dataclass(frozen=True)
class Night:
    """One run, finished or not."""

    run: Run
    rounds: tuple[Round, ...]
    """Round 0 is the baseline; the last one carries the stop reason once the run has ended."""
    stop: Stop | None
    """Set from when the search ended."""
    began: datetime
    last: datetime
    """When something was last written down."""
    sessions: int
    pid: int
    """Of the process that took it up last."""
    usage: Usage
    """Calls that ended or were written off; those under way are not in it."""
    trials: int
    interrupted: int
    """Calls that were charged at their estimate because the process died during them."""
    seconds: float
    """Time at work, all sessions together."""
    limits: Mapping[str, float | int | None] = field(default_factory=dict[str, float | int | None])
    """Of the process that took it up last, as the command line tightened them."""
    refreshes: tuple[Refresh, ...] = ()
    """When the incumbent was measured again, and why."""

    @property
    def tries(self) -> tuple[Round, ...]:
        """The rounds that tried something."""
        return tuple(r for r in self.rounds if r.decision is not None)

    @property
    def kept(self) -> tuple[Round, ...]:
        return tuple(r for r in self.tries if r.decision is not None and r.decision.verdict == "keep")

    @property
    def ended(self) -> Round | None:
        """The closing round; ``None`` while the run is unfinished."""
        return self.rounds[-1] if self.rounds and self.rounds[-1].stop else None

    @property
    def working(self) -> str:
        return self.rounds[-1].working if self.rounds else self.run.live

    @property
    def certifications(self) -> tuple[Certification, ...]:
        return tuple(r.certification for r in self.rounds if r.certification is not None)

    @property
    def certified(self) -> Certification | None:
        """The last promotion test that was passed."""
        return next((c for c in reversed(self.certifications) if c.verdict == "accept"), None)

    @property
    def state(self) -> str:
        """``running or interrupted`` until it has ended; then its stop reason."""
        if self.ended is not None and self.ended.stop is not None:
            return self.ended.stop
        if self.stop is not None and self.stop.reason == "stopped":
            return "stopped"
        return "certifying" if self.stop is not None else "searching"


def read_night(journal: Path) -> Night | None:
    """The night in *journal*; ``None`` if it holds no run (another kind of writer, or nothing yet)."""
    run: Run | None = None
    rounds: list[Round] = []
    refreshes: list[Refresh] = []
    stop: Stop | None = None
    times: list[tuple[datetime, datetime]] = []
    began: datetime | None = None
    last: datetime | None = None
    usage, trials, interrupted, pid = Usage(), 0, 0, 0
    limits: Mapping[str, float | int | None] = {}
    for line in read(journal):
        match line.type:
            case "Run":
                run = cast(Run, line.record())
                began = line.at
            case "Session":
                session = cast(Session, line.record())
                pid, limits = session.pid, session.budget
                times.append((line.at, line.at))
            case "Round":
                rounds.append(cast(Round, line.record()))
            case "Refresh":
                refreshes.append(cast(Refresh, line.record()))
            case "Stop":
                stop = cast(Stop, line.record())
            case "Trial":
                trials += 1
            case "Span":
                span = cast(Span, line.record())
                usage += span.usage
                interrupted += span.status == "interrupted"
            case _:
                pass
        last = line.at
        if times and line.type != "Stop":  # which may come from a person, long after the process died
            times[-1] = (times[-1][0], line.at)
    if run is None or began is None or last is None:
        return None
    return Night(
        run=run,
        rounds=tuple(rounds),
        stop=stop,
        began=began,
        last=last,
        sessions=len(times),
        pid=pid,
        usage=usage,
        trials=trials,
        interrupted=interrupted,
        seconds=sum((b - a).total_seconds() for a, b in times),
        limits=limits or run.budget,
        refreshes=tuple(refreshes),
    )


def train_trials(journal: Path, version: str) -> list[Trial]:
    """The trials of *version* on the whole train split; those it was measured by, not those of a comparison."""
    prefix = f"train/{version}/"
    found: dict[str, Trial] = {}
    for line in read(journal):
        if line.type == "Trial" and line.key is not None and line.key.startswith(prefix):
            trial = cast(Trial, line.record())
            found[f"{trial.task}/{trial.repeat}"] = trial  # a later one replaces one lost to infrastructure
    return list(found.values())
