"""A proposer that lets a coding agent work on the program: Claude Code or Codex, in a folder of its own.

What it leaves there is data: it is read back, compared, and checked as any other proposal. The agent sees the program,
the notes on what was tried, and what the experiment declares readable; never the repository, the grader, a hidden task
or the traces.
"""

import ast
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import harness
from analysis.proposers.analyst import digest
from analysis.proposers.coding_agent.session import ENDED_FROM_OUTSIDE, Agent, AgentReport, ToolUse
from analysis.proposers.coding_agent.supervise import Heard, Limits, Running, in_a_sandbox, on_a_leash, watch
from analysis.proposers.coding_agent.worktree import (
    HOME,
    TEMPORARY,
    WORK,
    Left,
    check_readable,
    lay_out,
    left_in,
    named,
)
from analysis.proposers.examples import proposal_id
from analysis.proposers.recap import recap
from harness.agent.inbox import visible
from harness.candidacy import identity, objection
from harness.errors import BudgetSpent, ModelError, TrialError, UserError
from harness.meter import inside, meter, spending
from harness.models.chat import ESTIMATED, PREVIEW
from harness.protocols import History, Sandbox
from harness.redact import redacted
from harness.sandboxes import INSIDE, best_sandbox
from harness.sandboxes.folder import remove
from harness.sandboxes.isolation import Isolated, search_path, temporary_folder
from harness.text import render
from harness.versions import applied
from traces import otel
from traces.journal import clean_text
from traces.records import INFRASTRUCTURE, Edit, Proposal, Span, Text, Turn, Usage, now

FOLDER = Path(harness.__file__).parent / "text" / "agent_proposer"
PROPOSE = "prompts/propose.md"
ROLE = "proposer"
TRIES = 2
"""Sessions for one proposal, the one that is told what was wrong with the first included."""
NOTES = "NOTES-{}.md"
MEMORY = 6 << 30
"""Bytes of memory that the agent and what it runs may use."""
PROCESSES = 512
LONGEST_RATIONALE = 1_500
TOLD = 400
"""Characters of one problem that an agent is told, and of what a program complained about."""
MOST_SPANS = 500
"""Tool calls of one session that are traced, the first ones."""
MOST_SAID = 20_000
"""Characters of what a tool was given or gave back that are traced."""


def wording() -> dict[str, str]:
    """What the agent is told, from ``harness/text/agent_proposer``: path → text."""
    files = sorted(path for path in FOLDER.rglob("*.md") if path.is_file())
    return {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in files}


