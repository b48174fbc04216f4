"""``ratchet new``: an experiment that runs as it is, to be made one's own."""

import getpass
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.errors import UserError
from harness.experiment import Experiment, check_name, load_experiment
from harness.git import run_git

TEMPLATE = Path(__file__).parent / "template"
COMMAND = Path(__file__).parent / "templates" / "command"
"""Of an experiment on a command."""
MUTATIONS = (
    "Combining(Pruning(MutationProposer()))",
    "from analysis.proposers.combining import Combining\n"
    "from analysis.proposers.mutation import MutationProposer\n"
    "from analysis.proposers.pruning import Pruning",
    "no model: varies numbers, operators, choices. A comment steers it: # range: 1e-4 .. 1e-1, # choices: 2, 4",
)
"""The proposer for Python, how it is imported, and what is said of it."""
KINDS = ("number", "place", "sentiment")
"""Of the tasks of word_tasks, those that a new experiment begins with."""


def write(start: Path, name: str) -> list[Path]:
    """Write ``experiments/NAME/`` below *start* from the template; return the files written.

    Raises:
        UserError: the name cannot be one, or something of that name is there already.
    """
    check_name(name)
    target = start / "experiments" / name
    refuse_existing(target)
    owner = json.dumps(owner_of(start), ensure_ascii=False)  # as Python would write it, too
    written: list[Path] = []
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_file():
            path = target / source.relative_to(TEMPLATE).with_suffix(
                "" if source.suffix == ".template" else source.suffix
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8").replace("NAME", name).replace("OWNER", owner)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    tasks = target / "tasks.jsonl"
    lines = (Path(__file__).parent / "word_tasks" / "tasks.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    tasks.write_text("".join(line for line in lines if json.loads(line)["tags"][0] in KINDS), encoding="utf-8")
    return [*written, tasks]


def refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError(f"{target} exists already, and nothing is overwritten. Choose another name, or remove it")


def render(target: Path, values: Mapping[str, object]) -> None:
    """Write the ``experiment.py`` of a command into *target*."""
    jinja = Environment(
        loader=FileSystemLoader(COMMAND), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    jinja.filters["quoted"] = quoted
    text = jinja.get_template("experiment.py.jinja").render(values)
    target.mkdir(parents=True, exist_ok=True)
    (target / "experiment.py").write_text(text, encoding="utf-8")


def quoted(text: str) -> str:
    """*text* as a Python string; with double quotes, as the formatter has it, and raw where it has backslashes."""
    if "\\" in text and '"' not in text and text.isprintable() and not text.endswith("\\"):
        return f'r"{text}"'
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)


def load_written(target: Path) -> Experiment:
    """The experiment that was just written to *target*, which goes again if it does not load."""
    try:
        return load_experiment(target / "experiment.py")
    except UserError:
        shutil.rmtree(target)
        raise


def notes_of(top: Path, name: str) -> str:
    """What people, or a ``results.tsv``, say that was tried before: ``notes/memory.md``; empty where there is none."""
    try:
        return (top / "experiments" / name / "notes" / "memory.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def owner_of(folder: Path) -> str:
    """Who works here, as git knows them: ``Ada <ada@example.org>``; else who is logged in."""
    name, email = (setting(folder, f"user.{part}") for part in ("name", "email"))
    return " ".join(part for part in (name, f"<{email}>" if email else "") if part) or getpass.getuser()


def setting(folder: Path, key: str) -> str:
    """What git is configured with there; empty where it is not."""
    return run_git(["-C", str(folder), "config", key], b"").stdout.decode(errors="replace").strip()
