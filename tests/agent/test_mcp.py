import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.agent.mcp import McpServer, _names, _without_patterns, conditions_of, connect
from harness.agent.tools import arguments_of, specs
from harness.errors import ToolError, UserError
from harness.experiment import describe
from harness.protocols import Work
from traces.records import Task, ToolCall

SERVER = Path(__file__).parent / "mcp_server.py"
BAD = Path(__file__).parent / "bad_mcp_server.py"
SECRET = {"MCP_TEST_TOKEN": "t0ken-of-the-test", "ANTHROPIC_API_KEY": "another-secret"}


def bad_server(folder: Path, like: str = "plain", **settings) -> McpServer:
    command = (sys.executable, "-I", "-S", str(BAD), str(folder), like)
    return McpServer("bad", command, secrets=("MCP_TEST_TOKEN",), **settings)


def work(seconds: float = 30, key: str = "") -> Work:
    return Work(task=Task(id="t", input=""), text={}, seconds=seconds, idempotency_key=key)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(running, pids))


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mcp")


@pytest.fixture(scope="module")
def shop(folder):
    """One server for those that do it no harm."""
    command = (sys.executable, "-B", str(SERVER), str(folder))
    effects = {"a*": "none", "add": "worktree"}
    server = McpServer("shop", command, secrets=("MCP_TEST_TOKEN",), effects=effects, longest=1_000)
    with connect([server], SECRET) as tools:
        yield {tool.name.removeprefix("shop__"): tool for tool in tools}


@pytest.fixture
def bad(tmp_path):
    """Opens one that may be harmed."""

    @contextmanager
    def open_one(like: str = "plain", **settings):
        with connect([bad_server(tmp_path, like, **settings)], SECRET) as tools:
            yield {tool.name.removeprefix("bad__"): tool for tool in tools}

    return open_one


def test_a_servers_tools_are_tools_like_any_other(shop):
    shown = {spec.name: spec for spec in specs(shop.values())}
    assert shown["shop__add"].parameters["required"] == ["a", "b"]
    add = shop["add"]
    call = ToolCall(id="1", name=add.name, arguments={"a": 2, "b": 3})
    assert add.call(arguments_of(add, call), work()) == "5"
    with pytest.raises(ToolError, match=r"\$\.a: seen \"two\""):
        arguments_of(add, call.model_copy(update={"arguments": {"a": "two", "b": 3}}))


def test_what_a_server_says_of_a_tool_is_cleaned_and_a_tool_counts_as_the_gravest_it_may_be(shop):
    assert shop["add"].description == "Adds two[2J numbers."
    assert shop["add"].effect == "worktree"
    assert shop["count"].effect == "outside"


def test_a_server_sees_its_own_secret_and_nobody_elses_and_no_result_shows_it(shop):
    said = shop["environment"].call({}, work())
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names <= {"PATH", "MCP_TEST_TOKEN", "LC_CTYPE"}
    assert "MCP_TEST_TOKEN=[MCP_TEST_TOKEN]" in said
    assert not any(value in said + repr(describe(shop["add"])) for value in SECRET.values())


def test_a_tool_that_fails_says_so_without_the_secret(shop):
    with pytest.raises(ToolError, match=r"no such day, \[MCP_TEST_TOKEN\] \[MCP_TEST_TOKEN\]$") as e:
        shop["fail"].call({}, work())
    assert (e.value.error_class, e.value.safe_to_repeat) == ("failed", None)


def test_a_long_result_is_cut_in_its_middle_and_a_picture_is_described(shop):
    said = shop["big"].call({"characters": 100_000}, work())
    assert len(said) < 1_100
    assert "[… 99,000 characters left out …]" in said
    assert shop["picture"].call({}, work()) == "a cat\n[image/png, 9 bytes, not shown]"


def test_the_server_is_told_the_idempotency_key(shop, folder):
    assert shop["count"].call({}, work(key="k-1")) == "k-1"
    assert shop["count"].call({}, work()) == "none"
    assert (folder / "count").read_text().split() == ["k-1", "none"]


