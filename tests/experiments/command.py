"""``ratchet``, as typed: in a process of its own that has imported already what most commands do."""

import os
import signal
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401 (what a report takes)
import scipy.cluster.hierarchy
import scipy.special  # noqa: F401

import analysis.costs
import analysis.html
import analysis.plots  # noqa: F401
import harness.verify  # noqa: F401
import traces.query  # noqa: F401 (with pandas, half of what a question takes)
from experiments import morning, terminal  # noqa: F401
from experiments.cli import main
from tests.conftest import GIT

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.cli", *arguments]


def environment() -> dict[str, str]:
    keyless = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**keyless, **GIT, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def ratchet(checkout: Path, *arguments: str, expect: int = 0) -> str:
    """What the command prints on stdout, or on stderr where it is expected to fail."""
    done = typed(checkout, *arguments)
    assert done.code == expect, done.err + done.out
    return done.err if expect else done.out


def typed(checkout: Path, *arguments: str, typing: str = "") -> Said:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(typing.encode())
        given.seek(0)
        child = os.fork()
        if child == 0:
            run(checkout, arguments, given.fileno(), out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        said = [(stream.seek(0), stream.read().decode())[1] for stream in (out, err)]
    return Said(os.waitstatus_to_exitcode(status), *said)


def run(checkout: Path, arguments: tuple[str, ...], *streams: int) -> None:
    code = 1
    try:
        os.chdir(checkout)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        sys.stdin = os.fdopen(0, "r", closefd=False)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        there = environment()
        os.environ.clear()
        os.environ.update(there)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        terminal.out.width = terminal.err.width = int(there["COLUMNS"])
        sys.argv = ["ratchet", *arguments]
        try:
            main()
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 0
        except BaseException:  # noqa: BLE001 (as Python ends with it)
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
