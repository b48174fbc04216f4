"""What an experiment puts into the folder of each trial, and no candidate may change: the evaluator, the data."""

import errno
import hashlib
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from harness.errors import UserError
from harness.git import Git
from harness.sandboxes.folder import remove
from harness.worktrees import MIB, MOST, SKIPPED, File, Files, TooMuch, leads_out, looked_at, put, walk

COPIED = 64 * MIB
"""Bytes of all places together that are kept in memory and copied for each trial; a place that goes beyond is shown
from where it lies."""
CHUNK = 1 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
OF_THE_MACHINE = FULL | {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.ESTALE}
"""Errors that nothing a candidate leaves can bring about."""

Signature = tuple[tuple[str, int, int, int, int], ...]
"""Of each file below a place: name, size, times of its contents and of its rights, inode."""


@dataclass(frozen=True)
class Fixed:
    """The files as they were when they were read, and never any others."""

    sources: Mapping[str, Path]
    """Place → where it was read."""
    copied: Mapping[str, Files]
    """Place → its files by their path below it; that of a single file is empty."""
    signatures: Mapping[str, Signature]
    digests: Mapping[str, str]
    """Place → digest of its contents."""

    @cached_property
    def uncommitted(self) -> str:
        """The first place whose source git tracks, and had at HEAD as something else when this was first asked; empty:
        there is none."""
        for place, source in self.sources.items():
            git = Git(source.parent)
            if git.attempt("rev-parse", "--verify", "--quiet", "HEAD").returncode:  # no repository, or an empty one
                continue
            if git.attempt("diff", "--quiet", "--no-ext-diff", "HEAD", "--", source.name).returncode == 1:
                return place
        return ""

    @property
    def digest(self) -> str:
        seen = hashlib.sha256()
        for place, value in sorted(self.digests.items()):
            seen.update(f"{place!r} {value} ".encode())
        return seen.hexdigest()[:16]

    @property
    def large(self) -> dict[str, Path]:
        """Place → what is not copied."""
        return {place: source for place, source in self.sources.items() if place not in self.copied}

    @cached_property
    def python(self) -> dict[str, str]:
        """Place → text of the Python files among what is copied."""
        return {
            str(PurePosixPath(place, path)): file.data.decode("utf-8", "replace")
            for place, files in self.copied.items()
            for path, file in files.items()
            if (path or place).endswith(".py") and file.mode != "120000"
        }

    @cached_property
    def files(self) -> Files:
        """What is copied by its path in a trial's folder, and something empty where a large file is to be shown."""
        copied = {
            str(PurePosixPath(place, path)): file
            for place, files in self.copied.items()
            for path, file in files.items()
        }
        return copied | {place: File("100644", b"") for place in self.large if place not in self.folders}

    @cached_property
    def folders(self) -> frozenset[str]:
        """Those of them that are folders."""
        return frozenset(place for place, source in self.sources.items() if source.is_dir())

    def changed_in(self, folder: Path) -> str:
        """The first place in *folder* where something else is now; empty: there is none. Nothing may run there.

        Raises:
            OSError: the machine has failed, and it cannot be told.
        """
        for place in self.sources:
            path = PurePosixPath(place)
            if any((folder / above).is_symlink() for above in path.parents):
                return place
            try:
                if place in self.copied:
                    if dict(contents(folder / place)) != self.copied[place]:
                        return place
                elif not self._is_shown(folder, place):
                    return place
            except (OSError, TooMuch) as e:
                refuse_of_machine(e)
                return place
        return ""

    def _is_shown(self, folder: Path, place: str) -> bool:
        target, source = folder / place, self.sources[place]
        if target.is_symlink():  # without a sandbox
            return target.readlink() == source
        if source.is_dir():
            return target.is_dir() and not any(target.iterdir())
        return target.is_file() and not target.stat().st_size

    def changed_at_source(self) -> str:
        """The first place whose source has other contents than when it was read; empty: there is none. Raises as
        ``changed_in``."""
        for place, source in self.sources.items():
            try:
                if signature(source) != self.signatures[place] and digest_at(source) != self.digests[place]:
                    return place
            except (OSError, TooMuch) as e:
                refuse_of_machine(e)
                return place
        return ""

    def restore(self, place: str) -> bool:
        """Give the source of *place* its contents back; ``False``: too much of it was not kept."""
        if place not in self.copied:
            return False
        source, files = self.sources[place], self.copied[place]
        try:
            if source.is_symlink() or not source.is_dir():
                source.unlink(missing_ok=True)
            elif "" in files:
                remove(source)
            for path, target in files_of(source) if source.is_dir() else ():
                if path not in files:
                    target.unlink()
            if "" not in files:
                source.mkdir(parents=True, exist_ok=True)
            for path, file in files.items():
                target = source / path if path else source
                if target.is_dir() and not target.is_symlink():
                    remove(target)
                target.unlink(missing_ok=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                put(target, file)
        except OSError:
            return False
        return True


def refuse_of_machine(error: BaseException | None) -> None:
    """Raise the ``OSError`` that *error* is, or came of, where it says nothing about any candidate."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            raise error
        error = error.__cause__


def read_fixed(fixed: Mapping[str, Path]) -> Fixed:
    """Read *fixed*: place → file or folder.

    Raises:
        UserError: a place lies outside of the folder or in another one, or there is nothing to be put there.
    """
    places = {str(PurePosixPath(place)): Path(source).resolve() for place, source in fixed.items()}
    for place in places:
        path = PurePosixPath(place)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in place:
            raise UserError(f"fixed={{{place!r}: …}} is no place in a candidate's folder. Name a path like data/x.txt")
        if above := [str(up) for up in path.parents if str(up) in places]:
            raise UserError(f"fixed={{{place!r}: …}} lies within {above[0]!r}, which is fixed as well. Leave one out")
    copied: dict[str, Files] = {}
    signatures: dict[str, Signature] = {}
    digests: dict[str, str] = {}
    room = COPIED
    for place, source in places.items():
        try:
            signatures[place] = signature(source)
            size = sum(size for _, size, *_ in signatures[place])
            if size <= room and len(signatures[place]) <= MOST:
                room -= size
                copied[place] = dict(contents(source))
            digests[place] = digest_at(source)
        except TooMuch as e:
            raise UserError(f"what is fixed as {place!r} cannot be used: {e}. Fix a smaller folder") from e
        except OSError as e:
            raise UserError(
                f"what is fixed as {place!r} cannot be read: {e}. Check the path in fixed=… of the experiment"
            ) from e
        for path, file in copied.get(place, {}).items():
            if file.mode == "120000" and leads_out(path, os.fsdecode(file.data)):
                raise UserError(
                    f"the link {path} in {source} points out of it, to where no candidate can look. Copy the file there"
                )
    return Fixed(places, copied, signatures, digests)


def contents(place: Path) -> Generator[tuple[str, File]]:
    """The files at *place* by their path below it, which is empty for a file; no link at *place* is followed.

    Raises:
        TooMuch: a folder has more than a worktree may have.
        OSError: there is neither a file nor a folder.
    """
    about = place.lstat()
    if place.is_dir() and not place.is_symlink():
        yield from walk(place, None)
        return
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        file = looked_at(folder, place.name, about, None)
    finally:
        os.close(folder)
    if file is None:
        raise FileNotFoundError(f"{place} is neither a file nor a folder")
    yield "", file


def signature(source: Path) -> Signature:
    """What changes when any file of *source* does."""
    return tuple(
        (name, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
        for name, path in files_of(source)
        for about in [path.lstat()]
    )


def digest_at(source: Path) -> str:
    """Of the contents of *source*, whatever their size."""
    seen = hashlib.sha256()
    for name, path in files_of(source):
        about = path.lstat()
        if path.is_symlink():
            seen.update(f"{name!r} link {path.readlink()} ".encode())
            continue
        seen.update(f"{name!r} {bool(about.st_mode & 0o100)} {about.st_size} ".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                seen.update(chunk)
    return seen.hexdigest()[:16]


def files_of(source: Path) -> list[tuple[str, Path]]:
    """The files and links of *source* with their names below it, sorted; special files are left out."""
    if source.is_file():
        return [("", source)]
    found: list[tuple[str, Path]] = []
    for top, folders, names in os.walk(source, onerror=raise_it):
        folders[:] = [name for name in folders if name.lower() not in SKIPPED and not (Path(top) / name).is_symlink()]
        for name in names:
            path = Path(top) / name
            if name.lower() not in SKIPPED and (path.is_symlink() or path.is_file()):
                found.append((path.relative_to(source).as_posix(), path))
    return sorted(found)


def raise_it(error: OSError) -> None:
    raise error
