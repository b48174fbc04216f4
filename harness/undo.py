"""Take one change out again, and leave what came after it.

A change is some runs of pieces that gave way to others. It can be taken out while each new run still stands together,
whatever was put before, behind or elsewhere; where later changes went into one, they rest on it. Pieces are lines; of
a line that was changed more than once, its sentences; and in a prompt each worked example as a whole, so that a
question never gets the answer of another.

A merge by lines (``git merge-file``) refuses neighbours, and kept changes are mostly neighbours: one example after the
other, one sentence behind the other.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile

from traces.records import Edit

PROMPT = re.compile(r"prompts/[^/]+\.md")
SENTENCE_END = re.compile(r"(?<=[.!?])(?=\s)")


@dataclass(frozen=True)
class _Hunk:
    """``before[old_start:old_end]`` gave way to ``after[new_start:new_end]``."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int

    def moved(self, by: int) -> "_Hunk":
        return _Hunk(self.old_start + by, self.old_end + by, self.new_start + by, self.new_end + by)


def undo(before: Mapping[str, str], after: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str] | None:
    """The files of *now* (path → text) without the change that led from *before* to *after*.

    What of the change is gone already stays gone. ``None``: later changes rest on it, so it cannot come out by itself.
    """
    result: dict[str, str] = {}
    for path in sorted({*before, *after, *now}):
        old, new, present = before.get(path), after.get(path), now.get(path)
        if present == new:
            text = old
        elif old in (new, present):
            text = present
        elif old is None or new is None or present is None:
            return None  # a file that came or went, and is not as it was then
        else:
            texts = (old, new, present)
            end = "\r\n" if all(text.count("\n") == text.count("\r\n") for text in texts) else "\n"
            pieces = _undone(*(_pieces(path, text, end) for text in texts))
            if pieces is None:
                return None
            text = end.join(pieces)
        if text is not None:
            result[path] = text
    return result


def edits_between(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Edit, ...]:
    """What makes *after* of *before*."""
    paths = sorted({*before, *after})
    return tuple(Edit(path=path, text=after.get(path)) for path in paths if before.get(path) != after.get(path))


def length(text: Mapping[str, str]) -> int:
    """How much there is to read, in characters."""
    return sum(map(len, text.values()))


def _undone(before: Sequence[str], after: Sequence[str], now: Sequence[str]) -> list[str] | None:
    """The pieces of *now* without what led from *before* to *after*."""
    early = _places(after, now)
    found = (_patched(before, after, now, places) for places in (early, _late(early, after, now)))
    return next((pieces for pieces in found if pieces is not None), None)


def _patched(
    before: Sequence[str], after: Sequence[str], now: Sequence[str], places: Sequence[int | None]
) -> list[str] | None:
    result: list[str] = []
    at = 0
    for ways in _hunks(before, after):
        found = (_patch(hunk, before, after, now, places) for hunk in ways)
        patch = next((patch for patch in found if patch is not None and patch[0] >= at), None)
        if patch is None:
            return None
        start, end, pieces = patch
        result += [*now[at:start], *pieces]
        at = end
    return [*result, *now[at:]]


def _patch(
    hunk: _Hunk, before: Sequence[str], after: Sequence[str], now: Sequence[str], places: Sequence[int | None]
) -> tuple[int, int, Sequence[str]] | None:
    """Start and end in *now* of what the hunk made, and what to put there; ``None`` where it cannot be told.

    *places*: of each piece of *after*, where it stands in *now*.
    """
    old, new = before[hunk.old_start : hunk.old_end], after[hunk.new_start : hunk.new_end]
    standing = [place for place in places[hunk.new_start : hunk.new_end] if place is not None]
    if new and len(standing) == len(new) == standing[-1] - standing[0] + 1:
        return standing[0], standing[-1] + 1, old
    start = next((p for p in reversed(places[: hunk.new_start]) if p is not None), -1) + 1
    end = next((p for p in places[hunk.new_end :] if p is not None), len(now))
    present = now[start:end]
    if present == old:
        return start, end, old  # taken back already
    is_left_fixed = hunk.new_start == 0 or places[hunk.new_start - 1] is not None
    is_right_fixed = hunk.new_end == len(places) or places[hunk.new_end] is not None
    if new:
        if not len(old) == len(new) == len(present) or not (is_left_fixed and is_right_fixed):
            return None
        lines = [_undone_line(*versions) for versions in zip(old, new, present, strict=True)]
        known = [line for line in lines if line is not None]
        return (start, end, known) if len(known) == len(lines) else None
    if start == end or (is_left_fixed and not is_right_fixed):
        return start, start, old
    return (end, end, old) if is_right_fixed and not is_left_fixed else None


