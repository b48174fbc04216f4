"""Replay: all that a run decided, decided once more from its journal, without a model call.

The journal is read in order, and each decision is made again from what stood there before it: the recorded trials go
through the code of the gate, which cannot tell them from bought ones. Numbers have to agree to ``TOLERANCE``. Where
somebody edited a line, the chain says where (``traces.chain``); whoever mended the chain too is found here, unless all
that follows from the edit was changed to fit. Then only an anchor tells.

What a journal cannot show is taken as it stands: what the outputs would have scored (the grader is not asked again),
whether a candidate had less text (but with ``PairedGate`` the margin that the test declared says so), and when the
budget ended something. Of a check only what follows from its trials is made again: its journal is never called sound.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.experiment import digest
from harness.gate.lond import alpha_for
from harness.ledger import journal_file
from harness.replay import Difference, Replay, differing
from traces.chain import Break, chain_breaks, head, holds
from traces.errors import BadLine
from traces.journal import parse, raw_lines
from traces.places import spool
from traces.records import Certification, Promotion, SplitResult, SplitTest


@dataclass(frozen=True)
class Verification:
    """What was checked, and what came of it."""

    run: str
    lines: int
    trials: int
    comparisons: int
    """Made again, as are the three that follow: all none where the gate could not be."""
    decisions: int
    certifications: int
    rounds: int
    entries: int
    """Of the ledger of the split: promotion tests and their results, those of other runs included."""
    differences: tuple[Difference, ...]
    """In the order of the lines; those of the ledger of the splits first."""
    breaks: tuple[Break, ...]
    """Of the chains of the run's journal and of the split's ledger."""
    lost: tuple[str, ...]
    """Anchors that no line of the journal has: it was written again, or cut, after they were taken."""
    not_replayed: str
    """Why something was not decided again; empty when all was."""
    head: str
    """The chain value of the last line: an anchor for what there is now."""

    @property
    def is_sound(self) -> bool:
        return not (self.differences or self.breaks or self.lost or self.not_replayed)


def verify(journal: Path, directory: Path, *, anchors: Sequence[str] = ()) -> Verification:
    """Check the run that wrote *journal* against itself and against the ledger of the splits in *directory*.

    *anchors* are chain values that were kept elsewhere, see ``traces.chain``. A journal that is being written is
    checked as far as it is. Needs no experiment, no git and no model.
    """
    ledger_file = spool(directory) / "splits.jsonl"
    books = read_books(ledger_file)
    replay = Replay(journal.stem, books.tests, books.results)
    lines = seq = 0
    for lines, (offset, raw) in enumerate(raw_lines(journal), 1):
        try:
            line = parse(raw, offset)
            record = line.record()
        except BadLine as e:
            replay.say(lines, None, f"it cannot be read: {e}")
        else:
            if line.seq <= seq:
                replay.say(lines, line.key, f"its number is {line.seq}, and {seq} came before it")
            seq = line.seq
            replay.take(lines, line, record)
    if not lines:
        replay.say(1, None, replay.not_replayed)
    counts = replay.counts if replay.gate is not None else Counter[str]()
    return Verification(
        run=replay.run.id if replay.run else journal.stem,
        lines=lines,
        trials=replay.trials,
        comparisons=counts["Comparison"] + counts["compared"],
        decisions=counts["Decision"],
        certifications=counts["Certification"],
        rounds=counts["Round"],
        entries=len(books.tests) + len(books.results),
        differences=(
            *books.differences,
            *other_verdicts(directory, journal.stem, books),
            *without_certification(books, replay),
            *replay.differences,
            *promotions(directory, replay),
        ),
        breaks=(*chain_breaks(journal), *(chain_breaks(ledger_file) if ledger_file.exists() else ())),
        lost=tuple(anchor for anchor in anchors if not holds(journal, anchor)),
        not_replayed=replay.not_replayed,
        head=head(journal),
    )


# ── the ledger of the splits ───────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Books:
    """The ledger of the splits, as it was found."""

    tests: dict[str, SplitTest] = field(default_factory=dict[str, SplitTest])
    """By certification."""
    results: dict[str, SplitResult] = field(default_factory=dict[str, SplitResult])
    opened: dict[str, int] = field(default_factory=dict[str, int])
    """Certification → the line in which its test was opened."""
    places: dict[str, int] = field(default_factory=dict[str, int])
    """Certification → the line of its result."""
    differences: list[Difference] = field(default_factory=list[Difference])

    def say(self, line: int, what: str, recorded: object = None, recomputed: object = None) -> None:
        self.differences.append(Difference("splits.jsonl", line, None, what, recorded, recomputed))

    def take_test(self, number: int, test: SplitTest) -> None:
        """A test is opened: what it may spend follows from the tests before it on (nearly) the same tasks."""
        if test.certification in self.tests:
            self.say(number, f"a second test was opened for {test.certification}")
            return
        mine = set(test.hidden)
        before = [t for t in self.tests.values() if 2 * len(mine.intersection(t.hidden)) >= len(mine)]
        first = before[0] if before else test
        promotions = sum(
            self.results[t.certification].verdict == "accept" for t in before if t.certification in self.results
        )
        try:
            alpha = alpha_for(first.budget, first.horizon, len(before) + 1, promotions)
        except ValueError as e:
            self.say(number, f"no test could be opened here: {e}")
            alpha = test.alpha
        expected = test.model_copy(
            update={
                "split": digest(test.hidden),
                "number": len(before) + 1,
                "horizon": first.horizon,
                "budget": first.budget,
                "alpha": alpha,
            }
        )
        for what, recorded, recomputed in differing(test, expected):
            self.say(number, what, recorded, recomputed)
        self.tests[test.certification] = test
        self.opened[test.certification] = number

    def take_result(self, number: int, result: SplitResult) -> None:
        test = self.tests.get(result.certification)
        if test is None:
            self.say(number, f"a result without an opened test: {result.certification}")
            return
        if result.certification in self.results:
            self.say(number, f"a second result of {result.certification}")
            return
        if result.split != test.split:
            self.say(number, "split", result.split, test.split)
        self.results[result.certification] = result
        self.places[result.certification] = number


def read_books(path: Path) -> Books:
    """The ledger at *path*; empty where there is none."""
    books = Books()
    for number, (offset, raw) in enumerate(raw_lines(path) if path.exists() else (), 1):
        try:
            match parse(raw, offset).record():
                case SplitTest() as test:
                    books.take_test(number, test)
                case SplitResult() as result:
                    books.take_result(number, result)
                case other:
                    books.say(number, f"a {type(other).__name__} does not belong into the ledger of the splits")
        except BadLine as e:
            books.say(number, f"it cannot be read: {e}")
    return books


def other_verdicts(directory: Path, run: str, books: Books) -> Iterator[Difference]:
    """Results that other runs did not reach: each ``accept`` lets the later tests spend more."""
    for other in sorted({name.partition("/")[0] for name in books.results} - {run}):
        path = journal_file(directory, other)
        for certification in certifications_in(path) if path.exists() else ():
            result = books.results.get(certification.id)
            if result is not None and result.verdict != certification.verdict:
                line = books.places[certification.id]
                what = f"verdict of {certification.id}"
                yield Difference("splits.jsonl", line, None, what, result.verdict, certification.verdict)


def without_certification(books: Books, replay: Replay) -> Iterator[Difference]:
    """Promotion tests of the run that its journal does not hold. One that is open is fine until the run has ended.

    A process killed between a result and its certification leaves what looks the same; resuming the run mends it.
    """
    for certification, line in books.opened.items():
        if not certification.startswith(f"{replay.journal}/") or certification in replay.certified:
            continue
        if certification in books.results:
            what = f"the journal has no certification for the result of {certification}"
            yield Difference("splits.jsonl", books.places[certification], None, what)
        elif "end" in replay.steps:
            what = f"the run has ended, and {certification} was opened and never decided"
            yield Difference("splits.jsonl", line, None, what)


def certifications_in(path: Path) -> Iterator[Certification]:
    for offset, raw in raw_lines(path):
        if b'"type":"Certification"' in raw:
            try:
                record = parse(raw, offset).record()
            except BadLine:
                continue  # its own verification says so
            if isinstance(record, Certification):
                yield record


# ── promotions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def promotions(directory: Path, replay: Replay) -> Iterator[Difference]:
    """What was made live on the strength of a run and is not what was certified in it."""
    path = spool(directory) / f"promotions-{replay.run.experiment if replay.run else ''}.jsonl"
    certified = {r.certification.id: r.certification for r in replay.rounds if r.certification is not None}
    for number, (offset, raw) in enumerate(raw_lines(path) if path.exists() else (), 1):
        try:
            record = parse(raw, offset).record()
        except BadLine:
            continue
        if not isinstance(record, Promotion) or not (record.certification or "").startswith(f"{replay.journal}/"):
            continue
        c = certified.get(record.certification or "")
        found = {"verdict": "accept", "version": record.version, "gain": record.gain}
        expected = {"verdict": None, "version": None, "gain": None}
        if c is not None:
            expected = {"verdict": c.verdict, "version": c.candidate, "gain": c.measured.gain if c.measured else None}
        for name, value in found.items():
            for what, a, b in differing(value, expected[name], name):
                yield Difference(path.name, number, None, what, a, b)
