"""The tools of MCP servers, under the same rules as any other tool.

A server is somebody else's program. It runs outside the sandbox, with an environment of what is declared and nothing
else; what it says about its tools is cleaned and cut, and its claims that a tool is harmless count for nothing. Its
tools are those that it declared when it was connected: one that comes back with others is not called again.
"""

import asyncio
import atexit
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import ValidationError

from harness.agent import leash
from harness.agent.tools import NAME, check_schema
from harness.errors import ToolError, UserError
from harness.models.keys import check_base_url
from harness.models.wire import is_loopback
from harness.protocols import Tool, Work
from traces.records import Effect

if TYPE_CHECKING:  # the client takes a second to import, and most experiments have no server
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp import Client
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage
    from mcp_types import CallToolResult, ContentBlock
    from mcp_types import Tool as Declared

T = TypeVar("T")

LONGEST_DESCRIPTION = 4_000
LONGEST_SCHEMA = 30_000
"""Characters, of one tool: all of it is in every prompt."""
MOST_TOOLS = 200
MOST_BYTES = 32 * 2**20
"""Of one message; a server that sends more is ended."""
GRACE = 2.0
"""Seconds that a server has to end by itself, once its input is closed."""
MOST_GRACE = 4 * GRACE
"""Seconds until nobody waits any longer for what not even a kill ends."""
KEY = "ratchet/idempotencyKey"
"""Where a request's ``_meta`` holds the idempotency key."""


@dataclass(frozen=True)
class McpServer:
    """An MCP server: a program that is started, or an address."""

    name: str
    """Comes before the names of its tools."""
    command: tuple[str, ...] = ()
    """The program and its arguments. It is not sandboxed."""
    url: str = ""
    """Of a server that runs already (streamable HTTP)."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """All that the program sees, besides ``PATH`` and the secrets."""
    secrets: tuple[str, ...] = ()
    """Names of environment variables that are handed on to the program. Their values are written nowhere."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Header → name of the environment variable that holds its value, for an address."""
    folder: Path | None = None
    """Where the program is started; by default where we are."""
    effects: Mapping[str, Effect] = field(default_factory=dict[str, Effect])
    """Pattern of the server's tool names → what calling them changes. The gravest that matches counts, and
    ``outside`` where none does."""
    only: tuple[str, ...] = ("*",)
    """Patterns of the tools that are taken."""
    start_seconds: float = 30.0
    """How long it may take to start, and to list its tools."""
    longest: int = 50_000
    """Characters of a result that a model is told; the middle of a longer one is left out."""

    def __post_init__(self) -> None:
        for field_name in ("command", "secrets", "only"):
            value: object = getattr(self, field_name)
            if isinstance(value, str):
                parts = split_command(value) if field_name == "command" else (value,)
                raise UserError(
                    f"{field_name}={value!r} of MCP server {self.name!r} is one text, which would be taken letter by "
                    f"letter. Write {field_name}={parts!r}"
                )


def split_command(text: str) -> tuple[str, ...]:
    """As a shell would."""
    try:
        return tuple(shlex.split(text))
    except ValueError:  # a quotation that does not end
        return tuple(text.split())


@dataclass(frozen=True, eq=False)
class McpTool:
    """A tool as its server declared it when it was connected."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    effect: Effect
    server: str
    own_name: str
    """What the server calls it."""
    declared: str
    """The server's version and a digest of all it declared that is taken."""
    connection: "Connection" = field(repr=False)

    def call(self, arguments: Mapping[str, Any], work: Work) -> str:
        result = self.connection.call(self.own_name, arguments, work)
        text = self.connection.told(result)
        if result.is_error:
            raise ToolError("failed", text or "it failed", safe_to_repeat=True if self.effect == "none" else None)
        return text


@contextmanager
def connect(servers: Sequence[McpServer], environment: Mapping[str, str] = os.environ) -> Generator[tuple[Tool, ...]]:
    """The tools of *servers*, which run until the block ends. *environment* is where their secrets are.

    Raises:
        UserError: one did not start in time, lacks a secret, or declares what cannot be used.
    """
    _check_names(servers)
    for library in ("mcp", "client"):  # else the client's complaints about a server go to our stderr
        logging.getLogger(library).addHandler(logging.NullHandler())
    with ExitStack() as stack:
        connections = [Connection(server, _secrets(server, environment)) for server in servers]
        for connection in connections:
            stack.callback(connection.close)
        started = [connection.start() for connection in connections]
        yield tuple(tool for begun in started for tool in begun.result())


