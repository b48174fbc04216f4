"""``ratchet export``: what happened, in the formats of other tools."""

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

import typer

from analysis.report import count
from harness.errors import UserError
from harness.ledger import journal_file, runs
from traces import places
from traces.errors import BadLine
from traces.journal import read
from traces.records import Split, Trial

if TYPE_CHECKING:
    from analysis.export.otlp import Request

Format = Literal["sft", "preference", "reward", "parquet", "otlp", "tsv"]
STDOUT = Path("-")
OPTIONS: dict[Format, frozenset[str]] = {
    "sft": frozenset({"--run", "--split", "--min-score"}),
    "preference": frozenset({"--run", "--split", "--min-gap"}),
    "reward": frozenset({"--run", "--split"}),
    "otlp": frozenset({"--run", "--split", "--endpoint"}),
    "tsv": frozenset({"--run"}),
    "parquet": frozenset(),
}
"""What each format goes by, besides ``--out``."""


def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The experiment: experiments/NAME/experiment.py")],
    format: Annotated[
        Format,
        typer.Option(
            help="Training data as JSON lines: sft, preference or reward. Every table: parquet. Spans for a collector: "
            "otlp. A night as autoresearch's results.tsv: tsv"
        ),
    ],
    run: Annotated[
        str | None, typer.Option(help="One run; default: all of the experiment, for tsv the last one")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A new file, - for stdout, or a new folder (parquet); default: see what it says on stderr"),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(help="Whose trials, otlp: whose texts too; default: train. Training on another burns it"),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="sft: scores worth imitating; default: 1", min=0, max=1)
    ] = None,
    min_gap: Annotated[
        float | None, typer.Option(help="preference: smallest difference of two scores; default: 0.5", min=0.001, max=1)
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="otlp: send it there, http://HOST:4318/v1/traces, instead of to a file")
    ] = None,
) -> None:
    """Training data, tables or spans of an experiment's runs, for other tools. Also while a night writes."""
    from experiments.cli import here

    given = {"--run": run, "--split": split, "--min-score": min_score, "--min-gap": min_gap, "--endpoint": endpoint}
    refuse_misfits(format, {option for option, value in given.items() if value is not None})
    _, directory = here()
    wanted = runs_wanted(directory, name, run)
    warn_of_hidden(split or "train")
    if format != "tsv":  # which is read from the journal itself
        warn_of_damage(directory, None if format == "parquet" else wanted)
    place = directory / "exports" / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"  # noqa: DTZ005 the clock on the wall
    match format:
        case "tsv":
            write(results(directory, wanted[-1]), out or STDOUT, format, wanted[-1:])
        case "parquet":
            write_tables(directory, out or place.with_name(f"{place.name}-parquet"))
        case "otlp" if endpoint is not None:
            if out is not None:
                raise UserError("spans go to --out or to --endpoint, and both were given. Name one of them")
            send(directory, wanted, split or "train", endpoint)
        case "otlp":
            write_spans(directory, wanted, split or "train", out or place.with_name(f"{place.name}.otlp.jsonl"))
        case _:
            examples = training_data(directory, wanted, split or "train", format, min_score, min_gap)
            write(examples, out or STDOUT, format, wanted)


def refuse_misfits(format: Format, given: set[str]) -> None:
    for option in sorted(given - OPTIONS[format]):
        whose = " and ".join(other for other, options in OPTIONS.items() if option in options)
        more = ", which is always the whole store" if format == "parquet" else ""
        raise UserError(
            f"{option} says nothing about {format}{more}, so nobody can mean it. It is for {whose}. Leave it out"
        )


def runs_wanted(directory: Path, name: str, run: str | None) -> list[str]:
    known = runs(directory, name)
    if not known:
        raise UserError(
            f"experiment {name!r} has not run here yet, so there is nothing to export. Start: ratchet run {name}"
        )
    if run is not None and run not in known:
        raise UserError(
            f"{name} has no run {run!r}, so there is nothing to export. It has: {', '.join(reversed(known[-5:]))}"
        )
    return known if run is None else [run]