@dataclass(frozen=True)
class CodingAgentProposer:
    """Has *agent*, ``ClaudeCode(…)`` or ``Codex(…)``, change the program.

    It runs in a sandbox with a network, since it has to reach its provider; there it may also run programs. With
    ``sandbox=NoSandbox`` it runs under its own restrictions alone, and Codex can then read whatever you can. It knows
    its key, and what it sends goes to its provider.

    A session that is killed with Ratchet is charged its estimate and not taken up again: another one is begun.
    """

    agent: Agent
    goal: str = ""
    """What is measured and which way is better, for the agent: ``val_bpb, lower is better``."""
    readable: Mapping[str, Path | str] = field(default_factory=dict[str, Path | str])
    """Place in the agent's folder → file or folder that it may read besides the program."""
    seconds: float = 1800.0
    """Of one session."""
    idle: float = 300.0
    """Seconds without a word after which a session is ended."""
    sandbox: Callable[..., Sandbox] = best_sandbox
    """As of ``CommandRunner``; ``NoSandbox``: none."""
    notes: int = 6_000
    """Tokens for what was tried before."""
    wording: Mapping[str, str] = field(default_factory=wording)
    """The files of a version of what the agent is told."""

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.idle > 0):
            raise UserError(
                f"a session of {self.seconds:g} seconds, {self.idle:g} of them in silence, could do nothing. Give "
                "CodingAgentProposer(…, seconds=…, idle=…) more"
            )

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        """One change to *text*.

        Raises:
            UserError: the agent is not installed, has no key, or is to be shown what it must not see.
            ModelError: its provider cannot be reached, or does not take the key.
            TrialError: the session ended without a change that can be used, also when the agent was told what is wrong.
            BudgetSpent: the run may not buy a session, or has to end at once.
        """
        program, key = program_of(self.agent), key_of(self.agent)
        readable = {place: Path(path) for place, path in self.readable.items()}
        check_readable(readable, text)
        notes = {notes_name(text, readable): without(recap(history, self.notes), key)}
        sandbox = self.opened()
        problems: tuple[str, ...] = ()
        left: tuple[Edit, ...] = ()
        for number in range(TRIES):
            asked = Asked(text, applied(text, left), readable, notes, problems, problems != () and left != ())
            made = self.made(number, asked, program, key, sandbox)
            if made.ended != "done":
                raise_for(made, self.agent)
            problems = tuple(fault[:TOLD] for fault in faults(made, text, history, key))
            if not problems:
                return proposal_of(made, incumbent)
            left = () if made.faults or not made.edits else made.edits
        raise TrialError("proposer", "malformed", f"no change of code that can be used: {'; '.join(problems)}")

    def opened(self) -> Isolated | None:
        """The sandbox; ``None``: the agent runs without one."""
        opened = self.sandbox(network=True, seconds=self.seconds, memory=MEMORY, processes=PROCESSES)
        return opened if isinstance(opened, Isolated) else None

    def made(self, number: int, asked: "Asked", program: Path, key: str, sandbox: Isolated | None) -> "Made":
        """What a session came to: a durable step, so that a session which has ended is not paid for again."""
        step = f"propose/{number}/{asked.digest(self.agent.name)}"
        again = 2 if meter().steps.begun(step) else 1

        def make() -> Turn:
            made = self.session(asked, program, key, sandbox, again)
            return Turn(text=json.dumps(made.as_json(), ensure_ascii=False), finish_reason=made.ended)

        return Made.from_json(json.loads(meter().steps.step(step, make).text))

    # ── a session ──────────────────────────────────────────────────────────────────────────────────────────────

    def session(self, asked: "Asked", program: Path, key: str, sandbox: Isolated | None, attempt: int) -> "Made":
        """Run the agent once, announced to the meter and charged."""
        with a_folder() as folder, spending(ROLE):
            lay_out(folder, asked.text, asked.now, asked.readable, asked.notes, is_shown=sandbox is not None)
            prompt = self.prompt(asked, may_run=sandbox is not None)
            span, estimate = uuid.uuid4().hex, self.agent.estimate()
            heard, started = Heard(), now()
            meter().begin(span, self.agent.name, estimate, attempt)
            broken_off: BaseException | None = None
            try:
                with self.running(folder, prompt, asked, program, key, sandbox) as running:
                    watch(running, Limits(self.seconds, self.idle), heard)
            except BaseException as e:
                broken_off = e
                raise
            finally:
                report = report_of(self.agent, heard, self)
                about = Session(span, started, attempt, prompt, key, is_stopped=isinstance(broken_off, BudgetSpent))
                self.account(report, heard, about, estimate, broken_off)
            left = left_in(folder / WORK, asked.text, asked.readable, asked.notes, is_shown=sandbox is not None)
        if held := [edit.path for edit in left.edits if key in f"{edit.path}{edit.text}"]:
            left = Left((), (f"{named(held)} would hold the key of the agent's provider",), left.aside)
        detail = without(report.detail, key)
        return Made(
            ended=report.ended,
            message=without(report.message, key),
            error_class=report.error_class,
            detail=detail[: 2 * TOLD],
            edits=left.edits,
            faults=left.faults,
            aside=left.aside,
        )

    def prompt(self, asked: "Asked", *, may_run: bool) -> str:
        [message] = render(
            self.wording,
            PROPOSE,
            goal=self.goal,
            files=named(sorted(asked.text), 40),
            readable=named(sorted(asked.readable), 40),
            notes=next(iter(asked.notes)),
            may_run="yes" if may_run else "",
            problems="\n".join(f"- {problem}" for problem in asked.problems),
            is_kept="yes" if asked.is_kept else "",
        )
        return message.content

    @contextmanager
    def running(
        self, folder: Path, prompt: str, asked: "Asked", program: Path, key: str, sandbox: Isolated | None
    ) -> Generator[Running]:
        home = f"{INSIDE}/{HOME}" if sandbox else str(folder / HOME)
        command = self.agent.command(str(program), prompt, is_contained=sandbox is not None)
        paths = [f"{sys.prefix}/bin", search_path()] if sandbox else [os.environ.get("PATH", os.defpath)]
        environment = {
            "PATH": os.pathsep.join([str(program.parent), *paths]),
            "HOME": home,
            "LANG": "C.UTF-8",
            "TMPDIR": "/tmp" if sandbox else str(folder / TEMPORARY),
            **self.agent.environment(key, home),
        }
        if sandbox is None:
            with on_a_leash(command, folder / WORK, environment) as running:
                yield running
            return
        shown = {f"{WORK}/{place}": path for place, path in asked.readable.items()}
        box = replace(sandbox, readable=(*sandbox.readable, *unseen(program)), placed={**sandbox.placed, **shown})
        with in_a_sandbox(box, command, folder, WORK, environment, self.seconds) as running:
            yield running

    def account(
        self, report: AgentReport, heard: Heard, about: "Session", estimate: Usage, broken_off: BaseException | None
    ) -> None:
        """Hand the session and the tools that it called over to the meter."""
        usage, is_estimated = charged(report, self.agent, estimate)
        if broken_off is not None and not about.is_stopped and not heard.lines:
            usage, is_estimated = Usage(calls=1), False  # it never started
        asked = text_of(about.prompt, about.key)
        answered = text_of(report.message, about.key)
        known: dict[str, Any] = {
            otel.AGENT_NAME: self.agent.name,
            otel.RESPONSE_MODEL: ", ".join(report.models) or None,
            otel.RESPONSE_ID: report.session or None,
            otel.FINISH_REASONS: [report.ended],
            ESTIMATED: True if is_estimated else None,
            "ratchet.agent.turns": report.turns,
            "ratchet.agent.torn_lines": report.torn or None,
        }
        has_failed = report.ended != "done"
        with inside(about.span):
            texts: list[Text] = []
            for use in report.uses[:MOST_SPANS]:
                span, said = span_of(use, about.key)
                meter().end(span, said)
        meter().end(
            Span(
                id=about.span,
                operation="chat",
                name=self.agent.name,
                started=about.started,
                seconds=heard.seconds,
                status="interrupted" if about.is_stopped else "error" if has_failed else "ok",
                error=without(report.detail, about.key) or None,
                error_class=report.error_class or None,
                attempt=about.attempt,
                usage=usage,
                input_hash=asked.hash,
                input_preview=asked.text[-PREVIEW:],
                output_hash=answered.hash,
                output_preview=answered.text[:PREVIEW],
                attributes={name: value for name, value in known.items() if value is not None},
            ),
            (asked, answered, *texts),
        )


