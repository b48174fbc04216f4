"""What a night leaves to read in the morning: its report, and the experiment's memory."""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from analysis import report as reporting
from analysis.agreement import agreement_table
from analysis.findings import findings as mine
from analysis.findings import paths_of
from analysis.known import memory_file
from analysis.memory import memory_of, running_log
from analysis.night import Night, read_night
from analysis.predictions import gains_of_kept, scored, scored_by_tags
from analysis.shrinkage import after_each, train_trials_by_version
from analysis.states import FindingState, states
from experiments.place import Place, read_journal
from experiments.terminal import err
from harness.agent.inbox import Inbox
from harness.contract import doubts_about
from harness.evidence import Traces, known_findings
from harness.experiment import Experiment
from harness.graders.agreement import AgreementGrader
from harness.ledger import is_held, journal_file, runs
from harness.redact import redacted
from traces.errors import BadLine, TracesError
from traces.journal import read
from traces.records import Escalation, Finding, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def standing(place: Place, night: Night) -> reporting.Standing:
    """How things stand around the night."""
    live = place.subject.version("live").id
    waiting = None
    if night.certified is None:  # else nobody asks
        others = (other.certified for other in other_nights(place.directory, night))
        waiting = next((c for c in others if c is not None and c.live == live), None)
    running = night.ended is None and is_held(journal_file(place.directory, night.run.id))
    doubts = doubts_about(place.experiment)
    seen = seen_tests(place.directory, night)
    return reporting.Standing(live, running, waiting, doubts, *seen, is_own_word=is_own_word(place.experiment))


def is_own_word(experiment: Experiment) -> bool:
    """Does code of the candidate run where its number is made?"""
    return not getattr(getattr(experiment.runner, "metric", None), "is_isolated", True)


def other_nights(directory: Path, night: Night) -> Iterator[Night]:
    """Those of its experiment that can be read, the latest first."""
    for run_id in reversed(runs(directory, night.run.experiment)):
        with suppress(BadLine):
            other = read_night(journal_file(directory, run_id)) if run_id != night.run.id else None
            if other is not None:
                yield other


def seen_tests(directory: Path, night: Night) -> tuple[dict[tuple[str, str], str], int]:
    """As ``seen_before``, of all nights of its experiment; nothing for one that was not measured itself."""
    if not any(c.measured for c in night.certifications):
        return {}, 0
    return seen_before(night, other_nights(directory, night))


def seen_before(night: Night, others: Iterable[Night]) -> tuple[dict[tuple[str, str], str], int]:
    """What the nights before *night* have done with its test tasks: pair of versions → the first run that has proven
    it there, by the same runner and grader; and how many runs were measured on them at all."""
    same = [
        other
        for other in sorted(others, key=lambda other: other.began)
        if other.began < night.began
        and is_alike(other, night, "tasks")
        and any(c.measured for c in other.certifications)
    ]
    proofs = [
        (c, other.run.id)
        for other in same
        if is_alike(other, night, "runner", "grader")
        for c in other.certifications
        if c.verdict == "accept"
    ]
    return {(c.live, c.candidate): run for c, run in reversed(proofs)}, len(same)


def is_alike(a: Night, b: Night, *parts: str) -> bool:
    """Do these parts of their experiments mean the same?"""
    return all(a.run.fingerprint.get(part) == b.run.fingerprint.get(part) for part in parts)


def write_report(place: Place, night: Night) -> Path:
    """Write ``report.md`` with its pictures, and the same as one file, ``report.html``, under
    ``traces/data/reports/RUN/``; return the former."""
    # matplotlib and the SDKs take half a second to import, and most commands do without
    from analysis.costs import read_costs, render
    from analysis.html import page
    from analysis.plots import pictures

    journal = journal_file(place.directory, night.run.id)
    folder = place.directory / "reports" / night.run.id
    folder.mkdir(parents=True, exist_ok=True)
    aftermath = after_each(journal)
    trials = train_trials_by_version(journal)
    by_kind = scored_by_tags(night.rounds, trials)
    promised = [*scored(night.rounds, gains_of_kept(night.rounds, trials)), *by_kind]
    drawn = {name: png(figure) for name, figure in pictures(night, aftermath, promised).items()}
    after = place.train_trials(night, night.working)
    now = mine(after, known_findings(night.run.known, night.rounds), paths_of(after, Traces(journal, after)))
    text = reporting.report(
        night,
        standing(place, night),
        diff=place.subject.diff(night.run.live, night.working),
        before=place.train_trials(night, night.run.live),
        after=after,
        now=now,
        costs=render(read_costs(journal)),
        waiting=waiting_for_a_person(place.directory, place.name),
        pictures=drawn,
        states=states_of(place),
        aftermath=aftermath,
        by_kind=by_kind,
        people=people(place, night, journal),
        trials=trials,
    )
    text = redacted(text)
    for name, content in drawn.items():
        (folder / name).write_bytes(content)
    path = folder / "report.md"
    path.write_text(text, encoding="utf-8")
    title = f"{place.name}: the night of {night.began:%Y-%m-%d}"
    path.with_suffix(".html").write_text(page(text, title, drawn), encoding="utf-8")
    write_memory(place, now)
    return path


def people(place: Place, night: Night, journal: Path) -> str:
    """Of an experiment on a rubric: how far each version agrees with people, as Markdown."""
    if not isinstance(place.experiment.grader, AgreementGrader):
        return ""
    trials = (cast(Trial, line.record()) for line in read(journal) if line.type == "Trial")
    return agreement_table(place.experiment.grader, place.experiment.tasks, trials, night.rounds)


SHARP = 240
"""Dots an inch: two for each of a browser's."""


def png(figure: "Figure") -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it is a box there, and right in the text
        figure.savefig(content, format="png", dpi=SHARP)
    return content.getvalue()


def states_of(place: Place) -> list[FindingState]:
    """How it stands with each finding of all nights; nothing where the store cannot be read now."""
    try:
        return states(place.name, place.directory)
    except TracesError as e:
        err.print(f"How it stands with earlier findings is not known now: {e}", markup=False, highlight=False)
        return []


def waiting_for_a_person(directory: Path, name: str) -> list[Escalation]:
    """What nobody has answered yet, or has been told of."""
    inbox = Inbox(directory)
    inbox.sweep()
    unanswered = (e.escalation for e in inbox.entries() if e.state in ("waiting", "noted"))
    return [escalation for escalation in unanswered if escalation.experiment == name]


def nights_of(place: Place) -> list[Night]:
    """All of the experiment, the oldest first."""
    journals = (journal_file(place.directory, run) for run in runs(place.directory, place.name))
    return [night for journal in journals if (night := read_journal(journal)) is not None]


def write_memory(place: Place, now: Sequence[Finding]) -> None:
    """Write the experiment's state file and its running log, ``traces/data/memory/NAME.md`` and ``NAME.log``."""
    file = memory_file(place.directory, place.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    nights = nights_of(place)
    for path, text in (
        (file, memory_of(nights, now)),
        (file.with_suffix(".log"), "".join(map(running_log, nights))),
    ):
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
