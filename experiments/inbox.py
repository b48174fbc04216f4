"""``ratchet inbox``: what waits for a person, and what they say."""

import getpass
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from experiments.place import Place, here
from experiments.terminal import say, say_json, table
from harness.agent.inbox import CUT, OPEN, Entry, Inbox, Verdict, action_digest, is_cut, refuse_nonsense, visible
from harness.errors import UserError
from harness.experiment import digest
from harness.ledger import is_finished, is_held, journal_file, open_aside
from harness.trials import DurableTrials
from traces.journal import read
from traces.records import Escalation, Run, Span, ToolCall, Trial, now

inbox_app = typer.Typer(help="What waits for a person: approvals, escalations, dead work.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Of an entry, or the beginning of it")]
Note = Annotated[str, typer.Option(help="Why, in your words; it is kept, and the agent is told")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout; its field names are stable")]
All = Annotated[bool, typer.Option("--all", help="Also what is settled")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]


# ── to see ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@inbox_app.callback(invoke_without_command=True)
def bare(context: typer.Context) -> None:
    """What waits for a person: approvals, escalations, dead work. Without a command: list."""
    if context.invoked_subcommand is None:
        show_list(everything=False, as_json=False)


@inbox_app.command("list")
def list_entries(everything: All = False, as_json: AsJson = False) -> None:
    """What waits, the most urgent first; what is the same is one line."""
    show_list(everything=everything, as_json=as_json)


def show_list(*, everything: bool, as_json: bool) -> None:
    swept = swept_inbox().entries()
    found = [e for e in swept if everything or e.state in OPEN]
    if as_json:
        say_json([fields(e) for e in found])
        return
    if not found:
        more = f" {len(swept)} are settled: ratchet inbox list --all" if swept else ""
        say(f"nothing waits for you.{more}")
        return
    at = now()
    rows = [
        (
            f"{group[0].escalation.id[:10]}{f' ×{len(group)}' if len(group) > 1 else ''}",
            group[0].state,
            group[0].escalation.concern,
            visible(group[0].escalation.experiment),
            visible(group[0].escalation.owner) or "nobody",
            visible(group[0].escalation.tool) or "-",
            ago(at - group[0].escalation.raised),
            until(group[0], at),
            one_line(group[0].escalation.summary, 100),
        )
        for group in grouped(found)
    ]
    table(["id", "state", "concern", "experiment", "owner", "holds", "age", "expires", "what"], rows)


def grouped(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Those that say the same together; first what expires first, then the newest."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(likeness(entry), []).append(entry)

    def urgency(group: Sequence[Entry]) -> tuple[bool, float]:
        expires = min((e.escalation.expires for e in group if e.escalation.expires and e.state in OPEN), default=None)
        newest = max(e.escalation.raised for e in group)
        return (expires is None, expires.timestamp() if expires is not None else -newest.timestamp())

    return sorted(groups.values(), key=urgency)


def likeness(entry: Entry) -> tuple[str, ...]:
    """The same for those that say the same."""
    e = entry.escalation
    own = (e.id,) if e.kind == "approval" and entry.state in OPEN else ()  # each has to be answered by itself
    return (e.experiment, e.owner, e.concern, e.kind, entry.state, e.tool, e.summary, *own)


@inbox_app.command("show")
def show_entry(id: Id, as_json: AsJson = False) -> None:
    """One entry: whose it is, why it is here, what exactly is held, and how to see the trace."""
    entry = named(swept_inbox(), id)
    if as_json:
        say_json(fields(entry))
        return
    for line in described(entry, now()):
        say(line)


def described(entry: Entry, at: datetime) -> list[str]:
    """All about *entry*. Whatever others have written stands behind a bar, with nothing in it that a terminal obeys."""
    e = entry.escalation
    lines = [
        f"{e.id}  {entry.state}  {e.kind} ({e.concern})",
        f"owner       {visible(e.owner) or 'nobody is named; see the contract of the experiment'}",
        f"experiment  {visible(e.experiment) or '-'}",
        f"raised      {e.raised:%Y-%m-%d %H:%M:%S} UTC, {ago(at - e.raised)} ago; expires {until(entry, at)}",
        "reason",
        *barred(e.summary),
    ]
    if e.tool:
        lines += action_lines(entry)
    if e.evidence:
        lines.append("evidence")
        for piece in e.evidence:
            lines += barred(piece)
    for ruling in entry.rulings:
        lines.append(f"{ruling.verdict:<11} {ruling.ruled:%Y-%m-%d %H:%M:%S} UTC by {visible(ruling.who)}")
        lines += barred(ruling.note) if ruling.note else []
    if e.trial:
        lines += [f"trial       {visible(e.trial)}", f"trace       ratchet show {shlex.quote(visible(e.trial))}"]
    if entry.state in OPEN:
        verbs = {"approval": "approve | reject", "dead": "redrive | discard", "notice": "discard"}[e.kind]
        lines.append(f"answer      ratchet inbox {verbs} {e.id}")
    return lines


def action_lines(entry: Entry) -> list[str]:
    """What will be done if it is approved, exactly, or what of it cannot be seen."""
    e = entry.escalation
    lines = [f"action      {visible(e.tool)}"]
    for name, value in e.arguments.items():
        lines.append(f"  {visible(name)}:")
        lines += barred(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))
    if e.action and action_digest(ToolCall(id="", name=e.tool, arguments=e.arguments)) != e.action:
        lines.append("  (some of it cannot be shown: secrets, unseen characters, or it is too long)")
    return lines


def barred(text: str) -> list[str]:
    return [f"  │ {line}" for line in visible(text).expandtabs().split("\n")]


# ── to answer ──────────────────────────────────────────────────────────────────────────────────────────────────────


@inbox_app.command()
def approve(id: Id, note: Note = "", yes: Yes = False) -> None:
    """Let a held action happen: once, and within minutes."""
    inbox = swept_inbox()
    entry = named(inbox, id)
    refuse_nonsense(entry, "approved")
    if is_cut(entry.escalation.arguments):
        raise UserError(
            f"the action of {entry.escalation.id} is so long that a part of it was not kept ({CUT}), so nobody can see "
            f"what would be done. To refuse it: ratchet inbox reject {entry.escalation.id}"
        )
    later = refuse_ended(inbox.directory, entry)
    for line in described(entry, now()):
        say(line)
    confirm(entry, "Let exactly this happen, once?", "approve", yes)
    ruling = inbox.rule(entry.escalation.id, "approved", whoami(), note)
    assert ruling.expires is not None
    say(f"approved: it may happen once, until {ruling.expires:%H:%M:%S} UTC{later}")


def refuse_ended(directory: Path, entry: Entry) -> str:
    """Raise where nobody is left who would act on an approval; else what to add where nobody does so yet.

    Raises:
        UserError: the run that asked has ended.
    """
    e = entry.escalation
    journal = journal_of(directory, e)
    if journal is None:
        return ""
    if journal.exists() and is_finished(journal):
        raise UserError(
            f"run {e.run}, which asked for this, has ended, so nobody waits for it and nothing would happen. Take it "
            f"off the list: ratchet inbox reject {e.id}"
        )
    if journal.exists() and is_held(journal):
        return ""
    return (
        f". No process has run {e.run} open: it takes effect when that is taken up by then, with "
        f"ratchet run {visible(e.experiment) or 'NAME'}"
    )


def journal_of(directory: Path, e: Escalation) -> Path | None:
    """Of the run that *e* came from; ``None`` where it came from none."""
    return journal_file(directory, e.run) if e.run and re.fullmatch(r"[\w.-]+", e.run) else None


@inbox_app.command()
def reject(id: Id, note: Note = "") -> None:
    """Refuse a held action; the agent is told why."""
    settle(id, "rejected", note)


@inbox_app.command()
def discard(id: Id, note: Note = "") -> None:
    """Forget dead work, or a notice and all that say the same."""
    settle(id, "discarded", note)


def settle(id: str, verdict: Verdict, note: str) -> None:
    inbox = swept_inbox()
    entry = named(inbox, id)
    who = whoami()
    inbox.rule(entry.escalation.id, verdict, who, note)
    settled = 1
    for like in inbox.entries() if entry.escalation.kind == "notice" else ():
        if likeness(like) == likeness(entry):
            with suppress(UserError):  # somebody else has just done so
                inbox.rule(like.escalation.id, verdict, who, note)
                settled += 1
    many = f", {settled} that say the same" if settled > 1 else ""
    say(f"{verdict}{many}: {one_line(entry.escalation.summary, 200)}")


@inbox_app.command()
def redrive(id: Id, note: Note = "", yes: Yes = False) -> None:
    """Try a dead trial again, now: the same version and task. What the night decided stays as it is."""
    from experiments.cli import closing_run, limited

    inbox = swept_inbox()
    entry = named(inbox, id)
    refuse_nonsense(entry, "redriven")
    died, run = dead_trial(inbox.directory, entry)
    done = done_outside(inbox, entry)
    if done:
        say(f"Calls of {died.task} that changed something outside, or may have. The new trial does not know of them:")
        for line in done:
            say(f"  {line}")
        confirm(entry, "Try it again all the same? It may do them again.", "redrive", yes)
    place = Place.of(run.experiment)
    task = next((t for t in place.experiment.tasks if t.id == died.task), None)
    if task is None:
        raise UserError(
            f"experiment {run.experiment!r} has no task {died.task!r} any more, so its trial cannot be tried again. "
            f"Forget it: ratchet inbox discard {entry.escalation.id}"
        )
    ledger = open_aside(place.directory, place.experiment, died.version, "redrive", entry.escalation.id)
    with closing_run(place, ledger) as executor, limited():
        trials = DurableTrials(place.experiment, ledger, place.subject.text, executor, "redrive")
        [[trial]] = [result[task.id] for result in trials.attempt([died.version], [task])]
    ended = f"{trial.ended}, {trial.error_class}: {trial.error}" if trial.error else f"{trial.ended}"
    say(f"{task.id} by {died.version[:12]} ended: {one_line(ended, 300)}; {score(trial)}")
    say(f"To see it: ratchet show {shlex.quote(trial.id)}")
    inbox.rule(entry.escalation.id, "redriven", whoami(), note)
    say("The comparison of that night stays what it was: this trial is no part of it.")
    if trial.is_lost:
        say("It met trouble again, and is in the inbox again, as a new entry: redrive that one later, or discard it.")
        raise typer.Exit(1)


def dead_trial(directory: Path, entry: Entry) -> tuple[Trial, Run]:
    """The trial that *entry* is about, as its run recorded it, and that run."""
    e = entry.escalation
    journal = journal_of(directory, e)
    found: Trial | None = None
    run: Run | None = None
    for line in read(journal) if journal is not None and journal.exists() else ():
        if line.type == "Run":
            run = cast(Run, line.record())
        elif line.type == "Trial" and line.data.get("id") == e.trial:
            found = cast(Trial, line.record())
    if found is None or run is None:
        raise UserError(
            f"the journal of run {e.run or '?'} does not hold the trial {e.trial or '?'}, so it is not known what to "
            f"try again. Forget it: ratchet inbox discard {e.id}"
        )
    return found, run


def done_outside(inbox: Inbox, entry: Entry) -> list[str]:
    """What the dead trial of *entry* did outside or may have done, in all its attempts; where it is a redriven trial
    itself, what the first one did, too."""
    e = entry.escalation
    journal = journal_of(inbox.directory, e)
    if journal is None or not journal.exists():
        return []
    before = [first for first in inbox.entries() if (e.run or "").endswith(f"-redrive-{first.escalation.id}")]
    return [line for first in before for line in done_outside(inbox, first)] + calls_outside(journal, e.trial or "")


def calls_outside(journal: Path, trial: str) -> list[str]:
    """The calls of *trial*, in all its attempts, that had an effect outside or may have had one, in words.

    A call that was begun and never said how it did is among them: it left nothing but its intent.
    """
    wish = wish_of(trial)
    place = f"effect/{digest(wish)}/"
    begun: dict[str, None] = {}
    made: list[str] = []
    for line in read(journal):
        if line.key is not None and line.key.startswith(place):
            begun.pop(line.key, None)
        elif line.type == "Intent" and str(line.data.get("step", "")).startswith(place):
            begun[str(line.data["step"])] = None
        elif line.type == "Span" and line.data.get("effect") == "outside":
            span = cast(Span, line.record())
            if span.operation == "execute_tool" and span.trial and wish_of(span.trial) == wish and may_have_been(span):
                made.append(call_in_words(span))
    return [*made, *("a call whose end was not seen, and of which nothing else is known" for _ in begun)]


def wish_of(trial: str) -> str:
    """What all attempts at *trial* have in common, by which the effects of its calls are known."""
    return re.sub(r"(/refresh\d+)?(/round(\d+|None))?(/again\d+)?(#\d+)?$", "", trial)


def may_have_been(span: Span) -> bool:
    """Can the call have had its effect? Not where it was not made, or said that it may be made again."""
    told = span.attributes.get("ratchet.status", span.status)
    return told in ("ok", "interrupted") or (told == "error" and span.safe_to_repeat is not True)


def call_in_words(span: Span) -> str:
    asked = span.input_preview or ""
    became = "done" if span.status == "ok" else "it is not known whether it happened"
    return f"{visible(span.name)} {one_line(asked, 200)}: {became}, {span.started:%Y-%m-%d %H:%M:%S} UTC"


def score(trial: Trial) -> str:
    """Of a hidden task nothing is told but whether there is one: nobody may learn from it."""
    if trial.grade is None:
        return "no score"
    return f"score {trial.grade.score:g}" if trial.split == "train" else f"it has a score (hidden: {trial.split})"


# ── what they share ────────────────────────────────────────────────────────────────────────────────────────────────


def swept_inbox() -> Inbox:
    """The inbox of this checkout, with what has run out marked so."""
    _, directory = here()
    inbox = Inbox(directory)
    inbox.sweep()
    return inbox


def named(inbox: Inbox, id: str) -> Entry:
    """The one entry whose id begins with *id*."""
    found = [e for e in inbox.entries() if id and e.escalation.id.startswith(id.lower())]
    exact = [e for e in found if e.escalation.id == id]
    if len(found) == 1 or exact:
        return (exact or found)[0]
    if found:
        shown = ", ".join(e.escalation.id for e in found[:4])
        raise UserError(
            f"{len(found)} entries begin with {id!r}, so it is not clear which is meant: {shown}. Give more"
        )
    raise UserError(f"no entry of the inbox begins with {id[:40]!r}. To see them: ratchet inbox list --all")


def confirm(entry: Entry, question: str, verb: str, yes: bool) -> None:
    """Go on only if a person says so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(
            f"this lets an action happen, and nobody is there to ask. To do it: ratchet inbox {verb} "
            f"{entry.escalation.id} --yes"
        )
    if not typer.confirm(question):
        raise typer.Exit(1)


def whoami() -> str:
    """Who rules: git's name and address, or the login."""

    def git(name: str) -> str:
        done = subprocess.run(["git", "config", name], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    name, address = git("user.name"), git("user.email")
    if name or address:
        return f"{name} <{address}>".strip() if address else name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "somebody"


def fields(entry: Entry) -> dict[str, Any]:
    """*entry* as JSON. The token is the runtime's, and shown to nobody."""
    rulings = [r.model_dump(mode="json", exclude={"token"}) for r in entry.rulings]
    return {**entry.escalation.model_dump(mode="json"), "state": entry.state, "rulings": rulings}


def one_line(text: str, longest: int) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def until(entry: Entry, at: datetime) -> str:
    """When it runs out, as far as it does."""
    expires = entry.ruling.expires if entry.ruling is not None else entry.escalation.expires
    if expires is None or entry.state not in OPEN:
        return "-"
    return f"in {ago(expires - at)}"


def ago(time: timedelta) -> str:
    """``40s``, ``12m``, ``3h``, ``5d``."""
    seconds = max(0, int(time.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size or (unit != "d" and seconds >= size):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
