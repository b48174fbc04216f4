"""What was tried, and how it ended: the history of a run in words, for whoever proposes the next change of code.

What is left out for want of room is counted, never dropped in silence. All of it was written by models, by people, or
by what a candidate printed: whoever shows it to a model puts it between tags, and *key* makes these hold.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from math import sqrt
from statistics import fmean, variance
from typing import Literal

from analysis.proposers.briefing import beginning, sealed, shortened
from harness.agent.context import text_tokens
from harness.errors import UserError
from harness.gate.metric import numbers, outcomes, student
from harness.progress import fingerprint
from harness.protocols import History
from traces.records import Comparison, Round, Trial

TOKENS = 6_000
CONFIDENCE = 0.90
WHY = 300
"""Characters of a rationale, of an error or of an objection that are shown."""
LINE = 120
"""Characters of a line of code that are shown, and of a round that has one line."""
CONTEXT = 1
"""Lines around a hunk."""
NAMES = 6
"""Things that were changed, of which the changes that are left out are counted."""
ALIKE = 6
"""Changes that are shown of those that ended in the same way."""
NO_KEY = "\0"
CITED = 12
"""Numbers of rounds that are listed one by one."""

Kind = Literal["kept", "near", "failed", "refused", "flat", "void"]
TITLES: Mapping[Kind, str] = {
    "kept": "Kept, the newest first",
    "near": "Near misses, the nearest first: they measured better at least once, and were not kept",
    "failed": "Gave no number, the most frequent failure first",
    "refused": "Refused before anything was run; the same would be refused again",
    "flat": "Measured and no better, the newest first",
    "void": "Came to nothing for reasons that say nothing about the change",
}
NAMED: Mapping[Kind, str] = {
    "kept": "kept",
    "near": "nearly better",
    "failed": "without a number",
    "refused": "refused unrun",
    "flat": "no better",
    "void": "void",
}
SHARES: Mapping[Kind, float] = {"kept": 0.38, "near": 0.3, "failed": 0.35, "refused": 0.5, "void": 0.3, "flat": 1.0}
"""Of the room that is left when their turn comes, in this order."""
DIFFED: Mapping[Kind, int] = {"kept": 24, "near": 14, "failed": 8, "refused": 8, "flat": 8, "void": 0}
"""Lines of a change that are shown."""
IN_FULL: Mapping[Kind, int] = {"kept": 40, "near": 40, "failed": 12, "refused": 12, "flat": 4, "void": 0}
"""How many are shown with their change, however much room there is."""
GROUPED: frozenset[Kind] = frozenset({"failed", "refused", "void"})
"""Told once for all rounds that ended in the same way."""
ASSIGNED = re.compile(r"""\s*(?:self\.)?["']?([A-Za-z_][\w.]*)["']?\s*(?:[-+*/|&%@]|//|\*\*|<<|>>)?(?:=(?!=)|:)""")
CALLED = re.compile(r"([A-Za-z_][\w.]*)\(")
ERROR = re.compile(r"[\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b.*")
TRACEBACK = "Traceback (most recent call last):"
GAVE_NONE = re.compile(r"\d+ of \d+ runs gave no [^:]*: ")


def recap(history: History, tokens: int = TOKENS, *, key: str = "", metric: str = "") -> str:
    """What was tried in this run and how it ended, in at most so many *tokens* of about four bytes.

    It cites rounds (``round 12``). First where the run stands: the incumbent's metric with its 90 % interval, and how
    many rounds ended in which way. Then what was kept and the near misses, with their changes; what failed and what
    was refused, once for each way in which it did; what was no better; and ``history.memory``, what earlier runs
    learned. Older rounds have a line each, then they are counted by what they changed. The same for the same history.

    *key*: what marks tags around untrusted text, in the question that this goes into. It is taken out here, with
    whatever looks like such a tag. Secrets always are. *metric*: its name, which the first comparison tells otherwise.
    """
    key = key or NO_KEY
    notes = memory_of(history, key, tokens // 5)
    head = "\n".join([now(history, key, metric), *standing(history)])
    kinds = {kind: [r for r in history.rounds if kind_of(r) == kind] for kind in TITLES}
    changes = Changes(history, key)
    left = tokens - text_tokens(head) - text_tokens(notes) - 4
    said: dict[Kind, str] = {}
    waiting: list[Kind] = [kind for kind in SHARES if kinds[kind]]
    for kind in waiting:
        room = left if kind == waiting[-1] else int(left * SHARES[kind])
        said[kind] = section(kind, told(kind, kinds[kind], changes), room)
        left -= text_tokens(said[kind]) + 1
    parts = [head, *(said[kind] for kind in TITLES if said.get(kind)), *([notes] if notes else [])]
    return shortened("\n\n".join(parts), tokens)


# ── where it stands ────────────────────────────────────────────────────────────────────────────────────────────


def now(history: History, key: str, metric: str) -> str:
    """The incumbent's number."""
    trials = history.trials
    values = values_of(trials)
    compared = (c.metric for r in reversed(history.rounds) if (c := comparison_of(r)) is not None)
    name = metric or next(filter(None, compared), "metric")
    sigma = next((c.sigma for r in reversed(history.rounds) if (c := comparison_of(r)) and c.sigma is not None), None)
    if values:
        scatter = f"; a single run scatters by sigma = {sigma:.3g}" if sigma is not None else ""
        return f"The incumbent: {sealed(name, key)} {with_interval(values)}{scatter}."
    scores = [t.grade.score for t in trials if t.grade is not None]
    return f"The incumbent: score {with_interval(scores)}." if scores else "The incumbent has no number yet."


def values_of(trials: Sequence[Trial]) -> tuple[float, ...]:
    """The number of each run of the incumbent."""
    by_task: dict[str, list[Trial]] = {}
    for trial in trials:
        by_task.setdefault(trial.task, []).append(trial)
    least = min(map(len, by_task.values()), default=0)
    return numbers(outcomes({task: found[:least] for task, found in by_task.items()}))


def with_interval(values: Sequence[float]) -> str:
    mean, n = fmean(values), len(values)
    if n < 2:
        return f"{mean:.6g} (n = 1, so nothing is known of its noise)"
    half = student(n - 1, CONFIDENCE) * sqrt(variance(values) / n)
    return f"{mean:.6g} [{mean - half:.6g}, {mean + half:.6g}] ({CONFIDENCE:.0%} interval, n = {n})"


def standing(history: History) -> Iterator[str]:
    """How many rounds ended in which way."""
    rounds = history.rounds
    counted = Counter(map(kind_of, rounds))
    ends = ", ".join(f"{counted[kind]} {NAMED[kind]}" for kind in TITLES if counted[kind])
    yield f"{count(len(rounds), 'round')} so far{f': {ends}. Gains are above 0 when it got better' if ends else ''}."
    if kept := [r for r in rounds if kind_of(r) == "kept"]:
        yield f"Since the last change that was kept: {count(rounds[-1].number - kept[-1].number, 'round')}."


def memory_of(history: History, key: str, tokens: int) -> str:
    if not history.memory.strip():
        return ""
    title = "What earlier runs tried and learned:\n"
    return title + shortened(sealed(history.memory, key).strip(), tokens - text_tokens(title) - 1)


def count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


# ── how rounds ended ───────────────────────────────────────────────────────────────────────────────────────────


def kind_of(r: Round) -> Kind:
    d, c = r.decision, comparison_of(r)
    if d is None or d.because in ("no-proposal", "errors", "drift"):
        return "void"
    if d.verdict == "keep":
        return "kept"
    if d.because in ("already-tried", "invalid", "not-a-candidate", "unfounded"):
        return "refused"
    if c is None or c.gain is None:
        return "failed"
    return "near" if nearness(c) > 0 else "flat"


def comparison_of(r: Round) -> Comparison | None:
    return r.decision.comparison if r.decision is not None else None


def nearness(c: Comparison) -> float:
    """The best that can be said for it: its gain, or that of its first run, in sigmas where these are known."""
    first = c.differences[0] if c.metric and c.differences else 0.0
    return max(c.gain or 0.0, first) / (c.sigma or 1.0)


def numbers_of(c: Comparison) -> str:
    """Both scores and the gain, with what tells how sure it is."""
    if c.gain is None:
        return ""
    both = (
        f"{c.incumbent_score:.6g} → {c.candidate_score:.6g}, "
        if None not in (c.incumbent_score, c.candidate_score)
        else ""
    )
    sure = [f"{c.gain / c.sigma:+.1f} sigma"] if c.metric and c.sigma else []
    if c.low is not None and c.high is not None:
        sure.append(f"{c.confidence:.0%} interval [{c.low:+.3g}, {c.high:+.3g}]")
    sure.append(f"n = {c.tasks}")
    runs = ""
    if c.metric and len(c.differences) > c.tasks:
        runs = f"; its first run {c.differences[0]:+.3g}, which it was chosen for"
    return f"{c.metric or 'score'} {both}gain {c.gain:+.4g} ({', '.join(sure)}{runs})"


def why_not(r: Round) -> str:
    """What ended a round that was not measured: of an error the class and the last line of it."""
    detail = r.decision.detail if r.decision is not None else ""
    if kind_of(r) != "failed":
        return detail
    told = GAVE_NONE.sub("", detail, count=1)
    lines = [line.strip() for line in told.splitlines() if line.strip()] or ["it gave no number"]
    last = next((found[0] for line in reversed(lines) if (found := ERROR.match(line))), lines[-1])
    first = lines[0].removesuffix(TRACEBACK).rstrip(": ") if lines[0] != last else ""
    return f"{first[:LINE]} … {last}" if first else last


# ── what is told of them ───────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Changes:
    """What the rounds of a history changed. Each version is read once."""

    history: History
    key: str
    read: dict[str, Mapping[str, str] | None] = field(default_factory=dict[str, Mapping[str, str] | None])
    parts: dict[int, list[tuple[str, str, str]]] = field(default_factory=dict[int, list[tuple[str, str, str]]])

    def before(self, version: str) -> Mapping[str, str] | None:
        """The files of *version*; ``None`` where they are not to be had."""
        if version not in self.read:
            try:
                self.read[version] = self.history.text_of(version) if self.history.text_of else None
            except UserError:  # it was pruned
                self.read[version] = None
        return self.read[version]

    def of(self, r: Round) -> list[tuple[str, str, str]]:
        """Path, what stood there and what came in its place, Python first."""
        if r.number not in self.parts:
            before = self.before(r.incumbent)
            edits = r.proposal.edits if r.proposal is not None and before is not None else ()
            found = [(e.path, (before or {}).get(e.path, ""), e.text or "") for e in edits]
            self.parts[r.number] = sorted(found, key=lambda part: (not part[0].endswith(".py"), part[0]))
        return self.parts[r.number]

    def diff(self, r: Round, most: int) -> list[str]:
        """The change as a unified diff of at most about so many lines."""
        lines: list[str] = []
        for path, old, new in self.of(r):
            lines += [f"--- {path}", *hunks(old.splitlines(), new.splitlines())]
        if not lines and r.proposal is not None and most:
            return [f"changes {', '.join(e.path for e in r.proposal.edits)}; what stood there is not known any more"]
        shown = [sealed(line, self.key)[:LINE] for line in lines[:most]]
        more = [f"[… {len(lines) - most} more lines of it …]"] if len(lines) > most else []
        return [*shown, *more]

    def first_lines(self, r: Round) -> tuple[str, str]:
        """The first line that went, and the first that came."""
        for _, old, new in self.of(r):
            gone, come = differing(old.splitlines(), new.splitlines())
            if gone or come:
                old_line, new_line = (
                    next((line.strip() for line in part if line.strip()), "") for part in (gone, come)
                )
                return old_line, new_line
        return "", ""

    def subject(self, r: Round) -> str:
        """What it changed, in a word: the name that is assigned or called where it begins, else the file."""
        old, new = self.first_lines(r)
        for line in (old, new):
            if found := ASSIGNED.match(line) or CALLED.search(line):
                return sealed(found[1], self.key)[:40]
        path = r.proposal.edits[0].path if r.proposal is not None and r.proposal.edits else ""
        return sealed(path, self.key)[-40:] or "no file"

    def line(self, r: Round) -> str:
        """The change in one line."""
        old, new = (sealed(line, self.key)[: LINE // 2] for line in self.first_lines(r))
        if old or new:
            return f"`{old}` → `{new}`" if old and new else f"added `{new}`" if new else f"removed `{old}`"
        return beginning(" ".join(r.proposal.rationale.split()), self.key, LINE) if r.proposal is not None else ""

    def why(self, r: Round) -> str:
        """Its rationale, on one line."""
        return beginning(" ".join(r.proposal.rationale.split()), self.key, WHY) if r.proposal is not None else ""


def differing(old: Sequence[str], new: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The lines between those that are the same at both ends."""
    start, end = agreeing(old, new)
    return old[start : len(old) - end], new[start : len(new) - end]


def agreeing(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines are the same at the beginning, and how many of the others at the end."""
    least = min(len(old), len(new))
    start = next((i for i in range(least) if old[i] != new[i]), least)
    end = next((i for i in range(least - start) if old[-1 - i] != new[-1 - i]), least - start)
    return start, end


def hunks(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """As in a unified diff; of the lines that are the same at both ends only those beside a change are looked at."""
    start, end = (max(n - CONTEXT, 0) for n in agreeing(old, new))
    before, after = old[start : len(old) - end], new[start : len(new) - end]
    for group in SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(CONTEXT):
        yield f"@@ line {start + group[0][1] + 1} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from (f" {line}" for line in before[i1:i2])
                continue
            yield from (f"-{line}" for line in before[i1:i2])
            yield from (f"+{line}" for line in after[j1:j2])


@dataclass(frozen=True)
class Item:
    """Rounds that are told of at once, the newest first."""

    kind: Kind
    rounds: tuple[Round, ...]
    changes: Changes

    def full(self) -> str:
        """What was changed, why, and what came of it."""
        r = self.rounds[0]
        diff = [f"    {line}" for line in self.changes.diff(r, DIFFED[self.kind])]
        why = self.changes.why(r)
        others = [f"    round {r.number}: {said}" for r in self.rounds[1:ALIKE] if (said := self.changes.line(r))]
        return "\n".join([self.ended, *([f"    why: {why}"] if why else []), *diff, *others])

    def line(self) -> str:
        said = "" if self.kind == "void" else self.changes.line(self.rounds[0])
        return f"{self.ended}{f'; {said}' if said else ''}"

    @property
    def ended(self) -> str:
        r, key = self.rounds[0], self.changes.key
        assert r.decision is not None or self.kind == "void"
        because = r.decision.because if r.decision is not None else "no decision"
        said = beginning(" ".join(why_not(r).split()), key, WHY)
        measured = sealed(numbers_of(c), key) if (c := comparison_of(r)) is not None else ""
        if self.kind in GROUPED:
            often = f"{len(self.rounds)} times, " if len(self.rounds) > 1 else ""
            of = "" if self.kind == "failed" else f"{because}: "
            return f"{often}{cited(self.rounds)}: {of}{said}"
        gone = f"; taken out again in round {n}" if (n := self.changes_gone(r)) is not None else ""
        return f"round {r.number}: {because}, {measured or said}{gone}"

    def changes_gone(self, r: Round) -> int | None:
        """The round after which the change of *r* was taken out again."""
        rounds = self.changes.history.rounds
        gone = (late.number for late in rounds for x in late.removals if x.verdict == "drop" and r.number in x.rounds)
        return next(gone, None) if self.kind == "kept" else None


def cited(rounds: Sequence[Round]) -> str:
    """Their numbers, the newest first."""
    numbers = [str(r.number) for r in rounds]
    if len(numbers) == 1:
        return f"round {numbers[0]}"
    more = f" and {len(numbers) - CITED} before" if len(numbers) > CITED else ""
    return f"rounds {', '.join(numbers[:CITED])}{more}"


def told(kind: Kind, rounds: Sequence[Round], changes: Changes) -> list[Item]:
    """The most telling first."""
    newest = list(reversed(rounds))
    if kind == "near":
        newest.sort(key=lambda r: -nearness(c) if (c := comparison_of(r)) else 0.0)
    if kind not in GROUPED:
        return [Item(kind, (r,), changes) for r in newest]
    groups: dict[str, list[Round]] = {}
    for r in newest:
        because = r.decision.because if r.decision is not None else ""
        groups.setdefault(fingerprint(f"{because} {why_not(r)}"), []).append(r)
    return [Item(kind, tuple(group), changes) for group in sorted(groups.values(), key=len, reverse=True)]


def section(kind: Kind, items: Sequence[Item], room: int) -> str:
    """The first items with their change, the next ones in a line each, and the rest counted; within *room* tokens."""
    lines = [f"{TITLES[kind]}:"]
    left = room - text_tokens(lines[0]) - FOLDED
    is_short = False
    for at, item in enumerate(items):
        text = "" if is_short else item.full()
        if not text or text_tokens(text) + 1 > left * (1 if at == len(items) - 1 else 0.7) or at >= IN_FULL[kind]:
            is_short, text = True, item.line()
        left -= text_tokens(text) + 1
        if left < 0:
            return "\n".join([*lines, folded(items[at:])])
        lines.append(text)
    return "\n".join(lines)


FOLDED = 90
"""Tokens that the line about what is left out may take."""


def folded(items: Sequence[Item]) -> str:
    """What is left out, counted by what it changed."""
    rounds = [r for item in items for r in item.rounds]
    numbers, changes, kind = sorted(r.number for r in rounds), items[0].changes, items[0].kind
    counted = Counter(changes.subject(r) for r in rounds).most_common()
    names = [f"{n} of {name}" for name, n in counted[:NAMES]]
    if len(counted) > NAMES:
        names.append(f"{sum(n for _, n in counted[NAMES:])} of other things")
    where = f"round {numbers[0]}" if len(numbers) == 1 else f"rounds {numbers[0]}-{numbers[-1]}"
    text = f"[… left out, {where}: {len(rounds):,} {NAMED[kind]}, {', '.join(names)} …]"
    return shortened(text, FOLDED) if text_tokens(text) > FOLDED else text
