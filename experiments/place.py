"""Where everything is: an experiment, its repository, its runs."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from analysis.night import Night, read_night, train_trials
from harness.errors import UserError
from harness.experiment import Experiment, find_experiment, load_experiment
from harness.ledger import journal_file, runs
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
    def of(cls, name: str) -> "Place":
        path = find_experiment(name, Path.cwd())
        repo = Repo.find(path.parent)
        experiment = load_experiment(path)
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


def last_night(directory: Path, name: str) -> Night:
    known = runs(directory, name)
    night = read_journal(journal_file(directory, known[-1])) if known else None
    if night is None:
        raise UserError(
            f"experiment {name!r} has not run here yet, so there is nothing to see. Start: ratchet run {name}"
        )
    return night


def read_journal(path: Path) -> Night | None:
    try:
        return read_night(path)
    except BadLine as e:
        first = str(e).splitlines()[0]
        raise UserError(
            f"{os.path.relpath(path)}: {first} It was written by another version of Ratchet, or edited, so its run can "
            "neither be read nor resumed here. Read it with the version that wrote it, put an edited line back, or "
            "move the file away"
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
