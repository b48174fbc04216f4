"""Evidence: the traces that a proposer may look at, and whether they show what it quotes from them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import cast

from pydantic_core import from_json

from harness.protocols import History, Trace
from traces import otel
from traces.journal import Line, parse, raw_lines
from traces.records import Citation, Finding, Round, Span, Text, Trial

SHORTEST = 12
"""Characters of a quotation that shows anything, unless the whole passage is shorter."""


class Traces:
    """The traces of some trials of a journal. It is gone through once, when the first of them is asked for; what their
    spans sent and got back is read when it is looked at."""

    def __init__(self, journal: Path, trials: Iterable[Trial]) -> None:
        self._journal = journal
        self._trials = {trial.id: trial for trial in trials}

    def __call__(self, trial: str) -> Trace:
        """The trace of *trial*.

        Raises:
            LookupError: it is none of the trials that may be looked at.
        """
        if trial not in self._trials:
            raise LookupError(f"there is no trial {trial} among those that may be looked at")
        spans = tuple(self._spans.get(trial, ()))
        return Trace(self._trials[trial], spans, Texts(self, frozenset(hashes_of(spans))))

    def text(self, hash: str) -> str:
        """The text with this *hash*, one of those that the trials' spans have."""
        with self._journal.open("rb") as file:
            file.seek(self._places[hash])
            return cast(Text, parse(file.readline(), self._places[hash]).record()).text

    @property
    def hashes(self) -> Set[str]:
        """Of the texts that were kept."""
        return self._places.keys()

    @cached_property
    def _spans(self) -> Mapping[str, Sequence[Span]]:
        found: dict[str, list[Span]] = {}
        for _, line in picked(self._journal, SPAN, self._trials.keys()):
            span = cast(Span, line.record())
            found.setdefault(cast(str, span.trial), []).append(span)
        return found

    @cached_property
    def _places(self) -> Mapping[str, int]:
        wanted = {hash for spans in self._spans.values() for hash in hashes_of(spans)}
        return {hash: line.offset for hash, line in picked(self._journal, TEXT, wanted)}


class Texts(Mapping[str, str]):
    """Hash → text, of some that are looked up in *traces*."""

    def __init__(self, traces: Traces, hashes: Set[str]) -> None:
        self._traces, self._hashes = traces, hashes

    def __getitem__(self, hash: str) -> str:
        if hash not in self._hashes or hash not in self._traces.hashes:
            raise KeyError(hash)
        return self._traces.text(hash)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hashes & self._traces.hashes)

    def __len__(self) -> int:
        return len(self._hashes & self._traces.hashes)


SPAN = re.compile(rb'"type":"Span",.*?"trial":("(?:[^"\\]|\\.)*")')
TEXT = re.compile(rb'"type":"Text",.*?"hash":("(?:[^"\\]|\\.)*")')
"""A line of that type, and the field by which it is wanted or not."""


def picked(journal: Path, kind: re.Pattern[bytes], wanted: Set[str]) -> Iterator[tuple[str, Line]]:
    """The lines of a *kind* whose field is among *wanted*, with its value. All others are told apart by their bytes:
    to parse them takes a hundred times as long."""
    for offset, raw in raw_lines(journal) if wanted else ():
        if found := kind.search(raw, 0, HEAD):
            value = from_json(found[1])
            if value in wanted:
                yield value, parse(raw, offset)


HEAD = 4000
"""Bytes of a line within which the field stands: the names that come before it are no longer."""


def unfounded(citations: Iterable[Citation], history: History) -> list[str]:
    """What is wrong with *citations*, a sentence each: no such trial, no such span in it, or it does not say that."""
    return [fault for citation in citations if (fault := fault_of(citation, history))]


def fault_of(citation: Citation, history: History) -> str:
    """Why *citation* shows nothing; empty where it stands as it is quoted."""
    trial = next((trial for trial in history.trials if trial.id == citation.trial), None)
    if trial is None:
        return f"there is no trial {citation.trial} among those that the proposer may look at"
    quote = squeezed(citation.quote)
    if citation.span is None:
        where, passages = "", [*said_by(trial)]
    else:
        trace = history.trace_of(trial.id) if history.trace_of is not None else Trace(trial, (), {})
        span = next((span for span in trace.spans if span.id == citation.span), None)
        if span is None:
            return f"trial {citation.trial} has no span {citation.span}"
        where, passages = f", span {citation.span},", [*said_in(span, trace.texts)]
    whole = {squeezed(passage) for passage in passages}
    if not any(c.isalnum() for c in quote) or (len(quote) < SHORTEST and quote not in whole):
        return (
            f"the quotation {citation.quote!r} of trial {citation.trial}{where} is too short to show anything: it "
            f"takes {SHORTEST} characters, or a whole passage"
        )
    if any(quote in passage for passage in whole):
        return ""
    return f"trial {citation.trial}{where} does not say {citation.quote[:200]!r}"


def said_by(trial: Trial) -> Iterator[str]:
    """What can be quoted of a trial itself."""
    yield from (text for text in (trial.output, trial.error, trial.grade and trial.grade.reason) if text)


def said_in(span: Span, texts: Mapping[str, str]) -> Iterator[str]:
    """What can be quoted of a span: what it sent and got back, as far as it was kept. Of a model call not what was
    sent: that is the prompt and the task, and shows nothing of what the model did."""
    hashes, previews = (span.output_hash,), (span.output_preview,)
    if span.operation != "chat":
        hashes, previews = (span.input_hash, *hashes), (span.input_preview, *previews)
    yield from (texts[hash] for hash in hashes if hash is not None and hash in texts)
    explanation = span.attributes.get(otel.EXPLANATION)
    yield from (text for text in (*previews, span.error, explanation) if text)


def hashes_of(spans: Iterable[Span]) -> list[str]:
    return [hash for span in spans for hash in (span.input_hash, span.output_hash) if hash is not None]


def squeezed(text: str) -> str:
    return " ".join(text.split())


def known_findings(earlier: Sequence[Finding], rounds: Iterable[Round]) -> tuple[Finding, ...]:
    """The latest of each id, of what *earlier* runs and the proposals of *rounds* had found."""
    found = {finding.id: finding for finding in earlier}
    for round in rounds:
        if round.proposal is not None:
            found |= {finding.id: finding for finding in round.proposal.findings}
    return tuple(found.values())
