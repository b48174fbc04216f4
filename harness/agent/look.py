"""Looks through the files of the folder it is started in. Standalone: it runs inside of a sandbox.

    python3 look.py list GLOB
    python3 look.py search GLOB REGEX CASE

A regular expression may take for ever, so it is the sandbox that runs it and ends it. Prints JSON: ``found``, ``more``
(how many were found and not shown) and ``partial`` (there was too much to look at); or ``wrong``, what is wrong with
the expression.
"""

# the Python of the sandbox may be old (3.9)
from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator

SKIPPED = frozenset({".git", "__pycache__", "node_modules", ".venv"})
MOST_LOOKED_AT = 50_000
"""Files."""
LARGEST = 4 << 20
"""Bytes of a file that is searched."""
MOST_SHOWN, MOST_CHARACTERS, LONGEST_LINE = 300, 12_000, 300
"""Little enough for a sandbox not to cut it."""


def matcher(glob: str) -> re.Pattern[str]:
    """Of paths. As in .gitignore, a pattern without a slash matches in every folder."""
    glob = glob[2:] if glob.startswith("./") else glob
    if "/" not in glob.rstrip("/"):
        glob = f"**/{glob}"
    if glob.endswith("/"):
        glob += "**"
    pattern, at = "", 0
    for found in re.finditer(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]", glob):
        special = found[0]
        pattern += re.escape(glob[at : found.start()])
        pattern += SPECIAL.get(special) or "[" + ("^" * (special[1] == "!")) + special[1 + (special[1] == "!") :]
        at = found.end()
    try:
        return re.compile(pattern + re.escape(glob[at:]), re.DOTALL)
    except re.error:
        return re.compile(re.escape(glob))


SPECIAL = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def files(state: dict[str, bool]) -> Iterator[str]:
    """Paths, the folders in order; no link is followed into a folder."""
    count = 0
    for folder, folders, names in os.walk("."):
        folders[:] = sorted(set(folders) - SKIPPED)
        for name in sorted(names):
            count += 1
            if count > MOST_LOOKED_AT:
                state["partial"] = True
                return
            yield os.path.join(folder, name)[2:]  # noqa: PTH118 (pathlib is slow over so many)


def lines(path: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a file; none of one that is no text, or too large."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > LARGEST:  # noqa: PTH113, PTH202
            return
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(LARGEST)
    except OSError:
        return
    if b"\0" not in data[:8192]:
        yield from enumerate(data.decode("utf-8", "replace").split("\n"), 1)


def printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def main(what: str, glob: str, regex: str = "", case: str = "") -> dict[str, object]:
    try:
        wanted = re.compile(regex, 0 if case else re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as e:
        return {"wrong": str(e)}
    named, state = matcher(glob), {"partial": False}
    found: list[str] = []
    more = size = 0
    for path in files(state):
        if not named.fullmatch(path):
            continue
        hits = (
            (printable(path) for _ in range(1))
            if what == "list"
            else (
                f"{printable(path)}:{number}: {printable(line.strip()[:LONGEST_LINE])}"
                for number, line in lines(path)
                if wanted.search(line)
            )
        )
        for hit in hits:
            if len(found) >= MOST_SHOWN or size > MOST_CHARACTERS:
                more += 1
            else:
                found.append(hit)
                size += len(hit)
    return {"found": found, "more": more, "partial": state["partial"]}


if __name__ == "__main__":
    sys.stdout.buffer.write(json.dumps(main(*sys.argv[1:]), ensure_ascii=False).encode())