@dataclass(frozen=True)
class Asked:
    """What a session begins with."""

    text: Mapping[str, str]
    """The incumbent's files."""
    now: Mapping[str, str]
    """What stands in the folder."""
    readable: Mapping[str, Path]
    notes: Mapping[str, str]
    problems: tuple[str, ...]
    is_kept: bool

    def digest(self, agent: str) -> str:
        seen = [agent, sorted(self.now.items()), sorted(self.text.items()), self.notes, self.problems]
        return digest([json.dumps(seen, sort_keys=True), sorted(map(str, self.readable.items()))])


@dataclass(frozen=True)
class Session:
    """What the trace of a session is made with."""

    span: str
    started: datetime
    attempt: int
    prompt: str
    key: str
    is_stopped: bool


@dataclass(frozen=True)
class Made:
    """What a session came to, as it is kept."""

    ended: str
    message: str
    error_class: str
    detail: str
    edits: tuple[Edit, ...]
    faults: tuple[str, ...]
    aside: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {**self.__dict__, "edits": [edit.model_dump() for edit in self.edits]}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Made":
        said = {name: str(kept[name]) for name in ("ended", "message", "error_class", "detail")}
        edits = tuple(Edit.model_validate(edit) for edit in kept["edits"])
        return cls(**said, edits=edits, faults=tuple(kept["faults"]), aside=tuple(kept["aside"]))


# ── before a session ───────────────────────────────────────────────────────────────────────────────────────────


