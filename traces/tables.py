"""Records as rows of the tables in ``schema.sql``."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import singledispatch
from typing import Any

from traces.errors import BadLine
from traces.journal import Line
from traces.records import (
    Calibration,
    Certification,
    Check,
    Comparison,
    Escalation,
    Finding,
    GateSpec,
    Intent,
    Promotion,
    Proposal,
    Record,
    Refresh,
    Review,
    Round,
    Ruling,
    Run,
    Session,
    Span,
    SplitResult,
    SplitTest,
    Stop,
    Task,
    Text,
    Trial,
    Version,
)

Row = tuple[str, Mapping[str, Any]]
"""The name of its table, and at least the columns of that, by name."""

PLAIN: Mapping[type[Record], str] = {
    Run: "runs",
    Session: "sessions",
    Stop: "stops",
    Task: "tasks",
    Version: "versions",
    Promotion: "promotions",
    SplitTest: "split_tests",
    SplitResult: "split_results",
    Text: "texts",
    Refresh: "refreshes",
    Escalation: "escalations",
    Ruling: "rulings",
}
"""Types that make one row, their fields its columns."""

ONCE: Mapping[str, tuple[str, ...]] = {
    "texts": ("hash",),
    "proposals": ("writer", "id"),
    "edits": ("writer", "proposal", "path"),
    "findings": ("writer", "proposal", "id"),
    "predictions": ("writer", "proposal", "tags"),
    "citations": ("writer", "proposal", "trial", "span", "quote"),
    "comparisons": ("writer", "id"),
    "certifications": ("writer", "id", "verdict", "measured"),
    "guards": ("writer", "certification", "kind", "name"),
}
"""Tables of what a journal may hold twice (a proposal on its own line and again in its round), and the columns by which
a row is known to be there already."""


def rows(line: Line, record: Record, run: str | None) -> Iterator[Row]:
    """What *record*, found in *line* of a journal that belongs to *run*, adds to the tables.

    Raises:
        BadLine: a number does not fit its column.
    """
    for table, columns in rows_of(record):
        row = {"writer": line.writer, "seq": line.seq, "written": line.at, **columns, "run": columns.get("run") or run}
        for name, value in row.items():
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise BadLine(f"{line.writer}: {name} of the line at byte {line.offset} does not fit 64 bits")
            if isinstance(value, datetime):
                row[name] = utc(value)
        yield table, row


def utc(time: datetime) -> datetime:
    """*time* in UTC, since DuckDB drops the offset when it casts; a time without a zone is taken to be UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


@singledispatch
def rows_of(record: Record) -> Iterator[Row]:
    """The rows without their origin. Types that only occur within others, such as ``Usage``, make none."""
    if table := PLAIN.get(type(record)):
        yield table, vars(record)


@rows_of.register
def span_rows(record: Span) -> Iterator[Row]:
    yield "spans", {**vars(record), **vars(record.usage)}


@rows_of.register
def intent_rows(record: Intent) -> Iterator[Row]:
    yield "intents", {**vars(record), **vars(record.estimate)}


@rows_of.register
def trial_rows(record: Trial) -> Iterator[Row]:
    grade = record.grade
    score, reason = (grade.score, grade.reason) if grade else (None, None)
    value = grade.value if grade else None
    yield "trials", {**vars(record), **vars(record.usage), "score": score, "reason": reason, "value": value}


@rows_of.register
def review_rows(record: Review) -> Iterator[Row]:
    for mark in record.marks:
        yield "reviews", {**vars(record), **vars(mark)}


@rows_of.register
def finding_rows(record: Finding) -> Iterator[Row]:
    yield "findings", {**finding_columns(record), "proposal": None}


def finding_columns(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "symptom": finding.symptom.model_dump(mode="json") if finding.symptom else None}


@rows_of.register
def proposal_rows(record: Proposal) -> Iterator[Row]:
    yield "proposals", vars(record)
    for edit in record.edits:
        yield "edits", {**vars(edit), "proposal": record.id}
    for prediction in record.predictions:
        yield "predictions", {**vars(prediction), "proposal": record.id}
    for citation in record.citations:
        yield "citations", {**vars(citation), "proposal": record.id}
    for finding in record.findings:
        yield "findings", {**finding_columns(finding), "proposal": record.id}


