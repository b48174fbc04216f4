"""``ratchet show``: one trial to read, with all that was attempted on it, in the order in which it happened."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import traces
from harness.agent.inbox import visible
from harness.errors import UserError
from traces import otel

Row = Mapping[str, Any]
BASE = r"regexp_replace({}, '#\d+$', '')"
"""The id that all attempts at a trial have in common, those that a dead process began too."""


@dataclass(frozen=True)
class Shown:
    """What the traces have of a trial."""

    name: str
    """Its id, without the number of the attempt."""
    trials: Sequence[Row]
    """How its attempts ended, the last one first; empty while it is under way."""
    spans: Sequence[Row]
    reviews: Sequence[Row]
    """A row a criterion."""


def trial_named(name: str, directory: Path) -> Shown:
    """The trial whose id is *name*, or ends with it; with or without the number of an attempt.

    Raises:
        UserError: there is none.
    """
    base = re.sub(r"#\d+$", "", name)
    ended, made, reviewed = BASE.format("id"), BASE.format("trial"), BASE.format("reviews.trial")
    trials = rows(
        traces.sql(
            f"select * from trials where {ended} = ? or ends_with({ended}, '/' || ?) order by written desc",
            (base, base),
            directory=directory,
        )
    )
    whole = re.sub(r"#\d+$", "", trials[0]["id"]) if trials else base
    spans = rows(
        traces.sql(
            "select spans.*, i.text as input, o.text as output from spans left join texts i on i.hash = input_hash "
            f"left join texts o on o.hash = output_hash where {made} = ? order by spans.started, spans.seq",
            (whole,),
            directory=directory,
        )
    )
    if not trials and not spans:
        raise UserError(
            f'no trial is called {name!r}. To see some: ratchet sql "select id, task, score from trials limit 9"'
        )
    reviews = rows(
        traces.sql(f"select * from reviews where {reviewed} = ? order by written, seq", (whole,), directory=directory)
    )
    return Shown(whole, [t for t in trials if re.sub(r"#\d+$", "", t["id"]) == whole], spans, reviews)


def rows(frame: Any) -> list[dict[str, Any]]:
    """A DataFrame as JSON objects; what is missing is null."""
    return json.loads(frame.to_json(orient="records", date_format="iso", date_unit="us", default_handler=str))


# ── to read ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Said:
    """The messages that were shown: a turn holds those of all turns before it, and they are read once."""

    seen: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Whose conversation it is → messages."""

    def new(self, span: Row) -> list[Mapping[str, Any]]:
        """Those that *span* adds and that no answer and no tool call has shown already."""
        whose = f"{span['trial']} {span['name']} {span['role']}"
        first, seen = whose not in self.seen, self.seen.setdefault(whose, set())
        found: list[Mapping[str, Any]] = []
        for message in messages_in(span["input"]):
            written = json.dumps(message, sort_keys=True)
            if written not in seen and (first or message["role"] not in ("assistant", "tool")):
                found.append(message)
            seen.add(written)
        return found


def lines(shown: Shown) -> Iterator[str]:
    """*shown* for a person. What a model or a tool wrote cannot act on the terminal."""
    return map(visible, told(shown))


def told(shown: Shown) -> Iterator[str]:
    yield f"trial   {shown.name}"
    if shown.trials:
        last = shown.trials[0]
        yield f"task    {last['task']} ({last['split']}, {' '.join(last['tags'] or ())})\nversion {last['version']}"
    said = Said()
    ended = {trial["id"]: trial for trial in shown.trials}
    begun = list(dict.fromkeys(str(row["trial"]) for row in shown.spans))
    attempts = [*begun, *(id for id in reversed(ended) if id not in begun)]
    for id in attempts:
        if len(attempts) > 1:
            yield f"\n══ attempt {id.removeprefix(shown.name).removeprefix('#') or 1}"
        for event in events(shown, id):
            yield from span_lines(event[0], said) if "operation" in event[0] else review_lines(event)
        yield from end_lines(ended.get(id))


