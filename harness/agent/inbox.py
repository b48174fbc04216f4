"""The inbox: what waits for a person, and what became of it.

One journal, ``spool/inbox.jsonl``, that every run and every command writes to, one at a time by its lock. An escalation
is in it before anything waits for its ruling. An approval is a token: for one action, for one use, for a limited time;
that it is used is written down before the action begins, so that of all who try, one may.
"""

import hashlib
import json
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, cast

from harness.errors import UserError
from harness.meter import meter
from harness.redact import GONE, NAMES, redacted
from traces.errors import BadLine, JournalLocked
from traces.journal import Journal, clean_text, parse
from traces.places import prepare, spool
from traces.records import Concern, Escalation, Ruling, ToolCall, now
from traces.spool import whole_lines

State = Literal["waiting", "approved", "expired", "rejected", "used", "redriven", "discarded", "noted"]
Verdict = Literal["approved", "rejected", "redriven", "discarded"]
"""What a person can say."""

USABLE: Final = timedelta(minutes=15)
"""How long an approval may be used."""
HELD: Final = 3600.0
"""Seconds that a call waits for a person, where nobody says otherwise."""
SKEW: Final = timedelta(minutes=1)
"""By how much the clocks of two processes may differ. An approval from farther in the future is not used."""
PATIENCE: Final = 10.0
"""Seconds that a writer waits for its turn."""
CLOCK: Final = "ratchet"
"""Who rules when nobody did."""
LONGEST_ARGUMENT: Final = 20_000
LONGEST_EVIDENCE: Final = 2_000
LONGEST_SUMMARY: Final = 300
MOST: Final = 50
"""Pieces of evidence, arguments, or parts of one."""
DEEPEST: Final = 8
CUT: Final = "characters left out"

OPEN: Final = frozenset({"waiting", "approved", "noted"})
"""States in which something can still become of an escalation."""
NEXT: Final[Mapping[State, frozenset[str]]] = {
    "waiting": frozenset({"approved", "rejected", "expired", "redriven", "discarded"}),
    "approved": frozenset({"rejected", "expired", "used"}),
    "noted": frozenset({"discarded"}),
}
"""State → verdicts that count in it. Any other line is ignored: nothing un-uses an approval."""
ALLOWED: Final[Mapping[Verdict, frozenset[str]]] = {
    "approved": frozenset({"approval"}),
    "rejected": frozenset({"approval"}),
    "redriven": frozenset({"dead"}),
    "discarded": frozenset({"dead", "notice"}),
}
"""Verdict → kinds of escalation that it is for."""


@dataclass(frozen=True)
class Entry:
    """An escalation, and what became of it so far."""

    escalation: Escalation
    rulings: tuple[Ruling, ...] = ()
    is_doubtful: bool = False
    """A line that was written after its approval cannot be read: perhaps it said that the approval was used."""

    @property
    def ruling(self) -> Ruling | None:
        """The last one."""
        return self.rulings[-1] if self.rulings else None

    @property
    def state(self) -> State:
        if self.ruling is not None:
            return "expired" if self.is_doubtful and self.ruling.verdict == "approved" else self.ruling.verdict
        return "noted" if self.escalation.kind == "notice" else "waiting"

    def ruled(self, ruling: Ruling) -> "Entry":
        """With *ruling*, if it counts."""
        is_for = ALLOWED.get(cast(Verdict, ruling.verdict), frozenset({"approval"}))
        if ruling.verdict in NEXT.get(self.state, ()) and self.escalation.kind in is_for:
            return replace(self, rulings=(*self.rulings, ruling))
        return self

    def is_past(self, at: datetime) -> bool:
        """Has the time run out that it had to be answered, or that its approval had to be used?"""
        ruling = self.ruling
        until = ruling.expires if ruling is not None else self.escalation.expires
        return self.escalation.kind == "approval" and self.state in OPEN and (until is None or at >= until)


