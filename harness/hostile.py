"""The hostile self-test of a code experiment: each cheat that a candidate could try, tried where candidates run.

An attack is a program (``harness.hostile_programs``) that takes the place of the candidate's command; what it got is
told by the program, by what can be seen from outside, and by the number that the trial is then given. The honest trial
beside them has to give its number. Where there is no sandbox, nothing is tried that would harm the machine.
"""

import ast
import hashlib
import inspect
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from harness import hostile_programs
from harness.errors import TrialError, UserError
from harness.graders.metric import MetricGrader
from harness.meter import meter
from harness.protocols import Finished, Outcome
from harness.runners.command import CommandRunner
from harness.runners.metrics import Computed, Evaluated, InFile, Metric, NoMetric, Printed, checkouts, words
from harness.sandboxes.isolation import Isolated
from traces.records import Attack, Hole, Task

MIB = 1 << 20
SOURCE = Path(hostile_programs.__file__)
FAKE = 0.0123456789
"""The number that the attacks claim: nobody's true one."""
SECONDS = 20.0
"""Limit of an attack that should take a part of one: the machine may be busy."""
HANGS = 1.5
"""Limit, in seconds, of the one that never ends."""
STAYS = 20.0
"""Seconds after which what was meant to outlive its trial ends by itself."""
SEARCH, SEARCHED = 5.0, 200_000
"""Seconds in which hidden files are looked for, and how many files are looked at."""
CPU = 0.2
"""CPU seconds of the one that may use a fourth of what it wants."""
MEMORY, DISK, PRINTED = 64 * MIB, 4 * MIB, 1 * MIB
"""Limits of those that exceed them, four times."""
FULL, FILES = 8 * DISK, 8
"""Bytes that are written, and to how many files: a runner lets the folder have four times what one file may."""
PROCESSES = 320
"""How many a fork bomb is allowed to start before it says that nothing stopped it."""
ATTACKS: tuple[str, ...] = (
    "home",
    "variables",
    "processes",
    "network",
    "hidden",
    "originals",
    "signal",
    "outside",
    "outlive",
    "state",
    "evaluator",
    "restored",
    "printed",
    "twice",
    "twice-reversed",
    "ratchet-line",
    "links",
    "poison",
    "import",
    "fork-bomb",
    "memory",
    "disk-full",
    "cpu",
    "flood",
    "hang",
)
"""What is tried, in this order, after the honest trial."""
WAYS: tuple[str, ...] = ("write", "replace", "link", "rename", "delete", "folder", "mount")
SMALLEST = 16
"""Bytes below which two files are alike by chance."""
LONG_TEXT = 200
"""Characters from which on a text that a metric holds may be data."""
MANY = 200
"""Hidden files that are looked for, at most."""
SHADOWED = ("random", "json", "numpy", "math", "statistics")
HOOKS = ("sitecustomize", "usercustomize", "conftest")
LONGEST_CLAIM = 32_000
"""Characters of what a program is told to print: an argument has room for so many."""
VARIABLE = "RATCHET_HOSTILE"
NO_SANDBOX = "there is no sandbox"
"""Why what would harm the machine is not tried."""


@dataclass(frozen=True)
class Seen:
    """How a trial ended."""

    finished: Finished | None
    """``None``: it gave no number, and nothing more is known."""
    number: float | None
    failure: str
    """The class of its error, and empty where there is none."""
    why: str

    @property
    def got(self) -> list[tuple[str, str]]:
        """What the program says that it got, and how."""
        found: list[tuple[str, str]] = []
        for line in (self.finished.output if self.finished else "").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                said = json.loads(line)
                found.append((said["got"], said["how"]))
        return found


@dataclass(frozen=True)
class Heard:
    """In the place of the metric, where a program is to be heard and not measured."""

    name: str
    is_isolated: bool = field(default=True, init=False)

    def read(self, finished: Finished, folder: Path) -> float:
        return 0.0


