"""A subject of many files, and a repository with many candidates: what each step of a round takes.

    uv run python -m tests.benchmarks.scale [FILES] [CANDIDATES]

First a subject of FILES files: a candidate is made, read, and put into a folder as a trial's worktree: into a new one,
as the first trial of a run finds it, and into the one that the trial before has left. Then a small
subject, whose candidates are filled up to 100, 1,000 and CANDIDATES: objects and refs lie there as Ratchet leaves them
(the fill writes them with one command), and at each size the steps of a round are timed on new candidates of their own.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from harness.git import STORE, Git
from harness.meter import Unmetered, metered
from harness.protocols import Finished, Outcome
from harness.runners.command import CommandRunner
from harness.runners.folders import filled_folder, version_files
from harness.runners.metrics import Printed
from harness.versions import CANDIDATES, TIDY, Repo, Subject
from harness.worktrees import Files
from tests.conftest import GIT, git
from traces.records import Edit, Task, Version

T = TypeVar("T")

SIZES = (100, 1_000)
REPEATS = 15
SUBJECT = "experiments/big/code"
START = "x = 0\nfor i in range(10):\n    x += i\nprint(f'loss: {x}')\n"


def a_repository(root: Path, files: int) -> Subject:
    """With a subject of *files* files, in folders of 100."""
    for n in range(files):
        path = root / SUBJECT / f"part_{n // 100:03}" / f"file_{n:05}.py" if n else root / SUBJECT / "train.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(START + f"# {hashlib.sha256(str(n).encode()).hexdigest() * 30}\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Begin")
    return Repo.find(root).subject(SUBJECT)


def edits(n: str) -> list[Edit]:
    return [Edit(path="train.py", text=f"{START}seed = {n!r}\n")]


def taken(found: dict[str, list[float]], name: str, function: Callable[[], T]) -> T:
    """What *function* returns; the seconds go to *found*."""
    begun = time.perf_counter()
    made = function()
    found.setdefault(name, []).append(time.perf_counter() - begun)
    return made


# ── many files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def many_files(root: Path, count: int) -> None:
    live = a_repository(root, count).live()
    found: dict[str, list[float]] = {}
    with metered(Run(root / "work")):
        for n in range(7):
            measure_files(found, root, live, n)
    print(f"| a subject of {count:,} files, n = 7 | median ms | least |\n|---|---|---|")
    for name, each in found.items():
        print(f"| {name} | {1e3 * median(each):.1f} | {1e3 * min(each):.1f} |")


def measure_files(found: dict[str, list[float]], root: Path, live: Version, n: int) -> None:
    timed = partial(taken, found)
    fresh = Repo.find(root).subject(SUBJECT)
    runner = CommandRunner("true", metric=Printed("loss"))
    timed("candidate, its parent not read yet", lambda: fresh.candidate(live, edits(f"first {n}")))
    made = timed("candidate", lambda: fresh.candidate(live, edits(f"second {n}")))
    text = timed("text, nothing read yet", lambda: Repo.find(root).subject(SUBJECT).text(made.id))
    fresh = Repo.find(root).subject(SUBJECT)
    before = fresh.text(live.id)
    timed("text, of a version like the last", lambda: fresh.text(made.id))
    timed("text, read already", lambda: fresh.text(made.id))
    timed("diff", lambda: fresh.diff(live.id, made.id))
    timed("runner.check", lambda: runner.check(text))
    timed("runner.identity", lambda: runner.identity(text))
    timed("runner.objection", lambda: runner.objection(before, text))
    if not n:
        entered(timed, "a trial's worktree, the first of a run", version_files(text))
    entered(timed, "a trial's worktree", version_files(text))
    timed("a whole trial of `true`", lambda: attempted(runner, text))


def entered(timed: Callable[[str, Callable[[], Path]], Path], name: str, files: Files) -> None:
    with ExitStack() as stack:
        timed(name, lambda: stack.enter_context(filled_folder("bench-", files)))


class Run(Unmetered):
    """A run, as far as its trials leave each other their folders."""

    def __init__(self, work: Path) -> None:
        super().__init__()
        self.folder = work / "trial"
        self.spare = work / "spare"


def attempted(runner: CommandRunner, text: dict[str, str]) -> tuple[Finished, Outcome] | None:
    try:
        return runner.attempt(Task(id="run", input="", split="train"), text, 0)
    except Exception as e:
        if type(e).__name__ == "TrialError":  # it prints no number
            return None
        raise


# ── many candidates ────────────────────────────────────────────────────────────────────────────────────────────────


STEPS = ("candidate", "candidate again", "version", "text", "tried?", "diff", "short name")
COMMANDS = {
    "git status": ("status", "--porcelain"),
    "git log --decorate": ("log", "--decorate", "--oneline"),
    "git log --all": ("log", "--all", "--oneline"),
    "git commit": ("commit", "-q", "--allow-empty", "-m", "Nothing"),
    "git fetch": ("fetch", "-q", "origin"),
    "git push": ("push", "-q", "origin", "main"),
    "git for-each-ref": ("for-each-ref",),
    "git describe --all": ("describe", "--all"),
    "git gc --auto": ("gc", "--auto", "-q"),
    "git fsck": ("fsck", "--connectivity-only"),
}
"""What a person types meanwhile."""


def many_candidates(root: Path, most: int) -> None:
    """One repository of each size; what they take is measured in turns, so that a busy machine is shared fairly."""
    sizes = [*(size for size in SIZES if size < most), most]
    places = {size: root / str(size) for size in sizes}
    rows: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}
    for size, place in places.items():
        subject = a_repository(place, 20)
        fill(place, subject, subject.live(), range(size))
        git(place, "clone", "-q", "--bare", ".", f"{place}.git")
        git(place, "remote", "add", "origin", f"{place}.git")
    tried = {size: {version.id: "" for version in Repo.find(place).candidates()} for size, place in places.items()}
    for n in range(REPEATS):
        for size, place in places.items():
            measure(rows[size], place, tried[size], edits(f"{n}"))
    print(f"\n| candidates, median ms, n = {REPEATS} | " + " | ".join(f"{size:,}" for size in sizes), end="")
    print(f" | {sizes[-1]:,} / {sizes[0]:,} |\n" + "|---" * (len(sizes) + 2) + "|")
    for step in (*STEPS, *COMMANDS):
        row = [1e3 * median(rows[size][step]) for size in sizes]
        print(f"| {step} | " + " | ".join(f"{s:.1f}" for s in row) + f" | {row[-1] / row[0]:.2f} |")
    for size, place in places.items():
        print(f"{size:,}: {counted(place)}")
        git(place / ".git" / STORE, "fsck", "--connectivity-only", "--no-dangling")


def fill(root: Path, subject: Subject, live: Version, numbers: Iterable[int]) -> None:
    """Candidates as Ratchet writes them, many with one command, left loose and now and then packed as its are."""
    subject.candidate(live, edits("the first, which makes the store"))
    store = root / ".git" / STORE
    stream: list[bytes] = []
    for n in numbers:
        [edit] = edits(f"fill {n}")
        text, id = (edit.text or "").encode(), subject.version_id(live.id, [edit])
        stream.append(
            f"commit {CANDIDATES}{id}\ncommitter R <r@localhost> {n} +0000\ndata 0\n\n"
            f"from {live.commit}\nM 100644 inline {SUBJECT}/{edit.path}\ndata {len(text)}\n".encode()
        )
        stream.append(text + b"\n")
        if id.startswith(TIDY):
            written(store, stream)
            Git(root).opened_store().tidy()
    written(store, stream)


def written(store: Path, stream: list[bytes]) -> None:
    command = ["git", "-c", "fastimport.unpackLimit=1000000", "fast-import", "--quiet"]
    subprocess.run(command, input=b"".join(stream), cwd=store, env={**os.environ, **GIT}, check=True)
    stream.clear()


def measure(found: dict[str, list[float]], root: Path, tried: dict[str, str], new: list[Edit]) -> None:
    timed = partial(taken, found)
    subject = Repo.find(root).subject(SUBJECT)
    live = subject.live()
    timed("tried?", lambda: subject.version_id(live.id, new) in tried)
    made = timed("candidate", lambda: subject.candidate(live, new))
    timed("candidate again", lambda: subject.candidate(live, new))
    timed("version", lambda: subject.version(made.id))
    timed("text", lambda: Repo.find(root).subject(SUBJECT).text(made.id))
    timed("diff", lambda: subject.diff(live.id, made.id))
    timed("git status", lambda: git(root, "status", "--porcelain"))
    timed("short name", lambda: subject.version(made.id[:12]))
    for name, words in COMMANDS.items():
        timed(name, lambda words=words: git(root, *words))


def counted(root: Path) -> str:
    store = root / ".git" / STORE
    objects = git(store, "count-objects", "-v").split()
    loose = sum(path.is_file() for path in (store / CANDIDATES).glob("*"))
    kept = git(store, "for-each-ref", "--format=x", CANDIDATES).count("x")
    size = sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())
    packs = int(objects[objects.index("packs:") + 1])
    return f"{kept} refs, {loose} of them loose; {objects[1]} loose objects, {packs} packs; {size >> 20} MiB on disk"


def main(files: int, candidates: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if files:
            many_files(Path(folder) / "files", files)
            shutil.rmtree(Path(folder) / "files")
        many_candidates(Path(folder) / "candidates", candidates)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(numbers[0] if numbers else 3_000, numbers[1] if len(numbers) > 1 else 10_000)
