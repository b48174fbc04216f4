"""Git, by its plumbing and the command line.

Writing a commit touches neither the working tree, nor the index, nor a branch of the user.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

from filelock import FileLock, Timeout

from harness.errors import UserError


class File(NamedTuple):
    mode: str
    """As git writes it: ``100644``, or ``100755`` for an executable."""
    oid: str
    """The hash of its blob."""
    text: str


STORE = "ratchet"
"""The folder beside the user's objects of a repository of our own, whose number of refs and objects slows no command of
theirs, and which no housekeeping of theirs reaches. It borrows nothing from theirs, since they may delete what is
borrowed: of each commit that candidates are made of, it has all trees, and the files of the subject."""
COMPLETE = "is-complete"
LOCK = "being-made"
"""In a repository that users share, each of them may take it."""

RunGit = Callable[[Sequence[str], bytes], CompletedProcess[bytes]]
"""Runs ``git`` with these arguments and this on its standard input, whatever it ends with."""


def run_git(arguments: Sequence[str], stdin: bytes, environ: Mapping[str, str] = os.environ) -> CompletedProcess[bytes]:
    """Run git, cut off from where Ratchet was started.

    Variables that point git at a repository, an index or an identity are dropped: a hook that starts Ratchet sets
    them. No hook runs, nothing is signed, nobody is asked for a password. The command has a session of its own, so
    that an interrupt or a kill of Ratchet never cuts it in half.

    Raises:
        UserError: there is no git.
    """
    settings = {
        "core.hooksPath": os.devnull,
        "core.quotePath": "false",
        "i18n.logOutputEncoding": "UTF-8",
        "trailer.separators": ":",
    }
    ours = {
        "GIT_AUTHOR_NAME": "Ratchet",
        "GIT_AUTHOR_EMAIL": "ratchet@localhost",
        "GIT_COMMITTER_NAME": "Ratchet",
        "GIT_COMMITTER_EMAIL": "ratchet@localhost",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",  # the few words of git that are read below are the same everywhere
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    try:
        return subprocess.run(
            ["git", "--literal-pathspecs", "--no-replace-objects", *options, *arguments],
            input=stdin,
            capture_output=True,
            env={name: value for name, value in environ.items() if _harmless(name)} | ours,
            start_new_session=True,
            check=False,
        )
    except FileNotFoundError as e:
        raise UserError(
            "git was not found on PATH, and versions are git trees. Install it (https://git-scm.com), then try again."
        ) from e


def _harmless(variable: str) -> bool:
    """Everything but git's own; where its configuration lies is a person's choice and stays."""
    about_configuration = variable.startswith("GIT_CONFIG_") and variable != "GIT_CONFIG_PARAMETERS"
    return not variable.startswith("GIT_") or about_configuration or variable == "GIT_EXEC_PATH"


def said(done: CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"


def lines_of(output: bytes) -> list[str]:
    return output.decode().split("\n")[:-1]


def items_of(output: bytes) -> list[str]:
    """The items of a command that was asked for ``-z``."""
    return [os.fsdecode(item) for item in output.split(b"\0") if item]


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str
    """The first one; empty for a root."""
    when: datetime
    trailers: Mapping[str, str]


@dataclass(frozen=True)
class NewCommit:
    """All of *parent*'s tree, with the directory *path* replaced by the tree *base* after *changes*."""

    parent: str
    when: datetime
    line: str
    trailers: Mapping[str, str]
    path: str
    base: str
    changes: Mapping[str, File | None]
    """Below *path*; ``None`` deletes."""
    result: str
    """The hash of the tree at *path* that comes of it."""


