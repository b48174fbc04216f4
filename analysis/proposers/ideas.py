"""A proposer that tries a person's own ideas, kept in a folder: one sub-folder each."""

import hashlib
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from analysis.findings import findings, paths_of
from analysis.proposers.examples import is_new, usual_yield
from harness.errors import OutOfIdeas, UserError
from harness.protocols import History
from harness.undo import edits_between
from traces.records import Finding, Proposal, Round

HEADER = "idea.toml"
PATCHES = (".patch", ".diff")
UNTRIED = frozenset({"errors", "drift", "no-proposal"})
"""Decisions that say nothing about the change: it is tried again."""


class Header(BaseModel):
    """The ``idea.toml`` of an idea; all of it may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rationale: str = ""
    """Why it should help. Default: its name."""
    answers: str = ""
    """A regular expression: the finding whose title it matches is what the idea is to cure."""
    predicted: float | None = Field(default=None, ge=-1, le=1)
    """The gain in mean train score that is expected of it."""

    @field_validator("answers")
    @classmethod
    def compiles(cls, answers: str) -> str:
        try:
            re.compile(answers)
        except re.error as e:
            raise ValueError(f"{answers!r} is no regular expression: {e}") from e
        return answers


@dataclass(frozen=True)
class Idea:
    """One change that a person wants tried."""

    name: str
    header: Header
    files: Mapping[str, str]
    """Path → its whole new text."""
    patches: Mapping[str, str]
    """Name → a patch of files of the subject, as ``git diff`` writes it."""

    @property
    def id(self) -> str:
        """The same on whatever it is tried; another one once a person has changed it."""
        parts = sorted([*self.files.items(), *self.patches.items()])
        return hashlib.sha256(repr((self.name, self.header.model_dump(), parts)).encode()).hexdigest()[:12]

    def answers(self, finding: Finding) -> bool:
        return bool(self.header.answers) and re.search(self.header.answers, finding.title) is not None


@dataclass(frozen=True)
class Ideas:
    """Tries the ideas in *folder*: first what answers the finding that costs most, then the rest, by name.

    An idea is a sub-folder. A file in it is the new text of the file of the subject with that path; a file that ends
    in ``.patch`` or ``.diff`` is a patch, as ``git diff --relative`` writes it in the subject, and goes well with
    other ideas for the same file. ``idea.toml`` may say why (``rationale``), which finding it is to cure
    (``answers``, a regular expression) and what gain is expected (``predicted``). The folder is read each time, so
    an idea may be added while a night runs. Each is tried once a run, on what is the incumbent then.
    """

    folder: Path

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        mined = findings(history.trials, history.known, paths_of(history.trials, history.trace_of))
        done = {
            r.proposal.id for r in history.rounds if r.proposal and r.decision and r.decision.because not in UNTRIED
        }
        skipped: list[str] = []
        for idea, finding in in_order(ideas_in(self.folder), mined):
            if idea.id in done:
                continue
            changed = changed_by(idea, text)
            if changed is None:
                skipped.append(f"skipped {idea.name}, whose patch does not apply any more")
                continue
            edits = edits_between(text, changed)
            if not edits or not is_new(edits, history):
                continue
            return Proposal(
                id=idea.id,
                proposer=type(self).__name__,
                edits=edits,
                rationale="; ".join([f"{idea.name}: {idea.header.rationale or 'no reason given'}", *skipped]),
                answers=(finding.id,) if finding else (),
                evidence=finding.examples if finding else (),
                predicted=predicted(idea, finding, history.rounds),
                findings=tuple(mined),
            )
        place = "/".join(self.folder.parts[-3:])
        more = f"put the next one into a folder of its own in {place}/, or take CodeProposer"
        raise OutOfIdeas("; ".join([f"no idea is left that was not tried: {more}", *skipped]))


def tried_ids(rounds: Sequence[Round]) -> set[str]:
    decided = [(r.proposal, r.decision) for r in rounds if r.proposal is not None and r.decision is not None]
    return {proposal.id for proposal, decision in decided if decision.because not in UNTRIED}


def in_order(ideas: Sequence[Idea], mined: Sequence[Finding]) -> Iterator[tuple[Idea, Finding | None]]:
    """Each idea once, with the largest finding that it answers: by how much that costs, then by name."""
    place = {idea.name: next((i for i, f in enumerate(mined) if idea.answers(f)), len(mined)) for idea in ideas}
    for idea in sorted(ideas, key=lambda idea: (place[idea.name], idea.name)):
        yield idea, mined[place[idea.name]] if place[idea.name] < len(mined) else None


def predicted(idea: Idea, finding: Finding | None, rounds: Sequence[Round]) -> float | None:
    """The gain that its author expects; else what ideas for such a finding have brought so far."""
    if idea.header.predicted is not None or finding is None:
        return idea.header.predicted
    return finding.share * usual_yield(rounds)


# ── the folder ─────────────────────────────────────────────────────────────────────────────────────────────────


def ideas_in(folder: Path) -> list[Idea]:
    """The ideas in *folder*, by name.

    Raises:
        UserError: there is no such folder, or an idea in it cannot be read; names the file.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}, so there are no ideas to try. Add it, with a sub-folder for each"
        )
    return [idea_in(path) for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def idea_in(folder: Path) -> Idea:
    header = Header()
    files: dict[str, str] = {}
    patches: dict[str, str] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        source = source_of(path)
        if name == HEADER:
            header = header_of(path, source)
        elif path.suffix in PATCHES:
            patches[name] = source
        else:
            files[name] = source
    if not files and not patches:
        raise UserError(
            f"the idea {folder} changes nothing: put a file of the subject into it, or a patch. Or delete it"
        )
    return Idea(folder.name, header, files, patches)


def source_of(path: Path) -> str:
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link, and an idea holds its text itself. Copy the file there")
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read as text: {e}. An idea holds harness text and patches alone") from e


def header_of(path: Path, source: str) -> Header:
    try:
        return Header.model_validate(tomllib.loads(source))
    except ValidationError as e:
        first = e.errors()[0]
        raise UserError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}. It may hold rationale, answers and predicted"
        ) from e
    except tomllib.TOMLDecodeError as e:
        raise UserError(f"{path} is not TOML: {e}. Mend it, or delete it") from e


# ── what it makes of the incumbent ─────────────────────────────────────────────────────────────────────────────


def changed_by(idea: Idea, text: Mapping[str, str]) -> dict[str, str] | None:
    """The files of the subject with *idea*; ``None``: a patch of it does not apply to them."""
    changed: dict[str, str] | None = {**text, **idea.files}
    for patch in idea.patches.values():
        changed = changed and patched(changed, patch)
    return changed


def patched(text: Mapping[str, str], patch: str) -> dict[str, str] | None:
    """*text* after *patch*; ``None``: it does not apply, or leads out of the subject."""
    with tempfile.TemporaryDirectory(prefix="ratchet-") as top:
        folder = Path(top) / "subject"
        folder.mkdir()
        for path, source in text.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(source.encode())
        done = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"],
            cwd=folder,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": top},  # within a repository git would leave files out
            input=patch.encode(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            return None
        found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return {path.relative_to(folder).as_posix(): source_of(path) for path in found}
