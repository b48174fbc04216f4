"""Waiting that notices the stop button: asleep between two attempts, in a queue, on a silent connection."""

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from urllib.request import getproxies

import httpcore2
import httpx2

from harness.meter import meter
from harness.models.wire import POLL, is_loopback

CONNECTIONS = 1000
KEPT = 100
ALIVE = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),)


def nap(seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Sleep, with an eye on the stop button.

    Raises:
        BudgetSpent: the run has to end at once.
    """
    left = seconds
    while left > 0:
        sleep(min(left, POLL))
        left -= POLL
        meter().check_clock()


class Stream(httpcore2.NetworkStream):
    """A connection whose silence is no reason not to listen to the stop button.

    What it raises passes through the HTTP client, which closes the connection.
    """

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = timeout
        while True:
            try:
                return self._stream.read(max_bytes, POLL if left is None else min(POLL, left))
            except httpcore2.ReadTimeout:
                meter().check_clock()
                if left is not None:
                    left -= POLL
                    if left <= 0:
                        raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> "Stream":
        return Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Network(httpcore2.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Stream:
        return Stream(super().connect_tcp(host, port, timeout, local_address, socket_options))


@cache
def certificates() -> ssl.SSLContext:
    """Read once: that takes longer than a request."""
    return httpx2.create_ssl_context()


class Transport(httpx2.HTTPTransport):
    """As usual, on a network that listens to the stop button."""

    def __init__(self) -> None:
        super().__init__(verify=certificates())
        self._pool = httpcore2.ConnectionPool(
            ssl_context=certificates(),
            max_connections=CONNECTIONS,
            max_keepalive_connections=KEPT,
            keepalive_expiry=5.0,
            socket_options=ALIVE,
            network_backend=Network(),
        )


def transport(url: str) -> Transport | None:
    """What to send requests to *url* through; ``None`` where a proxy leads there, which the SDK knows how to use.

    Never a proxy for a server on this machine: it would be asked for its own.
    """
    return Transport() if is_loopback(url) or not getproxies() else None