def warn_of_hidden(split: Split) -> None:
    """Loudly, since it cannot be undone."""
    from experiments.cli import err

    if split != "train":
        err.print(
            f"WARNING: this holds what hidden tasks ask ({split}). Whatever is trained or prompted on it burns that "
            "split: no promotion test that uses the split proves anything from then on. Keep it away from models and "
            "proposers, or draw new tasks.",
            style="bold red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def warn_of_damage(directory: Path, writers: Sequence[str] | None) -> None:
    """Say what is missing in an export, because it cannot be read."""
    from analysis.export.store import damage
    from experiments.cli import err

    found = damage(directory, writers)
    if not found:
        return
    lines = sum(d.lines for d in found)
    shown = [
        f"  {named(places.spool(directory) / f'{d.writer}.jsonl')}: {count(d.lines, 'line')}, the first at byte "
        f"{d.byte_offset}: {' '.join(d.reason.split())[:200]}"
        for d in found[:SHOWN]
    ]
    more = [f"  and {count(len(found) - SHOWN, 'more journal')}"] if len(found) > SHOWN else []
    text = [
        f"WARNING: {count(lines, 'line')} of {count(len(found), 'journal')} cannot be read (table dead_letter), and "
        f"what {'they hold' if lines > 1 else 'it holds'} is missing in this export:",
        *shown,
        *more,
        f"  Who has it elsewhere puts it back there, deletes {named(places.database(directory))}, which is made again "
        "from the journals, and types the same again. Else the rest of the export is good as it is",
    ]
    err.print("\n".join(text), style="bold red", markup=False, highlight=False, soft_wrap=True)


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SHOWN = 5
"""Runs or journals that are named."""


class Line(NamedTuple):
    text: str
    run: str


class LeftOut(NamedTuple):
    """Trials that make no line."""

    because: str
    trials: int


Item = Line | LeftOut


def training_data(
    directory: Path,
    wanted: Sequence[str],
    split: Split,
    format: Literal["sft", "preference", "reward"],
    min_score: float | None,
    min_gap: float | None,
) -> Generator[Item]:
    from analysis.export import training

    with training.conversations(directory, wanted, [split]) as said:
        match format:
            case "sft":
                found = training.sft(said, 1.0 if min_score is None else min_score)
            case "preference":
                found = training.preferences(said, 0.5 if min_gap is None else min_gap)
            case "reward":
                found = training.rewards(said)
        for item in found:
            if isinstance(item, training.LeftOut):
                yield LeftOut(item.because, item.trials)
            else:
                yield Line(json.dumps(item, ensure_ascii=False) + "\n", item["run"])


def results(directory: Path, run: str) -> Generator[Item]:
    from analysis.export.results import memory
    from analysis.export.results import results as lines
    from experiments.cli import read_journal

    journal = journal_file(directory, run)
    night = read_journal(journal)
    if night is None or not night.rounds:
        raise UserError(f"run {run} has measured nothing yet, so there is nothing to export. Wait for its baseline")
    with readable(journal):
        outputs = memory(cast(Trial, line.record()) for line in read(journal) if line.type == "Trial")
    for text in lines(night, outputs):
        yield Line(text, run)


@contextmanager
def readable(journal: Path) -> Generator[None]:
    """Within, a line that cannot be read is one of *journal*."""
    try:
        yield
    except BadLine as e:
        first = str(e).splitlines()[0]
        raise UserError(
            f"{named(journal)}: {first} It was written by another version of Ratchet, or edited, so its run cannot be "
            "exported here. Export it with the version that wrote it, or put an edited line back"
        ) from e


def write(items: Generator[Item], out: Path, format: Format, wanted: Sequence[str]) -> None:
    """Write the lines among *items* to *out*, and say on stderr how many, and what is not among them.

    Raises:
        UserError: there is no line, or something is at *out* already.
    """
    left_out: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    with closing(items), opened(out) as put:
        for item in items:
            if isinstance(item, LeftOut):
                left_out[item.because] += item.trials
            else:
                put(item.text.encode())
                lines[item.run] += 1
        if not lines:
            raise UserError(nothing(left_out, f"run {wanted[0]}" if len(wanted) == 1 else count(len(wanted), "run")))
    tell(f"wrote {count(lines.total(), 'line')} of {format} ({count(len(lines), 'run')}) to {named(out)}")
    for because, trials in left_out.most_common():
        tell(f"  without {count(trials, 'trial')} {because}")
    tell_of_empty(lines, wanted)


def nothing(left_out: Counter[str], of: str) -> str:
    if not left_out:
        return f"nothing to export: no trial of {of} has ended on that split. Wait for the night, or name another --run"
    why = "; ".join(f"{count(trials, 'trial')} {because}" for because, trials in left_out.most_common())
    found = (hint for words, hint in HINTS.items() if any(words in because for because in left_out))
    return f"nothing to export from {of}: only {why}{next(found, '')}"


HINTS = {
    "scored below": ". Take more with a lower --min-score",
    "more or less": ". Take more with a smaller --min-gap",
    "texts were not kept": ". What its model was asked and answered was never written down. Models named openai:…, "
    "anthropic:… or local:… keep it: run a night with one of them, and export that",
    "calls were not recorded": ". Its runner asks no model of Ratchet's, so nobody saw what was said. Let it ask "
    "model('openai:…'), 'anthropic:…' or 'local:…' of harness.models, which keep it, and export a night of that",
}
"""What helps, by a part of the words for what was left out; the first that fits."""


def tell_of_empty(gave: Counter[str], wanted: Sequence[str]) -> None:
    empty = [run for run in wanted if not gave[run]]
    if empty:
        more = f" and {len(empty) - SHOWN:,} more" if len(empty) > SHOWN else ""
        tell(f"  with nothing from {count(len(empty), 'run')}: {', '.join(empty[-SHOWN:])}{more}")


@contextmanager
def opened(out: Path) -> Generator[Callable[[bytes], object]]:
    """What writes to the new file *out*, which is there whole or not at all; or to stdout."""
    from analysis.export.drafts import new, writing

    if out == STDOUT:
        yield typer.get_binary_stream("stdout").write
        return
    with new(out) as draft:
        with writing(out):
            file = draft.open("xb")

        def put(data: bytes) -> None:
            with writing(out):
                file.write(data)

        try:
            yield put
        finally:
            with writing(out):
                file.close()


# ── tables and spans ───────────────────────────────────────────────────────────────────────────────────────────────


def write_tables(directory: Path, out: Path) -> None:
    from analysis.export.tables import parquet

    if out == STDOUT:
        raise UserError("parquet is a folder of files, and cannot go to stdout. Name a new folder: --out FOLDER")
    written = parquet(directory, out)
    tell(f"wrote {count(sum(written.values()), 'row')} of {len(written)} tables to {named(out)}, a Parquet file each")
    tell("  the whole store: all experiments that ran here, and what hidden tasks ask. Keep it from whoever proposes")


def write_spans(directory: Path, wanted: Sequence[str], split: Split, out: Path) -> None:
    from analysis.export.otlp import requests

    spans: Counter[str] = Counter()
    with closing(requests(directory, wanted, ("train", split))) as found, opened(out) as put:
        for request in counted(found, spans):
            put(json.dumps(request.body, ensure_ascii=False).encode() + b"\n")
        refuse_no_spans(spans, wanted)
    tell(f"wrote {count(spans.total(), 'span')} of {count(len(spans), 'run')} to {named(out)}")
    tell_of_empty(spans, wanted)


def send(directory: Path, wanted: Sequence[str], split: Split, endpoint: str) -> None:
    from analysis.export.collector import deliver
    from analysis.export.otlp import requests

    spans: Counter[str] = Counter()
    with closing(requests(directory, wanted, ("train", split))) as found:
        done = deliver(counted(found, spans), endpoint, tell)
    refuse_no_spans(spans, wanted)
    tell(f"sent {count(done.spans, 'span')} of {count(len(spans), 'run')} to {endpoint}")
    tell_of_empty(spans, wanted)
    if done.rejected:
        why = done.because or "it does not say why"
        raise UserError(f"the collector rejected {count(done.rejected, 'span')}, so not all are there: {why}")
    if done.because:
        tell(f"  the collector took them all, and says: {done.because}")


def counted(found: "Iterable[Request]", spans: Counter[str]) -> "Iterator[Request]":
    """*found*, while *spans* counts how many of each run there were."""
    for request in found:
        spans[request.run] += request.spans
        yield request


def refuse_no_spans(spans: Counter[str], wanted: Sequence[str]) -> None:
    if not spans:
        raise UserError(f"nothing to export: {', '.join(wanted[-3:])} has no spans yet. Wait until a trial has ended")


def tell(text: str) -> None:
    from experiments.cli import err

    err.print(text, markup=False, highlight=False, soft_wrap=True)


def named(out: Path) -> str:
    from analysis.export import drafts

    return "stdout" if out == STDOUT else drafts.named(out)
