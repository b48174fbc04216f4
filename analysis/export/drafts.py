"""New files and folders: there whole or not at all."""

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from harness.errors import UserError


@contextmanager
def new(to: Path) -> Generator[Path]:
    """A path to write to, which is called *to* from the block's end on. Of what fails nothing stays, nor do the folders
    that were made for it.

    Raises:
        UserError: there is something at *to* already, or nothing can be written there.
    """
    refuse_overwriting(to)
    made = [folder for folder in to.parents if not os.path.lexists(folder)]
    draft = to.with_name(f".ratchet-{uuid4().hex[:8]}")
    try:
        with writing(to):
            to.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        refuse_overwriting(to)
        with writing(to):
            draft.rename(to)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):
            draft.unlink()
        with suppress(OSError):  # others have put something there meanwhile
            for folder in made:
                folder.rmdir()
        raise


def refuse_overwriting(to: Path) -> None:
    if os.path.lexists(to):
        raise UserError(
            f"{named(to)} exists already, and an export never overwrites anything. Name another --out, or remove it"
        )


@contextmanager
def writing(to: Path) -> Generator[None]:
    """Within, trouble of the operating system's is about *to*.

    Raises:
        UserError: it cannot be written.
    """
    try:
        yield
    except OSError as e:
        raise unwritable(to, e.strerror or str(e), e.errno) from e


def unwritable(to: Path, why: str, number: int | None = None) -> UserError:
    """*why* nothing can be written at *to*; *number*: of the operating system's error, if there is one."""
    if number in (errno.EEXIST, errno.ENOTDIR):
        file = next(folder for folder in to.absolute().parents if os.path.lexists(folder))
        why = f"{named(file)} is a file, and no folder"
    return UserError(
        f"{named(to)} cannot be written: {why}. Nothing was exported, and nothing half-written is left. Name "
        "another place with --out, or mend that, and type the same again"
    )


def named(path: Path) -> str:
    """*path* as a person would write it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative
