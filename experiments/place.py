"""Where everything is: an experiment, its repository, its runs."""

import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.night import Night, read_night, train_trials
from analysis.proposers import CodingAgentProposer, Combining, Paced, Pruning
from experiments.terminal import err
from harness.errors import UserError
from harness.experiment import Experiment, find_experiment, load_experiment
from harness.ledger import journal_file, runs
from harness.protocols import Proposer
from harness.runners.command import CommandRunner
from harness.sandboxes import NoSandbox
from harness.versions import Repo, Subject
from traces.errors import BadLine
from traces.places import data_directory, spool
from traces.records import Trial


@dataclass(frozen=True)
class Place:
    """An experiment where it stands."""

    experiment: Experiment
    repo: Repo
    subject: Subject
    directory: Path
    """``traces/data`` of its repository."""

    @classmethod
    def of(cls, name: str, *, no_sandbox: bool = False) -> "Place":
        """*no_sandbox*: its commands run as plain processes.

        Raises:
            UserError: there is no such experiment, or it has no sandbox to do without.
        """
        path = find_experiment(name, Path.cwd())
        repo = Repo.find(path.parent)
        experiment = load_experiment(path)
        if no_sandbox:
            experiment = without_sandbox(experiment)
        return cls(experiment, repo, repo.subject(experiment.subject), data_directory(repo.root))

    @property
    def name(self) -> str:
        return self.experiment.name

    def night(self) -> Night:
        """The last run.

        Raises:
            UserError: there was none yet.
        """
        return last_night(self.directory, self.name)

    def train_trials(self, night: Night, version: str) -> list[Trial]:
        return train_trials(journal_file(self.directory, night.run.id), version)


def without_sandbox(experiment: Experiment) -> Experiment:
    if not isinstance(experiment.runner, CommandRunner):
        raise UserError(
            f"{experiment.name!r} runs no command whose sandbox could be left out: its runner is a "
            f"{type(experiment.runner).__name__}. Type the same without --no-sandbox"
        )
    return replace(
        experiment,
        runner=replace(experiment.runner, sandbox=NoSandbox),
        proposer=in_the_open(experiment.proposer),
    )


def in_the_open(proposer: Proposer) -> Proposer:
    """*proposer*, with the coding agent that it may be, or ask, outside of a sandbox."""
    match proposer:
        case CodingAgentProposer():
            return replace(proposer, sandbox=NoSandbox)
        case Combining(proposer=inner) | Pruning(proposer=inner) | Paced(proposer=inner):
            return replace(proposer, proposer=in_the_open(inner))
        case _:
            return proposer


def last_night(directory: Path, name: str) -> Night:
    """The last night of experiment *name*; says so where that is not in the newest journal.

    Raises:
        UserError: there was none yet, or its journal is damaged.
    """
    empty: list[Path] = []
    for run in reversed(runs(directory, name)):
        path = journal_file(directory, run)
        night = read_journal(path)
        if night is not None:
            if empty:
                err.print(told_of(empty, night), markup=False, highlight=False, soft_wrap=True)
            return night
        empty.append(path)
    raise UserError(f"experiment {name!r} has not run here yet, so there is nothing to see. Start: ratchet run {name}")


def told_of(empty: Sequence[Path], night: Night) -> str:
    """That journals hold no run, and which is shown instead."""
    names = ", ".join(os.path.relpath(path) for path in empty)
    return (
        f"{names}: no run is in there (it died at birth, or the file was emptied), so this is about the one before, "
        f"{night.run.id}. To begin that run anew: ratchet run {night.run.experiment}"
    )


def read_journal(path: Path) -> Night | None:
    """The night in the journal at *path*; ``None``: it holds none.

    Raises:
        UserError: a line of it cannot be read.
    """
    with mending_journals():
        return read_night(path)


@contextmanager
def mending_journals() -> Generator[None]:
    """Around what reads the journals of runs: a line that cannot be read is for a person to mend.

    Raises:
        UserError: there is one; names the file, and says what to do.
    """
    try:
        yield
    except BadLine as e:
        message = str(e).replace(f"{Path.cwd()}{os.sep}", "")
        raise UserError(
            f"{message}, or move the file away: as it is, its run can neither be read nor resumed here"
        ) from e


def here() -> tuple[Repo, Path]:
    repo = Repo.find(Path.cwd())
    return repo, data_directory(repo.root)


def names(directory: Path) -> list[str]:
    """Experiments that have run here, the last one first."""
    found = sorted((p.stem for p in spool(directory).glob("*-????????-??????-????.jsonl")), key=lambda s: s[-20:])
    return list(dict.fromkeys(stem[:-21] for stem in reversed(found)))


def ran_last() -> str:
    _, directory = here()
    known = names(directory)
    if not known:
        raise UserError("nothing has run here yet, so there is nothing to report. Start: ratchet run NAME")
    return known[0]


def version_named(place: Place, name: str) -> str:
    """The id of the version that goes by *name*: an id or its beginning, ``v3``, ``live``."""
    numbered = re.fullmatch(r"v\d+", name)
    return place.subject.version(f"ratchet/{place.name}/{name}" if numbered else name).id


def only_experiment(on: str | None) -> str:
    """The experiment that is meant when none is named."""
    if on is not None:
        return on
    _, directory = here()
    known = names(directory)
    if len(known) == 1:
        return known[0]
    raise UserError(f"which experiment? Say --on NAME{', one of: ' + ', '.join(known) if known else ''}")
