"""Where the number of a command comes from. Each is read outside of the candidate's process, after it has ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.protocols import Finished
from harness.sandboxes.folder import Folder


class Metric(Protocol):
    """Reads the number that a candidate is judged by."""

    @property
    def name(self) -> str:
        """Such as ``val_bpb``."""
        ...

    @property
    def is_isolated(self) -> bool:
        """Does no code of the candidate run where the number is made?"""
        ...

    def read(self, finished: Finished, folder: Path) -> float:
        """The number of the command that *finished*, with what it left in *folder*; may be NaN.

        Raises:
            NoMetric: there is none, or more than one; says what was seen.
        """
        ...


class NoMetric(Exception):
    """A command that ended well, and left no number that could be believed."""


@dataclass(frozen=True)
class Printed:
    """The number that the command prints on a line ``name: NUMBER`` or ``name=NUMBER``; once."""

    name: str
    pattern: str = ""
    """A regular expression with one group, the number; empty: as above."""
    is_isolated: bool = field(default=False, init=False, repr=False)

    def read(self, finished: Finished, folder: Path) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class InFile:
    """The number in a JSON file that the command writes."""

    name: str
    path: str = "metrics.json"
    key: str = ""
    """Dotted; empty: *name*."""
    is_isolated: bool = field(default=False, init=False, repr=False)

    def read(self, finished: Finished, folder: Path) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Computed:
    """What *function* makes of the files that the command left, in Ratchet's own process.

    What it reads was written by a candidate: data to be looked at, never code to be run, so no pickles.
    """

    name: str
    function: Callable[[Folder], float]
    is_isolated: bool = field(default=True, init=False, repr=False)

    def read(self, finished: Finished, folder: Path) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Evaluated:
    """What a second command prints, in a sandbox of its own, on a folder with its own files and nothing of the
    candidate's but the *artifacts* that it left."""

    name: str
    command: str | Sequence[str]
    fixed: Mapping[str, Path]
    """Place in that folder → file or folder: the evaluator, and the data that no candidate sees."""
    artifacts: Sequence[str]
    """Files that the candidate has to leave."""
    seconds: float = 60.0
    is_isolated: bool = field(default=True, init=False, repr=False)

    def read(self, finished: Finished, folder: Path) -> float:
        raise NotImplementedError
