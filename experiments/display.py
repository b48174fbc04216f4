"""Progress for people: a live display on a terminal, plain lines elsewhere. Always on stderr."""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.report import TRIED, bare_gain, change, count, duration, figure, gain, money, reason, short
from harness.agent.inbox import Inbox, visible
from harness.certify import share_used
from harness.experiment import Experiment
from harness.ledger import Ledger
from traces.errors import TracesError
from traces.records import Escalation, Round

SHOWN = 14
"""Rounds that the live display shows at once."""
LOOK = 1.5
"""Seconds between two looks into the inbox."""
STYLES = {"keep": "green", "discard": "dim", "inconclusive": "yellow"}


@contextmanager
def display(experiment: Experiment, ledger: Ledger, console: Console) -> Generator[Callable[[Round], None]]:
    """Within, call what this yields with each round."""
    rounds: list[Round] = []
    metric = str(ledger.run.gate.get("metric", ""))
    console.print(opening(experiment, ledger), highlight=False, markup=False, soft_wrap=True)

    def tell(line: str) -> None:
        try:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        except OSError:
            console.quiet = True  # nobody reads it any more; the night goes on

    with telling_what_waits(Inbox(ledger.directory), ledger.run.id, tell):
        if not console.is_terminal:
            yield lambda round: tell(round_line(round, metric))
            return
        with Live(get_renderable=lambda: board(ledger, rounds), console=console, refresh_per_second=4):
            yield rounds.append
    console.print(
        *[round_line(r, metric) for r in rounds if r.certification or r.stop], sep="\n", highlight=False, markup=False
    )


@contextmanager
def telling_what_waits(inbox: Inbox, run: str, tell: Callable[[str], None], every: float = LOOK) -> Generator[None]:
    """Within, *tell* once of each call of *run* that is held for a person; nothing that fails here ends the run."""
    over, told = threading.Event(), set[str]()

    def watch() -> None:
        while not over.wait(every):
            with suppress(OSError, TracesError):  # the next look finds it
                for e in (entry.escalation for entry in inbox.entries() if entry.state == "waiting"):
                    if e.run == run and e.kind == "approval" and e.id not in told:
                        told.add(e.id)
                        tell(waiting_line(e))

    threading.Thread(target=watch, name="inbox", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def waiting_line(e: Escalation) -> str:
    expires = f" (expires {e.expires.astimezone():%H:%M})" if e.expires else ""
    return f"waits for you: {visible(e.tool or e.concern)}{expires}: ratchet inbox show {e.id}"


def opening(experiment: Experiment, ledger: Ledger) -> str:
    sizes = ", ".join(f"{n} {split}" for split, n in experiment.sizes().items() if n)
    limits = limits_line(ledger.budget.limits())
    verb = "resume" if ledger.trials else "run"
    return f"{verb} {ledger.run.id} from {ledger.run.live[:12]}: {sizes} tasks; at most {limits}"


def limits_line(limits: Mapping[str, float | None]) -> str:
    """``2 min 00 s, 5 dollars``."""
    return ", ".join(limit(name, most) for name, most in limits.items() if most is not None)


def limit(name: str, most: float) -> str:
    if name == "hours":
        return duration(3600 * most)
    return f"{most:,.4g} {name.removesuffix('s') if most == 1 else name}"


def round_line(r: Round, metric: str = "") -> str:
    """``round 3  keep      add a worked example of [plural]: +10.4 points on 40 tasks; score .312, 1,204 trials``.

    *metric*: what its scores are in; empty where these are in [0, 1].
    """
    c = r.decision.comparison if r.decision else None
    score = f"score {score_of(r, metric)}" if r.score is not None else ""
    spent = f"{r.trials:,} trials"
    if r.stop is not None:
        line = (
            f"end       {r.stop}: {r.detail}; {score or 'no score'}, {spent}, {r.usage.calls:,} calls, {money(r.usage)}"
        )
    elif r.decision is None:
        line = f"round {r.number:<3} baseline      {score or 'no score'}  {spent}, {duration(r.seconds)}"
    else:
        if c is None or c.gain is None:
            found = reason(r.decision.detail)
        elif c.metric:
            found = f"{c.metric} {bare_gain(c)} in {count(c.tasks, 'run')}"
        else:
            found = f"{bare_gain(c)} points on {c.tasks} tasks"
        if r.decision.because in ("simpler", "unconfirmed"):
            found += f", {r.decision.because}"
        tried = TRIED.match(change(r))
        what = short(tried[0] if tried else change(r), 72)  # the rest is in the report
        line = f"round {r.number:<3} {r.decision.verdict:<13} {what}: {found}; {score or 'no score'}, {spent}"
    if r.certification is not None:
        c = r.certification
        where = " on test" if c.measured is not None and not c.measured.metric else ""
        proof = gain(c.measured) + where if c.measured is not None else c.detail
        line += f"\npromotion test of {c.candidate[:12]}: {c.verdict}" + (f", {proof}" if proof else "")
    if r.removals:
        gone = [n for removal in r.removals if removal.verdict == "drop" for n in removal.rounds]
        what = f"taken out: round {', '.join(map(str, gone))}" if gone else "nothing in it does harm on train"
        line += f"\nthe stack lost and was taken apart; {what}"
    return line


def board(ledger: Ledger, rounds: list[Round]) -> RenderableType:
    metric = str(ledger.run.gate.get("metric", ""))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, justify in (
        ("round", "right"),
        ("decision", "left"),
        (metric or "gain", "right"),
        ("n", "right"),
        ("score", "right"),
    ):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("change", ratio=1)  # the one that gives way where there is little room
    for r in rounds[-SHOWN:]:
        if r.stop is not None:
            continue
        c = r.decision.comparison if r.decision else None
        verdict = r.decision.verdict if r.decision else "baseline"
        table.add_row(
            str(r.number),
            verdict,
            bare_gain(c),
            str(c.tasks) if c else "",
            score_of(r, metric),
            Text(change(r), no_wrap=True, overflow="ellipsis"),
            style=STYLES.get(verdict, ""),
        )
    return Group(table, Text(status_line(ledger, rounds), style="bold"))


def score_of(r: Round, metric: str = "") -> str:
    """``0.312 [0.281, 0.344]``; without an interval where all runs of a *metric* gave the same number."""
    if r.score is None:
        return ""
    if r.score_low is None or r.score_high is None or (metric and r.score_low == r.score_high):
        return figure(r.score, metric)
    return f"{figure(r.score, metric)} [{figure(r.score_low, metric)}, {figure(r.score_high, metric)}]"


def status_line(ledger: Ledger, rounds: list[Round]) -> str:
    tries = sum(r.decision is not None for r in rounds)
    used = min(share_used(ledger.budget.limits(), rounds), 1.0) if rounds else 0.0
    left = (
        f", about {duration(ledger.seconds * (1 - used) / used)} left, and the promotion test" if 0 < used < 1 else ""
    )
    u = ledger.usage
    kept = sum(r.decision is not None and r.decision.verdict == "keep" for r in rounds)
    phase = f"round {len(rounds)}" if rounds else "baseline"
    if rounds and ledger.recall("stop") is not None:
        phase, left = "promotion test", ""
    return (
        f"{phase}; {kept} of {tries} kept; {ledger.trials:,} trials, {u.calls:,} calls, "
        f"{u.tokens:,} tokens, {money(u)}; "
        f"{duration(ledger.seconds)} at work{left}"
    )
