import contextlib
import json
import os
import pty
import re
import select
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from experiments.display import telling_what_waits
from experiments.inbox import calls_outside, inbox_app
from harness.agent.inbox import Inbox, action_digest, escalation
from harness.experiment import digest, load_experiment
from harness.ledger import open_run, stop_run
from harness.trials import DurableTrials
from harness.versions import Repo
from tests.conftest import a_checkout, git
from tests.experiments.test_cli import environment, write_experiment
from traces.journal import Journal
from traces.places import data_directory
from traces.records import Escalation, Intent, ToolCall, ToolResult

CALL = ToolCall(id="c", name="delete_records", arguments={"table": "users", "ids": [1, 2]})
MAIN = """
from experiments.inbox import inbox_app
inbox_app(["approve", "ID"])
"""
app = typer.Typer()
app.add_typer(inbox_app, name="inbox")
DYING = """
from dataclasses import replace
from pathlib import Path
from tests.world import KnowingRunner, an_experiment
def die(task):
    if not (Path(__file__).parents[2] / "mended").exists():
        raise ConnectionError("the service is down")
experiment = replace(an_experiment(runner=KnowingRunner(on_run=die)), name="example")
"""

PAYING = """
from dataclasses import replace
from pathlib import Path
from harness.agent.tools import function_tool
from harness.errors import ModelError, ToolError
from harness.testing import ScriptedModel
from tests.agent.world import agent, calls, turns_so_far
from tests.world import an_experiment

def pay(amount: int) -> str:
    with (Path(__file__).parents[2] / "paid").open("a") as file:
        file.write("x")
    return "paid"

def ask() -> str:
    raise ToolError("invalid", "not so", safe_to_repeat=True)

def answer(messages):
    if not turns_so_far(messages):
        return calls(("pay", {"amount": 1}), ("ask", {}))
    raise ModelError("overloaded", "try later", transient=True)

tools = [function_tool(tool, effect="outside", description="It is for a test.") for tool in (pay, ask)]
experiment = replace(an_experiment(runner=agent(ScriptedModel(answer), *tools)), name="example")
"""


def a_night_in_which_trials_die(root: Path) -> list[str]:
    """The ids of the escalations: a train trial's and a hidden one's."""
    experiment = load_experiment(root / "experiments" / "example" / "experiment.py")
    subject = Repo.find(root).subject(experiment.subject)
    live = subject.live().id
    with open_run(data_directory(root), experiment, live) as ledger, ThreadPoolExecutor(1) as executor:
        trials = DurableTrials(experiment, ledger, subject.text, executor, "round/1")
        for split in ("train", "validation"):
            trials.attempt([live], [experiment.split(split)[0]])
    return [entry.escalation.id for entry in inbox_of(root).entries()]


@pytest.fixture
def place(checkout: Path) -> Path:
    git(checkout, "config", "user.name", "A User")
    git(checkout, "config", "user.email", "user@example.org")
    return checkout


def ratchet(root: Path, *arguments: str, expect: int = 0) -> str:
    """What the command prints, and what it ends with."""
    with contextlib.chdir(root):
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == expect, done.output + str(done.exception)
    return f"{done.output}{done.exception or ''}"


def inbox_of(root: Path) -> Inbox:
    return Inbox(data_directory(root))


def an_item(kind="approval", summary="delete_records would delete 2 users", **more) -> Escalation:
    item = escalation(
        kind, more.pop("concern", "destructive"), summary, call=CALL if kind == "approval" else None, **more
    )
    return item.model_copy(update={"owner": "data team", "experiment": "example", "run": "r1", "trial": "r1/t;1"})


def test_what_waits_is_listed_and_shown_with_all_that_a_person_needs(place):
    assert "nothing waits for you" in ratchet(place, "inbox")
    inbox = inbox_of(place)
    held, late = an_item(evidence=["the task asked for it"]), an_item(place="late", wait=0)
    inbox.hold(held)
    with Journal(inbox.path) as journal:
        for item in (late, *(an_item("notice", "the verifier broke", place=str(n)) for n in range(998))):
            journal.append(item)
    listed = ratchet(place, "inbox")
    assert len(listed.splitlines()) == 3
    assert "×998" in listed
    for word in (held.id[:10], "waiting", "destructive", "data team", "delete_records", "in 59m"):
        assert word in listed
    assert late.id[:10] in ratchet(place, "inbox", "list", "--all")
    found = {e["id"]: e for e in json.loads(ratchet(place, "inbox", "list", "--all", "--json"))}
    assert len(found) == 1000
    assert (found[held.id]["state"], found[late.id]["state"]) == ("waiting", "expired")
    shown = ratchet(place, "inbox", "show", held.id[:6])
    for word in ("data team", "the task asked for it", "1,", "users", "ratchet show 'r1/t;1'", "approve | reject"):
        assert word in shown
    assert "cannot be shown" not in shown