@dataclass
class _Known:
    """What was read of the file so far."""

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    file: int = -1
    """Its inode: another file is read from its beginning."""
    offset: int = 0

    def take(self, raw: bytes, offset: int, length: int) -> None:
        self.offset = offset + length
        try:
            record = parse(raw, offset).record()
        except BadLine:
            self.entries = {
                id: replace(e, is_doubtful=True) if e.state == "approved" else e for id, e in self.entries.items()
            }
            return
        if isinstance(record, Escalation):
            self.entries.setdefault(record.id, Entry(record))
        elif isinstance(record, Ruling) and record.escalation in self.entries:
            self.entries[record.escalation] = self.entries[record.escalation].ruled(record)


class Inbox:
    """The inbox of the traces in *directory*. Threads may share it; processes each open their own."""

    def __init__(self, directory: Path, clock: Callable[[], datetime] = now, *, usable: timedelta = USABLE) -> None:
        self.directory = directory
        self.path = spool(directory) / "inbox.jsonl"
        self._clock = clock
        self._usable = usable
        self._turn = threading.RLock()
        self._known = _Known()

    # ── for the runtime ────────────────────────────────────────────────────────────────────────────────────────

    def hold(self, escalation: Escalation) -> None:
        """Put *escalation* in, once: its id finds what is there already, and what was ruled on it."""
        if escalation.kind == "approval" and escalation.expires is None:
            raise ValueError("an approval that nothing ends would be waited for without end")
        if escalation.id in self._read():
            return
        with self._writing() as journal:
            if escalation.id not in self._read():
                journal.append(escalation, key=escalation.id, durable=escalation.kind == "approval")

    def await_ruling(self, id: str, *, check: Callable[[], None], poll: float = 0.2) -> Ruling:
        """Wait until somebody ruled on the escalation *id*, or until it expires, which is written down then.

        *check* is called before each look; what it raises ends the wait.

        Raises:
            LookupError: it is not in the inbox.
        """
        before, waited = self._clock(), timedelta()
        while True:
            check()
            entry = self._read().get(id)
            if entry is None:
                raise LookupError(f"{id} was not put into the inbox, so nobody can rule on it")
            if entry.ruling is not None and entry.state not in ("waiting", "expired"):
                return entry.ruling
            at = self._clock()
            waited += max(at - before, timedelta())  # a clock that is put back must not make it wait longer
            before = at
            expires = entry.escalation.expires
            late = expires is not None and waited >= expires - entry.escalation.raised
            if entry.state == "expired" or late or entry.is_past(at):
                return self._expire(id, at)
            time.sleep(poll)

    def redeem(self, ruling: Ruling, action: str) -> bool:
        """May the *action* begin that *ruling* approved? Only one is ever told so, and only once.

        ``False`` for what was not approved, for another action than the approved one, for a token that is not the
        approval's, too late, too early, or used.
        """
        with self._writing() as journal:
            entry = self._read().get(ruling.escalation)
            approval = entry.ruling if entry is not None and entry.state == "approved" else None
            if entry is None or approval is None or approval.token is None or approval.expires is None:
                return False
            at = self._clock()
            is_same = secrets.compare_digest((ruling.token or "").encode(), approval.token.encode())
            is_bound = bool(action) and secrets.compare_digest(action.encode(), entry.escalation.action.encode())
            is_time = approval.ruled - SKEW <= at < approval.expires
            if not (is_same and is_bound and is_time):
                return False
            used = Ruling(escalation=ruling.escalation, verdict="used", who=CLOCK, ruled=at)
            journal.append(used, key=f"{ruling.escalation}/used", durable=True)
            return True

    # ── for people ─────────────────────────────────────────────────────────────────────────────────────────────

    def rule(self, id: str, verdict: Verdict, who: str, note: str = "") -> Ruling:
        """Write down what *who* says about the escalation *id*.

        Raises:
            UserError: it makes no sense any more, or never did.
        """
        with self._writing() as journal:
            entry = self._read().get(id)
            if entry is None:
                raise UserError(
                    f"there is no {id} in the inbox, so nothing can be ruled on. To see it: ratchet inbox list"
                )
            at = self._clock()
            if entry.is_past(at):
                self._append(journal, expiry(id, at))
                entry = self._read()[id]
            refuse_nonsense(entry, verdict)
            approves = verdict == "approved"
            ruling = Ruling(
                escalation=id,
                verdict=verdict,
                who=clean_line(who, 200) or "somebody",
                ruled=at,
                note=clean_line(note, LONGEST_EVIDENCE),
                token=secrets.token_urlsafe(32) if approves else None,
                expires=at + self._usable if approves else None,
            )
            self._append(journal, ruling)
            return ruling

    def entries(self) -> list[Entry]:
        """All there is, the oldest first."""
        return sorted(self._read().values(), key=lambda entry: entry.escalation.raised)

    def sweep(self, at: datetime | None = None) -> list[Ruling]:
        """Write down as expired what nobody answered in time, and approvals that nobody used in time."""
        at = at or self._clock()
        if not any(entry.is_past(at) for entry in self._read().values()):
            return []
        with self._writing() as journal:
            late = [expiry(id, at) for id, entry in self._read().items() if entry.is_past(at)]
            for ruling in late:
                self._append(journal, ruling)
            return late

    # ── the file ───────────────────────────────────────────────────────────────────────────────────────────────

    def _expire(self, id: str, at: datetime) -> Ruling:
        with self._writing() as journal:
            entry = self._read()[id]
            if entry.state == "waiting" or entry.is_past(at):
                self._append(journal, expiry(id, at))
                return expiry(id, at)
            return expiry(id, at) if entry.ruling is None or entry.is_doubtful else entry.ruling

    def _append(self, journal: Journal, ruling: Ruling) -> None:
        journal.append(ruling, key=f"{ruling.escalation}/{ruling.verdict}", durable=True)

    def _read(self) -> Mapping[str, Entry]:
        """What the file holds by now; only what is new is read."""
        with self._turn:
            try:
                status = self.path.stat()
            except FileNotFoundError:
                self._known = _Known()
                return self._known.entries
            if status.st_ino != self._known.file or status.st_size < self._known.offset:
                self._known = _Known(file=status.st_ino)
            if status.st_size > self._known.offset:
                for offset, length, raw in whole_lines(self.path, self._known.offset):
                    self._known.take(raw, offset, length)
            return dict(self._known.entries)

    @contextmanager
    def _writing(self) -> Generator[Journal]:
        """The journal, as soon as nobody else writes it.

        Raises:
            JournalLocked: somebody did for all of ``PATIENCE``.
        """
        prepare(self.directory)
        with self._turn:
            until = time.monotonic() + PATIENCE
            while True:
                with suppress(JournalLocked):
                    journal = Journal(self.path)
                    break
                if time.monotonic() > until:
                    journal = Journal(self.path)
                    break
                time.sleep(0.002 + 0.008 * secrets.randbelow(100) / 100)
            with journal:
                yield journal


