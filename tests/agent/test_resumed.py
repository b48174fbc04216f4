"""What must be the same however often the process dies: seen at the target, in the trial and in the journal."""

import threading
import time
from pathlib import Path

import pytest

from harness.agent.children import Child
from harness.agent.files import file_tools
from harness.agent.hooks import Hook, Rewrite
from harness.agent.inbox import Inbox
from harness.agent.limits import Limits
from harness.agent.policy import Doing, Policy, allow, deny, hold, standard_policy
from harness.agent.runner import AgentRunner
from harness.agent.tools import function_tool
from harness.errors import ModelError, ToolError
from harness.experiment import describe, digest
from harness.ledger import journal_file
from harness.sandboxes import best_sandbox
from harness.testing import ScriptedModel
from harness.verify import verify
from harness.worktrees import Worktree
from tests.agent.world import agent, calls, play, script, turns_so_far
from traces.records import Mark, Review


class Killed(BaseException):
    """Plays the death of the process: nothing catches it, and nothing more is written."""


def tool(function, effect="outside"):
    return function_tool(function, effect=effect, description="It is for a test.")


def in_two_lives(runner, directory: Path, second: Path):
    """The trial, killed once where *second* is not there yet."""
    with pytest.raises(Killed):
        play(runner, directory)
    second.touch()
    return play(runner, directory)


def test_a_call_that_a_hook_makes_another_of_in_the_second_life_is_the_one_that_was_judged(tmp_path):
    target, second = tmp_path / "target", tmp_path / "second"

    def send(to: str) -> str:
        with target.open("a") as file:
            file.write(f"{to}\n")
        if not second.exists():
            raise Killed
        return "sent"

    def rewrite(event):
        return Rewrite({"to": "mallory" if second.exists() else "alice"})

    policy = standard_policy().plus(allow("send", to="alice"), deny("send", "security", "never", to="mallory"))
    runner = agent(
        script(calls(("send", {"to": "x"})), "a0"), tool(send), policy=policy, hooks=[Hook("pre_trigger", rewrite)]
    )
    played = in_two_lives(runner, tmp_path / "data", second)
    assert target.read_text() == "alice\n"
    assert "result unknown" in played.told()[-1]


def test_what_the_files_were_like_then_counts_and_not_what_they_are_like_now(tmp_path):
    source, second = tmp_path / "source", tmp_path / "second"
    source.mkdir()
    (source / "a.txt").write_text("0\n")

    def probe(text: str) -> str:
        raise ToolError("failed", "the tests fail", safe_to_repeat=True)

    def answer(messages):
        n = turns_so_far(messages)
        if n == 7 and not second.exists():
            raise Killed
        if n >= 8:
            return "done"
        return calls(("write_file", {"path": "a.txt", "text": f"{n}\n"}) if n % 2 == 0 else ("probe", {"text": "x"}))

    probing = tool(probe, effect="none")
    runner = AgentRunner(
        ScriptedModel(answer),
        tools=(*file_tools(), probing),
        policy=standard_policy("/worktree").plus(allow("probe")),
        sandbox=best_sandbox(),
        worktree=Worktree(source),
    )
    played = in_two_lives(runner, tmp_path / "data", second)
    assert (played.ended, played.trial.attempt) == ("done", 2)
    assert "+6" in played.trial.output


def test_an_attempt_is_reviewed_by_what_was_handed_in_then(tmp_path):
    second, words = tmp_path / "second", ["first", "second", "third", "a0"]

    class Wants:
        attempts = 4

        def review(self, task, output, work, before):
            if len(before) == 2 and not second.exists():
                raise Killed
            passed = output == "a0"
            mark = Mark(criterion="word", passed=passed, because="not it", fingerprint="f", first_seen=1, times_seen=1)
            return Review(verdict="satisfied" if passed else "needs_revision", marks=(mark,))

    runner = agent(ScriptedModel(lambda messages: words[turns_so_far(messages)]), verifier=Wants())
    played = in_two_lives(runner, tmp_path / "data", second)
    assert (played.ended, played.trial.output, played.inbox) == ("done", "a0", [])


def test_a_life_that_ended_before_its_first_turn_was_kept_leaves_a_sound_night(tmp_path):
    second = tmp_path / "second"

    def kill(event):
        if not second.exists():
            raise Killed

    hooks = [Hook("post_generate", kill)]
    played = in_two_lives(agent(script("a0"), hooks=hooks), tmp_path / "data", second)
    found = verify(journal_file(tmp_path / "data", played.trial.run), tmp_path / "data")
    assert not [d for d in found.differences if "usage" in d], found.differences


