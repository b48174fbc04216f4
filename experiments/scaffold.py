"""``ratchet new``: an experiment that runs as it is, to be made one's own."""

import getpass
import json
from pathlib import Path

from harness.errors import UserError
from harness.experiment import check_name
from harness.versions import run_git

TEMPLATE = Path(__file__).parent / "template"
KINDS = ("number", "place", "sentiment")
"""Of the tasks of word_tasks, those that a new experiment begins with."""


def write(start: Path, name: str) -> list[Path]:
    """Write ``experiments/NAME/`` below *start* from the template; return the files written.

    Raises:
        UserError: the name cannot be one, or something of that name is there already.
    """
    check_name(name)
    target = start / "experiments" / name
    if target.exists():
        raise UserError(f"{target} exists already, and nothing is overwritten. Choose another name, or remove it")
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


def owner_of(folder: Path) -> str:
    """Who works here, as git knows them: ``Ada <ada@example.org>``; else who is logged in."""
    name, email = (setting(folder, f"user.{part}") for part in ("name", "email"))
    return " ".join(part for part in (name, f"<{email}>" if email else "") if part) or getpass.getuser()


def setting(folder: Path, key: str) -> str:
    """What git is configured with there; empty where it is not."""
    return run_git(["-C", str(folder), "config", key], b"").stdout.decode(errors="replace").strip()