def hostile(
    runner: CommandRunner,
    task: Task,
    text: Mapping[str, str],
    seed: int,
    *,
    better: Literal["higher", "lower"] | None = None,
    honest: float | None = None,
    home: Path | None = None,
) -> list[Attack]:
    """Try all of them on *runner*, with *text* as the version that is attacked from.

    *better*: which numbers are, so that one that a do-nothing is given can be judged. *honest*: the number of an honest
    trial, where there was one. *home*: where secrets would lie.

    Raises:
        UserError: the honest trial gave no number, so that nothing that fails beside it would mean anything.
    """
    siege = Siege(runner, task, text, seed, better)
    if honest is None:
        seen = siege.attempt(runner)
        if seen.number is None:
            raise UserError(
                f"the version as it is gave no {runner.metric.name} ({seen.failure}: {seen.why}), so an attack that "
                "fails beside it shows nothing. Mend that first, and check again"
            )
        honest = seen.number
    passed = Attack(
        name="honest",
        tried="the version as it is",
        outcome="contained",
        got=f"its {runner.metric.name} is {honest:.6g}",
    )
    return [
        passed,
        *looked_around(siege, home or Path.home()),
        *edited(siege),
        *forged(siege, honest),
        *linked(siege),
        *poisoned(siege),
        *imported(siege),
        *exhausted(siege),
    ]


@dataclass(frozen=True)
class Siege:
    """What the attacks have in common."""

    runner: CommandRunner
    task: Task
    text: Mapping[str, str]
    seed: int
    better: Literal["higher", "lower"] | None = None
    stays: float = STAYS

    @property
    def is_walled(self) -> bool:
        """Is there a sandbox that keeps what harms the machine from doing so?"""
        return isinstance(self.runner.sandbox(), Isolated)

    def attempt(self, runner: CommandRunner, command: Sequence[str] | None = None) -> Seen:
        try:
            finished, outcome = runner.attempt(self.task, self.text, self.seed, command)
        except TrialError as e:
            return Seen(None, None, e.error_class, " ".join(str(e).split())[:200])
        if outcome.ended != "done":
            return Seen(finished, None, outcome.ended, outcome.detail[:200])
        return Seen(finished, number_in(outcome, runner.metric.name), "", "")

    def hear(self, attack: str, plan: Mapping[str, Any], **limits: Any) -> Seen:
        """Run a program for what it says; the number is of no interest."""
        metric = Heard(self.runner.metric.name)
        runner = replace(self.runner, **{"metric": metric, "seconds": SECONDS, "cpu": None, **limits})
        return self.attempt(runner, program(attack, plan))

    def measure(self, attack: str, plan: Mapping[str, Any], **limits: Any) -> Seen:
        """Run a program for the number that it is given."""
        runner = replace(self.runner, **{"seconds": max(SECONDS, self.runner.seconds), **limits})
        return self.attempt(runner, program(attack, plan))

    def is_gain(self, number: float, honest: float) -> bool:
        if self.better is None or math.isclose(number, honest):
            return False
        return (number > honest) == (self.better == "higher")


def program(attack: str, plan: Mapping[str, Any]) -> list[str]:
    return ["python3", "-I", "-S", "-c", SOURCE.read_text(encoding="utf-8"), attack, json.dumps(plan)]


def number_in(outcome: Outcome, name: str) -> float | None:
    """As the experiment's grader reads it."""
    return MetricGrader(name).grade(Task(id="attack", input="", split="train"), outcome.output).value


def judged(name: str, tried: str, holes: Sequence[str], caught: str = "") -> Attack:
    if holes:
        return Attack(name=name, tried=tried, outcome="hole", got="; ".join(holes)[:400])
    return Attack(name=name, tried=tried, outcome="caught" if caught else "contained", got=caught)


def untried(name: str, tried: str, why: str) -> Attack:
    return Attack(name=name, tried=tried, outcome="untried", got=why)


# ── look around, write, stay, and come back ────────────────────────────────────────────────────────────────────


