"""Deterministic checks of an output that is a git patch, and the fresh copy that it is applied to.

What a patch changes is read by git itself, so that this and what applies it later cannot read it in two ways.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.graders.marks import fault, marks_of
from harness.protocols import Box, Sandbox, Work
from harness.worktrees import Worktree
from traces.records import Mark, Task

Change = Literal["mode", "symlink", "binary", "rename"]

MODES = re.compile(r"^(new file mode|new mode|old mode|deleted file mode|index \S+) (.*)$", re.MULTILINE)
MOVES = re.compile(r"^(?:rename|copy) (?:from|to) .*$", re.MULTILINE)
IGNORED = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Characters that some file systems do not see."""
PLAIN, EXECUTABLE, SYMLINK, SUBMODULE = "100644", "100755", "120000", "160000"
SECONDS = 30.0
LONGEST = 1000
"""Characters of a path."""


@dataclass(frozen=True)
class DiffInScope:
    """The output is a git patch that changes no other files than those *allowed*, and not too much of them."""

    allowed: Sequence[str]
    """Globs of paths: ``*`` stays within a folder, ``**`` does not."""
    denied: Sequence[str] = ()
    """Globs of what must stay, also where it is allowed."""
    files: int = 20
    """How many it may change."""
    lines: int = 400
    """How many it may add and delete, together."""
    may: frozenset[Change] = field(default_factory=frozenset[Change])
    """What else it may do: to the mode of a file, add a symbolic link, change a binary file, move a file."""
    id: str = "scope"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        if not output.strip():
            return marks_of(self.id, [])
        changes = numbers_of(output)
        if isinstance(changes, str):
            return (fault(self.id, f"this is no patch that git can read: `{changes}`", output),)
        faults = [*self._about_paths(changes), *self._about_kinds(output, changes)]
        if len(changes) > self.files:
            faults.append(fault(self.id, f"changes {len(changes)} files, and at most {self.files} are accepted"))
        lines = sum(changed.lines or 0 for changed in changes)
        if lines > self.lines:
            faults.append(fault(self.id, f"changes {lines} lines, and at most {self.lines} are accepted"))
        return marks_of(self.id, faults)

    def _about_paths(self, changes: "Sequence[Changed]") -> list[Mark]:
        faults: list[Mark] = []
        for changed in changes:
            if is_trick(changed.path):
                faults.append(fault(self.id, f"`{changed.path}` is not a path in the worktree", changed.path))
            elif not in_globs(changed.path, self.allowed) or in_globs(changed.path, self.denied):
                faults.append(fault(self.id, f"`{changed.path}` is out of scope", changed.path))
        return faults

    def _about_kinds(self, patch: str, changes: "Sequence[Changed]") -> list[Mark]:
        headers = MODES.findall(patch)
        modes = {mode for what, mode in headers if what != "deleted file mode"}
        done: dict[Change, tuple[bool, str]] = {
            "mode": (
                any(what == "old mode" or (what == "new file mode" and mode == EXECUTABLE) for what, mode in headers),
                "makes a file executable, or changes its mode",
            ),
            "symlink": (SYMLINK in modes, "adds or changes a symbolic link"),
            "binary": (any(changed.lines is None for changed in changes), "changes a binary file"),
            "rename": (MOVES.search(patch) is not None, "moves or copies a file"),
        }
        wrong = [because for kind, (is_done, because) in done.items() if is_done and kind not in self.may]
        if SUBMODULE in modes:
            wrong.append("adds a submodule")
        if modes - {PLAIN, EXECUTABLE, SYMLINK, SUBMODULE}:
            wrong.append("names a mode that no file has")
        return [fault(self.id, because) for because in wrong]


@dataclass(frozen=True)
class Changed:
    """What a patch does to one file."""

    path: str
    """As it is called afterwards."""
    lines: int | None
    """Added and deleted; ``None``: it is a binary file."""


def numbers_of(patch: str) -> list[Changed] | str:
    """What *patch* changes; or why git cannot read it."""
    with tempfile.TemporaryDirectory(prefix="ratchet-") as nowhere:
        try:
            done = subprocess.run(
                ["git", "apply", "--numstat", "-z"],
                cwd=nowhere,
                env={**os.environ, "GIT_CEILING_DIRECTORIES": str(Path(nowhere).parent), "LC_ALL": "C"},
                input=patch.encode(errors="replace"),
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "it is too long"
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if not line.startswith("warning:")]
    if done.returncode or said:
        return said[0] if said else "git refuses it"
    changes: list[Changed] = []
    for entry in done.stdout.decode(errors="replace").split("\0")[:-1]:
        added, deleted, path = entry.split("\t", 2)
        changes.append(Changed(path, None if added == "-" else int(added) + int(deleted)))
    return changes


def is_trick(path: str) -> bool:
    """Does *path* lead out of a worktree, or into what git keeps for itself, on any file system?"""
    if (
        not path
        or path.startswith(("/", "~"))
        or "\\" in path
        or re.match(r"[A-Za-z]:", path)
        or not path.isprintable()
    ):
        return True
    names = [IGNORED.sub("", name).casefold().rstrip(" .") for name in path.split("/")]
    return any(name in ("", ".git") or name.startswith("git~") for name in names)


def in_globs(path: str, globs: Sequence[str]) -> bool:
    return any(glob_pattern(glob).fullmatch(path) for glob in globs)


def glob_pattern(glob: str) -> re.Pattern[str]:
    """``**/`` is any folders or none, ``**`` anything, ``*`` and ``?`` anything but a slash."""
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts), re.DOTALL)


class DoesNotApply(Exception):
    """A patch that cannot be applied: a fault of the output."""


@contextmanager
def applied(sandbox: Sandbox, worktree: Worktree | None, output: str) -> Generator[Box]:
    """A box on a fresh copy of *worktree* with the patch *output* applied; without a worktree it is empty.

    Raises:
        DoesNotApply: the patch does not fit the worktree, or is none.
    """
    if worktree is None:
        with sandbox.open() as box:
            yield box
        return
    with tempfile.TemporaryDirectory(prefix="ratchet-") as top:
        folder = Path(top) / "worktree"
        try:
            worktree.apply(output if output.strip() else "", folder)
        except ValueError as e:
            raise DoesNotApply(str(e)) from e
        with sandbox.open(folder) as box:
            yield box