def test_calls_to_one_server_run_side_by_side(shop):
    started = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda n: shop["slow"].call({"seconds": 0.5}, work()), range(20))) == ["slept"] * 20
    assert time.monotonic() - started < 8


def test_a_server_that_dies_in_a_call_leaves_it_open_what_happened_and_is_started_again_once(bad, tmp_path):
    with bad() as tools:
        with pytest.raises(ToolError, match="bad") as e:
            tools["crash"].call({}, work())
        assert (e.value.error_class, e.value.safe_to_repeat) == ("connection", None)
        assert tools["add"].call({}, work()) == "2"
    assert len(pids(tmp_path / "starts")) == 2
    assert (tmp_path / "crashes").read_text() == "1\n"
    with pytest.raises(ToolError, match="disconnected"):
        tools["add"].call({}, work())


def test_a_call_under_way_ends_when_its_server_is_disconnected(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        with connect([bad_server(tmp_path)], SECRET) as tools:
            [hang] = [tool for tool in tools if tool.own_name == "hang"]
            called = pool.submit(hang.call, {}, work(seconds=60))
            while not (tmp_path / "hangs").exists():
                time.sleep(0.01)
        with pytest.raises(ToolError) as e:
            called.result(timeout=20)
        assert (e.value.error_class, e.value.safe_to_repeat) == ("connection", None)


def test_a_call_that_takes_too_long_ends_in_time_with_the_server_that_hangs(bad, tmp_path):
    with bad() as tools:
        started = time.monotonic()
        with pytest.raises(ToolError, match=r"did not answer within 0\.3 s") as e:
            tools["hang"].call({}, work(seconds=0.3))
        assert (e.value.error_class, e.value.safe_to_repeat) == ("timeout", None)
        assert time.monotonic() - started < 15
        assert gone(pids(tmp_path / "starts"))
        assert tools["add"].call({}, work()) == "2"
    assert gone(pids(tmp_path / "starts"))


def test_a_server_that_floods_us_or_stays_when_its_input_ends_is_ended(bad, tmp_path):
    with bad() as tools:
        with pytest.raises(ToolError) as e:
            tools["flood"].call({}, work())
        assert e.value.error_class == "connection"
        assert tools["linger"].call({}, work()) == "here to stay"
    assert len(pids(tmp_path / "starts")) == 2
    assert gone(pids(tmp_path / "starts"))


def test_all_that_a_server_started_ends_with_it_and_its_noise_stays_off_our_streams(bad, tmp_path, capfd):
    with bad() as tools:
        assert tools["spawn"].call({}, work()) == "spawned"
        assert tools["add"].call({}, work()) == "2"
    everything = pids(tmp_path / "starts") + pids(tmp_path / "children")
    assert len(everything) == 3
    assert gone(everything)
    assert capfd.readouterr() == ("", "")


PARENT = """
import sys, time
from harness.agent.mcp import McpServer, connected
from harness.protocols import Work
from traces.records import Task
print("mcp" in sys.modules, flush=True)
tools = connected([McpServer("bad", tuple(sys.argv[1:]))])
assert connected([McpServer("bad", tuple(sys.argv[1:]))]) == tools
next(tool for tool in tools if tool.own_name == "spawn").call({}, Work(Task(id="t", input=""), {}))
print("ready", flush=True)
time.sleep(600)
"""


def test_trials_share_a_server_and_nothing_is_left_of_it_when_we_are_killed(tmp_path):
    parent = [sys.executable, "-c", PARENT, *bad_server(tmp_path).command]
    with subprocess.Popen(parent, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"False\n"  # the client is imported when there is a server, not before
        assert process.stdout.readline() == b"ready\n"
        everything = pids(tmp_path / "starts") + pids(tmp_path / "children")
        assert len(everything) == 3
        assert all(map(running, everything))
        os.kill(process.pid, signal.SIGKILL)
    assert gone(everything)


def test_a_server_that_comes_back_with_other_tools_is_not_called(bad, tmp_path):
    with bad("changes") as tools:
        assert list(conditions_of(tools.values())) == ["mcp/bad"]
        with pytest.raises(ToolError):
            tools["crash"].call({}, work())
        with pytest.raises(ToolError, match="other tools than it had declared") as e:
            tools["add"].call({}, work())
        assert e.value.error_class == "permission"
        before = conditions_of(tools.values())
    with bad("changes") as tools:
        assert tools["add_more"].own_name == "add.more"
        assert conditions_of(tools.values()) != before


@pytest.mark.parametrize(
    ("like", "says"),
    [("hangs", r"no answer within 1 s; it said: warming up"), ("breaks", r"the token is \[MCP_TEST_TOKEN\]")],
)
def test_a_server_that_does_not_start_is_named_in_time_with_what_it_said(bad, tmp_path, like, says):
    started = time.monotonic()
    with pytest.raises(UserError, match=says), bad(like, start_seconds=1 if like == "hangs" else 30):
        pass
    assert time.monotonic() - started < 15
    assert gone(pids(tmp_path / "starts"))


def test_tools_are_taken_by_pattern_and_a_pattern_that_fits_none_is_named(bad):
    with bad(only=("add", "s*")) as tools:
        assert sorted(tools) == ["add", "spawn"]
    with pytest.raises(UserError, match=r"no tool matches 'delete'\. There are: add, crash"), bad(only=("*", "delete")):
        pass


@pytest.mark.parametrize(
    ("servers", "says"),
    [
        ([McpServer("a__b", ("true",))], "named 'a__b'"),
        ([McpServer("a", ("true",)), McpServer("a", ("true",))], "2 MCP servers are named 'a'"),
        ([McpServer("a")], "needs one of"),
        ([McpServer("a", ("no-such-program",))], "no program 'no-such-program'"),
        ([McpServer("a", ("true",), secrets=("MCP_UNSET",))], "export MCP_UNSET="),
        ([McpServer("a", url="http://example.com/mcp")], "not encrypted"),
        ([McpServer("a", url="https://me:secret@example.com/mcp")], "must hold no secret"),
    ],
)
def test_a_server_that_is_declared_wrongly_is_refused_before_anything_starts(servers, says):
    with pytest.raises(UserError, match=re.escape(says)), connect(servers, {}):
        pass


def test_a_server_at_an_address_serves_whoever_has_the_token_and_its_end_is_seen(tmp_path):
    command = bad_server(tmp_path, "serves").command
    with subprocess.Popen(command, env=SECRET, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"
        with pytest.raises(UserError, match="did not start"), connect([McpServer("web", url=url)]):
            pass
        with connect([McpServer("web", url=url, headers={"Authorization": "MCP_TEST_TOKEN"})], SECRET) as tools:
            [add] = [tool for tool in tools if tool.name == "web__add"]
            assert add.call({}, work()) == "2"
            process.kill()
            process.wait()
            with pytest.raises(ToolError) as e:
                add.call({}, work(seconds=5))
            assert e.value.error_class == "connection"
            with pytest.raises(ToolError, match="did not start again") as e:
                add.call({}, work(seconds=5))
            assert e.value.safe_to_repeat is True


def test_names_that_providers_would_refuse_or_mix_up_are_told_apart():
    own = ["a.b", "a_b", "a b", "x" * 80, "x" * 81, "é"]
    names = _names("s", own)
    assert names["a_b"] == "s__a_b"
    assert len(set(names.values())) == len(own)
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", name) for name in names.values())


def test_a_servers_regular_expressions_are_not_run_and_its_properties_keep_their_names():
    schema = {
        "properties": {"pattern": {"type": "string", "pattern": "(a+)+$"}, "o": {"enum": [{"pattern": 1}]}},
        "patternProperties": {"^x": {}},
        "additionalProperties": False,
        "description": "A\x1b[2J.",
    }
    assert _without_patterns(schema) == {
        "properties": {"pattern": {"type": "string"}, "o": {"enum": [{"pattern": 1}]}},
        "description": "A[2J.",
    }


def test_no_thread_outlives_its_connection(shop):
    before = threading.active_count()
    with pytest.raises(UserError), connect([McpServer("gone", ("false",))], {}):
        pass
    assert threading.active_count() == before