def program_of(agent: Agent) -> Path:
    """Where the agent's program really is.

    Raises:
        UserError: nowhere.
    """
    found = shutil.which(agent.program)
    if found is None:
        raise UserError(
            f"there is no program {agent.program!r}, so {agent.name} cannot be asked for a change. Install it: "
            f"{agent.install}; or say where it is, program='/path/to/{PurePosixPath(agent.program).name}'"
        )
    return Path(found).resolve()


def key_of(agent: Agent) -> str:
    """The key that the agent is to use.

    Raises:
        UserError: there is none.
    """
    key = os.environ.get(agent.key, "").strip()
    if not key:
        raise UserError(
            f"{agent.name} needs a key, and the environment variable {agent.key} is empty; nothing else of your "
            f"environment is handed on. Type: export {agent.key}=…; or name another variable, key='NAME'"
        )
    return key


def installed(program: Path) -> list[Path]:
    """What has to be seen in a sandbox for *program* to start: the whole of what npm installed, and its interpreter."""
    above = [parent for parent in program.parents if parent.name == "node_modules"]
    needed = [above[-1] if above else program]
    with program.open("rb") as file:
        line = file.readline(200)
    if line.startswith(b"#!") and (words := line[2:].decode(errors="replace").split()):
        name = words[-1] if words[0].endswith("/env") else words[0]
        if found := shutil.which(name):
            needed += {Path(found), Path(found).resolve()}
    return needed


def unseen(program: Path) -> list[Path]:
    """What a sandbox has to show besides what it always does: *program*, and the Python environment that runs us."""
    shown = [Path("/usr"), Path(sys.base_prefix), Path(sys.base_prefix).resolve()]
    needed: list[Path] = []
    for path in (Path(sys.prefix), *installed(program)):
        if not any(path.is_relative_to(other) for other in (*shown, *needed)):
            needed.append(path)
    return needed


def notes_name(text: Mapping[str, str], readable: Mapping[str, Path]) -> str:
    """A name for the notes that no file has."""
    taken = {path.split("/")[0] for path in (*text, *readable)}
    return next(name for n in range(len(taken) + 1) if (name := NOTES.format(n)) not in taken)


@contextmanager
def a_folder() -> Generator[Path]:
    """For a session. What one that was killed with Ratchet has left there, goes first."""
    place = meter().folder
    if place is not None:
        for folder in place.glob("ratchet-agent-*"):
            remove(folder)
    with temporary_folder("ratchet-agent-") as folder:
        yield folder
    if place is not None:
        with suppress(OSError):  # something else is in it
            place.rmdir()


# ── after a session ────────────────────────────────────────────────────────────────────────────────────────────


def report_of(agent: Agent, heard: Heard, limits: CodingAgentProposer) -> AgentReport:
    """What the session came to: by its own word, unless that is missing and it was ended from outside."""
    report = agent.report(heard.lines)
    if heard.ended == "exit":
        if report.ended != "no_result":
            return report
        how = f"was killed at a limit of its sandbox ({heard.limit})" if heard.limit else f"ended with {heard.code}"
        said = complaint(heard)
        return replace(report, detail=f"{report.detail}: the program {how}{f' and complained: {said}' if said else ''}")
    if report.ended == "done" and heard.ended in ("time", "idle"):
        return report  # its work was done; only the program was not
    said = {
        "time": f"it was ended after {limits.seconds:g} seconds. Give it more: CodingAgentProposer(…, seconds=…)",
        "idle": f"it was ended after {limits.idle:g} seconds without a word",
        "output": "it was ended since it printed too much",
        "stopped": "it was ended with the run",
    }
    why = f"{said[heard.ended]}{f' ({report.detail})' if report.detail else ''}"
    in_trouble = report.is_transient and heard.ended in ("time", "idle")
    error_class = report.error_class if in_trouble else ENDED_FROM_OUTSIDE[heard.ended]
    return replace(report, ended=heard.ended, detail=why, error_class=error_class)


def charged(report: AgentReport, agent: Agent, estimate: Usage) -> tuple[Usage, bool]:
    """What a session costs, and whether that is an estimate: what it says; nothing where it got no answer at all; else,
    since work was done that nobody counted, what was expected."""
    if report.usage is not None:
        return agent.priced(report.usage), False
    got_nothing = not report.uses and not report.message
    if got_nothing and (report.ended in ("failed", "auth") or report.is_transient or not report.session):
        return Usage(calls=1), False
    return estimate, True


