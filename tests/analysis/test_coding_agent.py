"""Coding agents as proposers: what they print, how they are watched, and what is taken of what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.proposers.coding_agent import AgentReport, ClaudeCode, Codex, CodingAgentProposer
from analysis.proposers.coding_agent.session import Agent, Line
from harness.errors import BudgetSpent, ModelError, TrialError, UserError
from harness.experiment import Budget
from harness.ledger import Ledger, journal_file
from harness.meter import metered
from harness.models.prices import Price
from harness.protocols import History
from harness.sandboxes import NoSandbox, best_sandbox
from harness.trials import TrialMeter
from traces.journal import read as journal_lines
from traces.records import Edit, Run, Span, Usage, now

RECORDED = Path(__file__).parent / "coding_agents"
KEY = "sk-test-0123456789abcdefghij"
SECRET = "hunter2-of-somebody-else"
PROGRAM = {"train.py": "rate = 0.1\nprint(rate)\n", "lib/model.py": "depth = 2\n"}
NOTHING_TRIED = History(run="r", tasks={}, trials=())


def read(agent: Agent, name: str) -> AgentReport:
    return agent.report(Line(now(), line) for line in (RECORDED / name).read_text(encoding="utf-8").splitlines())


# ── what they print ────────────────────────────────────────────────────────────────────────────────────────────

CLAUDE = {
    "claude_code_2.1.327_stream": ("done", "", 2, 4800, 0.01396),
    "claude_json_schema_missing": ("done", "", 2, 4800, 0.01396),
    "claude_max_budget": ("dollar_cap", "dollar_cap", 3, 7200, 0.02094),
    "claude_max_turns": ("turn_cap", "turn_cap", 2, 4800, 0.01396),
    "claude_permission_denied": ("turn_cap", "turn_cap", 2, 4800, 0.01396),
    "claude_api_401": ("auth", "auth", 1, 0, 0.0),
    "claude_api_529": ("failed", "overloaded", 1, 0, 0.0),
}


@pytest.mark.parametrize("name", CLAUDE)
def test_a_recorded_session_of_claude_code_ended_and_cost_what_its_result_says(name: str) -> None:
    report = read(ClaudeCode(), f"{name}.jsonl")
    assert report.usage is not None
    assert report.usage.dollars is not None
    cost = (report.usage.calls, report.usage.input_tokens, round(report.usage.dollars, 6))
    assert (report.ended, report.error_class, *cost) == CLAUDE[name]
    assert report.torn == 0
    assert report.session


def test_an_outage_of_the_provider_is_a_success_to_claude_code_and_an_outage_to_us() -> None:
    assert read(ClaudeCode(), "claude_api_529.jsonl").is_transient
    assert not read(ClaudeCode(), "claude_api_401.jsonl").is_transient


def test_the_dollar_cap_overshoots_and_the_overshoot_is_charged() -> None:
    usage = read(ClaudeCode(max_dollars=0.02), "claude_max_budget.jsonl").usage
    assert usage is not None
    assert usage.dollars == pytest.approx(0.02094)


def test_the_tools_that_claude_code_called_are_told_apart_by_how_they_ended() -> None:
    denied = read(ClaudeCode(), "claude_permission_denied.jsonl").uses
    assert [(use.name, use.failed, use.error_class) for use in denied] == [("Bash", True, "denied")] * 2
    cut = read(ClaudeCode(), "claude_max_budget.jsonl").uses
    assert [use.error_class for use in cut] == ["failed", "failed", "interrupted"]
    assert "echo hello" in cut[0].arguments
    assert cut[0].result == "Exit code 3\nhello"


CODEX = {
    "codex_exec_0.163.0": ("done", "", "Done"),
    "codex_fail_401": ("auth", "auth", ""),
    "codex_fail_429": ("failed", "rate_limit", ""),
    "codex_fail_500": ("failed", "overloaded", ""),
}


@pytest.mark.parametrize("name", CODEX)
def test_a_recorded_session_of_codex_ended_as_its_last_event_says(name: str) -> None:
    report = read(Codex("gpt-5.2"), f"{name}.jsonl")
    assert (report.ended, report.error_class, report.message) == CODEX[name]
    assert report.is_transient == (report.error_class in ("rate_limit", "overloaded"))


def test_the_usage_of_codex_is_its_last_and_has_the_cached_tokens_in_it() -> None:
    lines = (RECORDED / "codex_exec_0.163.0.jsonl").read_text(encoding="utf-8").splitlines()
    more = {"input_tokens": 5000, "cached_input_tokens": 3000, "output_tokens": 150}
    lines += ['{"type":"turn.started"}', json.dumps({"type": "turn.completed", "usage": more})]
    report = Codex("gpt-5.2").report(Line(now(), line) for line in lines)
    assert report.usage == Usage(calls=1, input_tokens=5000, cached_tokens=3000, output_tokens=150, dollars=None)
    assert (report.turns, [(use.name, use.failed) for use in report.uses]) == (2, [("command_execution", True)])


def test_codex_is_priced_by_the_list_and_by_nothing_where_its_model_is_unknown() -> None:
    usage = Usage(calls=1, input_tokens=2000, cached_tokens=800, output_tokens=100, dollars=None)
    assert Codex("gpt-5.2").priced(usage).dollars == pytest.approx(0.00364)
    assert Codex("nobody-knows-it").priced(usage).dollars is None
    assert Codex("nobody-knows-it").estimate().dollars is None
    assert Codex("own", price=Price(input=1.0, output=10.0)).priced(usage).dollars == pytest.approx(0.003)


def test_an_error_that_codex_recovers_from_is_none() -> None:
    lines = ['{"type":"turn.started"}', '{"type":"error","message":"Reconnecting... 1/5"}', '{"type":"turn.completed"}']
    report = Codex("m").report(Line(now(), line) for line in lines)
    assert (report.ended, report.detail, report.usage) == ("done", "", None)


@pytest.mark.parametrize("agent", [ClaudeCode(), Codex("m")], ids=["claude", "codex"])
def test_a_stream_that_ends_without_an_end_has_no_result(agent: Agent) -> None:
    whole = RECORDED / (
        "claude_code_2.1.327_stream.jsonl" if isinstance(agent, ClaudeCode) else "codex_exec_0.163.0.jsonl"
    )
    lines = whole.read_text(encoding="utf-8").splitlines()
    report = agent.report(Line(now(), line) for line in [*lines[:-1], lines[-1][:40]])
    assert (report.ended, report.usage, report.torn) == ("no_result", None, 1)
    assert agent.report([]).ended == "no_result"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("type", "subtype", "message", "content", "usage", "item", "id", "is_error", "result", "modelUsage", "errors")
TYPES = (
    "assistant",
    "user",
    "system",
    "result",
    "turn.completed",
    "turn.failed",
    "item.completed",
    "error",
    "tool_use",
)
events = st.dictionaries(st.sampled_from(FIELDS), anything | st.sampled_from(TYPES), max_size=6)
garbage = st.text(max_size=20) | events.map(json.dumps)


@given(st.lists(garbage, max_size=6))
def test_no_line_however_strange_breaks_the_reading(lines: list[str]) -> None:
    for agent in (ClaudeCode(), Codex("m")):
        agent.report(Line(now(), line) for line in lines)


def test_numbers_and_nesting_without_measure_are_torn_lines_or_nothing() -> None:
    for agent in (ClaudeCode(), Codex("m")):
        report = agent.report([Line(now(), "[" * 100_000), Line(now(), '{"type": "result", "total_cost_usd": 1e999}')])
        assert (report.torn, report.usage and report.usage.dollars) == (1, None)


# ── agents that are none ───────────────────────────────────────────────────────────────────────────────────────

FAKE = f"""#!{sys.executable} -IS
import json, os, signal, subprocess, sys, time
from pathlib import Path