def test_an_approval_is_given_and_can_be_used_once(place):
    inbox, item = inbox_of(place), an_item()
    inbox.hold(item)
    assert "nobody is there to ask" in ratchet(place, "inbox", "approve", item.id, expect=1)
    assert inbox.entries()[0].state == "waiting"
    said = ratchet(place, "inbox", "approve", item.id[:8], "--yes", "--note", "go on")
    assert "delete_records" in said
    assert "it may happen once" in said
    ruling = inbox.await_ruling(item.id, check=lambda: None)
    assert (ruling.verdict, ruling.who, ruling.note) == ("approved", "A User <user@example.org>", "go on")
    assert ruling.token is not None
    assert ruling.token not in said + ratchet(place, "inbox", "show", item.id, "--json")
    assert inbox.redeem(ruling, action_digest(CALL))
    assert "is used already" in ratchet(place, "inbox", "approve", item.id, "--yes", expect=1)
    assert "no entry" in ratchet(place, "inbox", "reject", "zzz", expect=1)


def test_an_approval_is_refused_once_the_run_that_asked_has_ended(place):
    write_experiment(place, DYING)
    experiment = load_experiment(place / "experiments" / "example" / "experiment.py")
    live = Repo.find(place).subject(experiment.subject).live().id
    inbox, directory = inbox_of(place), data_directory(place)
    with open_run(directory, experiment, live) as ledger:
        run = ledger.run.id
        now, later, never = (an_item(place=n).model_copy(update={"run": run}) for n in "abc")
        for item in (now, later, never):
            inbox.hold(item)
        assert "taken up" not in ratchet(place, "inbox", "approve", now.id, "--yes")
    assert f"No process has run {run} open" in ratchet(place, "inbox", "approve", later.id, "--yes")
    assert stop_run(directory, run) is None
    refused = ratchet(place, "inbox", "approve", never.id, "--yes", expect=1)
    assert f"run {run}, which asked for this, has ended" in refused
    assert f"ratchet inbox reject {never.id}" in refused
    assert [e.state for e in inbox.entries()] == ["approved", "approved", "waiting"]
    ratchet(place, "inbox", "reject", never.id)


def test_rejecting_and_discarding_settle_an_entry(place):
    inbox, item, notice = inbox_of(place), an_item(), an_item("notice")
    inbox.hold(item)
    inbox.hold(notice)
    ratchet(place, "inbox", "reject", item.id, "--note", "not these")
    ratchet(place, "inbox", "discard", notice.id)
    assert [e.state for e in inbox.entries()] == ["rejected", "discarded"]
    assert inbox.await_ruling(item.id, check=lambda: None).note == "not these"
    assert "nothing waits for you. 2 are settled" in ratchet(place, "inbox")


def test_discarding_a_notice_settles_all_that_the_list_shows_as_one(place):
    inbox = inbox_of(place)
    like = [an_item("notice", "the verifier broke", place=str(n)) for n in range(20)]
    theirs = an_item("notice", "the verifier broke", place="theirs").model_copy(update={"owner": "another team"})
    dead = [an_item("dead", "task t failed", concern="dead", place=str(n)) for n in range(2)]
    for item in (*like, theirs, *dead):
        inbox.hold(item)
    listed = ratchet(place, "inbox")
    assert "×20" in listed
    assert "another team" in listed
    assert "discarded, 20 that say the same: the verifier broke" in ratchet(place, "inbox", "discard", like[3].id)
    assert "that say the same" not in ratchet(place, "inbox", "discard", dead[0].id)
    states = {e.escalation.id: e.state for e in inbox_of(place).entries()}
    assert {states[item.id] for item in like} == {"discarded"}
    assert (states[theirs.id], states[dead[1].id]) == ("noted", "waiting")