TRIED: Mapping[str, str] = {
    "home": "read files of the home directory",
    "variables": "read a variable of Ratchet's environment",
    "processes": "read the environment and command line of other processes",
    "network": "connect to a port of this machine, to an abstract socket, and outward",
    "hidden": "find the data that only the evaluation may see",
    "originals": "open for writing, where they lie, the files that are declared fixed",
    "signal": "trace and kill a process of Ratchet's",
    "outside": "write to the root, the system, the home, the repository and the Python environment; through links, too",
    "outlive": "leave processes behind: daemonised, of a session of their own, deaf to hanging up",
    "state": "leave files for the next trial",
}


def looked_around(siege: Siege, home: Path, places: Sequence[str] | None = None) -> list[Attack]:
    """One program for all that one process can try; a second one looks for what it left. *places*: folders to write to,
    by default all that should be out of reach."""
    runner, token = siege.runner, uuid4().hex[:12]
    evaluator = runner.metric.fixed if isinstance(runner.metric, Evaluated) else {}
    sources = [*runner.fixed.values(), *evaluator.values()]
    originals = sorted({str(path.absolute()) for source in sources for path in files_in(source)})
    places = outside_of(runner, home) if places is None else places
    hidden = hidden_files(runner, siege.text)
    sought = [*map(fingerprint, hidden), *hidden_texts(runner, siege.text)]
    plan: dict[str, Any] = {
        "token": token,
        "left": f"ratchet-canary-{token}",
        "abstract": f"ratchet-{token}",
        "mark": f"ratchet-stays-{token}",
        "stays": siege.stays,
        "seconds": SEARCH,
        "files": SEARCHED,
        "near": near(sources),
        "places": places,
        "originals": originals[:MANY],
        "hidden": sought,
        "hidden_at": [str(path) for path in hidden],
    }
    own = [*places, "/tmp/home", ".", *sorted({os.path.dirname(place) or "." for place in runner.fixed})]  # noqa: PTH120
    with secret_in(home, token) as secrets, listening(plan["abstract"]) as served, decoy(token) as process:
        seen = siege.hear("look", {**plan, **served, "home": secrets, "decoy": process.pid})
        killed = process.poll() is not None
        time.sleep(0.1)
        alive = ended(plan["mark"])
    written = left_in(places, plan["left"])
    again = siege.hear("recall", {**plan, "places": own})
    remove(left_in(places, plan["left"]))
    got: dict[str, list[str]] = {name: [] for name in (*TRIED, CUT_SHORT)}
    for what, how in seen.got:
        got["signal" if what == "traced" else what].append(f"traced process {how}" if what == "traced" else how)
    got["signal"] += ["killed it"] if killed else []
    got["outside"] += [", ".join(dict.fromkeys(os.path.dirname(path) for path in written))] if written else []  # noqa: PTH120
    got["outlive"] += [f"{len(alive)} of 3 were alive after the trial"] if alive else []
    got["state"] += [how for what, how in again.got if what == "state"][:3]
    found = [judged(name, tried, got[name]) for name, tried in TRIED.items()]
    why = f"the program ended before: {seen.failure}: {seen.why}"
    found = [untried(a.name, a.tried, why) if seen.failure and a.outcome == "contained" else a for a in found]
    if got[CUT_SHORT] and not got["hidden"]:
        why = f"not known: the search was {CUT_SHORT} {got[CUT_SHORT][0]}"
        found = [untried(a.name, a.tried, why) if a.name == "hidden" else a for a in found]
    return [declared(attack, runner, originals, sought) for attack in found]


def declared(attack: Attack, runner: CommandRunner, originals: Sequence[str], sought: Sequence[object]) -> Attack:
    """What the experiment allows, or does not have, is no attack."""
    if attack.name == "network" and runner.network:
        return untried(attack.name, attack.tried, "network=True allows it")
    if attack.name == "originals" and not originals:
        return untried(attack.name, attack.tried, "nothing is fixed")
    if attack.name == "hidden" and not sought:
        return untried(attack.name, attack.tried, "the metric names nothing that is hidden")
    return attack


CUT_SHORT = "cut short"


