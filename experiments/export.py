"""``ratchet export``: what happened, in the formats of other tools."""

import json
import os
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, cast
from uuid import uuid4

import typer

from harness.errors import UserError
from harness.ledger import journal_file, runs
from traces.journal import read
from traces.records import Split, Trial

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
    place = directory / "exports" / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"  # noqa: DTZ005 the clock on the wall
    match format:
        case "tsv":
            write(results(directory, wanted[-1]), out or STDOUT, format, f"run {wanted[-1]}")
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
            write(examples, out or STDOUT, format, f"{len(wanted)} run{'s' * (len(wanted) > 1)}")


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


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────────

Item = str | tuple[str, int]
"""A line; or what some trials are that make none, and how many."""


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
                yield item.because, item.trials
            else:
                yield json.dumps(item, ensure_ascii=False) + "\n"


def results(directory: Path, run: str) -> Generator[Item]:
    from analysis.export.results import memory
    from analysis.export.results import results as lines
    from experiments.cli import read_journal

    journal = journal_file(directory, run)
    night = read_journal(journal)
    if night is None or not night.rounds:
        raise UserError(f"run {run} has measured nothing yet, so there is nothing to export. Wait for its baseline")
    trials = (cast(Trial, line.record()) for line in read(journal) if line.type == "Trial")
    yield from lines(night, memory(trials))


def write(items: Generator[Item], out: Path, format: Format, of: str) -> None:
    """Write the lines among *items* to *out*, and say on stderr how many, and what is not among them.

    Raises:
        UserError: there is no line, or something is at *out* already.
    """
    left_out: Counter[str] = Counter()
    lines = 0
    with closing(items), opened(out) as file:
        for item in items:
            if isinstance(item, tuple):
                left_out[item[0]] += item[1]
            else:
                file.write(item.encode())
                lines += 1
        if not lines:
            raise UserError(nothing(left_out, of))
    tell(f"wrote {lines:,} lines of {format} ({of}) to {named(out)}")
    for because, trials in left_out.most_common():
        tell(f"  without {trials:,} trials {because}")


def nothing(left_out: Counter[str], of: str) -> str:
    if not left_out:
        return f"nothing to export: no trial of {of} has ended on that split. Wait for the night, or name another --run"
    why = "; ".join(f"{trials:,} trials {because}" for because, trials in left_out.most_common())
    hint = ""
    if any("scored below" in because for because in left_out):
        hint = ". Take more with a lower --min-score"
    elif any("more or less" in because for because in left_out):
        hint = ". Take more with a smaller --min-gap"
    return f"nothing to export from {of}: there are only {why}{hint}"


@contextmanager
def opened(out: Path) -> Generator[BinaryIO]:
    """The new file *out*, which is there whole or not at all; or stdout."""
    if out == STDOUT:
        yield typer.get_binary_stream("stdout")
        return
    refuse_overwriting(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{uuid4().hex[:8]}")
    try:
        with draft.open("xb") as file:
            yield file
        refuse_overwriting(out)
        draft.rename(out)
    finally:
        draft.unlink(missing_ok=True)


def refuse_overwriting(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise UserError(
            f"{named(out)} exists already, and an export never overwrites anything. Name another --out, or remove it"
        )


# ── tables and spans ───────────────────────────────────────────────────────────────────────────────────────────────


def write_tables(directory: Path, out: Path) -> None:
    from analysis.export.tables import parquet

    if out == STDOUT:
        raise UserError("parquet is a folder of files, and cannot go to stdout. Name a new folder: --out FOLDER")
    refuse_overwriting(out)
    written = parquet(directory, out)
    tell(f"wrote {sum(written.values()):,} rows of {len(written)} tables to {named(out)}, a Parquet file each")
    tell("  the whole store: all experiments that ran here, and what hidden tasks ask. Keep it from whoever proposes")


def write_spans(directory: Path, wanted: Sequence[str], split: Split, out: Path) -> None:
    from analysis.export.otlp import requests

    spans = 0
    with closing(requests(directory, wanted, ("train", split))) as found, opened(out) as file:
        for count, request in found:
            file.write(json.dumps(request, ensure_ascii=False).encode() + b"\n")
            spans += count
        refuse_no_spans(spans, wanted)
    tell(f"wrote {spans:,} spans of {len(wanted)} runs to {named(out)}")


def send(directory: Path, wanted: Sequence[str], split: Split, endpoint: str) -> None:
    from analysis.export.collector import deliver
    from analysis.export.otlp import requests

    with closing(requests(directory, wanted, ("train", split))) as found:
        done = deliver(found, endpoint)
    refuse_no_spans(done.spans + done.rejected, wanted)
    tell(f"sent {done.spans:,} spans of {len(wanted)} runs to {endpoint}")
    if done.rejected:
        why = done.because or "it does not say why"
        raise UserError(f"the collector rejected {done.rejected:,} spans, so they are not there: {why}")


def refuse_no_spans(spans: int, wanted: Sequence[str]) -> None:
    if not spans:
        raise UserError(f"nothing to export: {', '.join(wanted[-3:])} has no spans yet. Wait until a trial has ended")


def tell(text: str) -> None:
    from experiments.cli import err

    err.print(text, markup=False, highlight=False, soft_wrap=True)


def named(out: Path) -> str:
    return "stdout" if out == STDOUT else os.path.relpath(out)
