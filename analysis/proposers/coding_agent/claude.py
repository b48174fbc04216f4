"""Claude Code: how it is run, and what it prints (``claude -p --output-format stream-json``)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.proposers.coding_agent.session import (
    AgentReport,
    Ended,
    Events,
    Line,
    Uses,
    amount,
    class_of_status,
    class_of_words,
    count,
    items,
    mapping,
    words,
)
from traces.records import Usage

SYNTHETIC = "<synthetic>"
"""The model of a message that the program wrote by itself."""
TOOLS = ("Read", "Edit", "Write", "Grep")
CONTAINED = ("Bash", "Glob")
"""Only in a sandbox: ``Glob`` lists whatever folder it is given without asking."""
ENDS: Mapping[str, Ended] = {"error_max_budget_usd": "dollar_cap", "error_max_turns": "turn_cap"}


@dataclass(frozen=True)
class ClaudeCode:
    """The program ``claude``, without the settings of whoever runs it: neither plug-ins, hooks nor MCP servers."""

    model: str = ""
    """Empty: the program's own choice."""
    max_dollars: float = 2.0
    """Of a session. It ends at the call that goes beyond it, so it may be a call more."""
    max_tokens: int = 2_000_000
    """Of a session, expected: what a budget in tokens sets aside for it, and what a session is charged that never said
    what it used."""
    max_turns: int | None = None
    program: str = field(default="claude", repr=False)
    install: str = field(default="npm install -g @anthropic-ai/claude-code", repr=False)
    key: str = field(default="ANTHROPIC_API_KEY", repr=False)
    """The environment variable that holds the key; it is handed on under this name. ``CLAUDE_CODE_OAUTH_TOKEN`` works
    as well."""
    url: str = field(default="", repr=False)
    """Of another server that speaks its API."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """More environment variables for it, such as a proxy. No secrets: they may be shown."""

    @property
    def name(self) -> str:
        return f"claude-code:{self.model or 'default'}"

    def command(self, program: str, prompt: str, *, is_contained: bool) -> Sequence[str]:
        tools = (*TOOLS, *CONTAINED) if is_contained else TOOLS
        command = [program, "-p", prompt, "--output-format", "stream-json", "--verbose"]
        command += ["--permission-mode", "acceptEdits", "--tools", ",".join(tools)]
        command += ["--allowedTools", "Bash"] if is_contained else []
        command += ["--max-budget-usd", f"{self.max_dollars:g}", "--setting-sources", "user", "--strict-mcp-config"]
        command += ["--no-session-persistence", "--disable-slash-commands"]
        command += ["--model", self.model] if self.model else []
        command += ["--max-turns", str(self.max_turns)] if self.max_turns is not None else []
        return command

    def environment(self, key: str, home: str) -> Mapping[str, str]:
        return {
            self.key: key,
            **({"ANTHROPIC_BASE_URL": self.url} if self.url else {}),
            "CLAUDE_CONFIG_DIR": f"{home}/.claude",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            **self.variables,
        }

    def estimate(self) -> Usage:
        return Usage(calls=1, input_tokens=self.max_tokens, dollars=self.max_dollars)

    def priced(self, usage: Usage) -> Usage:
        return usage  # it says itself what it cost

    def report(self, lines: Iterable[Line]) -> AgentReport:
        events, uses = Events(lines), Uses()
        result: Mapping[str, Any] = {}
        models: dict[str, None] = {}
        calls: set[str] = set()
        said = session = trouble = ""
        denied: set[str] = set()
        for at, event in events:
            session = words(event.get("session_id")) or session
            message = mapping(event.get("message"))
            match event.get("type"):
                case "assistant":
                    model = words(message.get("model"))
                    if model and model != SYNTHETIC:
                        models[model], trouble = None, ""
                        calls.add(words(message.get("id")))
                    for block in items(message.get("content")):
                        if block.get("type") == "text":
                            said = words(block.get("text")) or said
                        elif block.get("type") == "tool_use":
                            arguments = json.dumps(block.get("input"), ensure_ascii=False)
                            uses.begin(words(block.get("id")), words(block.get("name")), arguments, at)
                case "user":
                    for block in items(message.get("content")):
                        if block.get("type") == "tool_result":
                            failed = block.get("is_error") is True
                            uses.end(words(block.get("tool_use_id")), text_of(block.get("content")), at, failed=failed)
                case "system" if event.get("subtype") == "permission_denied":
                    denied.add(words(event.get("tool_use_id")))
                case "system" if event.get("subtype") == "api_retry":
                    trouble = trouble_of(event)
                case "result":
                    result = event  # its totals are of the whole session, so the last one counts
                case _:
                    pass
        ended, error_class, detail = end_of(result, trouble)
        denied |= {words(denial.get("tool_use_id")) for denial in items(result.get("permission_denials"))}
        return AgentReport(
            ended=ended,
            message=words(result.get("result")) or said,
            error_class=error_class,
            detail=detail,
            usage=usage_of(result, len(calls)) if result else None,
            turns=count(result.get("num_turns")) or len(calls),
            uses=tuple(
                replace(use, error_class="denied") if use.failed and use.id in denied else use for use in uses.all()
            ),
            models=tuple(models),
            session=session,
            torn=events.torn,
        )


def end_of(result: Mapping[str, Any], trouble: str) -> tuple[Ended, str, str]:
    """How a session ended, with the class of the error and its words. ``subtype`` alone says too little: an API that
    failed is a ``success`` with ``is_error``."""
    if not result:
        why = f", while it met {trouble} again and again" if trouble else ""
        return "no_result", trouble or "no_result", f"it ended without a result{why}"
    subtype = words(result.get("subtype"))
    errors = result.get("errors")
    listed = "; ".join(str(error) for error in errors) if isinstance(errors, list) else ""
    detail = listed or words(result.get("result"))
    if subtype in ENDS:
        return ENDS[subtype], ENDS[subtype], detail
    if result.get("stop_reason") == "refusal":
        return "refused", "refusal", detail
    if result.get("is_error") is False and subtype == "success":
        return "done", "", ""
    status = count(result.get("api_error_status"))
    error_class = class_of_status(status) if status else class_of_words(detail)
    return "auth" if error_class == "auth" else "failed", error_class, detail


def usage_of(result: Mapping[str, Any], calls: int) -> Usage:
    """The totals of a session. What each message says repeats with every block of it, so none of that is added up."""
    by_model = [mapping(used) for used in mapping(result.get("modelUsage")).values()]
    if by_model:
        plain, cached, written, output = (
            sum(count(used.get(name)) for used in by_model)
            for name in ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens", "outputTokens")
        )
    else:
        usage = mapping(result.get("usage"))
        plain, cached, written, output = (
            count(usage.get(name))
            for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
        )
    return Usage(
        calls=max(1, calls),
        input_tokens=plain + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        dollars=amount(result.get("total_cost_usd")),
    )


def trouble_of(retry: Mapping[str, Any]) -> str:
    """The class of error that a request is tried again for; without a status there was no answer at all."""
    status = count(retry.get("error_status"))
    return class_of_status(status) if status else "connection"


def text_of(content: object) -> str:
    """Of a tool's result, which is a text or a list of blocks."""
    return words(content) or "\n".join(words(block.get("text")) for block in items(content))
