"""The runner that is an agent: a model, its tools, what checks it, and what stops it."""

import tempfile
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from pydantic import BaseModel

from harness.agent.attempts import Attempts
from harness.agent.calls import Locks
from harness.agent.children import Child, limits_of
from harness.agent.context import Context
from harness.agent.deadline import OutOfTime, within
from harness.agent.fields import check_fields
from harness.agent.hooks import Hook, Hooks
from harness.agent.limits import Limits, Watch
from harness.agent.mcp import McpServer, conditions_of, connected
from harness.agent.policy import Policy, standard_policy
from harness.agent.session import Session, Setting
from harness.agent.tools import skill_tool, submit_tool
from harness.errors import TrialError, UserError, boundary
from harness.meter import Under, meter, metered
from harness.models import model
from harness.models.routing import Routes
from harness.protocols import Model, Outcome, Sandbox, Tool, ToolModel, Verifier, Work
from harness.redact import redacted
from harness.sandboxes import INSIDE
from harness.sandboxes.folder import remove
from harness.text import PROMPTS, SOLVE, render, validate
from harness.worktrees import Worktree
from traces.journal import clean_text
from traces.records import Completion, Span, Task, now

PLAIN_TOKENS: Final = 512
AGENT_TOKENS: Final = 4096
"""Of one answer: an agent writes files."""
SUBSCRIBER_SECONDS: Final = 5.0
TREE: Final = "tree"
"""In the folder of a trial: the worktree."""


