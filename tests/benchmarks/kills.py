"""Kill a night on the embedded model with signal 9 at random moments, and count what is left.

    uv run python -m tests.benchmarks.kills [KILLS]

The model runs behind a loopback server of this process, which counts the calls that reach it; the night runs in a
process that is killed and started again with the same command. Calls reported must be calls counted, no trial may be
there twice, no row lost or doubled in DuckDB.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import traces
from experiments.word_tasks.experiment import HERE
from harness.models.embedded import Server, model_file
from tests.conftest import git
from traces.journal import read

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
import dataclasses
from experiments.word_tasks.experiment import experiment as shipped
from harness.experiment import Budget
from harness.gate import PairedGate
from harness.models import model
from harness.runners import AgentRunner

experiment = dataclasses.replace(
    shipped,
    name="killed",
    subject="subject",
    runner=AgentRunner(model=model("openai:smollm2-135m", base_url="{url}/v1", max_tokens=12)),
    gate=PairedGate(repeats=1),
    budget=Budget(rounds=3),
)
"""


class Counting(BaseHTTPRequestHandler):
    """Passes requests on to the embedded model's server, and counts them."""

    upstream = ""
    counted = 0
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.lock:
            type(self).counted += 1
        request = urllib.request.Request(self.upstream + self.path, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            data = answer.read()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # whoever asked was killed

    def log_message(self, *_: object) -> None:
        pass


def command(root: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "none"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def main(kills: int) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(Server(model_file())) as upstream:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
        server.daemon_threads = True
        Counting.upstream = upstream.url.removesuffix("/v1")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = Path(folder) / "repository"
        shutil.copytree(HERE / "harness", root / "subject")
        path = root / "experiments" / "killed" / "experiment.py"
        path.parent.mkdir(parents=True)
        path.write_text(EXPERIMENT.format(url=f"http://127.0.0.1:{server.server_port}"))
        git(root, "init", "-q", "-b", "main")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "Begin")
        chance, killed = random.Random(1), 0
        while True:
            process = command(root, "run", "killed")
            try:
                process.communicate(timeout=1.5 + 8 * chance.random() if killed < kills else None)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                killed += 1
        time.sleep(1)
        report(root, killed)
        server.shutdown()
        server.server_close()


def report(root: Path, killed: int) -> None:
    data = root / "traces" / "data"
    [journal] = data.glob("spool/killed-*.jsonl")
    lines = list(read(journal))
    trials = [line.data["id"] for line in lines if line.type == "Trial"]
    spans = [line.data for line in lines if line.type == "Span" and line.data["usage"]["calls"]]
    interrupted = sum(span["status"] == "interrupted" for span in spans)
    rows = traces.sql("select count(*) n, count(distinct id) d from trials", directory=data)
    shown = traces.sql("select count(*) n, count(distinct id) d from spans where calls > 0", directory=data)
    ends = [line.data["stop"] for line in lines if line.type == "Round" and line.data["stop"]]
    print(f"killed {killed} times; the run ended: {ends}")
    print(f"calls reported {len(spans)} ({interrupted} of them interrupted), counted by the server {Counting.counted}")
    print(f"trials in the journal {len(trials)}, different ones {len(set(trials))}")
    print(f"in DuckDB: trials {rows.n[0]} (different {rows.d[0]}), calls {shown.n[0]} (different {shown.d[0]})")
    print(json.dumps({"clean": git(root, "status", "--porcelain") == ""}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