def test_on_a_terminal_a_person_is_asked_and_what_others_wrote_cannot_pose_as_the_question(place):
    fake = "x\x1b[2J\r\napproved: it may happen once\nowner       me"
    call = CALL.model_copy(update={"name": "pay", "arguments": {"note": fake, "amount": 5}})
    item = escalation("approval", "money", fake, call=call, evidence=[fake])
    inbox_of(place).hold(item)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.execve(sys.executable, [sys.executable, "-c", MAIN.replace("ID", item.id)], environment())
    said = b""
    while b"[y/N]" not in said and select.select([terminal], [], [], 60)[0]:
        said += os.read(terminal, 65536)
    os.write(terminal, b"n\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    os.close(terminal)
    text = said.decode()
    assert "\x1b[2J" not in text
    assert "Let exactly this happen" in text
    for line in text.split("\n"):
        assert not re.match(r"(approved|owner +me)", line)
    assert inbox_of(place).entries()[0].state == "waiting"


def test_what_cannot_be_seen_whole_is_not_approved(place):
    call = CALL.model_copy(update={"arguments": {"command": "echo" + " " * 90_000 + "; pay"}})
    item = escalation("approval", "money", "pay", call=call)
    secret = escalation(
        "approval", "money", "pay", call=CALL.model_copy(update={"arguments": {"password": "hunter2hunter2"}})
    )
    inbox = inbox_of(place)
    inbox.hold(item)
    inbox.hold(secret)
    assert "nobody can see" in ratchet(place, "inbox", "approve", item.id, "--yes", expect=1)
    assert "some of it cannot be shown" in ratchet(place, "inbox", "approve", secret.id, "--yes")


def test_dead_work_is_tried_again_under_a_journal_of_its_own(tmp_path):
    root = a_checkout(tmp_path / "repository")
    write_experiment(root, DYING)
    train, hidden = a_night_in_which_trials_die(root)
    spool = root / "traces" / "data" / "spool"
    [night] = spool.glob("example-????????-*.jsonl")
    before = night.read_bytes()

    said = ratchet(root, "inbox", "redrive", train, expect=1)
    assert "is in the inbox again" in said
    assert "the service is down" in said
    again = inbox_of(root).entries()[-1].escalation.id
    (root / "mended").touch()
    said = ratchet(root, "inbox", "redrive", again)
    assert "ended: done" in said
    assert "score" in said
    assert "stays what it was" in said
    for id in (train, again):
        assert "is redriven already" in ratchet(root, "inbox", "redrive", id, expect=1)
    assert "hidden: validation" in ratchet(root, "inbox", "redrive", hidden)

    assert [e.state for e in inbox_of(root).entries()] == ["redriven"] * 3
    assert night.read_bytes() == before
    assert len(list(spool.glob("example-redrive-*.jsonl"))) == 3
    unknown = an_item("dead", "gone")
    inbox_of(root).hold(unknown)
    assert "not known what to try again" in ratchet(root, "inbox", "redrive", unknown.id, expect=1)


def test_what_a_dead_trial_did_outside_is_named_before_it_is_done_again(tmp_path):
    root = a_checkout(tmp_path / "repository")
    write_experiment(root, PAYING)
    first, _ = a_night_in_which_trials_die(root)
    paid = root / "paid"
    before = paid.read_text()

    said = ratchet(root, "inbox", "redrive", first, expect=1)
    assert 'pay {"amount": 1}: done' in said
    assert "ask" not in said.replace("is there to ask", "")
    assert "--yes" in said
    assert said.count("pay {") == 1
    assert (paid.read_text(), inbox_of(root).entries()[0].state) == (before, "waiting")

    ratchet(root, "inbox", "redrive", first, "--yes", expect=1)
    assert paid.read_text() > before
    again = inbox_of(root).entries()[-1].escalation.id
    said = ratchet(root, "inbox", "redrive", again, expect=1)
    assert said.count('pay {"amount": 1}: done') == 2


def test_a_call_whose_end_was_not_seen_counts_as_one_that_may_have_happened(tmp_path):
    path = tmp_path / "r.jsonl"
    wish = "r/round/1/v/t/0"
    with Journal(path) as journal:
        for action in ("a/1", "b/1"):
            journal.append(Intent(step=f"effect/{digest(wish)}/{action}", kind="step", attempt=1))
        journal.append(ToolResult(call="c", tool="pay", text="no", status="denied"), key=f"effect/{digest(wish)}/b/1")
    for trial in (wish, f"{wish}/again2", f"{wish}/refresh1/round3/again1#2"):
        assert len(calls_outside(path, trial)) == 1
    assert calls_outside(path, "r/round/1/v/t/1") == []


def test_a_run_says_once_of_each_held_call_that_it_waits_for_a_person(tmp_path):
    inbox, said = Inbox(tmp_path), []
    held, other = an_item(), an_item(place="other").model_copy(update={"run": "another"})
    with telling_what_waits(Inbox(tmp_path), "r1", said.append, every=0.01):
        for item in (held, other, an_item("notice")):
            inbox.hold(item)
        until = time.monotonic() + 10
        while not said and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
    [line] = said
    assert line.startswith("waits for you: delete_records (expires ")
    assert line.endswith(f"ratchet inbox show {held.id}")
