"""``ratchet new NAME --command …``: from a script of one's own to an experiment that runs.

What is not said is found out: the command is run as a trial would run it, and what it needs, what it reports and how
much that varies are read off.
"""

import json
import math
import os
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, cast

import click
import typer

from experiments.autoresearch import go_on_from
from experiments.entry import Entry, entry, files_needed, local, measures, sounds_measured, taken_from
from experiments.figures import Direction, Figure, direction, figures, source_of
from experiments.scaffold import COMMAND, MUTATIONS, load_written, owner_of, quoted, refuse_existing, render
from experiments.terminal import err, say
from harness.errors import TrialError, UserError
from harness.experiment import check_name
from harness.git import run_git
from harness.protocols import Finished
from harness.runners.command import CommandRunner
from harness.runners.metrics import Metric
from harness.sandboxes import NoSandbox, best_sandbox
from harness.versions import Repo
from traces.records import Task

LONGEST = 600.0
"""Seconds of a trial, unless a limit is given."""
SHORTEST = 10.0
"""Seconds of the limit that is found out: a machine may be busy."""
ROOM = 3.0
"""How many times what it took a trial may take."""
QUICK = 60.0
"""Seconds up to which a command is run again with other seeds, to see its noise."""
SEEDS = (1, 2, 3)
SHOWN = 6
"""Lines of the output that are shown."""
MOST = 2_000
"""Files of a project that are copied where it cannot be told which of them are needed."""
RUN = Task(id="run", input="", split="train")
SEEDED = re.compile(r"\b(?:seed|Random|RandomState|default_rng|PRNGKey)\(\s*(?:seed\s*=\s*)?\d+|\bSEED\s*=\s*\d+")
MISSING = re.compile(r"No module named|ModuleNotFoundError|FileNotFoundError|[Nn]o such file|ImportError|not found")

Ask = Callable[[str, Sequence[str]], str]
"""Asks a person: a question and its answers; returns one of them."""


@dataclass(frozen=True)
class Wish:
    """What a person said about their script; what is empty is found out."""

    name: str
    command: str
    edit: Sequence[Path] = ()
    """What proposals may change."""
    fixed: Sequence[Path] = ()
    """What the command needs besides, and no proposal may change."""
    metric: str = ""
    better: Direction | None = None
    seconds: float | None = None
    readable: Sequence[Path] = ()
    """Outside of the repository."""
    no_sandbox: bool = False

    @property
    def typed(self) -> str:
        """As it is typed."""
        words = ["ratchet", "new", self.name, "--command", self.command]
        for option in ("edit", "fixed"):
            words += [word for path in getattr(self, option) for word in (f"--{option}", str(path))]
        words += ["--seconds", f"{self.seconds:g}"] if self.seconds else []
        words += [word for path in self.readable for word in ("--readable", str(path))]
        words += ["--metric", self.metric] if self.metric else []
        words += ["--better", self.better] if self.better else []
        words += ["--no-sandbox"] if self.no_sandbox else []
        return shlex.join(words)

    @property
    def where(self) -> str:
        """It is run."""
        return "without a sandbox" if self.no_sandbox else "in the sandbox"


