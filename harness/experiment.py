"""An experiment is one file that builds one ``Experiment``: what to improve, how to measure it, how much to spend."""

import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from harness.errors import TrialError, UserError, boundary
from harness.protocols import Gate, Grader, Proposer, Runner
from traces.records import Split, Task

SPLITS: tuple[Split, ...] = get_args(Split)
SHARES: Mapping[Split, float] = {"train": 0.4, "validation": 0.4, "test": 0.2}


@dataclass(frozen=True)
class Budget:
    """The limits of a run; ``None`` does not limit. At least one is needed: a run that nothing ends is refused."""

    rounds: int | None = None
    hours: float | None = None
    """Time at work, all sessions of the run together."""
    trials: int | None = None
    tokens: int | None = None
    dollars: float | None = None
    patience: int | None = None
    """Rounds without a clear gain in the score on ``train`` after which the run ends as ``no-progress``."""

    def __post_init__(self) -> None:
        limits = dataclasses.asdict(self)
        if all(limit is None for limit in limits.values()):
            raise UserError("the budget limits nothing, so the run would never end. Give one, e.g. Budget(rounds=12)")
        for name, limit in limits.items():
            if limit is not None and not 0 < limit < math.inf:
                raise UserError(f"the budget allows {limit} {name}, which is no limit. Give {name} above zero")

    def tightened(self, other: "Budget | None") -> "Budget":
        """The smaller of each limit."""
        if other is None:
            return self
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return Budget(**{k: min((v for v in (mine[k], theirs[k]) if v is not None), default=None) for k in mine})

    def limits(self) -> dict[str, float | int | None]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Contract:
    """Whose experiment it is, and the four answers that it takes to leave it alone."""

    owner: str
    """Whom an escalation names: a person or a team that can be reached."""
    stops: str
    """What stops it."""
    proves: str
    """What proves that the last step did what it should, outside of the model that did it."""
    repeats: str
    """What is safe to repeat, and what is not."""
    person: str
    """What forces it to ask a person."""


@dataclass(frozen=True)
class Experiment:
    """What to improve, how to measure it, how much to spend."""

    name: str
    subject: str
    """The directory that proposals may edit, relative to the top of the git repository."""
    tasks: Sequence[Task]
    """Each with its split."""
    runner: Runner
    grader: Grader
    proposer: Proposer
    gate: Gate
    budget: Budget
    contract: Contract | None = None
    """What a run of more than an hour is asked for."""

    def __post_init__(self) -> None:
        check_name(self.name)
        check_tasks(self.name, self.tasks, self.gate.splits)

    def split(self, split: Split) -> list[Task]:
        return [task for task in self.tasks if task.split == split]

    def sizes(self) -> dict[str, int]:
        return {split: len(self.split(split)) for split in SPLITS}

    def fingerprint(self) -> dict[str, str]:
        """Part → digest of what gives the records their meaning. The budget is not in it: it may change mid-run."""
        return {
            "subject": self.subject,
            "tasks": tasks_digest(self.tasks),
            **{part: digest(describe(getattr(self, part))) for part in ("runner", "grader", "proposer", "gate")},
        }


def meaning(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """What a comparison depends on, of a *fingerprint*: all but who proposed."""
    return {part: value for part, value in fingerprint.items() if part != "proposer"}


def clusters_in(tasks: Iterable[Task]) -> int:
    """How many clusters they make: observations that count."""
    return len({task.cluster or task.id for task in tasks})


def check_name(name: str) -> None:
    """Raise ``UserError`` unless *name* can name an experiment, its git refs and its files."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,59}", name):
        raise UserError(
            f"{name[:80]!r} cannot name an experiment: it names git refs and files. Use up to 60 letters, digits, - "
            "and _, a letter first"
        )


def check_tasks(name: str, tasks: Sequence[Task], splits: Sequence[Split]) -> None:
    """Refuse tasks that could not decide anything. *splits*: those that the gate needs tasks in.

    Raises:
        UserError: repeated ids, a task without a split, a cluster in two splits, or a split too small to compare on.
    """
    if not tasks:
        raise UserError(f"experiment {name!r} has no tasks, so there is nothing to measure. Add some to its task file")
    repeated = [id for id, count in Counter(task.id for task in tasks).items() if count > 1]
    if repeated:
        raise UserError(
            f"experiment {name!r} has {len(repeated)} task ids more than once, first {repeated[0]!r}. Rename"
        )
    homeless = [task.id for task in tasks if task.split is None]
    if homeless:
        raise UserError(
            f"{len(homeless)} tasks of experiment {name!r} have no split, first {homeless[0]!r}. "
            "Assign them: tasks=split_tasks(tasks, seed=0)"
        )
    home: dict[str, Split] = {}
    for task in tasks:
        assert task.split is not None
        if home.setdefault(task.cluster or task.id, task.split) != task.split:
            raise UserError(
                f"cluster {task.cluster!r} of experiment {name!r} is in the splits {home[task.cluster]} and "
                f"{task.split}, so what is learned on one leaks into the other. Put a cluster's tasks into one split"
            )
    clusters = Counter(home.values())
    for split in splits if len(splits) > 1 else ():
        if clusters[split] < 2:
            raise UserError(
                f"experiment {name!r} has {clusters[split]} {split} tasks (clusters), and a difference needs at least "
                "2. Add tasks, or give split_tasks other shares"
            )


def load_tasks(path: str | Path, *, seed: int = 0, shares: Mapping[Split, float] = SHARES) -> list[Task]:
    """The tasks of a JSON Lines file, one ``Task`` a line; those without a split get one (see ``split_tasks``).

    Raises:
        UserError: a line does not parse or is no task; names the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"the task file {path} cannot be read: {e}. Check the path in experiment.py") from e
    tasks: list[Task] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            tasks.append(Task.model_validate_json(line))
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise UserError(
                f"{path} line {number} is not a task: {where}: {first['msg']}. A task looks like "
                '{"id": "t1", "input": "What is 2 + 2?", "targets": ["4"], "tags": ["sum"]}'
            ) from e
    return split_tasks(tasks, seed=seed, shares=shares)


