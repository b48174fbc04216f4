"""The folder that a coding agent works in: the program, what it may read, and nothing else of ours."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from harness.errors import UserError
from harness.meter import meter
from harness.versions import InvalidEdit, applied
from harness.worktrees import MOST, File, TooMuch, files_in, leads_out, place
from traces.records import Edit

WORK, HOME, TEMPORARY = "work", "home", "tmp"
"""Folders of a session."""
LARGEST = 1 << 20
"""Bytes of one file of code."""


@dataclass(frozen=True)
class Left:
    """What an agent left in its folder."""

    edits: tuple[Edit, ...]
    faults: tuple[str, ...]
    """Why they cannot be used."""
    aside: tuple[str, ...]
    """What it wrote besides, and what is not taken: changes to what it may only read, and files of other kinds."""


def check_readable(readable: Mapping[str, Path], text: Mapping[str, str]) -> None:
    """Refuse what an agent must not see, or what would lie in the way of the program.

    Raises:
        UserError: names the place.
    """
    traces = meter().directory
    for where, source in readable.items():
        path, real = PurePosixPath(where), source.resolve()
        if path.is_absolute() or ".." in path.parts or not path.parts or ".git" in path.parts:
            raise UserError(
                f"readable={where!r} is no place in the agent's folder. Name one like 'prepare.py' or 'data'"
            )
        if not real.exists():
            raise UserError(
                f"readable={where!r} is to show {source}, which is not there. Mend the path, or leave it out"
            )
        if any(file == str(path) or path in PurePosixPath(file).parents for file in text):
            raise UserError(f"readable={where!r} lies where the subject has files. Show it at another place")
        if any(PurePosixPath(file) in path.parents for file in text):
            raise UserError(f"readable={where!r} lies below a file of the subject. Show it at another place")
        if any(name == ".git" for name in names_in(real)):
            raise UserError(
                f"readable={where!r} would show the repository {real}, with the grader and every hidden task in it. "
                "Name the files that the agent needs, one by one"
            )
        if "experiment.py" in names_in(real):
            raise UserError(
                f"readable={where!r} would show an experiment.py, which holds the grader and the hidden tasks. Name "
                "the files that the agent needs, one by one"
            )
        if traces is not None and (real.is_relative_to(traces.resolve()) or traces.resolve().is_relative_to(real)):
            raise UserError(f"readable={where!r} would show the traces in {traces}. Name a smaller folder")


def names_in(place: Path) -> set[str]:
    """Of *place* and what lies in it; of a very large folder, of its beginning."""
    inside = (name for _, folders, files in os.walk(place) for name in (*folders, *files))
    return {place.name, *islice(inside, MOST)}


def lay_out(
    session: Path,
    text: Mapping[str, str],
    now: Mapping[str, str],
    readable: Mapping[str, Path],
    notes: Mapping[str, str],
    *,
    is_shown: bool,
) -> None:
    """Make the folders of a session. *text*: the incumbent's files, which git has as the beginning; *now*: what stands
    there. *is_shown*: a sandbox shows what is readable at its places, so that it need not be copied."""
    for name in (HOME, TEMPORARY):
        (session / name).mkdir()
    for name in (".claude", ".codex"):
        (session / HOME / name).mkdir()
    files: dict[str, File] = {path: File("100644", source.encode()) for path, source in text.items()}
    files |= {path: File("100644", said.encode()) for path, said in notes.items()}
    for where, source in readable.items():
        files |= {} if is_shown else files_of(where, source)
    work = session / WORK
    place(files, work)
    if is_shown:
        for where, source in readable.items():
            stand_in(work / where, is_folder=source.is_dir())
    else:
        for path in files.keys() - text.keys():
            (work / path).chmod(0o444)
    begin_repository(work, session / HOME)
    for path in text.keys() - now.keys():
        (work / path).unlink()
    for path, source in now.items():
        if text.get(path) != source:
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(source, encoding="utf-8", newline="")


def stand_in(path: Path, *, is_folder: bool) -> None:
    """What something is shown over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if is_folder else path.touch()