@dataclass(frozen=True)
class Layout:
    """Which files of *base* are what. Each is named from there."""

    base: Path
    """Where the command is run."""
    edited: tuple[str, ...]
    fixed: tuple[str, ...]
    is_protected: bool
    """Is the number made by files that no proposal changes?"""
    told: tuple[str, ...] = ()
    careful: tuple[str, ...] = ()
    """How a change could win without being any better."""

    def text(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in self.edited:
            try:
                found[path] = (self.base / path).read_bytes().decode()
            except UnicodeDecodeError as e:
                raise UserError(
                    f"{path} is no text (byte {e.start} is no UTF-8), and proposals edit text. Say which files they "
                    "may change: --edit PATH; and name this one as --fixed, if the command needs it"
                ) from e
        return found

    def places(self) -> dict[str, Path]:
        return {path: self.base / path for path in self.fixed}


@dataclass(frozen=True)
class Measured:
    """What was seen of the command, run as trials."""

    figure: Figure
    better: Direction
    values: tuple[float, ...]
    """By seed, the first one's first."""
    seconds: float
    """Of the longest."""
    megabytes: float | None
    tail: str


@dataclass
class Looking:
    """A metric that takes no number: it looks what there is."""

    known: frozenset[str]
    """Files that were there before."""
    name: str = "seen"
    is_isolated: bool = False
    found: tuple[Figure, ...] = ()
    deeper: tuple[str, ...] = ()
    """JSON files that it wrote into folders, where none is read."""
    output: str = ""

    def read(self, finished: Finished, folder: Path) -> float:
        self.found = tuple(figures(finished, folder, self.known))
        below = (path.relative_to(folder).as_posix() for path in islice(folder.glob("*/*.json"), MOST))
        self.deeper = tuple(sorted(path for path in below if not self.has(path)))
        self.output = finished.output
        return 0.0

    def has(self, path: str) -> bool:
        """Was it there before?"""
        return not self.known.isdisjoint((path, path.partition("/")[0]))


@dataclass(frozen=True)
class Given:
    """The options of ``ratchet new``."""

    command: str | None
    edit: Sequence[Path]
    fixed: Sequence[Path]
    metric: str
    better: str | None
    seconds: float | None
    readable: Sequence[Path]
    autoresearch: Path | None
    no_sandbox: bool


def begin(start: Path, name: str, given: Given) -> bool:
    """Write the experiment that the options ask for; ``False``: they ask for none but the usual template."""
    if given.better not in (None, "lower", "higher"):
        raise UserError(f"--better {given.better}: lower or higher is better. Say --better lower, or --better higher")
    others = [
        f"--{option.replace('_', '-')}"
        for option in ("edit", "fixed", "metric", "better", "seconds", "readable", "no_sandbox")
        if getattr(given, option)
    ]
    if given.autoresearch is not None:
        if unwanted := [*(["--command"] if given.command else []), *others]:
            raise UserError(
                f"--autoresearch says it all: train.py is changed, and lower val_bpb is better. Leave {unwanted[0]} out"
            )
        go_on_from(start, name, given.autoresearch, say)
        return True
    if given.command is None:
        if others:
            raise UserError(
                f"{others[0]} is about a command, and none is given. For example: "
                f"ratchet new {name} --command 'python bench.py'"
            )
        return False
    said = (given.edit, given.fixed, given.metric, given.better, given.seconds, given.readable, given.no_sandbox)
    wish = Wish(name, given.command, *said)
    adopt(start, wish, say, said_beside, asked if sys.stdin.isatty() and err.is_terminal else None)
    return True


def said_beside(text: str) -> None:
    """A line of progress."""
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def asked(question: str, answers: Sequence[str]) -> str:
    return typer.prompt(question, type=click.Choice(list(answers)), err=True)


def adopt(
    start: Path, wish: Wish, say: Callable[[str], None], progress: Callable[[str], None], ask: Ask | None
) -> Path:
    """Write the experiment that *wish* asks for, as it is typed in *start*; return its folder.

    *say* is told what was found and what to type next, *progress* what takes a while. *ask*: ``None``, where nobody is
    there to answer.

    Raises:
        UserError: something cannot be found out, or the command does not work; says what to type.
    """
    check_name(wish.name)
    if wish.seconds is not None and not 0 < wish.seconds < math.inf:
        raise UserError(f"--seconds {wish.seconds:g} is no limit. Give how long one trial may take, for example 60")
    repo = Repo.find(start)
    top = repo.root.resolve()
    base = start.resolve()
    target = top / "experiments" / wish.name
    refuse_existing(target)
    there = entry(wish.command, base)
    there = replace(there, readable=(*there.readable, *(absolute(path, base) for path in wish.readable)))
    layout = laid_out(base, there, wish)
    for line in (*there.told, *layout.told):
        say(line)
    layout, looking = first_run(layout, there, wish, progress)
    figure = chosen(looking, wish, ask)
    if told := left_out(looking[0].found, wish):
        say(told)
    better = wish.better or direction(figure.name) or asked_direction(figure, wish, ask)
    measured = measured_again(layout, there, wish, figure, better, looking, progress)
    subject = subject_of(top, target, layout)
    write(top, target, subject, layout, there, wish, measured)
    load_written(target)
    for line in summary(top, target, subject, layout, there, wish, measured):
        say(line)
    return target


def absolute(path: Path, base: Path) -> Path:
    path = (base / path.expanduser()).absolute()
    if not path.exists():
        raise UserError(f"--readable {path}: there is nothing, so nothing could be shown to the sandbox. Mend the path")
    return path


# ── which files are what ───────────────────────────────────────────────────────────────────────────────────────


def laid_out(base: Path, there: Entry, wish: Wish) -> Layout:
    """What proposals may change, and what is fixed.

    Raises:
        UserError: it cannot be told; says what to type.
    """
    known = files_below(base, wish.name)
    for option, paths in (("--edit", wish.edit), ("--fixed", wish.fixed)):
        for path in paths:
            refuse_outside(option, path, base)
    fixed = {file for path in wish.fixed for file in below(path, base, known)}
    script = there.script
    starts = [script] if script else []
    if wish.edit:
        named = {PurePosixPath(os.path.normpath(path)).as_posix() for path in map(str, wish.edit)}
        edited = {file for path in wish.edit for file in below(path, base, known)} - fixed
        edited -= {script} - named if script else set()
        told: tuple[str, ...] = ()
    else:
        edited, told = found_out(base, there, known, fixed, wish)
    if not edited:
        raise UserError(
            f"nothing is left that proposals may change: {', '.join(map(str, wish.edit))} holds no file but what is "
            "fixed. Name another one: --edit PATH"
        )
    fixed |= files_needed([*starts, *edited], base, known) - edited
    is_protected = script is not None and script not in edited
    careful = [unprotected(script, wish, base)] if script in edited else list(measured_by(edited, fixed, base))
    refuse_uncommitted(base, fixed)
    return Layout(base, tuple(sorted(edited)), collapsed(fixed, edited, known), is_protected, told, tuple(careful))


def found_out(
    base: Path, there: Entry, known: set[str], fixed: set[str], wish: Wish
) -> tuple[set[str], tuple[str, ...]]:
    """What the script imports and does not measure; where there is nothing, the script itself."""
    script = there.script
    if script is None or not script.endswith(".py"):
        what = f"{script} is not Python" if script else f"{wish.command!r} starts no script that lies here"
        raise UserError(
            f"{what}, so it cannot be told what is to be improved. Say which files proposals may change, for example: "
            f"{replace(wish, edit=[Path('src')]).typed}"
        )
    if script not in known:
        raise UserError(
            f"{script} is ignored by git, so there is no version of it. Take it out of .gitignore: git add -f {script}"
        )
    modules = {path for path in files_needed([script], base, known) if path.endswith(".py")} - {script} - fixed
    measuring = {path for path in modules if measures(path)}
    edited = modules - measuring
    if not edited:
        return {script}, ()
    why = f"{script} imports it" if len(edited) == 1 else f"{script} imports them"
    told = [f"Proposals may change {listed(edited)}: {why}. To say otherwise: --edit PATH"]
    if measuring:
        told.append(f"{listed(measuring)} stays as it is: by its name it measures. To have it changed: --edit PATH")
    return edited, tuple(told)


def unprotected(script: str, wish: Wish, base: Path) -> str:
    again = replace(wish, edit=[Path("solver.py")])
    return (
        f"{script} is what proposals change, and it prints the number itself, so that a change which only "
        f"prints a better number would win. To make that harder, split it: what is to be improved into a module of its "
        f"own (solver.py), and the script imports that and measures it. Then: {anew(base, wish.name)} && {again.typed}"
    )


def anew(base: Path, name: str) -> str:
    """What makes room for an experiment of that name."""
    folder = Repo.find(base).root.resolve() / "experiments" / name
    return f"rm -r {shlex.quote(os.path.relpath(folder, base))}"


def measured_by(edited: set[str], fixed: set[str], base: Path) -> Iterator[str]:
    """What is fixed and takes more than one thing from what is changed may measure by one of them."""
    for path in sorted(path for path in fixed if path.endswith(".py")):
        for module in sorted(edited):
            names = sorted(taken_from(path, module, base))
            suspects = [name for name in names if sounds_measured(name)]
            if suspects or len(names) > 1:
                which = f" (by its name: {listed(suspects)})" if suspects else ""
                yield (
                    f"{path} takes {listed(names)} from {module}, where proposals may change all of it. What of that "
                    f"measures{which} belongs into {path}: else a change wins by measuring less"
                )


def refuse_outside(option: str, path: Path, base: Path) -> None:
    full = Path(os.path.normpath(base / path))
    if not full.exists():
        raise UserError(f"{option} {path}: there is nothing of that name in {base}. Name it from there")
    if full == base:
        raise UserError(
            f"{option} {path} is all that lies here, the measuring included. Name the files or a folder: {option} src"
        )
    if not full.is_relative_to(base):
        raise UserError(
            f"{option} {path} lies outside of {base}, where the command runs, and a trial holds what lies there. Run "
            "ratchet from a folder that holds both"
        )


def files_below(base: Path, name: str) -> set[str]:
    """What git tracks below *base*, or would; without experiments of Ratchet's own making."""
    listing = run_git(["-C", str(base), "ls-files", "-z", "--cached", "--others", "--exclude-standard"], b"")
    paths = {os.fsdecode(path) for path in listing.stdout.split(b"\0") if path}
    return {path for path in paths if not path.startswith(f"experiments/{name}/") and (base / path).is_file()}


def below(path: Path, base: Path, known: set[str]) -> set[str]:
    """The *known* files at or below *path*; where git ignores it, all of it, by its own name."""
    name = PurePosixPath(os.path.normpath(base / path)).relative_to(base.as_posix()).as_posix()
    return {file for file in known if file == name or file.startswith(f"{name}/")} or {name}


def collapsed(fixed: set[str], edited: set[str], known: set[str]) -> tuple[str, ...]:
    """*fixed*, with folders in the place of all their files."""
    found: set[str] = set()
    for file in fixed:
        folders = [str(folder) for folder in reversed(PurePosixPath(file).parents) if folder.parts]
        whole = (f for f in folders if all(other in fixed for other in known if other.startswith(f"{f}/")))
        found.add(next((f for f in whole if not any(other.startswith(f"{f}/") for other in edited)), file))
    return tuple(sorted(found))


def refuse_uncommitted(base: Path, fixed: set[str]) -> None:
    """A trial takes what is fixed from the last commit: what differs from it would not be what was tried here."""
    listing = run_git(["-C", str(base), "diff", "--name-only", "--relative", "-z", "HEAD"], b"").stdout
    changed = sorted(fixed & {os.fsdecode(path) for path in listing.split(b"\0")})
    if changed:
        raise UserError(
            f"{listed(changed)} differs from the last commit, and trials take what measures from there. Commit it: "
            f"git commit -m 'Measure' -- {shlex.join(changed)}"
        )


def untracked(base: Path) -> set[str]:
    """What is not in the last commit."""
    there = run_git(["-C", str(base), "ls-tree", "-r", "-z", "--name-only", "HEAD", "."], b"").stdout
    committed = {os.fsdecode(path) for path in there.split(b"\0") if path}
    return files_below(base, "") - committed


# ── running it ─────────────────────────────────────────────────────────────────────────────────────────────────


def runner(layout: Layout, there: Entry, wish: Wish, metric: Metric, *, exclusive: bool = False) -> CommandRunner:
    return CommandRunner(
        there.command,
        metric=metric,
        exclusive=exclusive,
        fixed=layout.places(),
        seconds=wish.seconds or LONGEST,
        readable=there.readable,
        environment=dict(there.environment),
        sandbox=NoSandbox if wish.no_sandbox else best_sandbox,
    )


def first_run(
    layout: Layout, there: Entry, wish: Wish, progress: Callable[[str], None]
) -> tuple[Layout, tuple[Looking, Mapping[str, Any]]]:
    """The command, run as a trial; with all files of the project where those that were found out do not do."""
    limit = wish.seconds or LONGEST
    progress(f"Running it once {wish.where}, for {limit:g} s at most: {there.command}")
    known = files_below(layout.base, wish.name)
    everything = replace(layout, fixed=collapsed(known - set(layout.edited), set(layout.edited), known))
    tries = [layout, everything] if len(known) <= MOST and everything.fixed != layout.fixed else [layout]
    for tried in tries:
        looking = Looking(frozenset({*layout.edited, *tried.fixed}))
        try:
            outcome = runner(tried, there, wish, looking).run(RUN, tried.text(), SEEDS[0])
        except TrialError as e:
            if tried is tries[-1] or not MISSING.search(str(e)):
                raise UserError(what_to_do(e, there, wish, layout.base)) from e
            progress("It needs more than it names: once more, with all files of the project")
            continue
        if tried is not layout:
            progress("It does with them. All of them are fixed now; to name fewer: --fixed PATH")
        return tried, (looking, reported(outcome.output))
    raise AssertionError("the last try returns or raises")


def reported(output: str) -> Mapping[str, Any]:
    """The line that Ratchet itself ends an output with."""
    lines = output.strip().splitlines()
    return cast(Mapping[str, Any], json.loads(lines[-1])) if lines else {}


def what_to_do(e: TrialError, there: Entry, wish: Wish, base: Path) -> str:
    """Why the command gave nothing, with what to type."""
    said = str(e)
    match e.error_class:
        case "timeout":
            next_ = "Allow it more, or make the script do less: --seconds N"
        case "oom":
            next_ = "Make the script take less memory: trials run beside each other"
        case "crash":
            next_ = hint(said, there, base, wish)
        case _:
            next_ = "Run it yourself, and mend what it says"
    return f"{there.command} gave no result {wish.where} ({e.error_class}): {said}\n{next_}"


def hint(said: str, there: Entry, base: Path, wish: Wish) -> str:
    """What to type after a crash."""
    if wish.no_sandbox:
        return (
            "Run it yourself first, in a fresh clone: a trial has what git tracks, and of ignored files what is --fixed"
        )
    if found := re.search(r"No module named ['\"]?([\w.]+)", said):
        return (
            f"If {found[1]} is there when you run it yourself, it lies in a folder that the sandbox hides. Install it "
            "into the environment of the Python that runs the command, or show its folder: --readable FOLDER, and "
            f"--command 'PYTHONPATH=FOLDER {there.command}'. If it is a file of the project, name it: --fixed PATH"
        )
    if re.search(r"Errno -[23]\b|[Nn]ame or service not known|Network is unreachable|Temporary failure in name", said):
        return (
            "There is no network in the sandbox. Download what it needs beforehand, and show it: --readable FOLDER, or "
            "--fixed PATH where it lies in the project"
        )
    if found := re.search(r"(?:No such file or directory|FileNotFoundError)[^'\"\n]*['\"]([^'\"\n]+)['\"]", said):
        path = Path(found[1].replace("/tmp/home", str(Path.home()), 1)).expanduser()
        if path.is_absolute() and path.exists():
            show = f"--readable {shlex.quote(str(path))}"
            if found[1].startswith("/tmp/home"):
                show += f" --command {shlex.quote(f'HOME={Path.home()} {there.command}')}"
            return f"{path} is there, and the sandbox hides it, as all that lies outside. Show it: {show}"
        if local(found[1], base) or (base / found[1]).is_dir():
            return f"{found[1]} is there, and git ignores it. Name it: --fixed {shlex.quote(found[1])}"
    return "Run it yourself first, in a fresh clone: a trial has what git tracks, no network and nothing of your home"


def chosen(looking: tuple[Looking, Mapping[str, Any]], wish: Wish, ask: Ask | None) -> Figure:
    """The number that is to be improved.

    Raises:
        UserError: there is none, or it cannot be told which; lists them.
    """
    found = looking[0].found
    usable = [figure for figure in found if figure.times == 1]
    often = [figure for figure in found if figure.times > 1]
    if wish.metric:
        same = [figure for figure in found if figure.name.casefold() == wish.metric.casefold()]
        exact = [figure for figure in same if figure.name == wish.metric] or same
        if exact and exact[0].times == 1:
            return exact[0]
        if exact:
            raise UserError(
                f"{wish.metric} is printed {exact[0].times} times, so nobody could tell which counts. Print the final "
                f'one under a name of its own, once: print(f"final_{wish.metric}: {{value}}"). Then: '
                f"--metric final_{wish.metric}"
            )
        reports = f"It reported: {', '.join(f.name for f in found)}. {beyond(looking[0])}".strip()
        seen = reports if found else no_number(looking[0])
        raise UserError(f"the command reported no {wish.metric!r}. {seen}")
    if len(usable) == 1:
        return usable[0]
    if not usable:
        repeated = (
            f" {', '.join(f.name for f in often)}: printed more than once, so none of them counts." if often else ""
        )
        raise UserError(f"the command reported no number that could be improved.{repeated} {no_number(looking[0])}")
    if ask is not None:
        picked = ask("Which number is to be improved?", [figure.name for figure in usable])
        return next(figure for figure in usable if figure.name == picked)
    rows = "\n".join(f"  {figure.name} = {figure.value:g}" for figure in usable)
    likely = next((f.name for f in usable if direction(f.name) and not f.is_timing), usable[0].name)
    also = f"\n{told}" if (told := left_out(found, wish)) else ""
    raise UserError(
        f"the command reported {len(usable)} numbers:\n{rows}{also}\nSay which is to be improved, for example: "
        f"{replace(wish, metric=likely).typed}"
    )


def left_out(found: Sequence[Figure], wish: Wish) -> str:
    """Which numbers cannot be had, where none was named; empty: all can."""
    often = [f"{figure.name} ({figure.times} times)" for figure in found if figure.times > 1]
    if wish.metric or not often:
        return ""
    return (
        f"Left out, since nobody could tell which counts: {listed(often)}. To take one of them, print the final value "
        'once, under a name of its own: print(f"final_loss: {loss}")'
    )


def beyond(seen: Looking) -> str:
    """What was written where nobody looks."""
    return f"It wrote {listed(seen.deeper)}, and no folder is looked into. " if seen.deeper else ""


def no_number(seen: Looking) -> str:
    tail = "\n".join(f"  | {line}" for line in seen.output.strip().splitlines()[-SHOWN:]) or "  (nothing)"
    return (
        f"It ended with:\n{tail}\n{beyond(seen)}Have it print one line such as `loss: 0.531` at its end, "
        'print(f"loss: {loss}"), or write metrics.json where it starts, in no folder below'
    )


def asked_direction(figure: Figure, wish: Wish, ask: Ask | None) -> Direction:
    if ask is None:
        raise UserError(
            f"{figure.name} = {figure.value:g}: its name does not tell whether lower or higher is better. Say it: "
            f"{replace(wish, metric=figure.name, better='lower').typed}, or --better higher"
        )
    return cast(Direction, ask(f"Which {figure.name} is better?", ["lower", "higher"]))


def measured_again(
    layout: Layout,
    there: Entry,
    wish: Wish,
    figure: Figure,
    better: Direction,
    first: tuple[Looking, Mapping[str, Any]],
    progress: Callable[[str], None],
) -> Measured:
    """What it reports with other seeds, where that does not take long."""
    looking, report = first
    values, seconds, megabytes = [figure.value], float(report["seconds"]), report.get("peak_memory_mb")
    if seconds <= QUICK:
        progress(f"{figure.name} = {figure.value:g} after {seconds:.2g} s. Again, with other seeds")
        timed = figure.is_timing
        again = runner(layout, there, wish, figure.metric, exclusive=timed)
        values = [] if timed else values  # the first one had not the machine to itself
        for seed in SEEDS if timed else SEEDS[1:]:
            try:
                seen = reported(again.run(RUN, layout.text(), seed).output)
            except TrialError as e:
                raise UserError(f"with seed {seed}: {what_to_do(e, there, wish, layout.base)}") from e
            values.append(float(seen[figure.name]))
            seconds = max(seconds, float(seen["seconds"]))
    tail = "\n".join(looking.output.strip().splitlines()[-SHOWN:])
    return Measured(figure, better, tuple(values), seconds, megabytes, tail)


# ── writing it ─────────────────────────────────────────────────────────────────────────────────────────────────


def subject_of(top: Path, target: Path, layout: Layout) -> str:
    """The folder that proposals edit, from the top: where the command runs, if it holds nothing else; else a copy."""
    whole = set(layout.edited) == files_below(layout.base, target.name)
    is_there = layout.base != top and whole and not layout.fixed
    return (layout.base if is_there else target / "code").relative_to(top).as_posix()


def write(top: Path, target: Path, subject: str, layout: Layout, there: Entry, wish: Wish, measured: Measured) -> None:
    is_copied = subject.startswith(f"experiments/{wish.name}/")
    for path, text in layout.text().items() if is_copied else ():
        copy = top / subject / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(text.encode())
    from_base = layout.base.relative_to(top)
    metric = measured.figure.metric
    proposer, imported, varied = proposer_for(layout.edited)
    render(
        target,
        {
            "name": wish.name,
            "metric": measured.figure.name,
            "metric_kind": type(metric).__name__,
            "metric_source": source_of(metric),
            "better": measured.better,
            "subject": subject,
            "note": note(layout, subject, is_copied),
            "proposer": proposer,
            "proposer_import": imported,
            "proposer_note": varied,
            "code_proposer": "" if has_python(layout.edited) else f", files={patterns(layout.edited)}",
            "command": there.command,
            "fixed": {path: f"TOP / {quoted((from_base / path).as_posix())}" for path in layout.fixed},
            "seconds": f"{limit(wish, measured):g}",
            "seconds_note": "" if wish.seconds else f": it took {measured.seconds:.2g} s when this was written",
            "environment": dict(there.environment),
            "readable": [f"Path({quoted(str(path))})" for path in there.readable],
            "sandbox": "",
            "sandbox_import": "",
            "exclusive": "its number depends on what else the machine does" if measured.figure.is_timing else "",
            "memory": "",
            "gpu": False,
            "gate": gate(measured)[0],
            "gate_note": gate(measured)[1],
            "owner": owner_of(top),
            "proves": proves(layout, there),
        },
    )
    if not has_python(layout.edited):
        readme = target / "ideas" / "README.md"
        readme.parent.mkdir(parents=True, exist_ok=True)
        source = (COMMAND / "ideas" / "README.md").read_text(encoding="utf-8")
        readme.write_text(source.replace("experiments/NAME/code", subject), encoding="utf-8")


def patterns(paths: Sequence[str]) -> str:
    """Of files like these, as a Python list."""
    suffixes = sorted({PurePosixPath(path).suffix for path in paths})
    return f"[{', '.join(quoted(f'**/*{suffix}') for suffix in suffixes)}]"


def has_python(paths: Sequence[str]) -> bool:
    return any(path.endswith(".py") for path in paths)


def proposer_for(edited: Sequence[str]) -> tuple[str, str, str]:
    """The proposer, how it is imported, and what it does: one that needs no model."""
    if has_python(edited):
        return MUTATIONS
    return 'Ideas(HERE / "ideas")', "from analysis.proposers import Ideas", "no model: the changes that you put there"


def gate(measured: Measured) -> tuple[str, str]:
    """What the gate is given besides, and why."""
    if len(measured.values) > 1 and len(set(measured.values)) == 1:
        return ", repeats=2, confirm=1, final=2", "  # fewer runs: all seeds gave the same number"
    return "", ""


def limit(wish: Wish, measured: Measured) -> float:
    return wish.seconds or max(SHORTEST, math.ceil(ROOM * measured.seconds))


def note(layout: Layout, subject: str, is_copied: bool) -> str:
    lines: list[str] = []
    if is_copied:
        lines.append(
            f"``{subject}`` is a copy: your own files stay as they are. What is promoted is brought back by\n"
            f"``{bring_back(layout, subject)}`` at the top of the repository."
        )
    if not layout.is_protected:
        lines.append(
            "CAREFUL: what proposals change also makes the number, so that a change may win by a better number alone.\n"
            "Read each diff, or split what measures from what is to be improved."
        )
    return "\n\n".join(lines) or "Proposals change the folder in place."


def bring_back(layout: Layout, subject: str) -> str:
    top = layout.base if not subject.startswith("experiments/") else Repo.find(layout.base).root.resolve()
    place = layout.base.relative_to(top).as_posix()
    return f"cp -R {shlex.quote(f'{subject}/.')} {shlex.quote(place)}"


def proves(layout: Layout, there: Entry) -> str:
    by = (
        f"fresh runs of {there.script}, which no proposal can edit"
        if layout.is_protected
        else "fresh runs of the command"
    )
    return f"{by}; its number is what the process says that runs the edited code, so a person reads the diff"


def believed(layout: Layout, folder: str) -> str:
    """Whose word the number is, and how to have it made elsewhere."""
    return (
        f"the number is the word of the process that runs {listed(layout.edited)}: a change could print one of its "
        "own, and end there. To rule that out, have a second command read what the first one left: "
        f"metric=Evaluated(…), as {folder}/experiment.py shows"
    )


def summary(
    top: Path, target: Path, subject: str, layout: Layout, there: Entry, wish: Wish, measured: Measured
) -> Iterator[str]:
    """What was found, and what to type next."""
    name, figure, values = wish.name, measured.figure, measured.values
    folder = os.path.relpath(target)
    yield f"The command ends with:\n{indented(measured.tail)}"
    guessed = "" if wish.better or not direction(figure.name) else ", by its name. If not: --better "
    other = "higher" if measured.better == "lower" else "lower"
    yield f"metric    {figure.name} = {values[0]:g}; {measured.better} is better{guessed}{other if guessed else ''}"
    took = f"{measured.seconds:.2g} s" + (f", {measured.megabytes:.0f} MB" if measured.megabytes else "")
    yield f"a trial   takes {took}; is killed after {limit(wish, measured):g} s"
    yield f"noise     {noise(layout, measured, wish)}"
    if figure.is_timing:
        yield "timing    trials run one at a time (exclusive=True): beside each other they would slow each other down"
    copied = f", copied to {subject}/; yours stay as they are" if subject.startswith(f"experiments/{name}/") else ""
    yield f"changes   {listed(layout.edited)}{copied}"
    yield f"fixed     {listed(layout.fixed) or 'nothing'}"
    if not has_python(layout.edited):
        yield (
            f"proposer  these files are no Python, so nothing can be varied without a model: put changes of your own "
            f"into {folder}/ideas/, or take CodeProposer in {folder}/experiment.py"
        )
    yield f"wrote     {folder}/experiment.py"
    for line in (*layout.careful, believed(layout, folder)):
        yield f"CAREFUL   {line}"
    new = sorted(set(layout.fixed) & untracked(layout.base)) if layout.fixed else []
    add = shlex.join([*(os.path.relpath(layout.base / path) for path in new), folder])
    yield "Next:"
    yield f"  git add {add} && git commit -m 'Add {name}'"
    if not has_python(layout.edited):
        yield f"  mkdir {folder}/ideas/first   # for a changed file, or a patch: see {folder}/ideas/README.md"
    bare = " --no-sandbox" if wish.no_sandbox else ""
    yield f"  ratchet check {name}{bare}           # can it be fooled, and what can a night prove?"
    yield f"  ratchet run {name} --for 20m{bare}   # then: ratchet report {name}, ratchet promote {name}"
    if copied:
        yield f"  {bring_back(layout, subject)}   # at the top, after a promotion: bring it back to your own files"


def noise(layout: Layout, measured: Measured, wish: Wish) -> str:
    values = measured.values
    if len(values) == 1:
        return f"not looked at, since a trial takes more than {QUICK:g} s: ratchet check measures it"
    reads = any("RATCHET_SEED" in source(layout.base / path) for path in sources(layout))
    if len(set(values)) > 1:
        shown = ", ".join(f"{value:.6g}" for value in values)
        load = "is" if measured.figure.is_timing else "may be"
        alone = "" if measured.figure.is_timing else " (then add exclusive=True to CommandRunner, and each runs alone)"
        by = "" if reads else f". Nothing reads RATCHET_SEED: what differs {load} the machine's load{alone}"
        return f"{shown} with {len(values)} seeds: one run is off by {statistics.stdev(values):.2g}{by}"
    same = f"none: {values[0]:.6g} with each of {len(values)} seeds"
    if reads:
        return same
    if (where := seeded(layout)) is None:
        return f"{same}, and nothing reads RATCHET_SEED: right for what has no chance in it"
    return (
        f"{same}, since the seed is fixed there, and a change may win on that one draw alone:\n  | {where}\n"
        '  Better: take it from int(os.environ.get("RATCHET_SEED", "0")), commit that, and type: '
        f"{anew(layout.base, wish.name)} && {wish.typed}"
    )


def seeded(layout: Layout) -> str | None:
    """The first line that seems to fix a seed, with its place."""
    lines = (
        f"{path}:{number}: {line.strip()}"
        for path in sources(layout)
        for number, line in enumerate(source(layout.base / path).splitlines(), 1)
        if SEEDED.search(line)
    )
    return next(lines, None)


def sources(layout: Layout) -> list[str]:
    return [path for path in (*layout.edited, *layout.fixed) if (layout.base / path).is_file()]


def source(path: Path) -> str:
    return path.read_bytes()[: 1 << 20].decode(errors="replace")


def indented(text: str) -> str:
    return "\n".join(f"  | {line[:200]}" for line in text.splitlines()) or "  (it printed nothing)"


def listed(paths: Sequence[str] | set[str], most: int = 4) -> str:
    shown = sorted(paths)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
