"""What a command says: results on stdout, progress on stderr; aligned on a terminal, plain elsewhere."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


class Tolerant(Console):
    """Progress that nobody can read any more (a pipe that broke) is no reason to end a night."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


err = Tolerant(stderr=True)
out = Console()

Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment: experiments/NAME/experiment.py")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout; its field names are stable")]


def say(text: str) -> None:
    """A line on stdout, as it is."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def say_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned on a terminal; elsewhere separated by tabs, a row a line, nothing cut."""
    if not out.is_terminal:
        for row in [columns, *rows]:
            sys.stdout.write("\t".join("" if v is None else " ".join(str(v).split()) for v in row) + "\n")
        return
    shown = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*("" if value is None else str(value) for value in row))
    out.print(shown, highlight=False, markup=False)
