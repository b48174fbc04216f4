"""Runs the code blocks of one document, in order and with one set of names. Standalone: it runs where the code may.

    python3 -I -c PROGRAM KEY BLOCKS ROOTS

BLOCKS is JSON, ``[[line, source], …]``, and ROOTS a list of the folders that modules are imported from: after this
program has its own, so that none of theirs can stand in for them. A block that begins with ``>>>``, comments apart, is
run as a doctest. Prints KEY and a JSON list of ``[line, what is wrong, excerpt]`` once all have run, so that code which
ends the program early is not taken for code that works.
"""

from __future__ import annotations

import doctest
import json
import re
import sys
from code import InteractiveInterpreter
from pathlib import Path

LONGEST = 200
PROMPT = re.compile(r"(?:[ \t]*(?:#.*)?\n)*[ \t]*>>>")


def main(key: str, blocks: list[tuple[int, str]], roots: list[str]) -> None:
    sys.argv[:] = [""]
    sys.path[:0] = [str(Path(root).resolve()) for root in roots]
    names: dict[str, object] = {"__name__": "__main__"}
    faults: list[tuple[int, str, str]] = []
    for line, source in blocks:
        found = examples(source, names) if PROMPT.match(source) else plain(source, names)
        faults += [(line + at, because, excerpt) for at, because, excerpt in found]
    print(f"\n{key}{json.dumps(faults)}", flush=True)


class Interpreter(InteractiveInterpreter):
    """Keeps what code raised."""

    raised: BaseException | None = None

    def showtraceback(self) -> None:
        self.raised = sys.exc_info()[1]


def plain(source: str, names: dict[str, object]) -> list[tuple[int, str, str]]:
    interpreter = Interpreter(names)
    try:
        interpreter.runcode(compile(source, "<block>", "exec"))
        error = interpreter.raised
    except (SyntaxError, ValueError, SystemExit) as e:
        error = e
    if error is None:
        return []
    at = (error.lineno if isinstance(error, SyntaxError) else line_in_block(error)) or 1
    return [(at, said(error), text_of(source, at))]


def line_in_block(error: BaseException) -> int:
    at, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<block>":
            at = trace.tb_lineno
        trace = trace.tb_next
    return at


def text_of(source: str, at: int) -> str:
    lines = source.splitlines()
    return lines[at - 1] if at <= len(lines) else ""


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:LONGEST]


class Runner(doctest.DocTestRunner):
    """Keeps what failed; what came instead is not kept, since it would be the answer."""

    def __init__(self) -> None:
        super().__init__(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        self.faults: list[tuple[int, str, str]] = []

    def report_failure(self, out: object, test: doctest.DocTest, example: doctest.Example, got: str) -> None:
        self.faults.append((example.lineno + 1, "what it prints is not what is written there", shown(example)))

    def report_unexpected_exception(
        self, out: object, test: doctest.DocTest, example: doctest.Example, exc_info: tuple[object, ...]
    ) -> None:
        error = exc_info[1]
        because = said(error) if isinstance(error, BaseException) else "an exception"
        self.faults.append((example.lineno + 1, because, shown(example)))


def shown(example: doctest.Example) -> str:
    return f">>> {example.source}{example.want}"


def examples(source: str, names: dict[str, object]) -> list[tuple[int, str, str]]:
    try:
        test = doctest.DocTestParser().get_doctest(source, names, "block", None, 0)
    except ValueError as e:
        return [(1, said(e), text_of(source, 1))]
    runner = Runner()
    test.globs = names  # get_doctest made a copy, and later blocks go on with these names
    runner.run(test, clear_globs=False, out=lambda _: None)
    return runner.faults


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]))
