"""Deterministic checks of an output, and of what a command says about it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import TrialError
from harness.graders.marks import EXCERPT, box_of, fault, marks_of, passed
from harness.protocols import Finished, Work
from traces.records import Mark, Task

if TYPE_CHECKING:
    from jsonschema import ValidationError


@dataclass(frozen=True)
class CommandPasses:
    """A command ends with 0 in a fresh copy of the worktree: tests, types, a build, a linter."""

    id: str
    command: Sequence[str]
    seconds: float = 120.0
    """After which it counts as failed."""
    shows: int = EXCERPT
    """Characters of the end of what it printed that the maker is shown; 0 where they would tell the answer."""

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        box = box_of(work, self.id)
        try:
            finished = box.run(self.command, seconds=min(self.seconds, work.seconds))
        except FileNotFoundError as e:
            if "/" in self.command[0]:  # it came with the worktree, and the maker took it away
                return (fault(self.id, f"`{self.command[0]}` is not there any more"),)
            raise TrialError("grader", "cannot_verify", f"the check {self.id!r} needs {self.command[0]!r}: {e}") from e
        if finished.ended == "exit" and finished.exit_code == 0:
            return (passed(self.id),)
        shown = finished.output.strip()[-self.shows :] if self.shows else ""
        return (fault(self.id, f"`{' '.join(self.command)}` {how_it_ended(finished)}", shown),)


def how_it_ended(finished: Finished) -> str:
    if finished.ended == "exit":
        return f"failed with exit code `{finished.exit_code}`"
    limit = {"timeout": "time", "cpu": "CPU time"}.get(finished.ended, finished.ended)
    return f"was killed at its limit of {limit}"


@dataclass(frozen=True)
class Holds:
    """The output holds what *pattern* finds."""

    id: str
    pattern: str
    because: str
    """What is wrong where it does not, in words that do not tell the answer."""

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        found = re.search(self.pattern, output, re.MULTILINE)
        return (passed(self.id, found[0]) if found else fault(self.id, self.because, output),)


@dataclass(frozen=True)
class Lacks:
    """Nothing in the output is what *pattern* finds."""

    id: str
    pattern: str
    because: str

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        found = re.finditer(self.pattern, output, re.MULTILINE)
        return marks_of(self.id, (fault(self.id, self.because, around(output, match)) for match in found))


def around(text: str, match: re.Match[str]) -> str:
    """What was found, with some of what stands on either side."""
    return text[max(0, match.start() - 40) : match.end() + 40]


@dataclass(frozen=True)
class AtMost:
    """The output is no longer than so many *characters*."""

    characters: int
    id: str = "length"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        if len(output) <= self.characters:
            return (passed(self.id),)
        return (fault(self.id, f"{len(output)} characters, and at most {self.characters} are accepted"),)


@dataclass(frozen=True)
class FitsSchema:
    """The output, or the file *path* of the worktree, is JSON that fits a schema."""

    schema: Mapping[str, Any]
    path: str = ""
    id: str = "schema"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        from jsonschema import Draft202012Validator  # it takes a second or two to import
        from referencing import Registry

        text = text_at(self.path, self.id, output, work)
        if isinstance(text, Mark):
            return (text,)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as e:
            where = f" in line `{e.lineno}`" if isinstance(e, json.JSONDecodeError) else ""
            return (fault(self.id, f"this is not JSON{where}", text),)
        # an empty registry: nothing that a schema refers to is fetched
        validator = Draft202012Validator(dict(self.schema), registry=Registry())
        try:
            return marks_of(self.id, (misfit(self.id, error) for error in validator.iter_errors(value)))
        except RecursionError:
            return (fault(self.id, "this JSON is nested too deep", text),)


def misfit(criterion: str, error: "ValidationError") -> Mark:
    """What does not fit; the values that would are not told where they may be the answer."""
    rule = str(error.validator)
    missing = f": `{'`, `'.join(absent(error))}`" if rule == "required" else ""
    because = f"`{error.json_path}` breaks the rule {rule} of the schema{missing}"
    return fault(criterion, because, json.dumps(error.instance, ensure_ascii=False))


def absent(error: "ValidationError") -> list[str]:
    required: Any = error.validator_value
    return [str(name) for name in required if name not in error.instance]


def text_at(path: str, criterion: str, output: str, work: Work) -> str | Mark:
    """The text of the file *path* of the worktree, without a path the output; or the fault that there is none."""
    if not path:
        return output
    try:
        return box_of(work, criterion).read(path)
    except (FileNotFoundError, KeyError):
        return fault(criterion, f"there is no file `{path}`")
    except (OSError, ValueError):  # a folder, too large, or it leads out
        return fault(criterion, f"`{path}` is no file of the worktree that can be read")
