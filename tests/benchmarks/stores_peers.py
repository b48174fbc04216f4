"""The stores that ``stores.py`` compares: where they keep spans, how they are started, killed and asked."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import traces
from traces.places import database, spool

PATIENCE = 600.0
"""Seconds that a server may take to start, on a machine that is busy."""
SILENT = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
}


class Unavailable(Exception):
    """The store cannot be compared here; says why."""


@dataclass
class Ratchet:
    """No server: the writer appends to its journal, and merges each second."""

    folder: Path
    name: str = "ratchet"
    has_server: bool = False

    @property
    def target(self) -> str:
        return str(self.folder)

    @property
    def setup(self) -> str:
        return f"journal and DuckDB {version('duckdb')}"

    def start(self) -> None:
        spool(self.folder).mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """There is nothing to end."""

    def numbers(self) -> Counter[int]:
        found = traces.sql("select attributes->>'n' as n from spans", directory=self.folder, wait=60)
        return Counter(int(n) for n in found["n"])

    def count(self) -> int:
        return int(traces.sql("select count(*) as n from spans", directory=self.folder, wait=60)["n"][0])

    def failures_by_tag(self) -> dict[str, int]:
        query = "select attributes->>'tag' as tag, count(*) as n from spans where status = 'error' group by all"
        found = traces.sql(query, directory=self.folder, wait=60)
        return dict(zip(found["tag"], found["n"], strict=True))

    def cost_by_model(self) -> dict[str, float]:
        found = traces.sql("select name, sum(dollars) as d from spans group by all", directory=self.folder, wait=60)
        return dict(zip(found["name"], found["d"], strict=True))

    def one_trace(self, trial: int) -> int:
        query = "select * from spans where trial = ? order by started"
        return len(traces.sql(query, [f"night/{trial}"], directory=self.folder, wait=60))

    def size(self) -> int:
        return database(self.folder).stat().st_size + sum(p.stat().st_size for p in spool(self.folder).iterdir())


@dataclass
class Server:
    """A store that is a server on this machine, with a SQLite database."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    name: str = ""
    has_server: bool = True
    _trace_ids: dict[int, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def health(self) -> str:
        raise NotImplementedError

    @property
    def file(self) -> Path:
        raise NotImplementedError

    def command(self) -> tuple[list[str], Mapping[str, str]]:
        raise NotImplementedError

    def start(self) -> None:
        """Start the server, or start it again on the same database, and wait until it answers.

        Raises:
            Unavailable: it ended, or did not answer in time; says what it printed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        command, environment = self.command()
        output = self.folder / "server.log"
        with output.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **SILENT, **environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = " ".join(output.read_text(errors="replace").split()[-60:])
                self.kill()
                raise Unavailable(f"{self.name} did not start: {tail}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.target}{self.health}", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """-9, with all the processes that it had started."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, number)
            self.process.wait(60)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
        finally:
            if number != signal.SIGKILL and self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.process = None

    def ask(self, query: str) -> list[Any]:
        """What is in its database, read beside it."""
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=60)) as connection:
            return connection.execute(query).fetchall()

    def count(self) -> int:
        return int(self.ask("SELECT count(*) FROM spans")[0][0])

    def size(self) -> int:
        return sum(p.stat().st_size for p in self.file.parent.glob(f"{self.file.name}*"))


