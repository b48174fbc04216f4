"""The chain of a journal: was a line edited, removed, inserted or moved after it was written?

Each line ends with a hash over the chain value of the line before it and its own bytes. Whoever changes a line has to
write every later line's value again, and anybody can: there is no secret in it. So a chain that holds proves by itself
only that nobody was careless. What it makes possible is an anchor: ``head`` is one short value that stands for the
whole journal up to here, to be kept where whoever edits the journal cannot reach, such as a published commit. As long
as ``holds`` finds the anchor in a journal without ``chain_breaks``, every line up to it is as it was when the anchor
was taken. Lines after the last anchor, and a journal that was never anchored, can still be cut off or made up.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from traces.errors import BadLine
from traces.journal import body_and_chain, last_line, link, parse, raw_lines


@dataclass(frozen=True)
class Break:
    """A place where a journal is not as it was written."""

    journal: str
    """The name of its file."""
    line: int
    """From 1."""
    offset: int
    """Of its first byte in the file."""
    seq: int | None
    """As the line says; ``None`` when it cannot be read."""
    key: str | None
    what: str

    def __str__(self) -> str:
        key = f" ({self.key})" if self.key else ""
        return f"{self.journal} line {self.line}{key}: {self.what}"


def head(path: Path) -> str:
    """The chain value of the last whole line that can be read: what to anchor. Empty when there is no chain."""
    file = os.open(path, os.O_RDONLY)
    try:
        return last_line(file)[1].decode()
    finally:
        os.close(file)


def holds(path: Path, anchor: str) -> bool:
    """Is there a line with the chain value *anchor*? If not, lines up to it were changed or cut off."""
    return any(value == anchor.encode() for _, _, value in bodies(path))


def chain_breaks(path: Path) -> list[Break]:
    """Where the journal is not as it was written, in order; one for each edit, as far as that can be told.

    After a break it goes on from what it finds. Lines before the first one with a chain value are not vouched for. A
    journal that is being written is checked as far as it is.
    """
    return [] if is_unbroken(path) else explain(path.name, list(links(path)))


# ── line by line ───────────────────────────────────────────────────────────────────────────────────────────────


def bodies(path: Path) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Offset, body and chain value of each whole line."""
    for offset, raw in raw_lines(path):
        yield offset, *body_and_chain(raw)


def is_unbroken(path: Path) -> bool:
    """Does each line follow from the one right before it? Reads no line's content but the first one's."""
    before: bytes | None = None
    for offset, body, value in bodies(path):
        if value is None:
            if before is not None:
                return False
            continue
        if before is None:
            try:
                before = parse(body + b"}", offset).writer.encode()
            except BadLine:
                return False
        if link(before, body) != value:
            return False
        before = value
    return True


@dataclass(frozen=True)
class Link:
    """A line as the chain sees it."""

    line: int
    offset: int
    body: bytes
    value: bytes | None
    writer: bytes = b""
    seq: int | None = None
    key: str | None = None
    trouble: str = ""
    """Why it cannot be read."""

    def follows(self, before: bytes | None) -> bool:
        return before is not None and link(before, self.body) == self.value


def links(path: Path) -> Iterator[Link]:
    for number, (offset, body, value) in enumerate(bodies(path), 1):
        found = Link(number, offset, body, value)
        try:
            line = parse(body if value is None else body + b"}", offset)
        except BadLine as e:
            yield replace(found, trouble=str(e))
            continue
        torn = value is None and not body.endswith(b"}}\n")  # a line without a chain value ends with its data
        trouble = "its end is damaged, where its chain value was" if torn else ""
        yield replace(found, writer=line.writer.encode(), seq=line.seq, key=line.key, trouble=trouble)


# ── what happened ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Walk:
    """Goes along a chain that does not hold, and says where."""

    journal: str
    chain: Sequence[Link]
    breaks: dict[int, Break] = field(default_factory=dict[int, Break])
    """By number of the line."""
    last: Link | None = None
    good: bytes = b""
    """The value of the last line that was as it was written; empty before the chain begins."""
    expected: bytes = b""
    """The value that the line before would have if only its value was edited."""
    is_moved: bool = False
    """Does the line before follow from another than the one right before it?"""

    def say(self, found: Link, what: str) -> None:
        self.breaks.setdefault(found.line, Break(self.journal, found.line, found.offset, found.seq, found.key, what))

    def correct(self, found: Link, what: str) -> None:
        """A later line has told what really happened to *found*."""
        if found.line in self.breaks:
            self.breaks[found.line] = replace(self.breaks[found.line], what=what)

    def begins(self, found: Link, last: Link | None) -> bool:
        """May the chain begin at *found*, or begin again after a break?"""
        return bool(self.good) or (last is not None and bool(last.trouble)) or found.follows(found.writer)

    def step(self, found: Link, before: Link | None) -> None:
        """Take in the next line; *before* is the one that its number says it follows."""
        last, self.last = self.last, found
        if found.value is None:
            if found.trouble:
                self.say(found, found.trouble)
            elif self.good and last is not None and last.value is not None:
                self.say(found, "it has no chain value, and lines before it have one")
            return
        if found.trouble:
            self.say(found, found.trouble)
        previous = last.value if last else None
        fits = self.begins(found, last) if previous is None else found.follows(previous)
        if not fits and last is not None and last.line in self.breaks:
            if fits := found.follows(self.expected):
                self.correct(last, "its chain value was edited")
            elif fits := found.follows(self.good):
                self.correct(last, "it was inserted: the line after it follows the one before it")
        moved = not fits and before is not None and found.follows(before.value)
        if moved and before is not None and not self.is_moved:
            if before.line > found.line:
                self.say(found, f"it was inserted or moved: it follows line {before.line}")
            elif self.breaks.keys().isdisjoint({before.line, before.line + 1}):
                goes_on = any(line.follows(found.value) for line in self.chain[found.line : found.line + 1])
                intruder = self.chain[before.line] if goes_on else found
                self.say(intruder, f"it was inserted or moved: line {found.line} follows line {before.line}")
        if not fits and not moved:
            self.say(found, displaced(found, last))
        self.expected = link(previous or found.writer, found.body)
        self.is_moved = moved
        if fits or moved:
            self.good = found.value


def explain(journal: str, chain: Sequence[Link]) -> list[Break]:
    """The breaks of a chain that does not hold."""
    by_seq = {found.seq: found for found in reversed(chain) if found.seq is not None and found.value is not None}
    walk = Walk(journal, chain)
    for found in chain:
        walk.step(found, None if found.seq is None else by_seq.get(found.seq - 1))
    return [walk.breaks[line] for line in sorted(walk.breaks)]


def displaced(found: Link, last: Link | None) -> str:
    """What became of a line that follows from none that is there."""
    number, expected = found.seq or 0, (last.seq or 0) + 1 if last else 1
    if number > expected:
        missing = f"number {expected} is" if number == expected + 1 else f"numbers {expected} to {number - 1} are"
        return f"{missing} missing before it, or it was edited"
    if number < expected:
        return f"it was inserted, moved or edited: number {number} comes after number {expected - 1}"
    return "it was edited, or the line before it was, together with its chain value"
