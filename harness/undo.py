"""Take one change out again, and leave what came after it.

A change is some runs of pieces that gave way to others. It can be taken out while each new run still stands together,
whatever was put before, behind or elsewhere; where later changes went into one, they rest on it. Pieces are lines, and
in a prompt each worked example as a whole, so that a question never gets the answer of another.

A merge by lines (``git merge-file``) refuses neighbours, and kept changes are mostly neighbours: one example after the
other, one sentence behind the other.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

PROMPT = re.compile(r"prompts/[^/]+\.md")


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
            text = _undo_text(_pieces(path, old), _pieces(path, new), _pieces(path, present))
            if text is None:
                return None
        if text is not None:
            result[path] = text
    return result


def _undo_text(before: Sequence[str], after: Sequence[str], now: Sequence[str]) -> str | None:
    places = _places(after, now)
    done: list[str] = []
    at = 0
    for ways in _hunks(before, after):
        found = ((hunk, _stretch(hunk, before, now, places)) for hunk in ways)
        first = next(((hunk, stretch) for hunk, stretch in found if stretch is not None and stretch[0] >= at), None)
        if first is None:
            return None
        hunk, (start, end) = first
        done += [*now[at:start], *before[hunk.old_start : hunk.old_end]]
        at = end
    return "\n".join([*done, *now[at:]])


def _stretch(
    hunk: _Hunk, before: Sequence[str], now: Sequence[str], places: Sequence[int | None]
) -> tuple[int, int] | None:
    """Start and end in *now* of what has to give way to the hunk's old pieces, if they can be told.

    *places*: of each piece of *after*, where it stands in *now*.
    """
    new = places[hunk.new_start : hunk.new_end]
    if new and new[0] is not None and list(new) == list(range(new[0], new[0] + len(new))):
        return new[0], new[0] + len(new)
    if any(place is not None for place in new):
        return None  # some of it stands, and some does not
    left = next((p for p in reversed(places[: hunk.new_start]) if p is not None), -1) + 1
    right = next((p for p in places[hunk.new_end :] if p is not None), len(now))
    if list(now[left:right]) == list(before[hunk.old_start : hunk.old_end]):
        return left, right  # taken back already
    if new:
        return None  # something else has taken its place
    stands_before = hunk.new_start == 0 or places[hunk.new_start - 1] is not None
    stands_behind = hunk.new_end == len(places) or places[hunk.new_end] is not None
    if left == right or (stands_before and not stands_behind):
        return left, left
    return (right, right) if stands_behind and not stands_before else None


def _hunks(before: Sequence[str], after: Sequence[str]) -> Iterator[list[_Hunk]]:
    """What changed, in order; of each all ways to see it.

    Where ``a b`` became ``a b a b``, the new pieces may be the first two, the last two or those between.
    """
    codes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    sizes = [0, *(end - start if tag == "equal" else 0 for tag, start, end, _, _ in codes), 0]
    for i, (tag, *bounds) in enumerate(codes):
        if tag == "equal":
            continue
        hunk = _Hunk(*bounds)
        ways = [hunk]
        if tag != "replace":
            pieces, start, end = (after, *bounds[2:]) if tag == "insert" else (before, *bounds[:2])
            for by in range(sizes[i + 2]):
                if pieces[start + by] != pieces[end + by]:
                    break
                ways.append(hunk.moved(by + 1))
            for by in range(sizes[i]):
                if pieces[start - 1 - by] != pieces[end - 1 - by]:
                    break
                ways.append(hunk.moved(-1 - by))
        yield ways


def _places(after: Sequence[str], now: Sequence[str]) -> list[int | None]:
    places: list[int | None] = [None] * len(after)
    for start, there, size in SequenceMatcher(None, after, now, autojunk=False).get_matching_blocks():
        places[start : start + size] = range(there, there + size)
    return places


def _pieces(path: str, text: str) -> list[str]:
    """What a change is made of: ``"\\n".join`` gives *text* again."""
    lines = text.split("\n")
    if not PROMPT.fullmatch(path):
        return lines
    headers = [at for at, line in enumerate(lines) if line.rstrip("\r") in ("# system", "# user", "# assistant")]
    roles = [lines[at].rstrip("\r") for at in headers]
    pieces: list[str] = []
    at = 0
    for i in range(len(headers) - 2):
        if roles[i : i + 2] == ["# user", "# assistant"]:
            start, end = headers[i], headers[i + 2]
            pieces += [*lines[at:start], "\n".join(lines[start:end])]
            at = end
    return [*pieces, *lines[at:]]