_sharing = Lock()
_shared: dict[str, tuple[Tool, ...]] = {}


def connected(servers: Sequence[McpServer], environment: Mapping[str, str] = os.environ) -> tuple[Tool, ...]:
    """The tools of *servers*. Each server is started once, by whoever asks first, and runs until this process ends:
    trials share it.

    Raises:
        UserError: as ``connect``.
    """
    with _sharing:
        for server in servers:
            if (key := repr(server)) not in _shared:
                stack = ExitStack()
                _shared[key] = stack.enter_context(connect([server], environment))
                atexit.register(stack.close)
        return tuple(tool for server in servers for tool in _shared[repr(server)])


def conditions_of(tools: Iterable[Tool]) -> dict[str, str]:
    """Server → what it declared: trials under other tools are not compared with each other."""
    return {f"mcp/{tool.server}": tool.declared for tool in tools if isinstance(tool, McpTool)}


# ── what the user declared ─────────────────────────────────────────────────────────────────────────────────────


def _check_names(servers: Sequence[McpServer]) -> None:
    for name, times in Counter(server.name for server in servers).items():
        if not NAME.fullmatch(name) or len(name) > 24 or "__" in name:
            raise UserError(
                f"an MCP server is named {name!r}, and its tools' names begin with that. Take at most 24 letters, "
                "digits, '-' and single '_'"
            )
        if times > 1:
            raise UserError(f"{times} MCP servers are named {name!r}, so their tools could not be told apart")
    for server in servers:
        if bool(server.command) == bool(server.url):
            raise UserError(f"MCP server {server.name!r} needs one of command=('program', …) and url='http://…'")
        if server.url and not is_loopback(check_base_url(server.url)) and urlsplit(server.url).scheme == "http":
            raise UserError(f"MCP server {server.name!r} at {server.url} is not encrypted. Write https://")
        program = server.command[0] if server.command else "/"
        if "/" not in program and not shutil.which(program, path=server.environment.get("PATH")):
            raise UserError(
                f"MCP server {server.name!r}: there is no program {program!r}. Install it, or give its path"
            )


def _secrets(server: McpServer, environment: Mapping[str, str]) -> dict[str, str]:
    """Variable → value."""
    wanted = [*server.secrets, *server.headers.values()]
    if missing := [name for name in wanted if not environment.get(name, "").strip()]:
        raise UserError(
            f"MCP server {server.name!r} wants the environment variable {missing[0]}, which is not set. "
            f"Type: export {missing[0]}=…"
        )
    return {name: environment[name].strip() for name in wanted}


# ── a connection ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Session:
    """One conversation with a server, from its start to its end."""

    client: "Client"
    declared: "list[Declared]"
    digest: str
    """Of what it declared."""
    over: asyncio.Event
    """It ended, or is to."""
    life: asyncio.Task[None]


class _Lost(Exception):
    """There is no server to talk to; says why."""


