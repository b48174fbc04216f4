"""The folder that a command of a trial runs in: the files that it is given, and nothing else.

Some disks take seconds to make thousands of files where as many were just deleted (ext4 gives out no inode again so
soon). So a trial takes over the folder that another one of the run has left, and writes into it what differs.
"""

import errno
import os
import stat
import time
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.meter import meter
from harness.sandboxes.folder import remove
from harness.sandboxes.isolation import temporary_folder
from harness.worktrees import File, Files

PLAIN, EXECUTABLE, ENTERED = 0o644, 0o755, 0o755
"""Rights of files and folders, whatever the umask."""


@contextmanager
def filled_folder(prefix: str, files: Files, folders: Collection[str] = ()) -> Generator[Path]:
    """Holds *files* and *folders*; goes with the trial, or stays for another one of the same run."""
    spare = meter().spare
    with temporary_folder(prefix) as folder:
        if spare is None or not taken_over(spare, prefix, folder, files, folders):
            match(folder, files, folders)
        yield folder
        if spare is not None:
            with suppress(OSError):
                clear(folder, files, folders)
                spare.mkdir(parents=True, exist_ok=True)
                folder.rename(spare / folder.name)


def taken_over(spare: Path, prefix: str, folder: Path, files: Files, folders: Collection[str]) -> bool:
    """Move a folder that lies in *spare* to *folder*, and make it match; ``False``: there is none that can be used."""
    for left in sorted(spare.glob(f"{prefix}*")):
        try:
            left.rename(folder)
        except OSError:  # another trial was first
            continue
        try:
            match(folder, files, folders)
        except OSError:  # an attribute that only root takes away again, say
            folder.rename(spare / f"unusable-{folder.name}")
            folder.mkdir(mode=0o700)
            return False
        return True
    return False


def match(folder: Path, files: Files, folders: Collection[str] = ()) -> None:
    """Make *folder* hold *files* and *folders* alone, as if all of them had been written now."""
    kept = clear(folder, files, folders)
    now = time.time_ns()
    top = str(folder)
    inner = [f"{top}/{path}" for path in sorted(inside(files, folders))]
    for path in inner:
        with suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102 (of thousands, in half the time, as below)
            os.chmod(path, ENTERED)  # noqa: PTH101
    for path, file in sorted(files.items(), key=lambda item: item[1].mode == "120000"):
        target = f"{top}/{path}"
        if file.mode == "120000":
            os.symlink(file.data, os.fsencode(target))  # noqa: PTH211
        elif path in kept and contents(target) == file.data:
            os.utime(target, ns=(now, now))
        else:
            written(target, file)
    for path in (*inner, top):
        os.utime(path, ns=(now, now))


def clear(folder: Path, files: Files, folders: Collection[str] = ()) -> set[str]:
    """Remove from *folder* all but *folders* and what can be one of *files*; returns the paths of the latter.

    Those are plain files of the right size and rights, without a second name or an attribute of their own: what is in
    them was not looked at.
    """
    kept: set[str] = set()
    wanted = inside(files, folders)
    folder.chmod(0o700)
    todo = [""]
    while todo:
        inner = todo.pop()
        place = folder / inner
        for attribute in attributes(place):
            os.removexattr(place, attribute)
        for entry in list(os.scandir(place)):
            path = f"{inner}/{entry.name}" if inner else entry.name
            if entry.is_dir(follow_symlinks=False):
                if path in wanted:
                    os.chmod(entry.path, ENTERED)  # noqa: PTH101
                    todo.append(path)
                else:
                    remove(place / entry.name)
                    if (place / entry.name).exists():
                        raise OSError(errno.ENOTEMPTY, "cannot be removed", entry.path)
            elif (file := files.get(path)) is not None and can_stay(entry, file):
                kept.add(path)
            else:
                os.unlink(entry.path)  # noqa: PTH108
    return kept


def can_stay(entry: os.DirEntry[str], file: File) -> bool:
    about = entry.stat(follow_symlinks=False)
    return (
        stat.S_ISREG(about.st_mode)
        and file.mode != "120000"
        and stat.S_IMODE(about.st_mode) == rights(file)
        and about.st_nlink == 1
        and about.st_size == len(file.data)
        and about.st_uid == os.geteuid()
        and not attributes(Path(entry.path))
    )


def attributes(place: Path) -> list[str]:
    """The extended ones, but for those that the system itself puts on every file."""
    try:
        return [name for name in os.listxattr(place, follow_symlinks=False) if not name.startswith("security.")]
    except OSError:  # a disk without any
        return []


def inside(files: Files, folders: Collection[str]) -> set[str]:
    """The folders that there have to be."""
    found = set(folders)
    for path in (*files, *folders):
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found


def rights(file: File) -> int:
    return EXECUTABLE if file.mode == "100755" else PLAIN


def contents(path: str) -> bytes:
    with open(path, "rb", opener=plainly) as file:
        return file.read()


def plainly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def written(path: str, file: File) -> None:
    with open(path, "wb", opener=plainly) as target:
        target.write(file.data)
        os.fchmod(target.fileno(), rights(file))


def version_files(text: Mapping[str, str]) -> Files:
    """The files of a version; one that begins with ``#!`` can be executed."""
    return {
        path: File("100755" if source.startswith("#!") else "100644", source.encode()) for path, source in text.items()
    }