def expiry(id: str, at: datetime) -> Ruling:
    return Ruling(escalation=id, verdict="expired", who=CLOCK, ruled=at, note="nobody answered, or used it, in time")


def refuse_nonsense(entry: Entry, verdict: Verdict) -> None:
    """Raise ``UserError`` where *verdict* cannot be what becomes of *entry*."""
    id, kind, state = entry.escalation.id, entry.escalation.kind, entry.state
    if kind not in ALLOWED[verdict]:
        can = [COMMANDS[name] for name, kinds in ALLOWED.items() if kind in kinds]
        verbs = " or ".join(f"ratchet inbox {name} {id}" for name in can)
        raise UserError(f"{id} is {KINDS[kind]}, which cannot be {verdict}. It can be: {verbs}")
    if verdict not in NEXT.get(state, ()):
        when = f" {entry.ruling.ruled:%Y-%m-%d %H:%M} UTC by {entry.ruling.who}" if entry.ruling else ""
        raise UserError(
            f"{id} is {state} already{when}, so it cannot be {verdict} any more. To see it: ratchet inbox show {id}"
        )


COMMANDS: Final[Mapping[Verdict, str]] = {
    "approved": "approve",
    "rejected": "reject",
    "redriven": "redrive",
    "discarded": "discard",
}
KINDS: Final = {
    "approval": "an action that is held",
    "notice": "a notice of what has ended",
    "dead": "a trial that failed in all its attempts",
}


# ── what is put into it ────────────────────────────────────────────────────────────────────────────────────────