class Connection:
    """A server, on a thread and an event loop of its own. A server that died is started again by the next call."""

    def __init__(self, server: McpServer, secrets: Mapping[str, str]) -> None:
        self.server = server
        self._secrets = secrets
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"mcp {server.name}", daemon=True)
        self._thread.start()
        self._session: _Session | None = None
        self._digest = ""
        self._opening = asyncio.Lock()
        self._closed = False

    def start(self) -> "Future[tuple[McpTool, ...]]":
        return asyncio.run_coroutine_threadsafe(self._start(), self._loop)

    def call(self, name: str, arguments: Mapping[str, Any], work: Work) -> "CallToolResult":
        """Raises ``ToolError``: there was no answer within ``work.seconds``, or none that is a result."""
        if self._closed:
            raise ToolError("connection", f"the MCP server {self.server.name} was disconnected", safe_to_repeat=True)
        called = self._call(name, dict(arguments), work)
        try:
            return asyncio.run_coroutine_threadsafe(called, self._loop).result(work.seconds + 4 * MOST_GRACE)
        except (CancelledError, TimeoutError) as e:  # it was closed while we asked
            raise ToolError("connection", f"the MCP server {self.server.name} was disconnected meanwhile") from e

    def told(self, result: "CallToolResult") -> str:
        """*result* as a model is told it."""
        parts = [_part(block) for block in result.content]
        if not parts and result.structured_content is not None:
            parts = [json.dumps(result.structured_content, ensure_ascii=False)]
        return self._cut(self.clean("\n".join(parts)))

    def close(self) -> None:
        """End the server, with all that it started, and whatever call is under way."""
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await self._end(self._session)
        others = asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=MOST_GRACE)
        await self._loop.shutdown_asyncgens()

    async def _end(self, session: _Session | None) -> None:
        if session:
            session.over.set()
            await asyncio.wait({session.life}, timeout=MOST_GRACE)

    async def _start(self) -> tuple[McpTool, ...]:
        try:
            self._session = await self._open(self.server.start_seconds)
        except _Lost as e:
            raise UserError(
                f"MCP server {self.server.name!r} did not start: {e}. Nothing can call its tools; try "
                f"{' '.join(self.server.command) or self.server.url} by itself, or give it more start_seconds"
            ) from e
        self._digest = self._session.digest
        about = self._session.client.server_info
        version = self.clean(f"{about.name} {about.version} ")[:80] if about else ""
        return _tools(self, self._session.declared, f"{version}{self._digest}")

    async def _open(self, seconds: float) -> _Session:
        """A session, within so many *seconds*. Raises ``_Lost``."""
        over, tail = asyncio.Event(), bytearray()
        opened: asyncio.Future[tuple[Client, list[Declared]]] = self._loop.create_future()
        life = self._loop.create_task(self._live(opened, over, tail))
        life.add_done_callback(lambda task: task.cancelled() or task.exception())  # or it is complained about later
        await asyncio.wait({opened, life}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if opened.done():
            client, declared = opened.result()
            return _Session(client, declared, _digest(declared), over, life)
        why = f"no answer within {seconds:g} s"
        if life.done():
            why = "it ended" if over.is_set() else _plainly(life.exception())
        over.set()
        life.cancel()
        await asyncio.wait({life}, timeout=MOST_GRACE)
        said = self.clean(tail.decode(errors="replace")).strip()
        raise _Lost(self.clean(f"{why}; it said: {said[-600:]}" if said else why))

    async def _live(
        self, opened: "asyncio.Future[tuple[Client, list[Declared]]]", over: asyncio.Event, tail: bytearray
    ) -> None:
        """One session, all of it in one task, as its parts demand."""
        from mcp import Client

        streams = self._http() if self.server.url else self._stdio(over, tail)
        async with Client(streams, cache=None) as client:
            declared = await _declared(client)
            opened.set_result((client, [tool for tool in declared if _matches(tool.name, self.server.only)]))
            await over.wait()

    async def _alive(self, deadline: float) -> _Session:
        """The session, opened once more if it has ended. Raises ``_Lost``; nothing was asked of the server then."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._opening.acquire()
        except TimeoutError:
            raise _Lost("another call is still at it") from None
        try:
            if self._session is None or self._session.over.is_set():
                await self._end(self._session)
                left = max(deadline - self._loop.time(), 0)
                self._session = await self._open(min(left, self.server.start_seconds))
            return self._session
        finally:
            self._opening.release()

    async def _call(self, name: str, arguments: dict[str, Any], work: Work) -> "CallToolResult":
        who = f"the MCP server {self.server.name}"
        deadline = self._loop.time() + work.seconds
        try:
            session = await self._alive(deadline)
        except _Lost as e:
            why = f"{who} had ended and did not start again: {e}"
            raise ToolError("connection", why, safe_to_repeat=True) from e
        if session.digest != self._digest:
            why = f"{who} came back with other tools than it had declared; a person has to look at them"
            raise ToolError("permission", why, safe_to_repeat=False)
        meta = cast("Any", {KEY: work.idempotency_key} if work.idempotency_key else None)
        asked = self._loop.create_task(session.client.call_tool(name, arguments, meta=meta))
        over = self._loop.create_task(session.over.wait())
        try:
            left = max(deadline - self._loop.time(), 0)
            await asyncio.wait({asked, over}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                await asyncio.wait({asked}, timeout=1)  # its last words may still be on their way
            if asked.done():
                return self._answer(session, asked)
        finally:
            over.cancel()
            asked.cancel()  # the server is told
        if session.over.is_set():
            raise ToolError("connection", f"{who} ended before it answered")
        session.over.set()  # what it does is not known, so it is ended; the next call starts it again
        raise ToolError("timeout", f"{who} did not answer within {work.seconds:g} s")

    def _answer(self, session: _Session, asked: "asyncio.Task[CallToolResult]") -> "CallToolResult":
        from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, METHOD_NOT_FOUND

        error = asked.exception()
        if error is None:
            return asked.result()
        code = getattr(error, "code", None)
        message = self._cut(self.clean(_plainly(error)))
        if code == CONNECTION_CLOSED or _is_lost(error):
            session.over.set()
            raise ToolError("connection", f"the MCP server {self.server.name} is gone: {message}") from error
        classes = {INVALID_PARAMS: "arguments", METHOD_NOT_FOUND: "not_found"}
        raise ToolError(classes.get(cast("int", code), "failed"), message) from error

    def clean(self, text: str) -> str:
        """*text* without the values of the secrets, and without what would act on a terminal."""
        text = cleaned(text)
        for name, value in self._secrets.items():
            text = text.replace(value, f"[{name}]")
        return text

    def _cut(self, text: str) -> str:
        if (left_out := len(text) - self.server.longest) <= 0:
            return text
        head = self.server.longest * 2 // 3
        tail = text[len(text) - (self.server.longest - head) :]
        return f"{text[:head]}\n[… {left_out:,} characters left out …]\n{tail}"

    @asynccontextmanager
    async def _http(self) -> "AsyncGenerator[TransportStreams]":
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        headers = {header: _credential(header, self._secrets[name]) for header, name in self.server.headers.items()}
        trust = not is_loopback(self.server.url)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300), trust_env=trust) as client,
            streamable_http_client(self.server.url, http_client=client) as streams,
        ):
            yield streams

    @asynccontextmanager
    async def _stdio(self, over: asyncio.Event, tail: bytearray) -> "AsyncGenerator[TransportStreams]":
        """The streams of a server that is started for it. *tail*: the last of what it complained about."""
        import anyio
        from mcp.shared.message import SessionMessage

        incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        process = await self._process()
        tasks = [
            self._loop.create_task(_receive(process, incoming, over)),
            self._loop.create_task(_send(process, outgoing, over)),
            self._loop.create_task(_complaints(process, tail)),
        ]
        try:
            yield read, write
        finally:
            with anyio.CancelScope(shield=True):
                await _stop(process)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=GRACE)
            for stream in (incoming, read, write, outgoing):
                stream.close()

    async def _process(self) -> asyncio.subprocess.Process:
        settings = {"PATH": os.environ.get("PATH", os.defpath), **self.server.environment}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid())),
            *self.server.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.server.folder,
            env={**settings, **{name: self._secrets[name] for name in self.server.secrets}},
            limit=MOST_BYTES,
            start_new_session=True,
        )


# ── the pipes of a server that was started ─────────────────────────────────────────────────────────────────────


async def _receive(
    process: asyncio.subprocess.Process,
    incoming: "MemoryObjectSendStream[SessionMessage | Exception]",
    over: asyncio.Event,
) -> None:
    import anyio
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    assert process.stdout
    with suppress(ValueError, anyio.BrokenResourceError, anyio.ClosedResourceError):  # ValueError: too long a line
        while line := await process.stdout.readline():
            with suppress(ValidationError):  # a server that prints
                await incoming.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))
    over.set()
    incoming.close()
    while await process.stdout.read(2**16):  # it cannot end while it waits for a reader
        pass


async def _send(
    process: asyncio.subprocess.Process, outgoing: "MemoryObjectReceiveStream[SessionMessage]", over: asyncio.Event
) -> None:
    assert process.stdin
    with suppress(ConnectionError):
        async for message in outgoing:
            process.stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await process.stdin.drain()
    over.set()


async def _complaints(process: asyncio.subprocess.Process, tail: bytearray) -> None:
    assert process.stderr
    while chunk := await process.stderr.read(2**12):
        tail += chunk
        del tail[:-4_000]


async def _stop(process: asyncio.subprocess.Process) -> None:
    assert process.stdin
    process.stdin.close()
    if not await _ended(process):
        with suppress(ProcessLookupError):
            process.terminate()  # its leash kills all that it has started
        if not await _ended(process):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), GRACE)  # until its pipes are closed, too


async def _ended(process: asyncio.subprocess.Process) -> bool:
    """Within ``GRACE``. Asks for the exit code, since ``wait`` also waits for whoever else holds the pipes."""
    for _ in range(int(GRACE / 0.01)):
        if process.returncode is not None:
            return True
        await asyncio.sleep(0.01)
    return False


# ── what a server says ─────────────────────────────────────────────────────────────────────────────────────────

INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""What moves a cursor, turns text around or hides it from a reader but not from a model."""


def cleaned(text: str) -> str:
    return INVISIBLE.sub("", text)


async def _declared(client: "Client") -> "list[Declared]":
    found: list[Declared] = []
    cursor: str | None = None
    while len(found) <= MOST_TOOLS:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None or not page.tools:
            break
    return sorted(found, key=lambda tool: tool.name)


def _digest(declared: "Iterable[Declared]") -> str:
    said = [(tool.name, tool.description, tool.input_schema) for tool in declared]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _tools(connection: Connection, declared: "Sequence[Declared]", version: str) -> tuple[McpTool, ...]:
    server = connection.server
    own = [tool.name for tool in declared]
    whose = f"MCP server {server.name!r}"
    if len(own) > MOST_TOOLS:
        raise UserError(f"{whose} declares over {MOST_TOOLS} tools, more than a prompt can show. Choose some: only=(…)")
    if repeated := [cleaned(name) for name, times in Counter(own).items() if times > 1]:
        raise UserError(f"{whose} declares {repeated[0]!r} twice. Leave it out: only=(…)")
    for pattern in (*server.only, *server.effects):
        if not any(fnmatchcase(name, pattern) for name in own):
            names = cleaned(", ".join(own))[:500] or "none"
            raise UserError(f"{whose}: no tool matches {pattern!r}. There are: {names}")
    names = _names(server.name, own)
    return tuple(
        McpTool(
            name=names[tool.name],
            description=connection.clean(tool.description or tool.name)[:LONGEST_DESCRIPTION],
            parameters=_parameters(tool, f"{whose}, tool {names[tool.name]!r}"),
            effect=_effect(tool.name, server.effects),
            server=server.name,
            own_name=tool.name,
            declared=version,
            connection=connection,
        )
        for tool in declared
    )


def _names(server: str, own: Sequence[str]) -> dict[str, str]:
    """A server's name for a tool → ours, which providers take; no two alike."""
    fit = {name: f"{server}__{re.sub('[^A-Za-z0-9_-]', '_', name)}" for name in own}
    times = Counter(fit.values())
    unlike = {name for name in own if fit[name] == f"{server}__{name}"}
    return {
        name: fit[name]
        if len(fit[name]) <= 64 and (name in unlike or times[fit[name]] == 1)
        else f"{fit[name][:55]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for name in own
    }


def _effect(name: str, effects: Mapping[str, Effect]) -> Effect:
    found = {effect for pattern, effect in effects.items() if fnmatchcase(name, pattern)}
    if not found or "outside" in found:
        return "outside"
    return "worktree" if "worktree" in found else "none"


def _parameters(tool: "Declared", whose: str) -> dict[str, Any]:
    schema = {"type": "object", **_without_patterns(tool.input_schema)}
    if (length := len(json.dumps(schema))) > LONGEST_SCHEMA:
        raise UserError(
            f"{whose}: its schema has {length:,} characters, and every prompt would hold it. Leave it out: only=(…)"
        )
    check_schema(schema, whose)
    return schema


def _without_patterns(schema: Any) -> Any:
    """*schema* without regular expressions: to check one that a stranger wrote can take for ever. The server checks."""
    if isinstance(schema, list):
        return [_without_patterns(part) for part in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", schema).items():
        if key in ("properties", "$defs", "definitions", "dependentSchemas") and isinstance(value, dict):
            kept[key] = {name: _without_patterns(part) for name, part in cast("dict[str, Any]", value).items()}
        elif key in ("enum", "const", "default", "examples"):
            kept[key] = value
        elif key in ("description", "title") and isinstance(value, str):
            kept[key] = cleaned(value)
        elif key not in ("pattern", "patternProperties"):
            kept[key] = _without_patterns(value)
    if "patternProperties" in schema:  # which they would have allowed
        kept.pop("additionalProperties", None)
        kept.pop("unevaluatedProperties", None)
    return kept


def _part(block: "ContentBlock") -> str:
    """One part of a result; what is no text is described."""
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return f"[{block.mime_type}, {len(block.data) * 3 // 4:,} bytes, not shown]"
        case "resource_link":
            return f"[link: {block.name}, {block.uri}]"
        case "resource":
            resource = block.resource
            if isinstance(text := getattr(resource, "text", None), str):
                return text
            size = len(getattr(resource, "blob", "")) * 3 // 4
            return f"[{resource.mime_type or 'data'} at {resource.uri}, {size:,} bytes, not shown]"


def _credential(header: str, value: str) -> str:
    return f"Bearer {value}" if header.lower() == "authorization" and " " not in value else value


def _plainly(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseException", error.exceptions[0])
    return f"{type(error).__name__}: {error}"


def _is_lost(error: BaseException) -> bool:
    import anyio
    import httpx2

    return isinstance(error, (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError, httpx2.TransportError))