def _undone_line(old: str, new: str, present: str) -> str | None:
    if present == new:
        return old
    if old in (new, present):
        return present
    versions = [SENTENCE_END.split(f" {line}") for line in (old, new, present)]
    if "\n" in new or all(len(sentences) == 1 for sentences in versions):
        return None
    sentences = _undone(*versions)
    return None if sentences is None else "".join(sentences)[1:]


def _hunks(before: Sequence[str], after: Sequence[str]) -> Iterator[list[_Hunk]]:
    """What changed, in order; of each all ways to see it.

    Where ``a b`` became ``a b a b``, the new pieces may be the first two, the last two or those between.
    """
    codes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    same = [0, *(end - start if tag == "equal" else 0 for tag, start, end, _, _ in codes), 0]
    for i, (tag, *bounds) in enumerate(codes):
        hunk = _Hunk(*bounds)
        if tag == "replace":
            yield [hunk]
        elif tag != "equal":
            pieces, start, end = (after, *bounds[2:]) if tag == "insert" else (before, *bounds[:2])
            down = _streak(pieces[start + k] == pieces[end + k] for k in range(same[i + 2]))
            up = _streak(pieces[start - 1 - k] == pieces[end - 1 - k] for k in range(same[i]))
            yield [hunk.moved(by) for by in (0, *range(1, down + 1), *range(-1, -up - 1, -1))]


def _streak(holds: Iterator[bool]) -> int:
    return sum(takewhile(bool, holds))


def _places(after: Sequence[str], now: Sequence[str]) -> list[int | None]:
    """Of each piece of *after*, where it stands in *now*; of repeated ones as early as the neighbour before allows."""
    places: list[int | None] = [None] * len(after)
    for start, there, size in SequenceMatcher(None, after, now, autojunk=False).get_matching_blocks():
        places[start : start + size] = range(there, there + size)
    before: int | None = -1
    for i, place in enumerate(places):
        if place is not None and before is not None and now[before + 1] == after[i]:
            places[i] = before + 1
        before = places[i]
    return places


def _late(places: Sequence[int | None], after: Sequence[str], now: Sequence[str]) -> list[int | None]:
    """The same places, but of repeated pieces as late as the neighbour behind allows."""
    late = list(places)
    behind: int | None = len(now)
    for i in reversed(range(len(late))):
        if late[i] is not None and behind is not None and now[behind - 1] == after[i]:
            late[i] = behind - 1
        behind = late[i]
    return late


def _pieces(path: str, text: str, end: str) -> list[str]:
    """What a change to a file is made of; joined by *end*, which ends a line, it is *text* again."""
    lines = text.split(end)
    if not PROMPT.fullmatch(path):
        return lines
    headers = [at for at, line in enumerate(lines) if line.rstrip("\r") in ("# system", "# user", "# assistant")]
    roles = [lines[at].rstrip("\r") for at in headers]
    pieces: list[str] = []
    at = 0
    for i in range(len(headers) - 2):
        if roles[i : i + 2] == ["# user", "# assistant"]:
            start, stop = headers[i], headers[i + 2]
            pieces += [*lines[at:start], end.join(lines[start:stop])]
            at = stop
    return [*pieces, *lines[at:]]
