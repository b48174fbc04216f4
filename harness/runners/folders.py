"""The folder that a command of a trial runs in: the files that it is given, and nothing else.

Some disks take seconds to make thousands of files where as many were just deleted (ext4 gives out no inode again so
soon). So a trial takes over the files that another one of the run has left, if that one has touched none of those that
it was given: of these, it finds what a new folder would hold. What differs between the two is written.
"""

import os
import time
from collections import Counter
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.meter import meter
from harness.sandboxes.folder import remove
from harness.sandboxes.isolation import temporary_folder
from harness.worktrees import File, Files, put

ENTERED = 0o755
"""Rights of a folder, whatever the umask."""

Signature = tuple[int, ...]
"""Of a file or folder: what changes with anything that can be done to it but reading. It ends with the time of the last
change (``ctime``), which nobody can set; to set another time or an attribute is a change."""


@dataclass(frozen=True)
class Left:
    """What a trial has left for another one."""

    place: Path
    files: Files
    folders: frozenset[str]
    """All of them, also those above files."""


left: dict[tuple[Path, str], list[Left]] = {}
"""Where trials leave it and its prefix → what lies there, of this process."""


@contextmanager
def filled_folder(prefix: str, files: Files, folders: Collection[str] = ()) -> Generator[Path]:
    """Holds *files* and *folders*; goes with the trial, but for what another one of the same run can take over."""
    spare, wanted = meter().spare, inside(files, folders)
    with temporary_folder(prefix) as folder:
        if spare is None or not take_over(spare, prefix, folder, files, wanted):
            fill(folder, files, wanted)
        given = signatures(folder, files, wanted)
        yield folder
        if spare is not None:
            with suppress(OSError):
                if bring_back(folder, files, wanted, given):
                    spare.mkdir(parents=True, exist_ok=True)
                    keep(spare, prefix, Left(folder.rename(spare / folder.name), files, wanted))


def take_over(spare: Path, prefix: str, folder: Path, files: Files, folders: frozenset[str]) -> bool:
    """Fill *folder* with what a trial has left in *spare*; ``False``: there is nothing."""
    try:
        found = left.get((spare, prefix), []).pop()
    except IndexError:
        return False
    try:
        for entry in list(os.scandir(found.place)):  # the top itself is a new one
            os.rename(entry.path, folder / entry.name)  # noqa: PTH104
        found.place.rmdir()
        for path in found.files.keys() - files.keys():
            (folder / path).unlink()
        for path in sorted(found.folders - folders, reverse=True):
            (folder / path).rmdir()
        fill(folder, files, folders, found.files)
    except OSError:  # a person has tidied up
        remove(folder)
        folder.mkdir(mode=0o700, exist_ok=True)
        return False
    return True


def keep(spare: Path, prefix: str, found: Left) -> None:
    for other in list(left):
        if not other[0].exists():  # of a run that was left
            left.pop(other, None)
    left.setdefault((spare, prefix), []).append(found)


def fill(folder: Path, files: Files, folders: Collection[str], there: Files | None = None) -> None:
    """Write *files* and *folders* to *folder*, where *there* is already, as if all of it were written now."""
    there = there or {}
    now = time.time_ns()
    top = str(folder)
    inner = [f"{top}/{path}" for path in sorted(folders)]
    for path in inner:
        with suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102 (of thousands, in half the time, as below)
            os.chmod(path, ENTERED)  # noqa: PTH101
    for path, file in sorted(files.items(), key=lambda item: item[1].mode == "120000"):
        target = f"{top}/{path}"
        if path in there:
            if there[path] == file and (file.mode == "120000" or contents(target) == file.data):
                os.utime(target, ns=(now, now), follow_symlinks=False)
                continue
            os.unlink(target)  # noqa: PTH108
        put(target, file)
        os.utime(target, ns=(now, now), follow_symlinks=False)
    for path in (*inner, top):
        os.utime(path, ns=(now, now))


def bring_back(folder: Path, files: Files, folders: Collection[str], given: Mapping[str, Signature]) -> bool:
    """Remove from *folder* all but *files* and *folders*; ``False``: some of these were touched. A folder in which
    something was made or deleted is made anew, so that nothing can be read off it."""
    expected = Counter(path.rpartition("/")[0] for path in (*files, *folders))
    for path in sorted(folders, reverse=True):  # what lies deep comes first
        place = folder / path
        now = signature(os.lstat(place))
        if now[:-1] != given[path][:-1] or cleared(place, f"{path}/", files, folders, given) != expected[path]:
            return False
        if now != given[path]:
            made = folder.with_name(f"{folder.name}-made-anew")  # outside: some attributes are inherited
            made.mkdir()
            made.chmod(ENTERED)
            for entry in list(os.scandir(place)):
                os.rename(entry.path, made / entry.name)  # noqa: PTH104
            place.rmdir()
            made.rename(place)
    return cleared(folder, "", files, folders, given) == expected[""]


def cleared(place: Path, prefix: str, files: Files, folders: Collection[str], given: Mapping[str, Signature]) -> int:
    """Remove from one folder what was not *given*; how much is left there that was, and was not touched."""
    kept = 0
    for entry in list(os.scandir(place)):
        path = f"{prefix}{entry.name}"
        if path in files:
            kept += signature(entry.stat(follow_symlinks=False)) == given[path]
        elif path in folders and entry.is_dir(follow_symlinks=False):
            kept += 1
        elif entry.is_dir(follow_symlinks=False):
            remove(place / entry.name)
            kept -= (place / entry.name).exists()
        else:
            os.unlink(entry.path)  # noqa: PTH108
    return kept


def signatures(folder: Path, files: Files, folders: Collection[str]) -> dict[str, Signature]:
    top = str(folder)
    return {path: signature(os.lstat(f"{top}/{path}")) for path in (*files, *folders)}


def signature(about: os.stat_result) -> Signature:
    return about.st_dev, about.st_ino, about.st_mode, about.st_uid, about.st_gid, about.st_ctime_ns


def inside(files: Files, folders: Collection[str]) -> frozenset[str]:
    """The folders that there have to be."""
    found = set(folders)
    for path in (*files, *folders):
        above = path.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return frozenset(found)


def contents(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def version_files(text: Mapping[str, str]) -> Files:
    """The files of a version; one that begins with ``#!`` can be executed."""
    return {
        path: File("100755" if source.startswith("#!") else "100644", source.encode()) for path, source in text.items()
    }