def say(**event):
    print(json.dumps(event), flush=True)

def result(text="I raised the rate.", **more):
    usage = {{"inputTokens": 90, "cacheReadInputTokens": 10, "outputTokens": 5}}
    say(type="result", subtype="success", is_error=False, result=text, num_turns=1, total_cost_usd=0.5,
        modelUsage={{"m": usage}}, **more)

def edit(path="train.py", text="rate = 0.2\\nprint(rate)\\n"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)

say(type="system", subtype="init", session_id="s1")
"""


@dataclass
class Meter:
    """Of a proposal outside of a run."""

    folder: Path
    directory: Path | None = None
    begun: list[Usage] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    stops_after: float = 1e9
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        from harness.meter import Forgotten

        self.steps = self.effects = Forgotten()

    def check_clock(self) -> None:
        if time.monotonic() - self.since > self.stops_after:
            raise BudgetSpent("stopped", "a person stopped it")

    def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
        self.begun.append(estimate)

    def end(self, span: Span, texts: Sequence[Any] = ()) -> None:
        self.spans.append(span)
        self.said += [text.text for text in texts]


@pytest.fixture
def meter(tmp_path: Path) -> Generator[Meter]:
    remembering = Meter(tmp_path / "work")
    with metered(remembering):  # type: ignore[arg-type]
        yield remembering
    assert list((tmp_path / "work").glob("*")) == [], "a session left something behind"


@pytest.fixture(autouse=True)
def keys() -> Generator[None]:
    os.environ |= {"ANTHROPIC_API_KEY": KEY, "OTHER_SECRET": SECRET}
    yield
    del os.environ["ANTHROPIC_API_KEY"], os.environ["OTHER_SECRET"]


Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Propose by an agent that does what *body* says."""

    def asking(
        body: str, *, history: History = NOTHING_TRIED, text: Mapping[str, str] = PROGRAM, **options: Any
    ) -> Any:
        program = a_program(tmp_path, body)
        options = {"sandbox": NoSandbox, "seconds": 20.0, "idle": 10.0, **options}
        return CodingAgentProposer(ClaudeCode(program=str(program)), **options).propose("v", text, history)

    return asking