@dataclass(frozen=True)
class AgentRunner:
    """Asks a model, with the version's ``prompts/solve.md`` filled with the task.

    With tools it is an agent: turns of a model call and tool calls, until the model ends by itself or a limit ends it.
    Its output is the model's last answer, or the git patch of its *worktree*, where it has one. A *verifier* then tells
    whether that will do, and sends it back with what is wrong. A model that cannot call tools takes a plain turn.
    """

    model: Model | Routes | str
    """A model; the name of one, ``local:smollm2-135m``, ``openai:MODEL``, ``anthropic:MODEL``; or one for each role."""
    tools: Sequence[Tool] = ()
    servers: Sequence[McpServer] = ()
    """MCP servers whose tools it has besides."""
    children: Sequence[Child] = ()
    policy: Policy = field(default_factory=lambda: standard_policy(INSIDE))
    limits: Limits = field(default_factory=Limits)
    verifier: Verifier | None = None
    sandbox: Sandbox | None = None
    worktree: Worktree | None = None
    hooks: Sequence[Hook] = ()
    context: Context = field(default_factory=Context)
    schema: type[BaseModel] | Mapping[str, Any] | None = None
    """What an answer has to look like; it is asked for again where it does not."""
    prompt: str = SOLVE
    role: str = "maker"
    patience: float = 300.0
    """Seconds that a call which needs approval waits for a person."""
    subscribers: Sequence[Callable[[Completion], None]] = ()
    """Told when a session has ended: at least once each."""

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            has_tools = bool(self.tools or self.servers or self.children)
            object.__setattr__(self, "model", model(self.model, max_tokens=AGENT_TOKENS if has_tools else PLAIN_TOKENS))
        check_fields(self)
        if self.worktree is not None and self.sandbox is None:
            raise UserError(
                "an agent with a worktree and no sandbox could read and write anything on this machine. Give it one: "
                "AgentRunner(…, sandbox=best_sandbox(), worktree=…)"
            )

    @property
    def price_known(self) -> bool:
        return getattr(self.model, "price_known", False)

    def check(self, text: Mapping[str, str]) -> None:
        """Raise ``InvalidText`` with everything that is wrong with *text*."""
        agents = [self, *(child.agent for child in self.children)]
        validate(text, {agent.prompt: PROMPTS[SOLVE] for agent in agents})

    def conditions(self) -> Mapping[str, str]:
        """What it works with: the sandbox, and its MCP servers as they declare themselves."""
        found = conditions_of(connected(self.servers))
        return {**found, "sandbox": type(self.sandbox).__name__} if self.sandbox is not None else found

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str | Outcome:
        own = self.tools_for(text)
        if not (own or self.verifier or self.worktree or self.hooks or self.schema or self.subscribers):
            return self.model_of(self.role).complete(render(text, self.prompt, task=task.input), seed=seed).text
        with metered(meter()), self._work(task, text) as (work, folder):  # outside a run: one meter for all of it
            session = self.session(self.role, work, seed, own, Watch(self.limits), folder)

            def handed_in(said: str) -> str:
                return self._patch(folder) if folder is not None and self.worktree is not None else said

            return self._told(session, Attempts(session, self.verifier, handed_in).outcome())

    # ── sessions ───────────────────────────────────────────────────────────────────────────────────────────────

    def session(
        self, name: str, work: Work, seed: int, tools: Sequence[Tool], watch: Watch, folder: Path | None
    ) -> Session:
        """A new session, or the one that a killed process began."""
        prompt = render(work.text, self.prompt, task=work.task.input)
        setting = Setting(
            name=name,
            role=self.role,
            model=self.model_of(self.role),
            summariser=self.model_of("summariser"),
            tools=tuple(tools),
            policy=self.policy,
            hooks=Hooks(self.hooks),
            context=self.context,
            schema=self.schema,
            patience=self.patience,
        )
        return Session(
            setting=setting,
            work=work,
            seed=seed,
            watch=watch,
            steps=Under(meter().steps, name),
            state=partial(self.worktree.state, folder) if self.worktree and folder else None,
            locks=Locks(),
            messages=prompt,
            head=len(prompt),
        )

    def child_of(self, parent: Session, name: str, work: Work) -> Session:
        """A session of this agent inside of *parent*'s: its rights and its limits are never more than the parent's."""
        path = f"{parent.setting.name}/{work.idempotency_key}/{name}"
        watch = Watch(limits_of(self.limits, parent.watch.left()))
        session = self.session(path, work, parent.seed, self.tools_for(work.text), watch, None)
        session.setting = replace(
            session.setting,
            role=name,
            policy=parent.setting.policy.narrowed(self.policy),
            patience=min(self.patience, parent.setting.patience),
            hooks=Hooks([*parent.setting.hooks.hooks, *self.hooks]),
        )
        session.state, session.locks, session.depth = parent.state, parent.locks, parent.depth + 1
        return session

    def model_of(self, role: str) -> Model:
        if isinstance(self.model, Routes):
            return self.model.of(role)
        assert not isinstance(self.model, str)
        return self.model

    def tools_for(self, text: Mapping[str, str]) -> list[Tool]:
        """All that its model can call; nothing where it cannot call anything."""
        able = self.model_of(self.role)
        if not (isinstance(able, ToolModel) and able.takes_tools):
            return []
        found: list[Tool] = [*self.tools, *self.children, *connected(self.servers)]
        if skills := skill_tool(text):
            found.append(skills)
        if self.schema is not None and found:
            found.append(submit_tool(self.schema))
        return found

    # ── where it works ─────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _work(self, task: Task, text: Mapping[str, str]) -> Generator[tuple[Work, Path | None]]:
        """The trial's folder and sandbox; those of a killed process are taken up as they were left.

        Raises:
            TrialError: the sandbox does not open, or the files that a killed process worked on are gone.
        """
        if self.sandbox is None:
            yield Work(task, text, seconds=self.limits.seconds), None
            return
        with ExitStack() as stack:
            folder = meter().folder
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ratchet-")))
            tree = folder / TREE
            went_on = meter().steps.recall(f"{self.role}/turn/1") is not None
            if went_on and not tree.is_dir():
                raise TrialError("sandbox", "worktree_lost", f"{tree} is gone, on which a killed process had worked")
            if not went_on:
                self._prepare(tree)
            box = stack.enter_context(self.sandbox.open(tree))
            yield Work(task, text, box, seconds=self.limits.seconds), tree

    def _patch(self, tree: Path) -> str:
        """What the trial has changed. What outgrew all limits is its own failure; a disk that is full is not."""
        assert self.worktree is not None
        try:
            return self.worktree.patch(tree)
        except OSError as e:
            raise TrialError("sandbox", "disk", f"{type(e).__name__}: {e}") from e

    def _prepare(self, tree: Path) -> None:
        remove(tree)
        tree.mkdir(parents=True)
        if self.worktree is not None:
            with boundary("sandbox"):
                self.worktree.prepare(tree)

    def _told(self, session: Session, outcome: Outcome) -> Outcome:
        """Tell the subscribers that it has ended; whoever was told stays told when the process dies."""
        if self.subscribers:
            ended = Completion(
                session=f"{meter().trial}/{session.setting.name}",
                trial=meter().trial,
                ended=outcome.ended,
                detail=outcome.detail,
                output=outcome.output,
                turns=session.turns,
                calls=session.calls,
            )
            for number, subscriber in enumerate(self.subscribers):
                session.steps.step(f"told/{number}", lambda tell=subscriber: told(tell, ended))
        return outcome


def told(subscriber: Callable[[Completion], None], completion: Completion) -> Completion:
    """Tell it. What it raises, and that it takes too long, is its own affair and a span, and no fault of the trial."""
    span, started, clock, error = uuid.uuid4().hex, now(), perf_counter(), ""

    def tell() -> None:
        with boundary("runner"):
            subscriber(completion)

    try:
        within(SUBSCRIBER_SECONDS, tell, meter().check_clock)
    except OutOfTime:
        error = f"it took more than {SUBSCRIBER_SECONDS:g} seconds"
    except (TrialError, UserError) as e:
        error = redacted(clean_text(str(e)))
    meter().end(
        Span(
            id=span,
            operation="hook",
            name=getattr(subscriber, "__qualname__", type(subscriber).__qualname__),
            started=started,
            seconds=perf_counter() - clock,
            status="error" if error else "ok",
            error=error or None,
        )
    )
    return completion
