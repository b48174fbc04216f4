"""A provider on this machine that answers what it is told to, well or badly."""

import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Provider:
    url: str = ""
    received: list[Received] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """Its client hung up on it in the middle of a stream."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    provider: Provider
    plays: "tuple[Play, ...]"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        received = Received(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(content))
        self.provider.received.append(received)
        with suppress(ConnectionError):  # the client went away, as it should
            self.plays[min(len(self.provider.received), len(self.plays)) - 1](self, received)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def head(self, status: int, length: int, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


Play = Callable[[Handler, Received], None]


@contextmanager
def provider(*plays: Play) -> Generator[Provider]:
    """Plays one after the other, the last one for ever."""
    told = Provider()

    class Told(Handler):
        provider = told

    Told.plays = plays

    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield told
    finally:
        told.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answers(body: object, headers: Mapping[str, str] = {}) -> Play:
    return refuses(200, body, headers)


def refuses(status: int, body: object, headers: Mapping[str, str] = {}) -> Play:
    def play(handler: Handler, received: Received) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.head(status, len(content), headers)
        handler.wfile.write(content)

    return play


def echoes_the_key(status: int) -> Play:
    def play(handler: Handler, received: Received) -> None:
        key = received.headers.get("authorization") or received.headers.get("x-api-key")
        refuses(status, {"error": {"type": "error", "message": f"no entry with {key}"}})(handler, received)

    return play


def stalls(handler: Handler, received: Received) -> None:
    """Takes the request and says nothing."""
    handler.provider.over.wait(10)
    handler.close_connection = True


def hangs_up(handler: Handler, received: Received) -> None:
    """Takes the request and closes the connection."""
    handler.close_connection = True


def cuts(body: object) -> Play:
    """Announces the whole body and closes the connection in the middle of it."""

    def play(handler: Handler, received: Received) -> None:
        content = json.dumps(body).encode()
        handler.head(200, len(content))
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        handler.close_connection = True

    return play


def pauses(body: object) -> Play:
    """Sends half of the body and then nothing."""

    def play(handler: Handler, received: Received) -> None:
        content = json.dumps(body).encode()
        handler.head(200, len(content))
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        handler.provider.over.wait(10)
        handler.close_connection = True

    return play


def drips(body: object, gap: float) -> Play:
    """A byte now and then: no single read takes long, and it takes for ever."""

    def play(handler: Handler, received: Received) -> None:
        content = json.dumps(body).encode()
        handler.head(200, len(content))
        for byte in content:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            if handler.provider.over.wait(gap):
                break
        handler.close_connection = True

    return play


def streams(events: Sequence[str], *, torn: bool = False, stalls: bool = False, gap: float = 0.0) -> Play:
    """Sends *events* one by one; then, if it is *torn*, closes the connection in the middle of the transfer, and if it
    *stalls*, says nothing more."""

    def play(handler: Handler, received: Received) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for event in events:
            content = event.encode()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            handler.wfile.flush()
            if gap and handler.provider.over.wait(gap):
                break
        if stalls:
            handler.connection.settimeout(10)
            with suppress(TimeoutError):
                handler.connection.recv(1)
                handler.provider.left.set()
        if torn or stalls:
            handler.close_connection = True
        else:
            handler.wfile.write(b"0\r\n\r\n")

    return play
