"""Trials of an agent with everything going wrong, in a process that is killed again and again; then count what is left.

    uv run python -m tests.benchmarks.faults [TRIALS] [KILLS]

A provider on this machine speaks both APIs to the real SDKs, in one piece and as streams; what the agents do outside is
counted by a target there. Which fault meets which trial is drawn by its number alone. Exits with 1 when a trial has
not ended once, a side effect happened twice, something ran for longer than its cap and 5 s, a process or a file was
left behind, or a call was paid and not charged.
"""

import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from harness.agent.inbox import Inbox
from harness.errors import UserError
from harness.ledger import is_held, journal_file, runs
from tests.agent.night import Nights, nights
from tests.agent.outside import Outside, Step, said_with
from tests.models.conftest import ANTHROPIC, OPENAI
from tests.models.loopback import Handler, Play, Received, cuts, hangs_up, provider, refuses, stalls, streams
from traces.journal import read
from traces.records import EndReason, Span, Trial

SECONDS = 8.0
"""The cap of a trial."""
LATE = 5.0
"""Seconds beyond its cap that it may take to end."""
SILENCE = 1.0
"""Seconds without a byte after which a request has failed."""
KINDS = {"timeout": 2, "429": 3, "529": 3, "500": 1, "hang-up": 1, "torn": 1}
"""Faults of the provider, and how likely they are beside each other."""
STEPS = {
    "write": 4,
    "command": 3,
    "notify": 5,
    "notify twice": 2,
    "pay": 1,
    "look": 3,
    "side by side": 2,
    "malformed arguments": 2,
    "arguments that do not fit": 1,
    "unknown tool": 1,
    "tool hangs": 0.3,
    "command hangs": 1,
    "command killed half-way": 1,
    "command kills all it sees": 1,
    "disk full for a command": 1,
    "hook hangs": 1,
    "target too busy": 1,
    "target hangs up when it is done": 1,
}
"""What a model may do in a turn, and how likely that is."""


@dataclass
class Plan:
    """What goes wrong, drawn from the numbers of the trials; and how often it did."""

    marker: str
    """In the command line of whatever is started."""
    met: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def count(self, fault: str) -> None:
        with self.lock:
            self.met[fault] += 1

    # ── the provider ───────────────────────────────────────────────────────────────────────────────────────────

    def fault(self, number: int, turn: int, time: int) -> Play | None:
        chance = random.Random(f"{number}/{turn}/{time}")
        if chance.random() > 0.12:
            return None
        [kind] = chance.choices([*KINDS], [*KINDS.values()])
        self.count(f"provider: {kind}")
        return {
            "timeout": stalls,
            "429": refuses(429, {"error": {"message": "slow down"}}, {"retry-after": "0.05"}),
            "529": refuses(529, {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}),
            "500": refuses(500, {"error": {"message": "oh"}}),
            "hang-up": hangs_up,
            "torn": torn,
        }[kind]

    # ── the model ──────────────────────────────────────────────────────────────────────────────────────────────

    def script(self, number: int, turn: int, body: Mapping[str, Any]) -> Step:
        chance = random.Random(number)
        kinds = chance.choices([*STEPS], [*STEPS.values()], k=chance.randint(1, 4))
        if turn >= len(kinds):
            return self.last(number, turn, body)
        with self.lock:
            if (number, turn) not in self.seen:
                self.seen.add((number, turn))
                self.met[f"model: {kinds[turn]}"] += 1
        return self.step(kinds[turn], f"{number}.{turn}")

    def last(self, number: int, turn: int, body: Mapping[str, Any]) -> Step:
        if number % 4 == 0 and "nothing is mended" in str(body) and "mended.txt" not in str(body):
            return [("write_file", {"path": "mended.txt", "text": "mended\n"})]
        return f"done {number}"

    def step(self, kind: str, place: str) -> Step:
        hangs = f"sleep {self.marker}"
        match kind:
            case "write":
                return [("write_file", {"path": f"{place}.txt", "text": place})]
            case "command":
                return [("run_command", {"command": f"echo {place} >> log.txt; wc -l log.txt"})]
            case "notify" | "target too busy" | "target hangs up when it is done":
                return [("notify", {"text": f"{kind} {place}"})]
            case "notify twice":
                return [("notify", {"text": f"{kind} {place}"})] * 2
            case "pay":
                return [("pay", {"text": f"pay {place}"})]
            case "look":
                return [("look", {"text": f"look {place}"})]
            case "side by side":
                return [("look", {"text": f"look {place}"}), ("notify", {"text": f"beside {place}"}),
                        ("write_file", {"path": "side.txt", "text": place})]  # fmt: skip
            case "malformed arguments":
                return [("notify", '{"text": "half')]
            case "arguments that do not fit":
                return [("notify", {"txet": 3})]
            case "unknown tool":
                return [("teleport", {"to": place})]
            case "tool hangs":
                return [("notify", {"text": f"hang {place}"})]
            case "command hangs":
                return [("run_command", {"command": f"setsid {hangs} & echo x >> log.txt; {hangs}", "seconds": 0.5})]
            case "command killed half-way":
                return [("run_command", {"command": f"{hangs} & echo x >> log.txt; kill -9 $$; echo y >> log.txt"})]
            case "command kills all it sees":
                return [("run_command", {"command": "echo x >> log.txt; kill -9 -1; echo y >> log.txt"})]
            case "disk full for a command":
                return [("run_command", {"command": "head -c 3000000 /dev/zero > big; ls -l big; rm big"})]
            case "hook hangs":
                return [("notify", {"text": f"hook-hangs {place}"})]
            case _:
                raise ValueError(kind)

    # ── the target ─────────────────────────────────────────────────────────────────────────────────────────────

    def trouble(self, text: str, time: int, handler: Handler) -> bool:
        if text.startswith("target too busy") and time == 0:
            refuses(429, {})(handler, Received("", {}, None))
            return True
        return False

    def after(self, text: str, handler: Handler) -> None:
        if text.startswith("hang "):
            handler.provider.over.wait(SECONDS + LATE + 5)
        if text.startswith("target hangs up"):
            handler.close_connection = True
            raise ConnectionError("as planned")