def test_an_approval_that_was_used_up_by_a_life_that_did_not_act_on_it_is_asked_for_again(tmp_path):
    target, second, data = tmp_path / "target", tmp_path / "second", tmp_path / "data"

    def pay(amount: int) -> str:
        with target.open("a") as file:
            file.write(f"{amount}\n")
        return "paid"

    def kill(event):
        if event.call.arguments["amount"] == 6 and not second.exists():
            raise Killed

    over = threading.Event()

    def approve():
        while not over.wait(0.05):
            for entry in Inbox(data).entries():
                if entry.state == "waiting":
                    Inbox(data).rule(entry.escalation.id, "approved", "ada")

    policy = standard_policy().plus(hold("pay", "money", "it costs"))
    model = script(calls(("pay", {"amount": 5}), ("pay", {"amount": 6})), "a0")
    runner = agent(model, tool(pay), policy=policy, patience=10.0, hooks=[Hook("pre_trigger", kill)])
    approving = threading.Thread(target=approve)
    approving.start()
    try:
        played = in_two_lives(runner, data, second)
    finally:
        over.set()
        approving.join()
    assert (played.ended, sorted(target.read_text().split())) == ("done", ["5", "6"])
    assert [entry.state for entry in played.inbox] == ["used"] * 3


# ── side by side ───────────────────────────────────────────────────────────────────────────────────────────────


def test_when_one_of_two_sub_agents_breaks_the_other_does_nothing_more(tmp_path):
    noted: list[float] = []

    def note(n: int) -> str:
        noted.append(time.monotonic())
        return "noted"

    def works(messages):
        time.sleep(0.1)
        n = turns_so_far(messages)
        return calls(("note", {"n": n})) if n < 40 else "end"

    def breaks(messages):
        time.sleep(0.2)
        raise ModelError("overloaded", "busy", transient=True)

    noting = tool(note)
    worker = AgentRunner(ScriptedModel(works), tools=[noting], policy=Policy((allow("*"),)))
    children = [Child("good", "Works.", worker), Child("bad", "Breaks.", AgentRunner(ScriptedModel(breaks)))]
    parent = script(calls(("bad", {"task": "x"}), ("good", {"task": "x"})), "end")
    played = play(AgentRunner(parent, tools=[noting], children=children, policy=Policy((allow("*"),))), tmp_path)
    over = time.monotonic()
    assert played.trial.is_lost
    time.sleep(0.5)
    assert not [at for at in noted if at > over]


def test_sub_agents_begun_at_once_share_what_is_left(tmp_path):
    def answer(messages):
        return (
            calls(("child", {"task": "a b c"}), ("child", {"task": "d"}), ("child", {"task": "e"}))
            if len(messages) == 2
            else "a0"
        )

    def long(messages):
        return calls(("look", {"place": f"{len(messages)} " + "word " * 20}))

    def look(place: str) -> str:
        return place

    looking = tool(look, effect="none")
    worker = AgentRunner(ScriptedModel(long), tools=[looking], policy=Policy((allow("*"),)))
    runner = AgentRunner(
        ScriptedModel(answer),
        tools=[looking],
        children=[Child("child", "Works.", worker)],
        policy=Policy((allow("*"),)),
        limits=Limits(tokens=4000),
    )
    assert play(runner, tmp_path).trial.usage.tokens <= 4000


# ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_subscriber_that_fails_costs_the_trial_nothing(tmp_path):
    def fail(completion):
        raise ConnectionError("the webhook is down")

    played = play(agent(script("a0"), subscribers=[fail]), tmp_path)
    assert (played.ended, played.trial.is_lost) == ("done", False)
    assert [span.error for span in played.spans("hook")] == ["ConnectionError: the webhook is down"]


def test_a_fingerprint_sees_a_policy_and_what_is_below_a_sub_agent():
    model = ScriptedModel("x")

    def of(policy: Policy, inner: Policy) -> str:
        child = Child("c", "d", AgentRunner(model, policy=inner))
        return digest(describe(AgentRunner(model, policy=policy, children=[child])))

    base = standard_policy()
    marks = {
        of(base, base),
        of(base.plus(deny("run_command", "network", "no", command=Doing(("network",)))), base),
        of(base.plus(deny("run_command", "network", "no", command=Doing(("money",)))), base),
        of(base.narrowed(Policy((allow("a"),))), base),
        of(base.narrowed(Policy((deny("*", "money", "no"),))), base),
        of(base, base.plus(allow("pay"))),
        of(base, base.plus(deny("pay", "money", "no"))),
    }
    assert len(marks) == 7
    assert of(base, base) in marks


def test_the_same_amount_written_otherwise_is_the_same_effect(tmp_path):
    target = tmp_path / "target"

    def pay(amount: float) -> str:
        with target.open("a") as file:
            file.write("paid\n")
        return "paid"

    play(
        agent(script(calls(("pay", {"amount": 5})), calls(("pay", {"amount": 5.0})), "a0"), tool(pay)),
        tmp_path / "data",
    )
    assert target.read_text() == "paid\n"


def test_two_tasks_do_not_share_an_idempotency_key(tmp_path):
    keys: list[str] = []

    def pay(amount: int, idempotency_key: str) -> str:
        keys.append(idempotency_key)
        return "paid"

    for name in ("a", "b"):
        play(agent(script(calls(("pay", {"amount": 5})), "a0"), tool(pay)), tmp_path / name)
    assert len(keys) == len(set(keys)) == 2