@dataclass
class Phoenix(Server):
    name: str = "phoenix"

    @property
    def setup(self) -> str:
        return f"arize-phoenix {version('arize-phoenix')}, its own server and SQLite"

    @property
    def health(self) -> str:
        return "/healthz"

    @property
    def file(self) -> Path:
        return self.folder / "phoenix.db"

    def command(self) -> tuple[list[str], Mapping[str, str]]:
        environment = {
            "PHOENIX_WORKING_DIR": str(self.folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_GRPC_PORT": str(free_port()),
        }
        return [str(Path(sys.executable).with_name("phoenix")), "serve"], environment

    def numbers(self) -> Counter[int]:
        return Counter(int(n) for (n,) in self.ask("SELECT json_extract(attributes, '$.n') FROM spans"))

    @cached_property
    def client(self) -> Any:
        from phoenix.client import Client

        return Client(base_url=self.target).spans

    def _spans(self, query: Any) -> Any:
        return self.client.get_spans_dataframe(query=query, project_identifier="default", limit=10**6, timeout=120)

    def failures_by_tag(self) -> dict[str, int]:
        from phoenix.client.types.spans import SpanQuery

        found = self._spans(SpanQuery().where("status_code == 'ERROR'").select("tag"))
        return {str(k): int(v) for k, v in found.groupby("tag").size().items()}

    def cost_by_model(self) -> dict[str, float]:
        from phoenix.client.types.spans import SpanQuery

        found = self._spans(SpanQuery().select("llm.model_name", "dollars"))
        return {str(k): float(v) for k, v in found.groupby("llm.model_name").dollars.sum().items()}

    def one_trace(self, trial: int) -> int:
        from phoenix.client.types.spans import SpanQuery

        if trial not in self._trace_ids:
            query = (
                "SELECT traces.trace_id FROM spans JOIN traces ON traces.id = spans.trace_rowid "
                f"WHERE json_extract(attributes, '$.n') = {20 * trial}"
            )
            self._trace_ids[trial] = self.ask(query)[0][0]
        return len(self._spans(SpanQuery().where(f"trace_id == '{self._trace_ids[trial]}'")))


@dataclass
class MLflow(Server):
    name: str = "mlflow"

    @property
    def setup(self) -> str:
        return f"mlflow {version('mlflow')}, its own server (one worker) and SQLite"

    @property
    def health(self) -> str:
        return "/health"

    @property
    def file(self) -> Path:
        return self.folder / "mlflow.db"

    def command(self) -> tuple[list[str], Mapping[str, str]]:
        program = str(Path(sys.executable).with_name("mlflow"))
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [program, "server", *where, "--backend-store-uri", f"sqlite:///{self.file}"], {}

    def numbers(self) -> Counter[int]:
        return Counter(int(n) for (n,) in self.ask("SELECT json_extract(content, '$.attributes.n') FROM spans"))

    def _traces(self, wanted: str | None = None) -> Any:
        import mlflow

        mlflow.set_tracking_uri(self.target)
        return mlflow.search_traces(locations=["0"], filter_string=wanted, max_results=10**5, return_type="list")

    def failures_by_tag(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for trace in self._traces("span.status = 'ERROR'"):
            found.update(str(s.attributes["tag"]) for s in trace.data.spans if "ERROR" in str(s.status.status_code))
        return dict(found)

    def cost_by_model(self) -> dict[str, float]:
        found: Counter[str] = Counter()
        for trace in self._traces():
            for span in trace.data.spans:
                found[str(span.attributes["gen_ai.request.model"])] += float(span.attributes["dollars"])  # type: ignore[assignment]
        return dict(found)

    def one_trace(self, trial: int) -> int:
        import mlflow

        mlflow.set_tracking_uri(self.target)
        if trial not in self._trace_ids:
            query = f"SELECT trace_id FROM spans WHERE json_extract(content, '$.attributes.n') = '{20 * trial}'"
            self._trace_ids[trial] = self.ask(query)[0][0]
        found = mlflow.get_trace(self._trace_ids[trial])
        return len(found.data.spans)


Store = Ratchet | Phoenix | MLflow
PACKAGES = {"phoenix": ("arize-phoenix", Phoenix), "mlflow": ("mlflow", MLflow)}


def peer(name: str, folder: Path) -> Store:
    """The store of that *name*, started.

    Raises:
        Unavailable: it is not installed, or does not start.
    """
    if name == "ratchet":
        store: Store = Ratchet(folder)
    else:
        package, kind = PACKAGES[name]
        try:
            version(package)
        except PackageNotFoundError as e:
            raise Unavailable(f"{package} is not installed here: uv run --no-default-groups --group stores …") from e
        store = kind(folder)
    store.start()
    return store


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