def events(shown: Shown, id: str) -> list[Sequence[Row]]:
    """Spans and reviews of one attempt at the trial, by the time; a review is all its rows."""
    spans = [((span["started"], 0), [span]) for span in shown.spans if span["trial"] == id]
    own = [row for row in shown.reviews if row["trial"] == id]
    reviews = [((group[0]["written"], 1), group) for group in (list(g) for _, g in groupby(own, key=review_of))]
    return [event for _, event in sorted([*spans, *reviews], key=lambda found: found[0])]


def review_of(row: Row) -> tuple[str, int]:
    return row["writer"], row["seq"]


def span_lines(span: Row, said: Said) -> Iterator[str]:
    attributes = json.loads(span["attributes"] or "{}")
    number = f" {turn}" if (turn := attributes.get("ratchet.turn")) is not None else ""
    status = attributes.get("ratchet.status") or span["status"]
    yield (
        f"\n── {span['operation']}{number} {span['name']}, {span['seconds']:.3f} s, {status}"
        + (f", effect {span['effect']}" if span["effect"] not in (None, "none") else "")
        + (f", attempt {span['attempt']}" if span["attempt"] > 1 else "")
    )
    if span["operation"] == "execute_tool":
        yield f"    asked: {first_of(span, 'input', 'input_preview')}"
    else:
        for message in said.new(span):
            yield f"{message['role']:>9}: {message['content']}"
    answer = first_of(span, "output", "output_preview")
    if answer is not None:
        yield f"{'result' if span['operation'] == 'execute_tool' else 'answer':>9}: {answer}"
    if otel.SCORE in attributes:
        yield f"    score: {attributes[otel.SCORE]:g}"
    for title, name in (("because", otel.EXPLANATION), ("ended", "ratchet.ended"), ("detail", "ratchet.detail")):
        if attributes.get(name):
            yield f"{title:>9}: {attributes[name]}"
    if span["error"] is not None and span["error"] not in str(answer):
        yield f"    error: {span['error_class']}: {span['error']}"


def review_lines(review: Sequence[Row]) -> Iterator[str]:
    """What the verifier said about one attempt of the maker, a line a criterion."""
    whole = review[0]
    yield f"\n── review of attempt {whole['attempt']}: {whole['verdict']}"
    if whole["detail"]:
        yield f"   detail: {whole['detail']}"
    for mark in review:
        if mark["criterion"] is None:
            continue
        choice = f" ({mark['choice']})" if mark["choice"] else ""
        why = mark["evidence"] if mark["passed"] else mark["because"]
        yield f"{'passed' if mark['passed'] else 'FAILED':>9}: {mark['criterion']}{choice}" + (
            f": {why}" if why else ""
        )
        if mark["excerpt"]:
            yield f"  excerpt: {mark['excerpt']}"


def end_lines(trial: Row | None) -> Iterator[str]:
    if trial is None:
        yield "\n── no end: its process died, or it is under way"
        return
    yield "\n── end" + (f": {trial['ended']}" if trial["ended"] else "")
    if trial["output"] is not None:
        yield f"   output: {trial['output']}"
    if trial["error"] is not None:
        yield f"    error: {trial['boundary']}: {trial['error']}"
    if trial["score"] is not None:
        yield f"    score: {trial['score']:g} ({trial['reason']})"


def first_of(row: Row, *names: str) -> Any:
    return next((row[name] for name in names if row[name] is not None), None)


def messages_in(text: object) -> list[Mapping[str, Any]]:
    """The messages that a span's input holds; none where it holds something else."""
    try:
        found: object = json.loads(text) if isinstance(text, str) else []
    except ValueError:
        return []
    said = cast("list[object]", found) if isinstance(found, list) else []
    return [
        cast("Mapping[str, Any]", m) for m in said if isinstance(m, dict) and {"role", "content"} <= set(cast(Any, m))
    ]
