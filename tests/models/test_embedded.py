"""The real model that comes with Ratchet."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import models
from harness.errors import ModelError
from harness.models import ChatModel, model
from harness.models.embedded import Pool, Server, cores, model_file
from harness.protocols import Message
from tests.models.conftest import ANTHROPIC, Remembering

WORDS = ["cat", "tree", "river", "lamp", "stone", "cloud", "door", "apple"]
EXAMPLES = [
    Message("system", "Answer with one word."),
    Message("user", "Plural of 'dog'?"),
    Message("assistant", "dogs"),
    Message("user", "First letter of 'house'?"),
    Message("assistant", "h"),
]


def asking(word: str) -> list[Message]:
    return [*EXAMPLES, Message("user", f"Plural of '{word}'?")]


@pytest.fixture(scope="module")
def smollm() -> Generator[ChatModel]:
    yield model("local:smollm2-135m", max_tokens=6)
    models.close()


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    running = Server(model_file())
    yield running
    running.close()


def test_it_answers_for_nothing_and_in_silence(
    smollm: ChatModel, meter: Remembering, capfd: pytest.CaptureFixture[str]
):
    reply = smollm.complete(asking("cat"), seed=1)

    assert reply.text
    assert reply.usage.calls == 1
    assert reply.usage.dollars == 0.0
    assert 50 < reply.usage.input_tokens < 90
    assert 1 <= reply.usage.output_tokens <= 6
    [span], [(_, _, estimate, _)] = meter.spans, meter.begun
    assert (span.name, span.usage, span.status) == ("local:smollm2-135m", reply.usage, "ok")
    assert estimate.dollars == 0.0
    assert estimate.input_tokens == pytest.approx(reply.usage.input_tokens, rel=0.3)
    assert not any("/" in str(value) for value in span.attributes.values())
    assert capfd.readouterr() == ("", "")


def test_the_same_question_gets_the_same_answer_whatever_else_is_asked(smollm: ChatModel):
    one_by_one = {word: smollm.complete(asking(word), seed=1).text for word in WORDS}
    shuffled = random.Random(0).sample(WORDS * 2, len(WORDS) * 2)

    def ask(word: str) -> str:
        return smollm.complete(asking(word), seed=1).text

    with ThreadPoolExecutor(3) as threads:
        crowded = list(threads.map(ask, shuffled))
    assert crowded == [one_by_one[word] for word in shuffled]
    assert len(set(one_by_one.values())) > 3


def test_the_other_sdk_speaks_to_it_as_well(server: Server, connections: None):
    reply = ANTHROPIC.model(server.url.removesuffix("/v1"), timeout=60.0, temperature=0.0).complete(
        asking("cat"), seed=1
    )
    assert reply.text
    assert reply.usage.output_tokens > 0


def test_a_prompt_that_is_too_long_is_refused_at_once(smollm: ChatModel, meter: Remembering):
    with pytest.raises(ModelError, match="context") as caught:
        smollm.complete([Message("user", "word " * 6000)], seed=1)
    assert (caught.value.error_class, caught.value.transient) == ("bad_request", False)
    assert len(meter.spans) == 1


def test_a_server_that_died_is_replaced():
    started: list[Server] = []

    def start() -> Server:
        started.append(Server(model_file()))
        return started[-1]

    pool = Pool(start, 1)
    with pool.lease() as first:
        os.kill(first.pid, signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    with pool.lease() as second:
        assert second.alive
        assert second is not first
    with pool.lease() as third:
        assert third is second
    pool.close()
    assert not second.alive
    assert len(started) == 2


def test_a_model_file_that_is_none_is_an_error_of_the_model(tmp_path: Path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="did not start"):
        Server(broken)


def test_it_uses_no_more_cores_than_there_are():
    assert 1 <= cores(4) <= 4


PROGRAM = """
import sys, threading, time
from harness.models import model
from harness.protocols import Message
smollm = model("local:smollm2-135m", max_tokens=3000, temperature=1.0)
long = [Message("user", "Write a long story about a dog.")]
model("local:smollm2-135m", max_tokens=1).complete(long, seed=1)
threading.Thread(target=lambda: smollm.complete(long, seed=1), daemon=True).start()
time.sleep(0.2)
print("busy", flush=True)
{ending}
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("raise RuntimeError('on purpose')", 1),
        ("smollm.complete(long, seed=2)", -signal.SIGINT),
        ("time.sleep(60)", -signal.SIGKILL),
    ],
    ids=["exception", "interrupt", "kill"],
)
def test_a_process_ends_at_once_and_leaves_no_server_behind(ending: str, code: int):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("{ending}", ending)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        left = children(process.pid) if code < 0 else []
        if code < 0:
            assert left
            time.sleep(0.2)
            process.send_signal(-code)
        started = time.monotonic()
        process.communicate(timeout=30)
    assert process.returncode == code
    assert time.monotonic() - started < 10
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in left):
            return
        time.sleep(0.05)
    raise AssertionError("the server outlived its process")