def files_of(where: str, source: Path) -> Mapping[str, File]:
    """What lies at *source*, by where the agent finds it.

    Raises:
        UserError: it is too much to be copied, or points elsewhere.
    """
    real = source.resolve()
    if real.is_file():
        return {where: File("100644", real.read_bytes())}
    try:
        found = files_in(real)
    except TooMuch as e:
        raise UserError(
            f"readable={where!r} cannot be copied for the agent: {e}. Name a smaller folder, or run it in a sandbox, "
            "where nothing is copied"
        ) from e
    if out := [path for path, f in found.items() if f.mode == "120000" and leads_out(path, os.fsdecode(f.data))]:
        raise UserError(f"readable={where!r} has the link {out[0]}, which points out of {source}. Copy the file there")
    return {f"{where}/{path}": file for path, file in found.items()}


def begin_repository(work: Path, home: Path) -> None:
    """One of the agent's own: it can look at what it changed, and finds none of ours further up."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "agent" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    for arguments in (
        ("init", "-q", "-b", "main", "--template="),
        ("add", "-A", "-f"),
        ("commit", "-q", "--allow-empty", "-m", "The program as it is"),
    ):
        subprocess.run(["git", *arguments], cwd=work, env=environment, check=True, capture_output=True)


# ── what it left ───────────────────────────────────────────────────────────────────────────────────────────────


def left_in(
    work: Path, text: Mapping[str, str], readable: Mapping[str, Path], notes: Mapping[str, str], *, is_shown: bool
) -> Left:
    """Compare the folder with *text*, the incumbent's files. Never raises for what is in it."""
    try:
        found = files_in(work)
    except TooMuch as e:
        return Left((), (f"the folder cannot be read any more: {e}",), ())
    edits: list[Edit] = []
    faults: list[str] = []
    for path, before in text.items():
        file = found.get(path)
        if file is None and is_something(work / path):
            faults.append(f"{path!r} is no file any more, but something that cannot be read as one")
        elif file is None:
            edits.append(Edit(path=path, text=None))
        elif fault := fault_of(path, file):
            faults.append(fault)
        elif (source := file.data.decode()) != before:
            edits.append(Edit(path=path, text=source))
    aside = list(() if is_shown else touched(found, readable, notes))
    kinds = {PurePosixPath(path).suffix for path in text}
    for path in sorted(found.keys() - text.keys() - notes.keys()):
        if any(path == where or path.startswith(f"{where}/") for where in readable):
            continue
        is_code = PurePosixPath(path).suffix in kinds and not any(part.startswith(".") for part in path.split("/"))
        if not is_code:
            aside.append(path)
        elif fault := fault_of(path, found[path]):
            faults.append(fault)
        else:
            edits.append(Edit(path=path, text=found[path].data.decode()))
    if not faults:
        try:
            applied(text, edits)
        except InvalidEdit as e:
            faults.append(str(e))
    return Left(tuple(sorted(edits, key=lambda edit: edit.path)), tuple(faults), tuple(aside))


def is_something(path: Path) -> bool:
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def fault_of(path: str, file: File) -> str:
    """Why it cannot be part of a version; empty: it can."""
    if file.mode == "120000":
        return f"{path!r} is a link now; a version has files alone"
    if len(file.data) > LARGEST:
        return f"{path!r} has {len(file.data):,} bytes, and a file may have {LARGEST:,}"
    try:
        text = file.data.decode()
    except UnicodeDecodeError:
        return f"{path!r} is not in UTF-8, so it is no text"
    return f"{path!r} holds a zero byte, so it is no text" if "\0" in text else ""


def touched(found: Mapping[str, File], readable: Mapping[str, Path], notes: Mapping[str, str]) -> Iterator[str]:
    """What it may only read, and has changed all the same."""
    for path, said in notes.items():
        if path not in found or found[path].data != said.encode():
            yield path
    for where, source in readable.items():
        before = files_of(where, source)
        now = {path: file for path, file in found.items() if path == where or path.startswith(f"{where}/")}
        yield from sorted(path for path in before.keys() | now.keys() if data_of(before, path) != data_of(now, path))


def data_of(files: Mapping[str, File], path: str) -> bytes | None:
    file = files.get(path)
    return None if file is None else file.data


def named(paths: Sequence[str], most: int = 8) -> str:
    """A few of *paths*, and how many more."""
    more = f" and {len(paths) - most:,} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more