def torn(handler: Handler, received: Received) -> None:
    """The first half of an answer."""
    sdk = OPENAI if received.path == OPENAI.path else ANTHROPIC
    body = said_with(sdk, "this is the beginning of an answer that is cut", 0)
    events = sdk.streamed(body)
    play = streams(events[: len(events) // 2], torn=True) if received.body.get("stream") else cuts(body)
    play(handler, received)


# ── the night ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Person:
    """Answers what waits in the inbox: pays every other time, and repeats nothing."""

    inbox: Inbox
    over: threading.Event = field(default_factory=threading.Event)
    ruled: Counter[str] = field(default_factory=Counter)

    def work(self) -> None:
        while not self.over.wait(0.25):
            for entry in self.inbox.entries():
                if entry.state != "waiting":
                    continue
                pays = entry.escalation.tool == "pay" and entry.escalation.concern == "money"
                verdict = "approved" if pays and sum(self.ruled.values()) % 2 == 0 else "rejected"
                try:
                    self.inbox.rule(entry.escalation.id, verdict, "ada")
                except UserError:
                    continue  # it has just expired
                self.ruled[verdict] += 1


@dataclass
class Played:
    """What a night left behind."""

    directory: Path
    temporary: Path
    plan: Plan
    outside: Outside
    count: int
    kills: int = 0
    full: int = 0
    """How often the disk was full for the journal."""
    mute: int = 0
    """How often the run did not say so."""
    orphans: int = 0
    stuck: int = 0

    def records(self, kind: type) -> list[Any]:
        [run] = runs(self.directory, "example")
        return [line.record() for line in read(journal_file(self.directory, run)) if line.type == kind.__name__]


def play(begun: Nights, root: Path, count: int, kills: int, fills: int, *, life: float = 5.5) -> Played:
    """*count* trials, killed and filled so often on the way, at the latest after *life* seconds; begun again until they
    are through."""
    source = root / "source"
    source.mkdir(parents=True)
    (source / "a.txt").write_text("a\n")
    directory = root / "traces" / "data"
    plan = Plan(f"31337.{os.getpid()}")
    outside = Outside(plan.script, plan.fault, plan.trouble, plan.after)
    person = Person(Inbox(directory))
    played = Played(directory, root / "tmp", plan, outside, count)
    chance = random.Random(1)
    threading.Thread(target=person.work, daemon=True).start()
    with redirect_stderr(StringIO()), provider(outside.play) as there:  # which tells of each client that was killed
        spec = {"directory": str(directory), "url": there.url, "log": str(root / "log"), "count": count,
                "source": str(source), "seconds": SECONDS, "timeout": SILENCE, "patience": 1.5, "every": 4,
                "workers": 8}  # fmt: skip
        while True:
            fill = played.full < fills and played.kills >= kills * (played.full + 1) // (fills + 1)
            night = begun.begin({**spec, "largest": room(directory, chance)} if fill else spec)
            if fill or played.kills >= kills:
                if not night.ends(120 + 3.0 * count):
                    played.stuck += 1
                    night.kill()
                    return played
            elif not night.ends(life * (0.1 + 0.9 * chance.random())):
                night.kill()
                played.kills += 1
                played.orphans += gone(plan.marker)
                continue
            if night.wait() == 0:
                break
            if not fill:
                raise AssertionError(night.said[-2000:])
            played.full += 1
            played.mute += "no space left" not in night.said
            played.orphans += gone(plan.marker)
        played.orphans += gone(plan.marker)
    person.over.set()
    return played


def room(directory: Path, chance: random.Random) -> int:
    """Bytes that the journal may grow to: a little more than it has."""
    known = runs(directory, "example") if directory.exists() else []
    return (journal_file(directory, known[-1]).stat().st_size if known else 0) + chance.randrange(40_000, 150_000)


def gone(marker: str, seconds: float = 5.0) -> int:
    """Processes with *marker* that are still there after so long."""
    until = time.monotonic() + seconds
    while (left := running(marker)) and time.monotonic() < until:
        time.sleep(0.05)
    return len(left)


def running(marker: str) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


# ── what is left ───────────────────────────────────────────────────────────────────────────────────────────────


def checks(played: Played) -> dict[str, list[str]]:
    """What must hold → where it does not."""
    trials: list[Trial] = played.records(Trial)
    spans: list[Span] = played.records(Span)
    ids = Counter(trial.id for trial in trials)
    last = {trial.task for trial in trials}
    paid = played.outside.asked.total()
    charged = sum(span.usage.calls for span in spans)
    interrupted = sum(span.status == "interrupted" and span.usage.calls > 0 for span in spans)
    in_time = SECONDS + LATE
    left = [*played.directory.glob("work/*/*"), *played.temporary.glob("ratchet*")]
    return {
        "every task has a trial": [f"{len(last)} of {played.count}"] if len(last) != played.count else [],
        "every trial ended, once, for one reason": [
            t.id for t in trials if ids[t.id] != 1 or t.ended not in get_args(EndReason)
        ],
        "a full disk is nobody's failure": [
            f"{t.id} {t.error_class}" for t in trials if not t.is_lost and "space" in (t.error or "")
        ],
        "no side effect happened twice": [
            f"{text}: {times}" for text, times in played.outside.done.items()
            if times > 1 and not text.startswith(("look", "review"))
        ],
        "nothing that was refused happened": [t for t in played.outside.done if t.startswith("hook-hangs")],
        f"nothing ran past its cap of {SECONDS:g} s plus {LATE:g} s": [
            f"{t.id}: {t.seconds:.1f} s" for t in trials if t.seconds > in_time
        ],
        "the night ended": ["it hung"] * played.stuck,
        "the run says that the disk is full": ["silent"] * played.mute,
        "no process is left": [f"{played.orphans}"] if played.orphans else [],
        "no worktree and no temporary folder is left": [str(path) for path in left],
        "no call was paid and not charged": [f"{paid} paid, {charged} charged"] if charged < paid else [],
        "no call was charged and not paid, but for those that a kill interrupted": [
            f"{paid} paid, {charged} charged, {interrupted} interrupted"
        ]
        if charged - paid > interrupted
        else [],
        "nobody has the journal": [run for run in runs(played.directory, "example")
                                   if is_held(journal_file(played.directory, run))],
    }  # fmt: skip


def tell(played: Played, seconds: float, say: Callable[[str], None] = print) -> bool:
    """The tables; is all well?"""
    trials: list[Trial] = played.records(Trial)
    spans: list[Span] = played.records(Span)
    calls = Counter(str(s.attributes["ratchet.status"]) for s in spans if s.operation == "execute_tool")
    hooks = Counter(str(s.error_class) for s in spans if s.operation == "hook" and s.error_class)
    charged = sum(span.usage.calls for span in spans)
    interrupted = sum(span.status == "interrupted" and span.usage.calls > 0 for span in spans)
    met = {**played.plan.met, "runner: kill -9": played.kills, "journal: disk full": played.full,
           **{f"hook: {kind}": times for kind, times in hooks.items()}}  # fmt: skip
    longest = max(trial.seconds for trial in trials)
    say(f"{played.count} tasks, {len(trials)} trials in {seconds:,.0f} s; longest {longest:.1f} s")
    say("\n| ended | trials |\n|---|---|")
    for reason, times in Counter(str(t.ended) for t in trials).most_common():
        say(f"| {reason} | {times} |")
    say("\n| what was met | times |\n|---|---|")
    for fault, times in sorted(met.items()):
        say(f"| {fault} | {times} |")
    say("\n| tool calls | times |\n|---|---|")
    for status, times in calls.most_common():
        say(f"| {status} | {times} |")
    effects = [times for text, times in played.outside.done.items() if not text.startswith(("look", "review"))]
    say(f"\nmodel calls: {played.outside.asked.total()} received by the provider, {charged} charged "
        f"({interrupted} of them interrupted)")  # fmt: skip
    say(f"effects: {len(effects)} different, at most {max(effects, default=0)} times each")
    say("\n| what must hold | holds |\n|---|---|")
    found = checks(played)
    for what, wrong in found.items():
        say(f"| {what} | {'yes' if not wrong else f'NO, {len(wrong)}: ' + '; '.join(wrong[:5])} |")
    return not any(found.values())


def main(count: int, kills: int) -> int:
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    (root / "tmp").mkdir()
    started = time.monotonic()
    with nights({**os.environ, "TMPDIR": str(root / "tmp")}) as begun:
        played = play(begun, root, count, kills, fills=3)
    well = tell(played, time.monotonic() - started)
    if well:
        shutil.rmtree(root)
    else:
        print(f"kept in {root}")
    return 0 if well else 1


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    sys.exit(main(*(numbers + [1000, 60][len(numbers) :])))
