"""Worktrees: the files that a trial starts from, a copy of them for each trial, and what it changed.

Patches are made and applied by git in a repository of its own that lies elsewhere: what a trial leaves in its folder
is data for git, never its configuration, its attributes or a place for it to write.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, cast

from harness.errors import UserError
from harness.meter import meter

MIB = 1 << 20
LARGEST = 64 * MIB
"""Bytes of all files together."""
MOST = 20_000
"""Files."""
DEEPEST = 64
"""Folders in each other."""
LOOKED_INTO = MIB
"""Bytes from which on ``state`` goes by a file's size and time."""
SKIPPED = frozenset({".git", "__pycache__"})
"""Names, whatever their case, of what is no part of a worktree."""

Mode = Literal["100644", "100755", "120000"]
"""As git has it: a file, one that can be executed, a symbolic link."""


class File(NamedTuple):
    mode: Mode
    data: bytes
    """Of a link: where it points."""


Files = Mapping[str, File]
"""By path, with forward slashes."""


class TooMuch(ValueError):
    """A folder that is no worktree any more: too large, too deep, or not to be read."""


@dataclass(frozen=True)
class Worktree:
    """The folder of files that each trial starts from. It is never written to."""

    source: str | Path = field(repr=False)
    digest: str = field(init=False)
    """Of the files, as they were when this was made: another project is another experiment."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of(self._files()))

    def prepare(self, folder: Path) -> None:
        """Copy the files to *folder*, which is not there yet or empty. All of them or none, also when killed.

        Raises:
            UserError: the files are not what they were when the experiment began, or too many.
            OSError: *folder* has files in it.
        """
        place(self._unchanged(), folder)

    def patch(self, folder: Path) -> str:
        """What is different in *folder*, as a git patch: ``a/`` is the source. Empty: nothing.

        The same files give the same patch. Files that are no text are in it as git's binary patches.

        Raises:
            ValueError: *folder* has outgrown a worktree; says by what.
        """
        with a_repository({"source": self._unchanged(), "trial": files_in(folder)}) as git:
            options = ("--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color")
            return git.run("diff-tree", "-p", "-r", *options, "refs/heads/source", "refs/heads/trial").decode()

    def apply(self, patch: str, folder: Path) -> None:
        """As ``prepare``, with *patch* applied.

        Raises:
            ValueError: it does not apply to the source, or names a path outside.
        """
        if not patch:
            self.prepare(folder)
            return
        with a_repository({"source": self._unchanged()}) as git:
            git.run("read-tree", "refs/heads/source")
            try:
                git.run("apply", "--cached", "--whitespace=nowarn", "-", given=patch.encode())
            except subprocess.CalledProcessError as e:
                raise ValueError(f"the patch does not apply: {e.stderr.decode(errors='replace').strip()}") from e
            place(git.files(), folder)

    @staticmethod
    def state(folder: Path) -> str:
        """A digest of what is in *folder* now: the same for the same contents. Cheap, and never raises for what is in
        there: of too much it is that of a part."""
        seen = hashlib.sha256()
        try:
            for path, file in walk(folder, LOOKED_INTO):
                seen.update(f"{path!r} {file.mode} {len(file.data)} ".encode() + file.data)
        except TooMuch as e:
            seen.update(str(e).encode(errors="replace"))
        return seen.hexdigest()[:16]

    def _files(self) -> Files:
        root = Path(self.source)
        if not root.is_dir():
            raise UserError(f"the worktree's source {root} is no folder. Give Worktree the folder of a project")
        try:
            files = files_in(root)
        except TooMuch as e:
            raise UserError(
                f"the worktree's source {root} cannot be copied for each trial: {e}. Give Worktree a smaller folder"
            ) from e
        for path, file in files.items():
            if file.mode == "120000" and leads_out(path, os.fsdecode(file.data)):
                raise UserError(
                    f"the link {path} in {root} points out of it, to where no trial can look. Copy the file there, "
                    "or delete the link"
                )
        return files

    def _unchanged(self) -> Files:
        files = self._files()
        if digest_of(files) != self.digest:
            raise UserError(
                f"the files in {self.source} have changed since the experiment was loaded, so its trials would not "
                "start from the same ones. Undo the change, or start a new run"
            )
        return files


def leads_out(path: str, target: str) -> bool:
    inside = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120
    return target.startswith("/") or inside.split("/")[0] == ".."


def digest_of(files: Files) -> str:
    seen = hashlib.sha256()
    for path, file in files.items():
        seen.update(f"{path!r} {file.mode} {len(file.data)} ".encode() + file.data)
    return seen.hexdigest()[:16]


# ── folders ────────────────────────────────────────────────────────────────────────────────────────────────────


def files_in(folder: Path) -> Files:
    """Everything in *folder* that a worktree consists of, sorted.

    Raises:
        TooMuch: there is too much of it.
    """
    return dict(walk(folder, None))


def walk(folder: Path, looked_into: int | None) -> Generator[tuple[str, File]]:
    """The files and links below *folder*, in order; no link is followed. Of files over *looked_into* bytes the data is
    their size and time."""
    count = size = 0
    todo: list[tuple[str, int]] = [("", 0)]
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as e:
        raise TooMuch(f"{folder} cannot be read: {e.strerror}") from e
    try:
        while todo:
            inner, depth = todo.pop()
            if depth > DEEPEST:
                raise TooMuch(f"it has more than {DEEPEST} folders in each other")
            try:
                opened = below(top, inner)
            except OSError as e:
                raise TooMuch(f"{inner!r} cannot be read: {e.strerror}") from e
            try:
                deeper: list[tuple[str, int]] = []
                for name in sorted(os.listdir(opened)):  # noqa: PTH208 (of a descriptor)
                    if name.lower() in SKIPPED:
                        continue
                    path = f"{inner}/{name}" if inner else name
                    about = os.stat(name, dir_fd=opened, follow_symlinks=False)
                    if stat.S_ISDIR(about.st_mode):
                        deeper.append((path, depth + 1))
                        continue
                    file = looked_at(opened, name, about, looked_into)
                    if file is None:
                        continue
                    count += 1
                    size += len(file.data)
                    if count > MOST:
                        raise TooMuch(f"it has more than {MOST:,} files")
                    if size > LARGEST:
                        raise TooMuch(f"its files have more than {LARGEST // MIB} MiB")
                    yield path, file
                todo += reversed(deeper)
            except OSError as e:
                raise TooMuch(f"a file in {inner or '.'!r} cannot be read: {e.strerror}") from e
            finally:
                os.close(opened)
    finally:
        os.close(top)


def below(top: int, path: str) -> int:
    """A descriptor of the folder *path*, no part of which is a link."""
    opened = os.dup(top)
    for part in path.split("/") if path else ():
        try:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened)
        finally:
            os.close(opened)
        opened = inner
    return opened


def looked_at(folder: int, name: str, about: os.stat_result, looked_into: int | None) -> File | None:
    """``None``: neither a file nor a link that a patch could name."""
    if stat.S_ISLNK(about.st_mode):
        link = File("120000", os.fsencode(os.readlink(name, dir_fd=folder)))
        return link if is_text(link) else None
    if not stat.S_ISREG(about.st_mode):
        return None
    mode: Mode = "100755" if about.st_mode & stat.S_IXUSR else "100644"
    if looked_into is not None and about.st_size > looked_into:
        return File(mode, f"{about.st_size} {about.st_mtime_ns}".encode())
    if about.st_size > LARGEST:
        raise TooMuch(f"{name!r} has {about.st_size:,} bytes, and all files together may have {LARGEST // MIB} MiB")
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with os.fdopen(file, "rb") as opened:
        return File(mode, opened.read(LARGEST + 1))


def place(files: Files, folder: Path) -> None:
    """Write *files* to *folder*, all at once: it is not there, or empty. Links come last, so that none is written
    through."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for path, file in sorted(files.items(), key=lambda item: item[1].mode == "120000"):
            target = making / path
            target.parent.mkdir(parents=True, exist_ok=True)
            put(target, file)
        making.chmod(0o755)
        making.rename(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def put(target: str | Path, file: File) -> None:
    """Write *file* to *target*, with the same rights whatever the umask; its folder is there."""
    if file.mode == "120000":
        os.symlink(file.data, os.fsencode(target))  # noqa: PTH211 (bytes)
        return
    with open(target, "wb") as opened:  # noqa: PTH123 (of thousands of files, in half the time)
        opened.write(file.data)
        os.fchmod(opened.fileno(), 0o755 if file.mode == "100755" else 0o644)


# ── git ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Git:
    """A repository of git's objects alone."""

    folder: Path

    def run(self, *arguments: str, given: bytes = b"") -> bytes:
        """What a git command prints.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LC_ALL": "C",
            "GIT_DIR": str(self.folder),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
        }
        names = ("-c", "core.protectNTFS=false", "-c", "core.protectHFS=false")
        names += ("-c", "fastimport.unpackLimit=1")  # a pack is one file to remove, loose objects are hundreds
        return subprocess.run(
            ["git", *names, *arguments], input=given, env=environment, cwd=self.folder, capture_output=True, check=True
        ).stdout

    def files(self) -> Files:
        """Of the index."""
        listed = [entry.split(b"\t", 1) for entry in self.run("ls-files", "-s", "-z").split(b"\0") if entry]
        entries = [(os.fsdecode(path), *about.decode().split()[:2]) for about, path in listed]
        for path, mode, _ in entries:
            if mode not in ("100644", "100755", "120000"):
                raise ValueError(f"the patch makes {path} something that is neither a file nor a link")
        blobs = self.run("cat-file", "--batch", given="".join(f"{name}\n" for _, _, name in entries).encode())
        files: dict[str, File] = {}
        at = 0
        for path, mode, _ in entries:
            line = blobs.index(b"\n", at)
            size = int(blobs[at:line].split()[2])
            files[path] = File(cast(Mode, mode), blobs[line + 1 : line + 1 + size])
            at = line + 1 + size + 1
        return files


@contextmanager
def a_repository(trees: Mapping[str, Files]) -> Generator[Git]:
    """A temporary one with a branch for each of *trees*."""
    with tempfile.TemporaryDirectory(prefix="ratchet-git-", dir=meter().folder) as temporary:
        folder = Path(temporary)
        for name in ("objects", "refs", "info"):
            (folder / name).mkdir()
        (folder / "HEAD").write_text("ref: refs/heads/none\n")
        (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
        (folder / "info" / "attributes").write_bytes(b"".join(no_text(trees.values())))
        git = Git(folder)
        git.run("fast-import", "--quiet", given=b"".join(imported(trees)))
        yield git


def no_text(trees: Iterable[Files]) -> Generator[bytes]:
    """Attributes for the files that git would take for text, and that are not in UTF-8."""
    seen: set[str] = set()
    for files in trees:
        for path, file in files.items():
            if path not in seen and not is_text(file):
                seen.add(path)
                pattern = b"".join(b"\\" + bytes([c]) if c in b"*?[\\ " else bytes([c]) for c in os.fsencode(path))
                yield quoted(b"/" + pattern) + b" -diff\n"


def is_text(file: File) -> bool:
    try:
        file.data.decode()
    except UnicodeDecodeError:
        return False
    return True


def imported(trees: Mapping[str, Files]) -> Generator[bytes]:
    """The stream for ``git fast-import``."""
    for name, files in trees.items():
        yield f"commit refs/heads/{name}\ncommitter ratchet <> 0 +0000\ndata 0\n\n".encode()
        for path, file in files.items():
            yield b"M %s inline %s\n" % (file.mode.encode(), quoted(os.fsencode(path)))
            yield b"data %d\n%s\n" % (len(file.data), file.data)


def quoted(path: bytes) -> bytes:
    """As git quotes names in C's way."""
    return b'"' + b"".join(bytes([c]) if 32 <= c < 127 and c not in b'"\\' else b"\\%03o" % c for c in path) + b'"'