@rows_of.register
def calibration_rows(record: Calibration) -> Iterator[Row]:
    yield "calibrations", vars(record)
    for agreement in record.agreements:
        yield "agreements", {**vars(agreement), "calibration": record.id}
    for bias in record.biases:
        yield "biases", {**vars(bias), "calibration": record.id}


@rows_of.register
def comparison_rows(record: Comparison) -> Iterator[Row]:
    names = [*GateSpec.model_fields]
    declared = {name: getattr(record.spec, name, None) for name in names}
    yield "comparisons", {**vars(record), **declared, **test_columns(record), "id": comparison_id(record)}


@rows_of.register
def certification_rows(record: Certification) -> Iterator[Row]:
    tested = test_columns(record.validation)
    yield (
        "certifications",
        {
            **measured_columns(record.measured),
            **vars(record),
            "validation": comparison_id(record.validation),
            "e_value": tested["e_value"],
            "threshold": tested["threshold"],
            "measured": comparison_id(record.measured),
        },
    )
    for guard in record.guards:
        yield "guards", {**vars(guard), "certification": record.id}
    for comparison in (record.validation, record.measured):
        if comparison:
            yield from comparison_rows(comparison)


@rows_of.register
def check_rows(record: Check) -> Iterator[Row]:
    night = record.night
    yield (
        "checks",
        {
            **vars(record),
            **vars(record.noise),
            **vars(record.usage),
            "holes": [hole.cheat for hole in record.holes],
            "attacks": [f"{attack.name}: {attack.outcome}" for attack in record.attacks],
            "twins": len(record.twins),
            "leaks": len(record.leaks),
            "night_trials": night.trials,
            "night_calls": night.calls,
            "night_tokens": night.tokens,
            "night_dollars": night.dollars,
            "night_hours": night.hours,
        },
    )
    yield from comparison_rows(record.a_a)


@rows_of.register
def round_rows(record: Round) -> Iterator[Row]:
    decision = record.decision
    yield (
        "rounds",
        {
            **vars(record),
            **vars(record.usage),
            "proposal": record.proposal.id if record.proposal else None,
            "verdict": decision.verdict if decision else None,
            "because": decision.because if decision else None,
            "certification": record.certification.id if record.certification else None,
        },
    )
    if record.proposal:
        yield from proposal_rows(record.proposal)
    if record.certification:
        yield from certification_rows(record.certification)
    for removal in record.removals:
        yield (
            "removals",
            {
                **vars(removal),
                "run": record.run,
                "round": record.number,
                "comparison": comparison_id(removal.comparison),
            },
        )
        if removal.comparison:
            yield from comparison_rows(removal.comparison)
    if decision:
        comparison = decision.comparison
        tested = test_columns(comparison)
        yield (
            "decisions",
            {
                **measured_columns(comparison),
                **tested,
                **vars(decision),
                "run": record.run,
                "round": record.number,
                "incumbent": record.incumbent,
                "candidate": record.candidate,
                "comparison": comparison_id(comparison),
                "split": comparison.split if comparison else None,
                "alpha": comparison.spec.alpha if comparison and comparison.spec else None,
                "test_verdict": tested["verdict"],
            },
        )
        if comparison:
            yield from comparison_rows(comparison)


def measured_columns(comparison: Comparison | None) -> dict[str, float | int | None]:
    """The gain with its interval; all ``None`` where nothing was compared."""
    names = ("tasks", "gain", "low", "high", "confidence")
    return {name: getattr(comparison, name, None) for name in names}


def test_columns(comparison: Comparison | None) -> dict[str, str | float | int | None]:
    """What the sequential test said; all ``None`` where nothing was tested."""
    names = ("verdict", "e_value", "threshold", "n", "gain_at_stop", "conditional_power", "tasks_to_settle")
    verdict = comparison.verdict if comparison else None
    return {name: getattr(verdict, name, None) for name in names}


def comparison_id(comparison: Comparison | None) -> str | None:
    """A digest of its content: the same comparison has the same, by itself or in another record."""
    if comparison is None:
        return None
    return hashlib.sha256(comparison.model_dump_json().encode()).hexdigest()[:16]