def split_tasks(tasks: Iterable[Task], *, seed: int = 0, shares: Mapping[Split, float] = SHARES) -> list[Task]:
    """Give each task without a split one, by cluster, in about the declared *shares*.

    Each cluster's place depends on the seed and its own name alone: adding tasks moves none of those that are there,
    so what a proposer has learned from never becomes hidden. Tasks of a cluster that has a split join it.
    """
    tasks = list(tasks)
    home: dict[str, Split] = {t.cluster or t.id: t.split for t in tasks if t.split is not None}
    total = sum(shares.values())

    def place(cluster: str) -> Split:
        if cluster in home:
            return home[cluster]
        at = int.from_bytes(hashlib.sha256(f"{seed}/{cluster}".encode()).digest()[:8], "big") / 2**64 * total
        for split, share in shares.items():
            at -= share
            if at < 0:
                return split
        return list(shares)[-1]

    return [t if t.split is not None else t.model_copy(update={"split": place(t.cluster or t.id)}) for t in tasks]


def tasks_digest(tasks: Iterable[Task]) -> str:
    """Of the content of the tasks, whatever their order."""
    return digest(sorted(task.model_dump_json() for task in tasks))


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
DEEPEST = 100
"""Levels of settings that a description goes down."""


def describe(value: Any, above: tuple[int, ...] = ()) -> Any:
    """What would change the meaning of a runner, grader, proposer or gate: its settings and its source.

    Of a dataclass the fields that its ``repr`` shows; of anything else all attributes. *above*: the ids of what it is a
    part of, at which cycles end.

    Raises:
        UserError: it is nested too deep to be described whole, so a change in it could not be seen.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in above:
        return f"…{len(above) - above.index(id(value))}"
    if len(above) >= DEEPEST:
        raise UserError(
            f"a setting of the experiment is nested more than {DEEPEST} levels deep, so that a change in it could not "
            f"be seen. Make it flatter; it ends in {type(value).__name__}"
        )
    below = (*above, id(value))
    if isinstance(value, Mapping):
        return {str(k): describe(v, below) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [describe(v, below) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((describe(v, below) for v in value), key=repr)
    if isinstance(value, functools.partial):
        return ["partial", *(describe(v, below) for v in (value.func, value.args, value.keywords))]
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__qualname__, source(value), describe(cells, below)]
    if inspect.isclass(value):
        return [value.__qualname__, *sources(value)]
    if type(value).__module__ in sys.stdlib_module_names or not sources(type(value)):
        return ADDRESS.sub("", repr(value))
    if dataclasses.is_dataclass(value):
        settings = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.repr}
    else:
        settings = dict(getattr(value, "__dict__", {}))
    slots = {
        name: getattr(value, name)
        for kind in type(value).__mro__
        for name in getattr(kind, "__slots__", ())
        if hasattr(value, name)
    }
    return [type(value).__qualname__, sources(type(value)), describe({**slots, **settings}, below)]


def sources(kind: type) -> list[str]:
    """The modules that define *kind* and what it inherits from, the standard library's apart: a digest of each."""
    names = dict.fromkeys(base.__module__ for base in kind.__mro__)
    return [
        digest(source(sys.modules[n]))
        for n in names
        if n.partition(".")[0] not in sys.stdlib_module_names and n in sys.modules
    ]


def source(thing: Any) -> str:
    """The text that defines *thing*; its name where Python keeps no source (a console, a C extension)."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return getattr(thing, "__qualname__", getattr(thing, "__name__", repr(type(thing))))


def find_experiment(name: str, start: Path) -> Path:
    """``experiments/NAME/experiment.py``, looked for from *start* upwards.

    Raises:
        UserError: there is none; lists those that there are.
    """
    for folder in (start, *start.parents):
        path = folder / "experiments" / name / "experiment.py"
        if path.is_file():
            return path
    known = sorted(
        p.parent.name for folder in (start, *start.parents) for p in folder.glob("experiments/*/experiment.py")
    )
    there = f"There are: {', '.join(known)}" if known else "There are none yet"
    raise UserError(
        f"no experiments/{name}/experiment.py from {start} upwards. {there}. To write it: ratchet new {name}"
    )


def load_experiment(path: Path) -> Experiment:
    """The ``experiment`` that the file *path* builds.

    Raises:
        UserError: it fails to run or builds none.
    """
    spec = importlib.util.spec_from_file_location(f"ratchet_experiment_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and inspect look it up there
    sys.path.insert(0, str(path.parent))  # an experiment may import what lies beside it
    try:
        with boundary("experiment"):
            spec.loader.exec_module(module)
    except TrialError as e:
        raise UserError(f"{path} does not load: {e}. Mend it and try again") from e
    finally:
        sys.path.remove(str(path.parent))
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise UserError(f"{path} builds no Experiment. It must end with: experiment = Experiment(…)")
    if experiment.name != path.parent.name:
        raise UserError(
            f"{path} builds an experiment named {experiment.name!r}, so its runs would go by another name than its "
            f"folder. Write name={path.parent.name!r} there"
        )
    return experiment
