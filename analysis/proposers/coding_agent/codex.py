"""Codex: how it is run, and what it prints (``codex exec --json``)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.proposers.coding_agent.session import (
    AgentReport,
    Ended,
    Events,
    Line,
    Uses,
    class_of_words,
    count,
    mapping,
    words,
)
from harness.models.prices import Price, list_price
from traces.records import Usage, now

URL = "https://api.openai.com/v1"
PROVIDER = "ratchet"
"""What its settings call the server that it talks to."""
NO_TOOLS = frozenset({"agent_message", "reasoning", "error", "todo_list", "plan"})
FAILED = frozenset({"failed", "declined", "error"})


@dataclass(frozen=True)
class Codex:
    """The program ``codex``, without the settings of whoever runs it.

    It has no limit in dollars, so a session is expected to use ``max_tokens``, and may use more.
    """

    model: str
    max_tokens: int = 2_000_000
    """Of a session, expected: what a budget sets aside for it, and what a session is charged that never said what it
    used."""
    effort: str = ""
    """How much it reasons: ``low``, ``medium``, ``high``; empty: the model's own."""
    program: str = field(default="codex", repr=False)
    install: str = field(default="npm install -g @openai/codex", repr=False)
    key: str = field(default="OPENAI_API_KEY", repr=False)
    """The environment variable that holds the key."""
    url: str = field(default=URL, repr=False)
    """Of a server that speaks OpenAI's responses API."""
    price: Price | None = field(default=None, repr=False)
    """``None``: by the public price list, where the model is on it."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """More environment variables for it, such as a proxy. No secrets: they may be shown."""

    @property
    def name(self) -> str:
        return f"codex:{self.model}"

    def command(self, program: str, prompt: str, *, is_contained: bool) -> Sequence[str]:
        server = f"model_providers.{PROVIDER}"
        settings = {
            "model_provider": PROVIDER,
            f"{server}.name": PROVIDER,
            f"{server}.base_url": self.url,
            f"{server}.env_key": self.key,
            f"{server}.wire_api": "responses",
            "shell_environment_policy.inherit": "core",
            **({"model_reasoning_effort": self.effort} if self.effort else {}),
        }
        command = [program, "exec", "--json", "--skip-git-repo-check", "--ephemeral", "--ignore-user-config"]
        command += ["--color", "never", "--model", self.model]
        command += ["--sandbox", "danger-full-access" if is_contained else "workspace-write"]
        for name, value in settings.items():
            command += ["-c", f"{name}={json.dumps(value)}"]
        return [*command, "--", prompt]

    def environment(self, key: str, home: str) -> Mapping[str, str]:
        return {self.key: key, "CODEX_HOME": f"{home}/.codex", **self.variables}

    def estimate(self) -> Usage:
        return self.priced(Usage(calls=1, input_tokens=self.max_tokens))

    def priced(self, usage: Usage) -> Usage:
        known = self.price
        dollars = known.dollars(usage) if known else list_price(self.url, self.model, usage, now())
        return usage.model_copy(update={"dollars": dollars})

    def report(self, lines: Iterable[Line]) -> AgentReport:
        events, uses = Events(lines), Uses()
        ended: Ended = "no_result"
        said = session = detail = ""
        usage: Usage | None = None
        turns = 0
        for at, event in events:
            item = mapping(event.get("item"))
            match event.get("type"):
                case "thread.started":
                    session = words(event.get("thread_id"))
                case "turn.started":
                    turns += 1
                    ended = "no_result"
                case "item.started" | "item.completed" as what:
                    kind = words(item.get("type"))
                    if kind == "agent_message":
                        said = words(item.get("text")) or said
                    elif kind and kind not in NO_TOOLS:
                        id = words(item.get("id"))
                        uses.begin(id, kind, arguments_of(item), at)
                        if what == "item.completed":
                            uses.end(id, result_of(item), at, failed=has_failed(item))
                case "turn.completed":
                    ended = "done"
                    usage = usage_of(mapping(event.get("usage"))) or usage  # of the whole session so far
                case "turn.failed":
                    ended, detail = "failed", words(mapping(event.get("error")).get("message")) or detail
                case "error":  # perhaps it goes on
                    detail = words(event.get("message"))
                case _:
                    pass
        error_class = ""
        if ended == "failed":
            error_class = class_of_words(detail)
            ended = "auth" if error_class == "auth" else "failed"
        elif ended == "no_result":
            error_class = class_of_words(detail) if detail else "no_result"
        return AgentReport(
            ended=ended,
            message=said,
            error_class=error_class,
            detail="" if ended == "done" else detail or "it ended without a result",
            usage=usage,
            turns=turns,
            uses=uses.all(),
            session=session,
            torn=events.torn,
        )


def usage_of(usage: Mapping[str, Any]) -> Usage | None:
    """``None``: it says nothing. The input has the cached part in it, the output what it thought."""
    if not usage:
        return None
    return Usage(
        calls=1,
        input_tokens=count(usage.get("input_tokens")),
        cached_tokens=count(usage.get("cached_input_tokens")),
        cache_write_tokens=count(usage.get("cache_write_input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        dollars=None,
    )


def arguments_of(item: Mapping[str, Any]) -> str:
    about = {name: value for name, value in item.items() if name not in ("id", "type", *RESULTS)}
    return words(item.get("command")) or json.dumps(about, ensure_ascii=False)


RESULTS = ("aggregated_output", "exit_code", "status", "result", "error")


def result_of(item: Mapping[str, Any]) -> str:
    if output := words(item.get("aggregated_output")):
        return output
    told = item.get("error") or item.get("result")
    return "" if told is None else words(told) or json.dumps(told, ensure_ascii=False)


def has_failed(item: Mapping[str, Any]) -> bool:
    return item.get("status") in FAILED or item.get("exit_code") not in (None, 0)
