"""``ratchet new NAME --autoresearch PATH``: go on from a checkout of karpathy/autoresearch, as it is.

Its files stay where they are; ``train.py`` is copied as the first version, ``prepare.py`` measures from where it lies.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.results_in import notes_of, read_results
from experiments.entry import interpreter
from experiments.scaffold import MUTATIONS, load_written, owner_of, quoted, refuse_existing, render
from harness.agent.memory import Notes
from harness.errors import UserError
from harness.experiment import check_name
from harness.protocols import Sandbox
from harness.sandboxes import best_sandbox
from harness.versions import Repo

METRIC = "val_bpb"
EDITED, FIXED = "train.py", "prepare.py"
TRAINING = 300
"""Seconds that ``prepare.py`` lets a run train."""
STARTING = 120
"""Seconds for loading, compiling and evaluating."""
MEMORY = "64 << 30"
CACHE = Path(".cache") / "autoresearch"
"""In a home directory: the data and the tokenizer."""
HUB = Path(".cache") / "huggingface"


def go_on_from(start: Path, name: str, checkout: Path, say: Callable[[str], None]) -> Path:
    """Write the experiment, with what was tried before as its notes; return its folder.

    Raises:
        UserError: *checkout* is none, or *start* is in no repository with a commit.
    """
    check_name(name)
    checkout = (start / checkout.expanduser()).resolve()
    missing = [file for file in (EDITED, FIXED) if not (checkout / file).is_file()]
    if missing:
        raise UserError(
            f"{checkout} has no {' and no '.join(missing)}, so it is no checkout of autoresearch. Get one: git clone "
            "https://github.com/karpathy/autoresearch"
        )
    repo = Repo.find(start)
    top = repo.root.resolve()
    target = top / "experiments" / name
    refuse_existing(target)
    python = checkout / ".venv" / "bin" / "python"
    program, needed = interpreter(str(python), str(python)) if python.exists() else ("python", ())
    home = Path.home()
    readable = [*needed, home / CACHE, *([home / HUB] if (home / HUB).exists() else [])]
    train = (checkout / EDITED).read_text(encoding="utf-8")
    (target / "code").mkdir(parents=True)
    (target / "code" / EDITED).write_text(train, encoding="utf-8")
    prepare = checkout / FIXED
    place = (
        f"TOP / {quoted(prepare.relative_to(top).as_posix())}"
        if prepare.is_relative_to(top)
        else f"Path({quoted(str(prepare))})"
    )
    proposer, imported, said = MUTATIONS
    render(
        target,
        {
            "name": name,
            "metric": METRIC,
            "metric_kind": "Printed",
            "metric_source": f"Printed({quoted(METRIC)})",
            "better": "lower",
            "subject": f"experiments/{name}/code",
            "note": f"``code/{EDITED}`` was copied from the checkout, which stays as it is. What is promoted is "
            f"brought back by\n``cp experiments/{name}/code/{EDITED} {checkout}/`` at the top of the repository.\n\n"
            f"CAREFUL: {EDITED}, which proposals change, prints {METRIC} itself, so that a change may win by a better "
            "number alone.\nRead each diff.",
            "proposer": proposer,
            "proposer_import": imported,
            "proposer_note": said,
            "code_proposer": f', context={{"{FIXED}": …}}',
            "command": f"{program} {EDITED}",
            "fixed": {FIXED: place},
            "seconds": 2 * TRAINING + STARTING,
            "seconds_note": f": twice the {TRAINING} s of training, and {STARTING} s to start",
            "environment": {"HOME": str(home), "HF_HUB_OFFLINE": "1", "TRITON_CACHE_DIR": "/tmp/triton"},
            "readable": [f"Path({quoted(str(path))})" for path in readable],
            "sandbox": f"Prepared({quoted(preparing(checkout))})",
            "sandbox_import": "from experiments.autoresearch import Prepared",
            "exclusive": "",
            "memory": MEMORY,
            "gpu": True,
            "gate": "",
            "gate_note": "",
            "owner": owner_of(top),
            "proves": f"fresh runs of {EDITED}, the edited file, which prints {METRIC} itself, so a person reads the "
            f"diff; {FIXED}, which computes it, no proposal can edit",
        },
    )
    say(f"{EDITED} copied to {os.path.relpath(target)}/code/; {FIXED} is fixed, where it lies")
    say(past(checkout / "results.tsv", target / "notes" / "memory.md"))
    load_written(target)
    for warning in warnings(checkout, home, python, train, name):
        say(f"CAREFUL: {warning}")
    folder = os.path.relpath(target)
    say(f"wrote {folder}/experiment.py")
    say("Next:")
    say(f"  git add {folder} && git commit -m 'Add {name}'")
    say(f"  ratchet check {name}           # measures its noise: a few runs of {TRAINING} s and more")
    say(f"  ratchet run {name}             # a night of 8 h has about {8 * 3600 // (TRAINING + 60)} runs in it")
    say(f"  ratchet export {name} --format tsv   # in the morning: the night as a results.tsv")
    return target


@dataclass(frozen=True)
class Prepared:
    """The best sandbox, where what it is to show has been made: by *command*."""

    command: str

    def __call__(self, *, readable: Sequence[Path] = (), **limits: Any) -> Sandbox:
        if missing := [path for path in readable if not path.exists()]:
            raise UserError(f"{missing[0]} is not there, and {EDITED} reads it. Make it: {self.command}")
        return best_sandbox(readable=readable, **limits)


def preparing(checkout: Path) -> str:
    """What makes the cache."""
    return f"cd {shlex.quote(str(checkout))} && uv run {FIXED}"


def past(results: Path, memory: Path) -> str:
    """Write down what *results* says was tried; return that in words."""
    notes, told = Notes(version=1), f"{results} is not there: nothing was tried before"
    if results.is_file():
        rows, unreadable = read_results(results.read_text(encoding="utf-8", errors="replace"))
        notes = notes_of(rows, METRIC, "lower")
        skipped = f"; lines {', '.join(map(str, unreadable[:5]))} could not be read" if unreadable else ""
        told = f"{len(rows)} earlier runs of {results} are in {os.path.relpath(memory)}, for proposers to read{skipped}"
    memory.parent.mkdir(parents=True)
    memory.write_text(notes.text, encoding="utf-8")
    return told


def warnings(checkout: Path, home: Path, python: Path, train: str, name: str) -> list[str]:
    """What would go wrong at night."""
    found = [
        f"{EDITED} is what proposals change, and it prints {METRIC} itself, so that a change which only prints a "
        "better number would win: read the diff before you promote. To rule that out, have it leave its model in a "
        f"file, and a second command evaluate that: metric=Evaluated(…), as experiments/{name}/experiment.py shows"
    ]
    if not python.exists():
        found.append(
            f"{checkout} has no .venv, so Ratchet's own Python runs {EDITED}. Make one: cd {checkout} && uv sync"
        )
    if not (home / CACHE).exists():
        found.append(f"there is no {home / CACHE} yet. Make it: {preparing(checkout)}")
    if shutil.which("nvidia-smi") is None:
        found.append(f"no GPU is seen on this machine (no nvidia-smi), and {EDITED} wants one")
    if "RATCHET_SEED" not in train:
        found.append(
            f"{EDITED} draws from the same seed in every run, so that a change can win on that one draw. Before you "
            f'commit, write int(os.environ.get("RATCHET_SEED", "42")) for the 42 of manual_seed in experiments/{name}/'
            f"code/{EDITED}"
        )
    return found