def action_digest(call: ToolCall) -> str:
    """Of the tool and its arguments, however they are written: what an approval is bound to, and an effect known by."""
    canonical = json.dumps([call.name, plain(call.arguments)], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def notify(escalation: Escalation) -> None:
    """Put what nothing waits for into the inbox of the run in progress. A check's own trials are nobody's concern."""
    directory, run = meter().directory, meter().run
    if directory is not None and run is not None and run.trigger != "check":
        Inbox(directory).hold(escalation)


def plain(value: object) -> object:
    """*value* with whole numbers as such: 5.0 is 5, as JSON schema has it."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in cast("Sequence[object]", value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def escalation(
    kind: Literal["approval", "notice", "dead"],
    concern: Concern,
    summary: str,
    *,
    call: ToolCall | None = None,
    evidence: Sequence[str] = (),
    place: str = "",
    wait: float = HELD,
    trial: str | None = None,
    span: str | None = None,
    clock: Callable[[], datetime] = now,
) -> Escalation:
    """An escalation of the trial in progress, or of *trial*, fit for the inbox: without secrets, and of a size.

    *place* tells it from others of the same trial, and is the same on a resumed run, such as the key of the step. For
    an approval it has to be another for each time that a call may be made: what was used stays used. *wait*: seconds
    that an approval is waited for.
    """
    run, trial = meter().run, trial or meter().trial
    action = action_digest(call) if call is not None else ""
    told = summary if kind != "approval" or call is None else ""
    parts = (run.id if run else "", re.sub(r"#\d+$", "", trial or ""), kind, concern, place, action, told)
    raised = clock()
    return Escalation(
        id=hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16],
        kind=kind,
        concern=concern,
        experiment=run.experiment if run else "",
        owner=clean_line(run.owner, 200) if run else "",
        run=run.id if run else None,
        trial=trial,
        span=span,
        summary=clean_line(summary, LONGEST_SUMMARY),
        evidence=tuple(clean_lines(piece, LONGEST_EVIDENCE) for piece in evidence[:MOST]),
        action=action,
        tool=clean_line(call.name, 100) if call is not None else "",
        arguments=cast("dict[str, Any]", kept(call.arguments)) if call is not None else {},
        raised=raised,
        expires=raised + timedelta(seconds=max(0.0, wait)) if kind == "approval" else None,
    )


def kept(value: object, name: str = "", depth: int = DEEPEST) -> object:
    """Of an argument what the inbox keeps: no secrets, and no more than a person would read.

    Whatever is left out leaves ``CUT`` behind, and what was never seen whole is not approved.
    """
    if isinstance(value, str):
        hides = bool(NAMES.search(name)) and len(value) >= 8
        return GONE if hides else cut(redacted(clean_text(value)), LONGEST_ARGUMENT)
    if isinstance(value, Mapping):
        items = list(cast("Mapping[object, object]", value).items())
        left = {f"[{len(items) - MOST} more]": CUT} if len(items) > MOST else {}
        if not depth:
            return CUT
        return {redacted(str(k))[:200]: kept(v, str(k), depth - 1) for k, v in items[:MOST]} | left
    if isinstance(value, list | tuple):
        members = list(cast("Sequence[object]", value))
        left = [f"[{len(members) - MOST} more: {CUT}]"] if len(members) > MOST else []
        return [kept(v, name, depth - 1) for v in members[:MOST]] + left if depth else CUT
    return value


def is_cut(value: object) -> bool:
    """Was something left out of these arguments when they were kept?"""
    return CUT in json.dumps(value, default=str)


def cut(text: str, longest: int) -> str:
    """*text*, or its beginning and its end."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}[… {len(text) - 2 * half:,} {CUT} …]{text[-half:]}"


def clean_lines(text: str, longest: int) -> str:
    """*text* without secrets, and without what a terminal would obey."""
    return visible(cut(redacted(clean_text(text)), longest))


def clean_line(text: str, longest: int) -> str:
    return clean_lines(" ".join(text.split()), longest)


def visible(text: str) -> str:
    """*text* with every character that is not seen, or that changes how others are seen, written as its number; line
    breaks and tabs stay."""
    return "".join(c if c in "\n\t" or not is_unseen(c) else f"\\u{{{ord(c):x}}}" for c in text)


def is_unseen(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