class Git:
    """Plumbing on one repository."""

    def __init__(self, root: Path, run: RunGit = run_git, directory: Path | None = None) -> None:
        self.root = root
        """The top of the checkout."""
        self._run = run
        self._directory = directory
        """Of the repository, where it is not the one that *root* is a checkout of."""
        self._store: Git | None = None

    def attempt(self, *arguments: str, stdin: bytes = b"") -> CompletedProcess[bytes]:
        """One command, whatever it ends with. Waits up to a second for another program to let go of a lock."""
        where = () if self._directory is None else (f"--git-dir={self._directory}",)
        command = ("-C", str(self.root), *where, *arguments)
        for pause in (0.02, 0.05, 0.1, 0.2, 0.3, 0.4):
            done = self._run(command, stdin)
            if done.returncode == 0 or b".lock': File exists" not in done.stderr:
                return done
            time.sleep(pause)
        return self._run(command, stdin)

    def ask(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """What git answers.

        Raises:
            UserError: git failed; passes its own words on.
        """
        done = self.attempt(*arguments, stdin=stdin)
        if done.returncode:
            raise UserError(f"git failed in {self.root}. It says: {said(done)}")
        return done.stdout

    def resolve(self, *names: str) -> list[str | None]:
        """The objects that *names* stand for; ``None`` where there is no such object, or more than one."""
        answer = self.ask("cat-file", "--batch-check", stdin="".join(f"{name}\n" for name in names).encode())
        found = [re.fullmatch(r"([0-9a-f]{40,}) \w+ \d+", line) for line in lines_of(answer)]
        return [match and match[1] for match in found]

    def commits(self, ids: Iterable[str]) -> dict[str, Commit]:
        """By id."""
        stdin = "".join(f"{id}\n" for id in ids).encode()
        if not stdin:
            return {}
        form = "--format=%H%x00%P%x00%cI%x00%(trailers:only,unfold)%x00"
        answer = self.ask("log", "--no-walk=unsorted", "--no-show-signature", form, "--stdin", stdin=stdin)
        fields = [field.strip() for field in answer.decode(errors="replace").split("\0")[:-1]]
        return {
            id: Commit(id, parents.split(" ")[0], datetime.fromisoformat(when), trailers_of(trailers))
            for id, parents, when, trailers in zip(*[iter(fields)] * 4, strict=True)
        }

    def write_commit(self, ref: str, new: NewCommit) -> Commit:
        """Write blobs, trees and the commit, and *ref* that holds it: one command for any number of files.

        Text goes in as it is, past line-ending settings and filters. The same facts give the same commit again.
        """
        # fewer than 100 objects end up loose, as with any other command; to flush the pack they came in is time lost
        settings = ("-c", "core.ignoreCase=false", "-c", "core.fsync=-pack")
        importing = (*settings, "fast-import", "--quiet", "--done", "--date-format=raw")
        id, tree = lines_of(self.ask(*importing, stdin=_import_stream(ref, new)))
        if tree.split()[2] != new.result:
            raise RuntimeError(f"git hashed {new.path} to {tree.split()[2]}, we to {new.result}")
        return Commit(id, new.parent, new.when, new.trailers)

    def tidy(self) -> None:
        """Pack loose objects and refs, as git's own housekeeping would: each is a file, and some commands read all of
        them. Deletes nothing that is not in a pack. Where it cannot be done now, the next time does it."""
        self.attempt("maintenance", "run", "--quiet", "--task=loose-objects", "--task=pack-refs")

    def contains(self, tip: str, commit: str) -> bool:
        """Is *commit* in the history of *tip*?"""
        return self.attempt("merge-base", "--is-ancestor", commit, tip).returncode == 0

    def store(self) -> "Git | None":
        """The repository in ``STORE``; ``None``: nothing was ever written to it."""
        place = self._common / STORE
        if self._store is None and (place / COMPLETE).exists():
            self._store = Git(self.root, self._run, place)
        return self._store

    def opened_store(self) -> "Git":
        """As ``store``; made where it is not there yet, or where who made it was killed.

        Raises:
            UserError: something else lies in its place.
        """
        if (store := self.store()) is not None:
            return store
        place = self._common / STORE
        try:
            place.mkdir(exist_ok=True)
        except FileExistsError as e:
            raise UserError(f"{place} is a file, and candidates are kept in a folder of that name. Move it away") from e
        shutil.copymode(self._common / "objects", place)
        with FileLock(place / LOCK, mode=0o666):
            if self.store() is None:
                form = self.ask("rev-parse", "--show-object-format").decode().strip()
                shared = self.attempt("config", "--get", "core.sharedRepository").stdout.decode().strip() or "umask"
                how = ("--bare", "--template=", f"--object-format={form}", f"--shared={shared}")
                self.ask("init", "--quiet", *how, str(place))
                (place / COMPLETE).touch()
        return self.opened_store()

    def copy_to(self, other: "Git", objects: Iterable[str]) -> None:
        """Give *other* these objects, all or none, also those that it would find elsewhere."""
        pack = self.ask("pack-objects", "--quiet", "--stdout", stdin="".join(f"{oid}\n" for oid in objects).encode())
        other.ask("-c", "core.fsync=-pack", "index-pack", "--stdin", stdin=pack)

    def begin_with(self, commit: str) -> None:
        """Let the history that can be seen in a store begin with *commit*, whose parents are elsewhere."""
        assert self._directory is not None, "the user's history begins where it begins"
        with FileLock(self._directory / LOCK, mode=0o666):
            shallow = self._directory / "shallow"
            known = shallow.read_text("utf-8").split() if shallow.exists() else []
            written = self._directory / "shallow.new"
            written.write_text("".join(f"{oid}\n" for oid in sorted({*known, commit})), "utf-8")
            written.replace(shallow)

    def blobs(self, oids: Sequence[str]) -> dict[str, bytes]:
        """The contents of those that are here."""
        if not oids:
            return {}
        answer = self.ask("cat-file", "--batch", "--buffer", stdin="".join(f"{oid}\n" for oid in oids).encode())
        found: dict[str, bytes] = {}
        start = 0
        for oid in oids:
            header = answer.index(b"\n", start)
            parts = answer[start:header].split(b" ")
            start = header + 1
            if parts[1] == b"blob":
                found[oid] = answer[start : start + int(parts[2])]
                start += int(parts[2]) + 1
        return found

    @cached_property
    def _common(self) -> Path:
        """What all checkouts of the repository share."""
        return self.root / os.fsdecode(self.ask("rev-parse", "--git-common-dir").removesuffix(b"\n"))

    @contextmanager
    def promoting(self) -> Generator[None]:
        """One promotion at a time, in all checkouts of the repository."""
        try:
            with FileLock(self._common / "ratchet.lock", timeout=10, mode=0o666):
                yield
        except Timeout as e:
            raise UserError(
                f"another Ratchet process is promoting or rolling back in {self.root}. Wait for it, then try again."
            ) from e


def _import_stream(ref: str, new: NewCommit) -> bytes:
    """What ``git fast-import`` reads; it answers with the commit and the tree at the path."""
    message = message_of(new.line, new.trailers).encode(errors="replace")
    parts = [
        f"commit {ref}\nmark :1\ncommitter Ratchet <ratchet@localhost> {int(new.when.timestamp())} +0000\n".encode(),
        b"data %d\n%b\n" % (len(message), message),
        f"from {new.parent}\nM 040000 {new.base} {_quoted(new.path)}\n".encode(),
    ]
    for path, file in new.changes.items():
        place = _quoted(f"{new.path}/{path}").encode()
        if file is None:
            parts.append(b"D %b\n" % place)
        else:
            content = file.text.encode()
            parts.append(b"M %b inline %b\ndata %d\n%b\n" % (file.mode.encode(), place, len(content), content))
    parts.append(f"\nget-mark :1\nls :1 {_quoted(new.path)}\ndone\n".encode())
    return b"".join(parts)


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def message_of(line: str, trailers: Mapping[str, str]) -> str:
    """A commit message. A value stays on one line, so that no text of a finding can pose as another trailer."""
    for key in trailers:
        if not re.fullmatch("[A-Za-z][A-Za-z0-9-]*", key):
            raise ValueError(f"{key!r} is not the name of a trailer")
    values = {key: re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", value).strip() for key, value in trailers.items()}
    block = "".join(f"{key}: {value}\n" for key, value in values.items() if value)
    return f"{line}\n\n{block}" if block else f"{line}\n"


def trailers_of(block: str) -> dict[str, str]:
    pairs = (line.partition(": ") for line in block.split("\n"))
    return {key: value for key, colon, value in pairs if colon}