def a_program(folder: Path, body: str) -> Path:
    program = folder / "claude"
    program.write_text(FAKE + body)
    program.chmod(0o755)
    return program


def files(edits: Sequence[Edit]) -> dict[str, str | None]:
    return {edit.path: edit.text for edit in edits}


# ── what is taken ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_agent_edited_is_the_proposal_and_its_last_words_are_why(ask: Ask, meter: Meter) -> None:
    proposal = ask("edit(); edit('lib/new.py', 'x = 1\\n'); os.remove('lib/model.py'); result()")
    better = {"train.py": "rate = 0.2\nprint(rate)\n", "lib/new.py": "x = 1\n", "lib/model.py": None}
    assert files(proposal.edits) == better
    assert (proposal.rationale, proposal.proposer) == ("I raised the rate.", "CodingAgentProposer")


def test_the_agent_finds_the_program_the_notes_and_what_is_readable_in_a_repository_of_its_own(
    ask: Ask, meter: Meter, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words.txt").write_text("one two")
    proposal = ask(
        """
seen = sorted(str(p) for p in Path('.').rglob('*') if p.is_file() and '.git' not in p.parts)
status = subprocess.run(['git', 'status', '--short'], capture_output=True, text=True).stdout
top = subprocess.run(['git', 'rev-parse', '--show-toplevel'], capture_output=True, text=True).stdout.strip()
edit()
result(repr([seen, Path('shown/words.txt').read_text(), status, top == os.getcwd(), 'NOTES-0.md' in sys.argv[2]]))
""",
        readable={"shown": tmp_path / "data"},
    )
    files = ["NOTES-0.md", "lib/model.py", "shown/words.txt", "train.py"]
    assert proposal.rationale == repr([files, "one two", "", True, True])


def test_what_is_no_part_of_the_program_is_left_aside_and_named(ask: Ask, meter: Meter, tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text("seed = 1\n")
    body = "os.chmod('prepare.py', 0o644); edit('prepare.py', 'seed = 2\\n'); edit('log.txt', 'hi'); edit(); result()"
    proposal = ask(body, readable={"prepare.py": tmp_path / "prepare.py"})
    assert list(files(proposal.edits)) == ["train.py"]
    assert proposal.rationale.endswith("Not taken, since it is no part of the program: prepare.py, log.txt.")
    assert (tmp_path / "prepare.py").read_text() == "seed = 1\n"


BAD = {
    "nothing": ("pass", "no file of the program was changed"),
    "a comment": ("edit(text='# slow\\nrate = 0.1\\nprint(rate)\\n')", "only comments"),
    "no Python": ("edit(text='rate = (')", "'train.py' is no Python any more, line 1"),
    "bytes": ("Path('train.py').write_bytes(b'\\xff\\xfe')", "not in UTF-8"),
    "a link": ("os.remove('train.py'); os.symlink('/etc/passwd', 'train.py')", "is a link now"),
    "a pipe": ("os.remove('train.py'); os.mkfifo('train.py')", "is no file any more"),
    "too much": ("edit(text='x = 1\\n' * 400_000)", "may have 1,048,576"),
    "a key": ("edit(text='key = ' + repr(os.environ['ANTHROPIC_API_KEY']))", "would hold the key"),
    "everything": ("os.remove('train.py'); os.remove('lib/model.py')", "delete every file"),
    "the seed": ("edit(text='import random\\nrandom.seed(3)\\nrate = 0.1\\nprint(rate)\\n')", "seed"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_change_that_is_no_candidate_is_refused_with_the_reason(what: str, ask: Ask, meter: Meter) -> None:
    body, why = BAD[what]
    with pytest.raises(TrialError, match=why) as e:
        ask(f"{body}\nresult()")
    assert e.value.boundary == "proposer"
    assert len(meter.begun) == 2, "it is told what is wrong, once"
    assert KEY not in str(e.value)


def test_an_agent_that_is_told_what_is_wrong_may_mend_it(ask: Ask, meter: Meter) -> None:
    proposal = ask(
        """
told = sys.argv[2]
before = Path('train.py').read_text()
edit(text='rate = 0.2\\nprint(rate)\\n' if 'no Python any more' in told else 'rate = (')
result(repr([before, 'Mend them' in told]))
"""
    )
    assert proposal.rationale == repr(["rate = (", True])
    assert [span.usage.dollars for span in meter.spans] == [0.5, 0.5]


def test_what_was_tried_before_is_not_proposed_again(ask: Ask, meter: Meter) -> None:
    history = History(run="r", tasks={}, trials=(), tried={"w": "r round 3"}, version_of=lambda edits: "w")
    with pytest.raises(TrialError, match=r"tried before .r round 3"):
        ask("edit(); result()", history=history)


def test_what_an_agent_must_not_see_is_not_shown(ask: Ask, meter: Meter, tmp_path: Path) -> None:
    (tmp_path / "repo" / "deep" / ".git").mkdir(parents=True)
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "experiment.py").touch()
    (tmp_path / "traces").mkdir()
    meter.directory = tmp_path / "traces"
    shown = {
        "the repository": {"all": tmp_path / "repo"},
        "holds the grader": {"exp": tmp_path / "exp"},
        "show the traces": {"traces": tmp_path / "traces"},
        "is not there": {"data": tmp_path / "nowhere"},
        "no place": {"../up": tmp_path / "exp"},
        "has files": {"lib": tmp_path / "exp"},
    }
    for why, readable in shown.items():
        with pytest.raises(UserError, match=why):
            ask("edit(); result()", readable=readable)
    assert meter.begun == []


# ── how it is watched ──────────────────────────────────────────────────────────────────────────────────────────

STUBBORN = """
pid = os.fork()
if pid == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(LEFT).write_text(str(os.getpid()))
    time.sleep(60)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while not os.path.exists(LEFT) or not Path(LEFT).read_text():
    time.sleep(0.01)
edit()
"""


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


ENDS = {
    "time": ("while True: say(type='ping'); time.sleep(0.01)", {"seconds": 2.0}, "seconds=", "timeout"),
    "idle": ("time.sleep(60)", {"idle": 1.5}, "without a word", "timeout"),
    "output": ("os.write(1, b'x' * 70_000_000); time.sleep(60)", {}, "printed too much", "output"),
    "no_result": (
        "sys.stderr.write('no ' + os.environ['ANTHROPIC_API_KEY']); sys.exit(3)",
        {},
        "ended with 3",
        "no_result",
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_whatever_ends_a_session_nothing_of_it_is_left(how: str, ask: Ask, meter: Meter, tmp_path: Path) -> None:
    body, limits, why, error_class = ENDS[how]
    left = tmp_path / "left"
    begun = STUBBORN.replace("LEFT", repr(str(left)))
    with pytest.raises(TrialError, match=why) as e:
        ask(f"{begun}\n{body}", **limits)
    assert e.value.error_class == how
    assert not is_running(int(left.read_text()))
    [span] = meter.spans
    assert (span.status, span.error_class) == ("error", error_class)
    is_charged = span.usage == meter.begun[0].model_copy(update={"calls": 1})
    assert is_charged, "nobody knows what it used, so it is charged what was set aside"
    assert KEY not in repr(meter)


def test_a_session_that_has_said_its_last_word_and_does_not_end_is_done(ask: Ask, meter: Meter) -> None:
    assert ask("edit(); result(); time.sleep(60)", idle=1.5).edits
    assert meter.spans[-1].usage.dollars == 0.5


def test_the_stop_button_ends_a_session_and_charges_it(ask: Ask, meter: Meter, tmp_path: Path) -> None:
    meter.stops_after, left = 2.0, tmp_path / "left"
    with pytest.raises(BudgetSpent):
        ask(STUBBORN.replace("LEFT", repr(str(left))) + "\ntime.sleep(60)")
    assert not is_running(int(left.read_text()))
    assert [(span.status, span.usage.dollars) for span in meter.spans] == [("interrupted", 2.0)]


def test_torn_lines_and_events_that_nobody_knows_are_no_harm(ask: Ask, meter: Meter) -> None:
    ask("edit(); print('not json'); print('{\"type\": \"ass'); say(type='news'); os.write(1, b'\\xff\\n'); result()")
    assert meter.spans[-1].attributes["ratchet.agent.torn_lines"] == 3


def test_the_agent_gets_its_key_and_nothing_else_of_ours(ask: Ask, meter: Meter) -> None:
    seen = "json.dumps([dict(os.environ), os.environ['HOME'], os.getcwd()])"
    environment, home, folder = json.loads(ask(f"edit(); result({seen})").rationale)
    assert environment["ANTHROPIC_API_KEY"] == "[key]"
    assert SECRET not in repr(environment)
    ours = {"ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER"}
    assert set(environment) - {"LC_CTYPE"} == {"PATH", "HOME", "LANG", "TMPDIR", *ours}
    assert Path(home).parent == Path(folder).parent


A_CALL = """
use = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "echo " + os.environ["ANTHROPIC_API_KEY"]}}
say(type="assistant", message={"id": "m1", "model": "claude-x", "content": [use]})
back = {"type": "tool_result", "tool_use_id": "t1", "content": os.environ["ANTHROPIC_API_KEY"]}
say(type="user", message={"content": [back]})
"""


def test_what_the_agent_did_is_in_the_trace_without_the_key(ask: Ask, meter: Meter) -> None:
    ask(f"{A_CALL}\nedit(); result()")
    tool, session = meter.spans
    assert (tool.operation, tool.name, tool.parent, tool.status) == ("execute_tool", "Bash", None, "ok")
    assert (session.operation, session.name, session.status) == ("chat", "claude-code:default", "ok")
    assert session.usage == Usage(calls=1, input_tokens=100, cached_tokens=10, output_tokens=5, dollars=0.5)
    assert session.attributes["gen_ai.response.model"] == "claude-x"
    assert '{"command": "echo [key]"}' in meter.said
    assert KEY not in repr(meter)


def test_an_outage_is_not_blamed_on_the_program(ask: Ask, meter: Meter) -> None:
    recorded = (RECORDED / "claude_api_529.jsonl").read_text(encoding="utf-8")
    with pytest.raises(ModelError) as e:
        ask(f"print({recorded!r}); sys.exit(1)")
    assert (e.value.error_class, e.value.transient) == ("overloaded", True)
    assert meter.spans[-1].usage.dollars == 0.0


def test_an_outage_that_outlasts_the_session_is_one_too_and_costs_nothing(ask: Ask, meter: Meter) -> None:
    recorded = (RECORDED / "claude_api_529.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    with pytest.raises(ModelError, match="without a word") as e:
        ask(f"print({chr(10).join(recorded)!r}, flush=True); time.sleep(60)", idle=1.5)
    assert (e.value.error_class, e.value.transient) == ("overloaded", True)
    assert meter.spans[-1].usage == Usage(calls=1)


def test_a_program_that_is_not_there_and_a_key_that_is_missing_are_said_before_anything_is_bought(meter: Meter) -> None:
    with pytest.raises(UserError, match="npm install -g @openai/codex"):
        CodingAgentProposer(Codex("m", program="no-such-codex")).propose("v", PROGRAM, NOTHING_TRIED)
    with pytest.raises(UserError, match="export NO_SUCH_KEY="):
        CodingAgentProposer(ClaudeCode(program="sh", key="NO_SUCH_KEY")).propose("v", PROGRAM, NOTHING_TRIED)
    assert meter.begun == []


def sandboxed() -> bool:
    try:
        best_sandbox()
    except UserError:
        return False
    return True


@pytest.mark.skipif(not sandboxed(), reason="no sandbox works here")
def test_in_a_sandbox_the_agent_sees_nothing_but_its_folder(meter: Meter, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words.txt").write_text("one two")
    (tmp_path / "hidden.txt").write_text("secret")
    body = f"""
def attempt(do):
    try:
        return do()
    except OSError as e:
        return type(e).__name__
edit()
result(repr([
    attempt(lambda: Path({str(tmp_path / "hidden.txt")!r}).read_text()),
    Path('shown/words.txt').read_text(),
    attempt(lambda: Path('shown/words.txt').write_text('three')),
    subprocess.run(['python', '-c', 'import numpy; print(6 * 7)'], capture_output=True, text=True).stdout,
    os.getcwd(), os.environ['HOME'], sorted(p.name for p in Path({str(tmp_path)!r}).iterdir()),
]))
"""
    program = a_program(tmp_path, body)
    proposer = CodingAgentProposer(ClaudeCode(program=str(program)), readable={"shown": tmp_path / "data"})
    proposal = proposer.propose("v", PROGRAM, NOTHING_TRIED)
    seen = ["FileNotFoundError", "one two", "OSError", "42\n", "/worktree/work", "/worktree/home", ["claude"]]
    assert proposal.rationale == repr(seen)
    assert list(files(proposal.edits)) == ["train.py"]


@pytest.mark.skipif(not sandboxed(), reason="no sandbox works here")
def test_a_sandboxed_agent_is_ended_at_its_limits_too(meter: Meter, tmp_path: Path) -> None:
    program = a_program(tmp_path, "time.sleep(60)")
    with pytest.raises(TrialError, match="without a word"):
        CodingAgentProposer(ClaudeCode(program=str(program)), idle=0.4).propose("v", PROGRAM, NOTHING_TRIED)


@pytest.mark.skipif(not sandboxed(), reason="no sandbox works here")
def test_a_sandboxed_agent_that_fails_is_quoted(meter: Meter, tmp_path: Path) -> None:
    program = a_program(tmp_path, "sys.exit('no such flag')")
    with pytest.raises(TrialError, match="the program ended with 1 and complained: no such flag"):
        CodingAgentProposer(ClaudeCode(program=str(program))).propose("v", PROGRAM, NOTHING_TRIED)


def test_a_session_without_time_is_refused() -> None:
    with pytest.raises(UserError, match="a session of 0 seconds"):
        CodingAgentProposer(ClaudeCode(), seconds=0)


# ── killed with Ratchet ────────────────────────────────────────────────────────────────────────────────────────

NIGHT = """
import sys
from pathlib import Path
from tests.analysis.test_coding_agent import a_proposal, a_run
program, directory = map(Path, sys.argv[1:])
with a_run(directory) as ledger:
    a_proposal(ledger, program)
"""


@contextmanager
def a_run(directory: Path) -> Iterator[Ledger]:
    run = Run(id="r", experiment="e", subject="s", live="v" * 40, fingerprint={}, budget={}, tasks={}, ratchet="0")
    with Ledger(directory, run, Budget(dollars=10.0)) as ledger:
        yield ledger


def a_proposal(ledger: Ledger, program: Path) -> Any:
    with metered(TrialMeter(ledger, "round/1/proposal")):
        proposer = CodingAgentProposer(ClaudeCode(program=str(program)), sandbox=NoSandbox)
        return proposer.propose("v", PROGRAM, NOTHING_TRIED)


def test_a_session_that_was_killed_with_ratchet_is_charged_once_and_leaves_no_orphan(tmp_path: Path) -> None:
    left, directory = tmp_path / "left", tmp_path / "traces"
    program = a_program(tmp_path, STUBBORN.replace("LEFT", repr(str(left))) + "\ntime.sleep(60)")
    night = subprocess.Popen([sys.executable, "-c", NIGHT, str(program), str(directory)], env={**os.environ})
    while not (left.exists() and left.read_text()):
        assert night.poll() is None
        time.sleep(0.02)
    night.send_signal(signal.SIGKILL)
    night.wait()
    with a_run(directory) as ledger:
        assert ledger.usage.dollars == 2.0, "what was set aside for it"
        a_program(tmp_path, f"{A_CALL}\nedit(); result()")
        proposal = a_proposal(ledger, program)
        assert ledger.usage.dollars == 2.5
        a_program(tmp_path, "sys.exit(1)")
        assert a_proposal(ledger, program) == proposal, "it ended, so it is not paid for again"
        assert ledger.usage.dollars == 2.5
    spans = [line.record() for line in journal_lines(journal_file(directory, "r")) if line.type == "Span"]
    assert [(s.operation, s.status, s.attempt) for s in spans if isinstance(s, Span)] == [
        ("chat", "interrupted", 1),
        ("execute_tool", "ok", 1),
        ("chat", "ok", 2),
    ]
    assert spans[1].parent == spans[2].id  # type: ignore[attr-defined]
    assert not is_running(int(left.read_text()))
    assert list((directory / "work").iterdir()) == []


def test_a_session_that_the_budget_does_not_allow_is_not_begun(tmp_path: Path) -> None:
    program = a_program(tmp_path, "edit(); result()")
    with a_run(tmp_path / "traces") as ledger:
        ledger.budget = Budget(dollars=1.0)
        with pytest.raises(BudgetSpent):
            a_proposal(ledger, program)
        assert ledger.usage == Usage()