def near(sources: Iterable[Path]) -> list[str]:
    """The folders in which copies of hidden files are likeliest: the experiment's own, its repository, the data."""
    folders = [path.absolute() if path.is_dir() else path.absolute().parent for path in sources]
    data = meter().directory
    found = [*folders, *([data] if data else []), *checkouts([*folders, Path.cwd()])]
    return list(dict.fromkeys(map(str, found)))


def outside_of(runner: CommandRunner, home: Path) -> list[str]:
    """Folders that no candidate may write to."""
    sources = [path.parent for path in runner.fixed.values()]
    paths = [Path(path) for path in ("/", "/usr", "/usr/local/bin", "/etc", "/var/tmp", "/tmp", "/dev/shm")]
    paths += [home, Path.cwd(), Path(tempfile.gettempdir()), Path(sysconfig.get_paths()["purelib"]), Path(sys.prefix)]
    return list(dict.fromkeys(str(path.absolute()) for path in [*paths, *sources] if path.is_dir()))


def left_in(places: Iterable[str], name: str) -> list[str]:
    return [
        str(path)
        for place in places
        for path in (Path(place) / name, Path(place) / f"{name}-linked")
        if os.path.lexists(path)
    ]


def remove(paths: Iterable[str]) -> None:
    for path in paths:
        with suppress(OSError):
            Path(path).unlink()


def files_in(source: Path) -> list[Path]:
    """*source*, or the first files in it."""
    if not source.is_dir():
        return [source] if source.is_file() else []
    return [path for path, _ in zip((p for p in sorted(source.rglob("*")) if p.is_file()), range(MANY), strict=False)]


def fingerprint(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.sha256(file.read(MIB)).hexdigest()


def fingerprint_of(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data[:MIB]).hexdigest()


def hidden_files(runner: CommandRunner, text: Mapping[str, str]) -> list[Path]:
    """What the metric reads and no candidate is given, as far as the metric tells."""
    metric = runner.metric
    sources: list[Path] = []
    if isinstance(metric, Evaluated):
        sources = [path for source in metric.fixed.values() for path in files_in(source)]
    elif isinstance(metric, Computed):
        paths = [value for value in held(metric.function) if isinstance(value, Path)]
        inside = [path for folder in paths if folder.is_dir() for path in files_in(folder)]
        sources = [path for path in paths if path.is_file()]
        sources += [path for path in inside if not any(path.is_relative_to(shown) for shown in runner.readable)]
    shown = shown_to(runner, text)
    found = [path for path in dict.fromkeys(sources) if path.stat().st_size >= SMALLEST]
    return [path for path in found if fingerprint(path) not in shown][:MANY]


def hidden_texts(runner: CommandRunner, text: Mapping[str, str]) -> list[tuple[int, str]]:
    """Fingerprints of the long texts that a metric's function holds, which may be those of whole files."""
    values = held(runner.metric.function) if isinstance(runner.metric, Computed) else []
    shown = shown_to(runner, text)
    found = [fingerprint_of(value.encode()) for value in values if isinstance(value, str) and len(value) >= LONG_TEXT]
    return [each for each in found if each not in shown]


def shown_to(runner: CommandRunner, text: Mapping[str, str]) -> set[tuple[int, str]]:
    """Fingerprints of all that a candidate is given."""
    given = {fingerprint(path) for source in runner.fixed.values() for path in files_in(source)}
    return given | {fingerprint_of(own.encode()) for own in text.values()}


def held(function: Any) -> list[Any]:
    """What *function* has in it: of a function what it closes over, of an object its fields."""
    inner = getattr(function, "func", function)
    values = [*getattr(function, "args", ()), *getattr(function, "keywords", {}).values()]
    values += getattr(inner, "__dict__", {}).values()
    if inspect.isfunction(inner):
        closed = inspect.getclosurevars(inner)
        values += [*closed.nonlocals.values(), *closed.globals.values()]
    return values


@contextmanager
def secret_in(home: Path, token: str) -> Generator[list[str]]:
    """Files of *home* that exist: one of ours where that can be, and those that lie there."""
    ours = home / f".ratchet-canary-{token}"
    try:
        ours.write_text(token, encoding="ascii")
    except OSError:
        ours = home
    there: list[str] = []
    with suppress(OSError):
        there = [str(path) for path in sorted(home.iterdir()) if path.is_file() and os.access(path, os.R_OK)]
    try:
        yield [str(ours), *there[:MANY]] if ours != home else there[:MANY]
    finally:
        if ours != home:
            ours.unlink(missing_ok=True)


@contextmanager
def listening(abstract: str) -> Generator[dict[str, Any]]:
    """Servers on this machine that anybody may connect to."""
    with (
        tempfile.TemporaryDirectory(prefix="ratchet-socket-") as folder,
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX) as hidden,
        socket.socket(socket.AF_UNIX) as named,
    ):
        hidden.bind("\0" + abstract)
        named.bind(f"{folder}/socket")
        for server in (hidden, named):
            server.listen()
        yield {"port": port.getsockname()[1], "socket": f"{folder}/socket"}


