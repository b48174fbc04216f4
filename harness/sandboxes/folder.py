"""A folder from which no path leads out, whatever a version's code has put there."""

import errno
import os
import stat
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LARGEST = 8 << 20
"""Bytes of a file that are read."""
LINKS = 40
"""How many symbolic links a path may go through."""
INSIDE = "/worktree"
"""What the folder is called inside a sandbox."""
WALK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Folder:
    """Reads and writes below *path*.

    Each step of a path is taken from the folder that the last one opened, so that nobody can turn one into a link
    between a look and its use. Links are followed as long as they stay inside; special files are refused, since to
    open one can wait for ever.
    """

    path: Path

    def read(self, path: str) -> str:
        """The text of a file; bytes that are no UTF-8 become replacement characters.

        Raises:
            ValueError: the path leads out, what it names is no file, or it is too large to read.
            OSError: as opening a file does.
        """
        return self.read_bytes(path).decode("utf-8", "replace")

    def read_bytes(self, path: str, largest: int = LARGEST) -> bytes:
        """As ``read``, not decoded."""
        with self._place(path, make=False) as (folder, name):
            file = os.open(name, os.O_RDONLY | OPEN, dir_fd=folder)
        with os.fdopen(file, "rb") as opened:
            size = self._checked(file, path).st_size
            data = opened.read(largest + 1) if size <= largest else b""
        if size > largest or len(data) > largest:
            raise ValueError(f"{path} has {size:,} bytes, and files of more than {largest:,} are not read whole")
        return data

    def write(self, path: str, text: str) -> None:
        """Put *text* where *path* says; folders on the way are made. Raises as ``read``."""
        data = text.encode("utf-8", "replace")
        with self._place(path, make=True) as (folder, name):
            try:
                file = os.open(name, os.O_WRONLY | os.O_CREAT | OPEN, 0o666, dir_fd=folder)
            except OSError as e:
                if e.errno == errno.ENXIO:
                    raise ValueError(f"{path} is no file") from e
                raise
        with os.fdopen(file, "wb") as opened:
            self._checked(file, path)
            os.ftruncate(file, 0)
            opened.write(data)

    @staticmethod
    def _checked(file: int, path: str) -> os.stat_result:
        about = os.fstat(file)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path} is no file")
        return about

    @contextmanager
    def _place(self, path: str, *, make: bool) -> Generator[tuple[int, str]]:
        """An open descriptor of the folder that *path* ends in, and the name there, which is no link."""
        todo = deque(steps(path))
        opened = [os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        links = 0
        try:
            while todo:
                step = todo.popleft()
                if step == "..":
                    if len(opened) == 1:
                        raise ValueError(f"{path!r} leads out of the folder")
                    os.close(opened.pop())
                    continue
                target = link_at(opened[-1], step)
                if target is not None:
                    links += 1
                    if links > LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    if target.startswith("/"):
                        while len(opened) > 1:
                            os.close(opened.pop())
                    todo.extendleft(reversed(steps(target)))
                elif not todo:
                    yield opened[-1], step
                    return
                else:
                    opened.append(enter(opened[-1], step, make=make))
            raise IsADirectoryError(errno.EISDIR, "is a folder", path)
        finally:
            for folder in opened:
                os.close(folder)


def steps(path: str) -> list[str]:
    """The parts of *path*, named from the folder or as inside a sandbox."""
    if "\0" in path:
        raise ValueError("a path cannot hold a NUL character")
    pure = PurePosixPath(path)
    if pure.is_absolute():
        if not pure.is_relative_to(INSIDE):
            raise ValueError(f"{path!r} leads out of the folder. Name the file from the folder")
        pure = pure.relative_to(INSIDE)
    return list(pure.parts)


def link_at(folder: int, name: str) -> str | None:
    """Where the link *name* points; ``None``: it is none."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as e:
        if e.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def enter(folder: int, name: str, *, make: bool) -> int:
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
    return os.open(name, WALK, dir_fd=folder)


def remove(folder: Path) -> None:
    """Remove *folder* with all that is in it, however deep it goes and whatever rights were taken from it.

    What lies deep is moved to the top first, so that no path grows longer than a path can be.
    """
    todo = [folder]
    while todo:
        current = todo.pop()
        with suppress(OSError):
            current.chmod(0o700)
            for entry in list(os.scandir(current)):
                with suppress(OSError):
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)  # noqa: PTH108
                        continue
                    os.chmod(entry.path, 0o700)  # noqa: PTH101
                    inner = Path(entry.path)
                    todo.append(inner if current == folder else inner.rename(folder / os.urandom(12).hex()))
        if current != folder:
            with suppress(OSError):
                current.rmdir()
    with suppress(OSError):
        folder.rmdir()