def faults(made: Made, text: Mapping[str, str], history: History, key: str) -> tuple[str, ...]:
    """What is wrong with the change that a session made; a sentence for each."""
    if made.faults:
        return made.faults
    if not made.edits:
        aside = f"; only {named(made.aside)}, which is no part of it" if made.aside else ""
        return (f"no file of the program was changed{aside}",)
    if broken := [fault for edit in made.edits if (fault := syntax_fault(edit, text))]:
        return tuple(broken)
    after = applied(text, made.edits)
    if identity(after) == identity(text):
        return ("the program does what it did before: only comments, names of nothing or blanks were changed",)
    if why := objection(text, after):
        return (why,)
    if history.version_of is not None and (version := history.version_of(made.edits)) in history.tried:
        return (f"exactly this was tried before ({history.tried[version]}): make another change",)
    return ()


def syntax_fault(edit: Edit, text: Mapping[str, str]) -> str:
    """Why a file of Python cannot be read any more; empty: it can, or could not before either."""
    if not edit.path.endswith(".py") or edit.text is None:
        return ""
    try:
        ast.parse(edit.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        line = getattr(e, "lineno", None)
        return f"{edit.path!r} is no Python any more{f', line {line}' if line else ''}: {e}"
    return ""


def raise_for(made: Made, agent: Agent) -> NoReturn:
    """A session that did not end by itself, as an error.

    Raises:
        ModelError: it could not be asked; transient where that says nothing about what it was asked.
        TrialError: it could, and came to nothing.
    """
    message = f"{agent.name}: {made.ended}{f': {made.detail}' if made.detail else ''}"
    if made.error_class in INFRASTRUCTURE:
        raise ModelError(made.error_class, message, transient=True)
    if made.error_class in ("auth", "quota", "not_found", "bad_request"):
        advice = f". The key was taken from {agent.key}" if made.error_class == "auth" else ""
        raise ModelError(made.error_class, f"{message}{advice}")
    raise TrialError("proposer", made.ended, message)


def proposal_of(made: Made, incumbent: str) -> Proposal:
    said = visible(made.message).strip()
    said = f"{said[: LONGEST_RATIONALE - 1]}…" if len(said) > LONGEST_RATIONALE else said
    aside = f"\n\nNot taken, since it is no part of the program: {named(made.aside)}." if made.aside else ""
    return Proposal(
        id=proposal_id(incumbent, made.edits),
        proposer=CodingAgentProposer.__name__,
        edits=made.edits,
        rationale=f"{said or 'The agent did not say why.'}{aside}",
    )


# ── what is traced ─────────────────────────────────────────────────────────────────────────────────────────────


def span_of(use: ToolUse, key: str) -> tuple[Span, tuple[Text, Text]]:
    given, back = text_of(use.arguments[:MOST_SAID], key), text_of(use.result[:MOST_SAID], key)
    span = Span(
        id=uuid.uuid4().hex,
        operation="execute_tool",
        name=without(use.name, key)[:64] or "tool",
        started=use.started,
        seconds=use.seconds,
        status="interrupted" if use.error_class == "interrupted" else "error" if use.failed else "ok",
        error=back.text[:TOLD] or use.error_class if use.failed else None,
        error_class=use.error_class if use.failed else None,
        input_hash=given.hash,
        input_preview=given.text[-PREVIEW:],
        output_hash=back.hash,
        output_preview=back.text[:PREVIEW],
        attributes={otel.TOOL_CALL_ID: without(use.id, key)},
    )
    return span, (given, back)


def text_of(said: str, key: str) -> Text:
    return Text.of(without(said, key))


def without(said: str, key: str) -> str:
    """*said* without secrets, the agent's *key* first of all."""
    return clean_text(redacted(said, {**os.environ, "RATCHET_AGENT_KEY": key}))


def complaint(heard: Heard) -> str:
    """The last of what the program complained about."""
    return visible(bytes(heard.complaints).decode("utf-8", "replace")).strip()[-TOLD:]