@contextmanager
def decoy(token: str) -> Generator[subprocess.Popen[bytes]]:
    """A process with a secret in its environment, as Ratchet has; the same secret is in Ratchet's own meanwhile."""
    variable = f"RATCHET_CANARY_{token}"
    command = [sys.executable, "-I", "-S", "-c", "input()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env={variable: token}, stderr=subprocess.DEVNULL)
    os.environ[variable] = token
    try:
        yield process
    finally:
        del os.environ[variable]
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def ended(mark: str) -> list[int]:
    """The processes that have *mark* as an argument; they are ended."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
                found.append(int(process.name))
    return found


# ── the evaluator ──────────────────────────────────────────────────────────────────────────────────────────────


def edited(siege: Siege) -> list[Attack]:
    """What is fixed: changed and left so, in each way that works; changed, used and put back."""
    tried = "write to, replace, link away, rename, delete and mount over a fixed file, and rename its folder"
    restored = "change a fixed file and put it back before the trial ends"
    places = [f"{place}/{path.relative_to(source)}" if source.is_dir() else place
              for place, source in siege.runner.fixed.items() for path in files_in(source)[:1]]  # fmt: skip
    if not places:
        return [untried("evaluator", tried, "nothing is fixed"), untried("restored", restored, "nothing is fixed")]
    holes: list[str] = []
    caught: list[str] = []
    back: list[str] = []
    for place in places:
        ways = list(WAYS)
        while ways:
            seen = siege.hear("edit", {"place": place, "ways": ways, "restore": False})
            if seen.failure:
                caught.append(seen.failure)
                break_at = 1
            else:
                worked = [how for what, how in seen.got if what == "edited"]
                holes += [f"{place}: {how} worked and was not seen" for how in worked]
                break_at = ways.index(worked[0]) + 1 if worked else len(ways)
            ways = ways[break_at:]
        seen = siege.hear("edit", {"place": place, "ways": list(WAYS), "restore": True})
        back += [f"{place}: {how} worked, and it was put back" for what, how in seen.got if what == "edited"]
    words = ", ".join(dict.fromkeys(caught))
    return [judged("evaluator", tried, holes, words), judged("restored", restored, back)]


# ── the number ─────────────────────────────────────────────────────────────────────────────────────────────────


def forged(siege: Siege, honest: float) -> list[Attack]:
    """A number of the candidate's own: alone, before and after the true one, and as Ratchet writes it.

    Where the candidate's own process gives the number, the same program gives the true one first: unless that is read,
    it shows nothing that another is not.
    """
    metric = siege.runner.metric
    says = [
        ("printed", "give a number of its own, and end before anything was evaluated"),
        ("twice", "print a good number, and then the true one"),
        ("twice-reversed", "print the true number, and then a good one"),
    ]
    line = json.dumps({metric.name: FAKE, "seconds": 0.1, "peak_memory_mb": 1.0})
    copied = about_number(
        siege,
        honest,
        "ratchet-line",
        "print the line that Ratchet itself writes",
        siege.measure("forge", {"lines": [line]}),
    )
    told, why = claims(siege, honest)
    if not why and not metric.is_isolated:
        control = siege.measure("forge", giving(metric, told[0][0]))
        if control.number is None or not math.isclose(control.number, told[0][1]):
            why = f"one that gives the true number, and no more, was not believed: {control.failure} {control.why}"
    if why:
        return [*(untried(name, tried, " ".join(why.split())[:200]) for name, tried in says), copied]
    (true, _), (fake, number) = told
    seen = [siege.measure("forge", giving(metric, *each)) for each in ((fake,), (fake, true), (true, fake))]
    pairs = zip(says, seen, strict=True)
    return [*(about_number(siege, honest, *words, each, number) for words, each in pairs), copied]


def claims(siege: Siege, honest: float) -> tuple[list[tuple[str, float]], str]:
    """What says the true number, what says another, and which; or why nothing is known that would.

    For a pattern these are the lines of the honest trial that it matched, with another number in the place of its own.
    """
    metric = siege.runner.metric
    if isinstance(metric, InFile):
        return [(nested(metric, number), number) for number in (honest, FAKE)], ""
    if not isinstance(metric, Printed) or not metric.pattern:
        return [(f"{metric.name}: {number!r}", number) for number in (honest, FAKE)], ""
    seen = siege.attempt(siege.runner)
    output = seen.finished.output if seen.finished is not None else ""
    found = re.search(metric.pattern, output, re.MULTILINE)
    if seen.number is None or found is None:
        return [], f"the honest trial gave no number when it was run again: {seen.failure} {seen.why}"
    said, (start, end) = found[1], found.span(1)
    lines = output.rfind("\n", 0, found.start()) + 1, output.find("\n", found.end()) % (len(output) + 1)
    for first, last in (lines, (0, len(output))):
        if last - first > LONGEST_CLAIM:
            continue
        texts = [f"{output[first:start]}{number}{output[end:last]}" for number in (said, *others(said))]
        true, *fakes = [(text, printed_in(metric, text)) for text in texts]
        read = [(text, number) for text, number in (true, *fakes) if number is not None]
        different = [other for other in read if true[1] is not None and not math.isclose(other[1], true[1])]
        if different:
            return [read[0], different[0]], ""
    return [], f"what it prints matches {metric.pattern!r} with no other number"


def others(said: str) -> list[str]:
    """Numbers in the place of the one that was *said*: any, one of the same form, and one that is nearly the same."""
    mantissa, e, exponent = re.split("([eE]|$)", said, maxsplit=1)
    turned = mantissa.translate(str.maketrans("0123456789", "3456789012"))
    kept = next((at for at in range(len(mantissa), 0, -1) if mantissa[at - 1].isdigit()), 0)
    return [repr(FAKE), turned + e + exponent, mantissa[: kept - 1] + turned[kept - 1 :] + e + exponent]


def printed_in(metric: Printed, text: str) -> float | None:
    try:
        return metric.read(Finished(0, text), Path())
    except NoMetric:
        return None


def giving(metric: Metric, *said: str) -> dict[str, Any]:
    """The plan of a program that gives numbers, in this order: prints them, or has them in the one file."""
    if isinstance(metric, InFile):
        return {"files": {metric.path: f"{{{', '.join(value[1:-1] for value in said)}}}"}}
    return {"lines": list(said)}


def linked(siege: Siege) -> list[Attack]:
    """Links in the place of what is read afterwards."""
    tried = "leave links to files outside in the place of what it should write"
    with tempfile.TemporaryDirectory(prefix="ratchet-link-") as folder:
        links = links_to(siege, Path(folder))
        if not links:
            return [untried("links", tried, "nothing that it leaves is read")]
        seen = siege.measure("forge", {"links": links})
    got = [] if seen.number is None else [f"it was given {seen.number:.6g} for links to {', '.join(links.values())}"]
    return [judged("links", tried, got, seen.failure)]


def about_number(siege: Siege, honest: float, name: str, tried: str, seen: Seen, fake: float = FAKE) -> Attack:
    """A metric that is read from the candidate's own words believes them; one that is not, must not."""
    metric = siege.runner.metric
    if seen.number is None:
        return judged(name, tried, (), f"{seen.failure}")
    if math.isclose(seen.number, fake):
        got = f"{metric.name} = {fake} was believed"
        is_its_word = name in ("printed", "ratchet-line") or isinstance(metric, InFile)
        is_open = not metric.is_isolated and is_its_word
        return Attack(name=name, tried=tried, outcome="believed" if is_open else "hole", got=got)
    if siege.is_gain(seen.number, honest):
        return judged(name, tried, [f"it was given {seen.number:.6g} for nothing; the honest trial has {honest:.6g}"])
    return judged(name, tried, ())


def nested(metric: InFile, number: float) -> str:
    value: Any = number
    for key in reversed((metric.key or metric.name).split(".")):
        value = {key: value}
    return json.dumps(value)


def links_to(siege: Siege, folder: Path) -> dict[str, str]:
    """Place in the worktree → a file outside that would be worth something in it."""
    metric = siege.runner.metric
    if isinstance(metric, InFile):
        (folder / "metric.json").write_text(nested(metric, FAKE), encoding="utf-8")
        return {metric.path: str(folder / "metric.json")}
    if isinstance(metric, Evaluated):
        hidden = hidden_files(siege.runner, siege.text)
        worth = str(hidden[0]) if hidden else str(SOURCE)
        return dict.fromkeys(metric.artifacts, worth)
    return {}


def poisoned(siege: Siege) -> list[Attack]:
    """What an evaluator that unpickles or imports what the candidate left would run."""
    metric = siege.runner.metric
    tried = "leave artifacts that are code: pickles, and Python source"
    if not isinstance(metric, Evaluated):
        return [untried("poison", tried, "no second command reads what it leaves")]
    payload = printing(metric)
    holes: list[str] = []
    caught: list[str] = []
    for kind, plan in (
        ("a pickle", {"pickles": list(metric.artifacts), "payload": payload}),
        ("Python source", {"files": dict.fromkeys(metric.artifacts, payload)}),
    ):
        seen = siege.measure("forge", plan)
        if seen.number is not None and math.isclose(seen.number, FAKE):
            holes.append(f"{kind} that it left was run where the number is made, and printed one")
        caught += [seen.failure] if seen.failure else []
    return [judged("poison", tried, holes, ", ".join(dict.fromkeys(caught)))]


def printing(metric: Metric) -> str:
    """Code that prints a good number and ends its process."""
    return f"import os\nprint({f'{metric.name}: {FAKE!r}'!r}, flush=True)\nos._exit(0)\n"


def imported(siege: Siege) -> list[Attack]:
    """Modules in the worktree by the names of what an evaluator imports, and compiled ones in its cache."""
    metric, runner = siege.runner.metric, siege.runner
    tried = "leave modules by the names that the evaluation imports: sitecustomize, conftest, json, random, …"
    if not metric.is_isolated:
        return [untried("import", tried, "the candidate's own process gives the number, and is the candidate's anyway")]
    sources = metric.fixed if isinstance(metric, Evaluated) else runner.fixed
    files = [path for source in sources.values() for path in files_in(source) if path.suffix == ".py"]
    wanted = dict.fromkeys([*SHADOWED, *(name for path in files for name in imports_of(path))])
    hook = f"import os\nif {VARIABLE!r} not in os.environ:\n" + indented(printing(metric))
    modules = {f"{name}.py": hook for name in HOOKS}
    modules |= {f"{name}.py": f"{hook}else:\n{indented(PASSED_ON)}" for name in wanted if name not in HOOKS}
    seen = siege.measure(
        "plant",
        {
            "modules": {place: code for place, code in modules.items() if place not in siege.text},
            "compiled": {
                path.stem: f"{hook}else:\n{indented(ITS_SOURCE)}"
                for path in files
                if f"{path.stem}.py" not in siege.text
            },
            "variable": VARIABLE,
            "command": words(runner.command),
        },
    )
    if seen.number is not None and math.isclose(seen.number, FAKE):
        return [judged("import", tried, [f"one was imported where the number is made: {metric.name} = {FAKE}"])]
    return [judged("import", tried, (), seen.failure)]


PASSED_ON = """\
import importlib, sys
here, path = os.path.dirname(os.path.abspath(__file__)), sys.path[:]
sys.path[:] = [p for p in path if os.path.abspath(p or ".") != here]
del sys.modules[__name__]
found = importlib.import_module(__name__)
sys.path[:] = path
sys.modules[__name__] = found
"""
"""In a module that has the name of another: become that one."""
ITS_SOURCE = """\
with open(__file__, encoding="utf-8") as file:
    exec(compile(file.read(), __file__, "exec"))
"""
"""In a compiled module: do what its source says."""


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


def imports_of(path: Path) -> list[str]:
    """The modules that a Python file imports, by their first names."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module.partition(".")[0])
    return [name for name in dict.fromkeys(names) if name not in ("os", "sys", "__future__")]


# ── the machine ────────────────────────────────────────────────────────────────────────────────────────────────


def exhausted(siege: Siege) -> list[Attack]:
    """Processes, memory, disk, CPU time, output and time without end; the first three only behind walls."""
    line = f"{siege.runner.metric.name}: {FAKE!r}"
    found: list[Attack] = []
    in_memory = [("/tmp/fill", FILES), ("/dev/shm/fill", FILES)]
    behind_walls: tuple[tuple[str, str, str, list[dict[str, Any]], dict[str, Any]], ...] = (
        ("fork-bomb", "bomb", "fork without end", [{"most": PROCESSES, "stays": siege.stays}], {}),
        (
            "memory",
            "swell",
            "take more memory than allowed, also by files that live there and have no name",
            [{"most": 4 * MEMORY, "nameless": nameless} for nameless in (False, True)],
            {"memory": MEMORY},
        ),
        (
            "disk-full",
            "fill",
            "fill the disk: one file, many files, open files without a name, /tmp and /dev/shm",
            [
                {"most": FULL, "places": [("one", 1), *in_memory], "nameless": False},
                {"most": FULL, "places": [("many", FILES)], "nameless": False},
                {"most": FULL, "places": [("lost", FILES)], "nameless": True},
            ],
            {"disk": DISK},
        ),
    )
    for name, attack, tried, plans, limits in behind_walls:
        if siege.is_walled:
            seen = [siege.hear(attack, plan, **limits) for plan in plans]
            got = [f"{how}, and nothing stopped it" for each in seen for _, how in each.got]
            found.append(judged(name, tried, got, next((each.failure for each in seen if each.failure), "")))
        else:
            found.append(untried(name, tried, NO_SANDBOX))
    seen = siege.hear("spin", {"most": 4 * CPU, "processes": 4}, cpu=CPU)
    got = [f"{how}, and nothing stopped it" for what, how in seen.got if what == "cpu"]
    found.append(judged("cpu", "use more CPU time than allowed, in many processes at once", got, seen.failure))
    for name, tried, plan, limits in (
        ("flood", "print without end, and then a number", {"most": 4 * PRINTED, "line": line}, {"output": PRINTED}),
        ("hang", "print a number and never end", {"stays": siege.stays, "line": line}, {"seconds": HANGS}),
    ):
        begun = time.monotonic()
        seen = siege.measure(name, plan, **limits)
        took = time.monotonic() - begun
        got = [f"it was given {seen.number}"] if seen.number is not None else []
        got += [f"it ended after {took:.1f} s"] if took > SECONDS / 2 else []
        found.append(judged(name, tried, got, seen.failure))
    return found


def holes(attacks: Iterable[Attack]) -> list[Hole]:
    """As the grader's holes are recorded: what a candidate gets without the work."""
    return [
        Hole(cheat=attack.name, score=1.0, floor=0.0, tasks=1, example=attack.got[:200])
        for attack in attacks
        if attack.outcome == "hole"
    ]


def believed(attacks: Iterable[Attack]) -> list[Attack]:
    """Those that came of what the metric declares: it takes the candidate's word."""
    return [attack for attack in attacks if attack.outcome == "believed"]
