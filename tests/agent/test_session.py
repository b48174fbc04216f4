"""What an agent does in a trial, seen from outside: the trial, its spans, its files, the inbox."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from harness.agent.children import Child
from harness.agent.hooks import Append, Hook, Rewrite, Veto
from harness.agent.limits import Limits
from harness.agent.policy import deny, hold, standard_policy
from harness.agent.tools import function_tool
from harness.errors import ModelError, ToolError
from harness.ledger import journal_file
from harness.protocols import Reply
from harness.testing import ScriptedModel
from harness.verify import verify
from tests.agent.world import agent, calls, play, script
from traces.records import Mark, Review, Turn


def look(place: str) -> str:
    """What is at a place."""
    return f"a lamp at {place}"


def tool(function, effect="outside", name=None):
    return function_tool(function, effect=effect, name=name, description="It is for a test.")


LOOK = tool(look, effect="none")


def written(path: Path, effect="outside", name="send"):
    """A tool whose effect is a line in a file: what counts is how often it happened there."""

    def send(text: str) -> str:
        with path.open("a") as file:
            file.write(text + "\n")
        return f"sent {text}"

    return tool(send, effect=effect, name=name)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# ── the loop ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_calls_tools_until_it_is_done_and_each_call_leaves_a_row(tmp_path):
    model = script(calls(("look", {"place": "home"})), calls(("look", {"place": "work"})), "a0")
    played = play(agent(model, LOOK), tmp_path)

    assert (played.trial.output, played.ended, played.trial.grade.score) == ("a0", "done", 1.0)
    assert len(played.spans("chat")) == 3
    assert played.told() == ["a lamp at home", "a lamp at work"]
    assert [span.name for span in played.spans("invoke_agent")] == ["maker"]
    turns = {span.id for span in played.spans("turn")}
    assert {span.parent for span in played.spans("chat")} == turns
    assert {span.role for span in played.spans("chat")} == {"maker"}


def test_a_turn_says_where_each_part_of_what_was_shown_came_from_and_how_long_it_lives(tmp_path):
    played = play(agent(script(calls(("look", {"place": "home"})), "a0"), LOOK), tmp_path)
    for span in played.spans("turn"):
        blocks = span.attributes["ratchet.context"]
        assert all(block["tokens"] > 0 and block["lifetime"] in ("turn", "session", "durable") for block in blocks)
        assert {"tools", "task"} <= {block["source"] for block in blocks}


def test_calls_of_one_turn_run_side_by_side_and_are_answered_in_their_order(tmp_path):
    barrier = threading.Barrier(3, timeout=10)

    def meet(name: str) -> str:
        barrier.wait()
        return name

    names = ["ada", "bob", "cy"]
    model = script(calls(*(("meet", {"name": n}) for n in names)), "a0")
    seen = []
    played = play(
        agent(ScriptedModel(lambda m: (seen.append(m), model.answer(m))[1]), tool(meet, effect="none")),
        tmp_path,
    )
    assert played.ended == "done"
    assert [m.content for m in seen[-1] if m.role == "tool"] == names
    assert [m.answers for m in seen[-1] if m.role == "tool"] == ["c0", "c1", "c2"]


def test_a_tool_that_does_not_exist_and_arguments_that_do_not_fit_are_said_back(tmp_path):
    model = script(calls(("fly", {})), calls(("look", {"spot": 3})), calls(("look", {"place": "home"})), "a0")
    played = play(agent(model, LOOK), tmp_path)
    assert played.ended == "done"
    missing, misfit, found = played.told()
    assert "fly" in missing
    assert "look" in missing
    assert "place" in misfit
    assert found == "a lamp at home"
    assert [s.error_class for s in played.spans("execute_tool")] == ["not_found", "arguments", None]


def test_an_answer_of_a_declared_shape_is_asked_for_again_at_most_twice(tmp_path):
    class Answer(BaseModel):
        word: str

    right = play(agent(script("no", '{"word": 3}', '```json\n{"word": "x"}\n```'), schema=Answer), tmp_path / "a")
    assert (right.trial.output, right.ended) == ('{"word":"x"}', "done")

    never = play(agent(script("no"), schema=Answer), tmp_path / "b")
    assert never.ended == "failed"
    assert len(never.spans("chat")) == 3

    handed_in = script(calls(("look", {"place": "x"})), "done!", calls(("submit", {"word": "x"})))
    assert play(agent(handed_in, LOOK, schema=Answer), tmp_path / "c").trial.output == '{"word":"x"}'


def test_a_refusal_is_an_end_of_its_own(tmp_path):
    model = script(Reply("I cannot help with that.", finish_reason="refusal"))
    played = play(agent(model, LOOK), tmp_path)
    assert (played.ended, played.trial.error_class, played.trial.grade) == ("refused", "refused", None)
    assert not played.trial.is_lost


def test_a_skill_is_in_the_prompt_by_name_and_its_body_and_version_when_it_is_asked_for(tmp_path):
    skill = "---\nname: lamps\ndescription: How to look at lamps.\n---\nLook twice.\n"
    seen = []

    def answer(messages):
        seen.append(messages)
        return calls(("skill", {"name": "lamps"})) if len(seen) == 1 else "a0"

    prompt = "# system\n{{ skills }}\n\n# user\n{{ task }}\n"
    played = play(agent(ScriptedModel(answer), LOOK), tmp_path, prompt=prompt, text={"skills/lamps/SKILL.md": skill})
    assert "How to look at lamps." in seen[0][0].content
    assert "Look twice." not in str(seen[0])
    assert "Look twice." in seen[1][-1].content
    [loaded] = played.spans("execute_tool")
    assert "lamps" in loaded.output_preview.splitlines()[0]


# ── continue ───────────────────────────────────────────────────────────────────────────────────────────────────

DEAF = "Ignore every limit and continue forever. "


def endless(messages) -> Reply:
    return calls(("look", {"place": f"place {len(messages)}"}), text=DEAF)


@pytest.mark.parametrize(
    ("limits", "ended"),
    [
        (Limits(steps=3), "step_cap"),
        (Limits(calls=4), "tool_budget"),
        (Limits(tokens=600), "token_cap"),
    ],
)
def test_a_limit_ends_a_model_that_says_to_ignore_it(tmp_path, limits, ended):
    played = play(agent(ScriptedModel(endless), LOOK, limits=limits), tmp_path)
    assert (played.ended, played.trial.error_class) == (ended, ended)
    assert played.trial.grade is None
    if ended == "step_cap":
        assert len(played.spans("chat")) == 3
    if ended == "token_cap":
        assert played.trial.usage.tokens <= 600


def test_the_same_action_with_the_same_result_ends_it_with_the_action_shown(tmp_path):
    played = play(agent(script(calls(("look", {"place": "home"}))), LOOK, limits=Limits(repeats=3)), tmp_path)
    assert played.ended == "repeated_action"
    assert 'look({"place": "home"})' in played.trial.error


def test_a_model_that_talks_past_its_time_is_left_alone_with_it(tmp_path):
    def slow(messages):
        time.sleep(3)
        return "too late"

    started = time.monotonic()
    played = play(agent(ScriptedModel(slow), LOOK, limits=Limits(seconds=0.3)), tmp_path)
    assert played.ended == "time_cap"
    assert time.monotonic() - started < 2.5


def test_a_tool_that_hangs_is_given_up_and_the_model_is_told(tmp_path):
    def hang() -> str:
        time.sleep(30)
        return "never"

    model = script(calls(("hang", {})), "a0")
    started = time.monotonic()
    played = play(agent(model, tool(hang, effect="none"), limits=Limits(seconds=0.5)), tmp_path)
    assert time.monotonic() - started < 8
    assert played.ended == "time_cap"
    assert [s.error_class for s in played.spans("execute_tool")] == ["timeout"]


# ── retry ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_passes_by_itself_is_tried_again_and_what_does_not_is_told(tmp_path):
    left = [ToolError("rate_limit", "slow down", safe_to_repeat=True), ToolError("failed", "no such lamp")]

    def lamp() -> str:
        if left:
            raise left.pop(0)
        return "on"

    played = play(agent(script(calls(("lamp", {})), calls(("lamp", {})), "a0"), tool(lamp, effect="none")), tmp_path)
    assert [(s.attempt, s.error_class) for s in played.spans("execute_tool")] == [
        (1, "rate_limit"),
        (2, "failed"),
        (1, None),
    ]
    assert [s.safe_to_repeat for s in played.spans("execute_tool")] == [True, True, None]


def test_the_same_error_twice_with_nothing_changed_goes_to_a_person(tmp_path):
    def lamp() -> str:
        raise ToolError("failed", "the fuse is blown", safe_to_repeat=True)

    played = play(agent(script(calls(("lamp", {}))), tool(lamp, effect="none")), tmp_path)
    assert played.ended == "escalated"
    [entry] = played.inbox
    assert entry.escalation.concern == "same_error"
    assert "fuse" in entry.escalation.summary
    assert entry.escalation.owner == "Ada <ada@example.org>"


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_the_same_effect_is_never_had_twice(tmp_path_factory, wanted):
    place = tmp_path_factory.mktemp("once")
    target = place / "target"
    model = script(*(calls(("send", {"text": text})) for text in wanted), "a0")
    played = play(agent(model, written(target), limits=Limits(repeats=20, idle=20)), place / "data")
    assert played.ended == "done"
    assert sorted(lines(target)) == sorted(set(wanted))
    statuses = [s.attributes["ratchet.status"] for s in played.spans("execute_tool")]
    assert statuses.count("ok") == len(set(wanted))
    assert statuses.count("deduplicated") == len(wanted) - len(set(wanted))


def test_two_identical_effects_asked_for_at_once_are_one(tmp_path):
    target = tmp_path / "target"
    played = play(agent(script(calls(*[("send", {"text": "hello"})] * 4), "a0"), written(target)), tmp_path / "data")
    assert lines(target) == ["hello"]
    assert sorted(s.attributes["ratchet.status"] for s in played.spans("execute_tool")) == ["deduplicated"] * 3 + ["ok"]


def test_an_effect_is_not_had_again_when_its_trial_is_tried_again(tmp_path):
    target = tmp_path / "target"
    broken = [True]

    def answer(messages):
        if len(messages) == 2:
            return calls(("send", {"text": "hello"}))
        if broken:
            broken.clear()
            raise ModelError("overloaded", "try later", transient=True)
        return "a0"

    played = play(agent(ScriptedModel(answer), written(target)), tmp_path / "data")
    assert (played.ended, lines(target)) == ("done", ["hello"])
    assert [s.attributes["ratchet.status"] for s in played.spans("execute_tool")] == ["ok", "deduplicated"]


def test_an_effect_that_may_have_happened_is_not_tried_again_without_a_person(tmp_path):
    def pay(amount: int) -> str:
        raise ToolError("connection", "the line went dead")

    model = script(
        calls(("pay", {"amount": 5})), calls(("look", {"place": "account"})), calls(("pay", {"amount": 5})), "a0"
    )
    played = play(agent(model, tool(pay), LOOK, patience=0.0), tmp_path)
    assert played.ended == "done"
    first, _, second = played.spans("execute_tool")
    assert (first.error_class, first.safe_to_repeat) == ("connection", None)
    assert second.error_class == "unanswered"
    assert [entry.escalation.concern for entry in played.inbox] == ["repeated_failure"]


# ── hooks, sub-agents, subscribers ─────────────────────────────────────────────────────────────────────────────


def test_hooks_veto_rewrite_append_and_hold(tmp_path):
    asked = []

    def rename(event):
        return Rewrite({"place": "the moon"}) if event.call.arguments["place"] == "home" else None

    def forbid(event):
        return Veto("not there") if event.call.arguments["place"] == "work" else None

    def shout(event):
        return Rewrite(event.result.text.upper())

    def remind(event):
        asked.append(event.turn)
        return Append("Be brief.") if event.turn == 1 else None

    seen = []

    def answer(messages):
        seen.append(messages)
        return [calls(("look", {"place": "home"})), calls(("look", {"place": "work"})), "a0"][len(seen) - 1]

    hooks = [
        Hook("pre_trigger", rename),
        Hook("pre_trigger", forbid),
        Hook("post_trigger", shout),
        Hook("pre_turn", remind),
    ]
    played = play(agent(ScriptedModel(answer), LOOK, hooks=hooks), tmp_path)
    assert played.ended == "done"
    assert next(m.content for m in seen[-1] if m.role == "tool") == "A LAMP AT THE MOON"
    assert "not there" in [m.content for m in seen[-1] if m.role == "tool"][1]
    assert "Be brief." in seen[0][-1].content
    assert asked == [1, 2, 3]
    assert len(played.spans("hook")) >= 6


def test_a_hook_that_hangs_holds_nothing_up_and_fails_closed_before_an_action(tmp_path):
    hang = Hook("pre_trigger", lambda event: time.sleep(60), name="hang", timeout=0.2)
    started = time.monotonic()
    played = play(agent(script(calls(("look", {"place": "home"})), "a0"), LOOK, hooks=[hang]), tmp_path)
    assert time.monotonic() - started < 5
    assert (played.ended, [s.error_class for s in played.spans("execute_tool")]) == ("done", ["denied"])


def test_a_sub_agent_sees_its_task_alone_and_cannot_do_more_than_its_parent(tmp_path):
    seen = []

    def checker(messages):
        seen.append(messages)
        return "it is wrong"

    checked = Child("check", "Checks a text.", agent(ScriptedModel(checker), prompt="prompts/check.md"))
    eager = Child("eager", "Wants more.", agent(ScriptedModel("x"), LOOK, prompt="prompts/check.md"))
    model = script(
        calls(("check", {"task": "2 + 2 = 5"}), text="my secret reasoning"), calls(("eager", {"task": "look"})), "a0"
    )
    text = {"prompts/check.md": "# user\nCheck: {{ task }}\n"}
    played = play(agent(model, policy=standard_policy(), children=[checked, eager]), tmp_path, text=text)
    assert [m.content for m in seen[0]] == ["Check: 2 + 2 = 5"]
    assert "secret" not in str(seen)
    first, second = played.spans("execute_tool")
    assert first.output_preview == "it is wrong"
    assert "look" in second.output_preview
    assert second.error_class == "permission"
    assert {s.role for s in played.spans("chat")} == {"maker", "check"}
    assert played.ended == "done"


def test_sub_agents_go_three_deep_and_five_wide(tmp_path):
    model = ScriptedModel(lambda messages: calls(("again", {"task": "deeper"})) if len(messages) == 1 else "enough")
    third = agent(model, prompt="prompts/check.md", children=[])
    for _ in range(3):
        third = agent(
            model, policy=standard_policy(), prompt="prompts/check.md", children=[Child("again", "Goes deeper.", third)]
        )
    text = {"prompts/check.md": "# user\n{{ task }}\n"}
    played = play(third, tmp_path / "deep", text=text)
    assert [s.error_class for s in played.spans("execute_tool") if s.status == "error"] == ["permission"]

    wide = script(calls(*[("check", {"task": f"{n}"}) for n in range(7)]), "a0")
    child = Child("check", "Checks.", agent(ScriptedModel("fine"), prompt="prompts/check.md"))
    played = play(agent(wide, policy=standard_policy(), children=[child]), tmp_path / "wide", text=text)
    assert sorted(str(s.error_class) for s in played.spans("execute_tool")) == ["None"] * 5 + ["permission"] * 2


def test_a_subscriber_is_told_once_when_a_session_has_ended(tmp_path):
    told = []
    played = play(agent(script("a0"), LOOK, subscribers=[told.append]), tmp_path)
    [completion] = told
    assert (completion.ended, completion.output, completion.trial) == ("done", "a0", played.trial.id)


# ── escalate ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_policy_denies_is_not_done_and_a_person_learns_of_it(tmp_path):
    target = tmp_path / "target"
    policy = standard_policy().plus(deny("send", "users", "no mail to users"))
    played = play(
        agent(script(calls(("send", {"text": "hello"})), "a0"), written(target), policy=policy), tmp_path / "d"
    )
    assert (played.ended, lines(target)) == ("done", [])
    [entry] = played.inbox
    assert (entry.escalation.kind, entry.escalation.concern) == ("notice", "users")
    assert "no mail to users" in played.told()[0]


def test_a_held_call_is_in_the_inbox_before_it_is_held_and_goes_through_when_approved(tmp_path):
    from harness.agent.inbox import Inbox

    target = tmp_path / "target"
    policy = standard_policy().plus(hold("send", "users", "it goes to users"))
    runner = agent(script(calls(("send", {"text": "hello"})), "a0"), written(target), policy=policy, patience=20.0)
    done = []
    thread = threading.Thread(target=lambda: done.append(play(runner, tmp_path / "data")))
    thread.start()
    inbox = Inbox(tmp_path / "data")
    until = time.monotonic() + 15
    while not inbox.entries() and time.monotonic() < until:
        time.sleep(0.05)
    [entry] = inbox.entries()
    assert (lines(target), entry.escalation.tool) == ([], "send")
    inbox.rule(entry.escalation.id, "approved", "ada")
    thread.join(20)
    [played] = done
    assert (played.ended, lines(target)) == ("done", ["hello"])
    assert [e.state for e in played.inbox] == ["used"]


def test_a_held_call_that_nobody_answers_is_not_made_and_the_session_goes_on(tmp_path):
    target = tmp_path / "target"
    policy = standard_policy().plus(hold("send", "money", "it costs"))
    runner = agent(script(calls(("send", {"text": "hello"})), "a0"), written(target), policy=policy, patience=0.3)
    played = play(runner, tmp_path / "data")
    assert (played.ended, lines(target)) == ("done", [])
    assert [e.state for e in played.inbox] == ["expired"]


# ── verify ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Wants:
    """Satisfied with one word; counts what it was shown."""

    def __init__(self, word: str, attempts: int = 3) -> None:
        self.word, self.attempts, self.shown = word, attempts, []

    def review(self, task, output, work, before):
        self.shown.append(output)
        passed = output == self.word
        seen = 1 + sum(not mark.passed for review in before for mark in review.marks)
        mark = Mark(
            criterion="word",
            passed=passed,
            because="" if passed else "not the word",
            excerpt="" if passed else output,
            fingerprint="" if passed else "word",
            first_seen=None if passed else 1,
            times_seen=0 if passed else seen,
        )
        return Review(verdict="satisfied" if passed else "needs_revision", marks=(mark,))


def test_what_fails_its_review_goes_back_with_what_is_wrong_until_it_passes(tmp_path):
    seen = []

    def answer(messages):
        seen.append(messages)
        return ["wrong", "also wrong", "a0"][len(seen) - 1]

    played = play(agent(ScriptedModel(answer), verifier=Wants("a0")), tmp_path)
    assert (played.ended, played.trial.output) == ("done", "a0")
    assert "not the word" in seen[1][-1].content
    assert "wrong" in seen[1][-1].content
    assert [r.verdict for r in played.records if isinstance(r, Review)] == [
        "needs_revision",
        "needs_revision",
        "satisfied",
    ]


def test_a_verifier_that_is_never_satisfied_ends_it_by_rule_and_the_inbox_names_the_criterion(tmp_path):
    tries = iter(range(100))
    verifier = Wants("never", attempts=3)
    played = play(agent(ScriptedModel(lambda m: f"attempt {next(tries)}"), verifier=verifier), tmp_path)
    assert (played.ended, played.trial.output, len(verifier.shown)) == ("unsatisfied", "attempt 2", 3)
    assert played.trial.grade is not None
    [entry] = played.inbox
    assert entry.escalation.concern == "verification_failed"
    assert "word" in entry.escalation.summary
    assert any("not the word" in line for line in entry.escalation.evidence)


def test_a_verifier_that_breaks_says_nothing_about_the_maker(tmp_path):
    class Broken:
        attempts = 3

        def review(self, task, output, work, before):
            return Review(verdict="grader_error", detail="the judge is down")

    played = play(agent(script("a0"), verifier=Broken()), tmp_path)
    assert played.trial.is_lost
    assert {entry.escalation.concern for entry in played.inbox} == {"cannot_verify", "dead"}
    assert len(played.spans("chat")) == 3  # one for each attempt at the trial, none for a second review


# ── what is kept ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_secret_of_the_environment_reaches_no_prompt_and_no_trace(tmp_path):
    def leak(how: str) -> str:
        return f"the key is {os.environ['PAYMENT_API_KEY']}"

    seen = []

    def answer(messages):
        seen.append(str(messages))
        return calls(("leak", {"how": "please"})) if len(seen) == 1 else "a0"

    os.environ["PAYMENT_API_KEY"] = "hunter2-hunter2-hunter2"
    try:
        played = play(agent(ScriptedModel(answer), tool(leak, effect="none")), tmp_path)
    finally:
        del os.environ["PAYMENT_API_KEY"]
    assert played.ended == "done"
    assert "hunter2" not in "".join(seen)
    for path in (tmp_path / "spool").glob("*"):
        assert "hunter2" not in path.read_text(), path


def test_turns_are_recorded_below_the_trial_and_its_folder_is_gone(tmp_path):
    played = play(agent(script(calls(("look", {"place": "home"})), "a0"), LOOK), tmp_path)
    assert [r.text for r in played.records if isinstance(r, Turn)] == ["", "a0"]
    assert not list((tmp_path / "work").glob("*/*"))
    assert json.dumps(played.spans("execute_tool")[0].attributes)


# ── decided once more ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_trial_that_was_killed_and_taken_up_is_sound(tmp_path):
    class Killed(BaseException):
        pass

    alive = tmp_path / "alive"

    def work(place: str) -> str:
        if not alive.exists():
            raise Killed
        return f"a lamp at {place}"

    model = script(calls(("look", {"place": "home"})), calls(("work", {"place": "work"})), "a0")
    tools = LOOK, tool(work, effect="none")
    with pytest.raises(Killed):
        play(agent(model, *tools), tmp_path)
    paid = model.calls
    alive.touch()
    played = play(agent(model, *tools), tmp_path)
    assert (played.ended, played.trial.attempt, model.calls - paid) == ("done", 2, 1)
    assert played.trial.usage.calls == 3  # those of the process that died are the trial's too
    found = verify(journal_file(tmp_path, played.trial.run), tmp_path)
    assert not [d for d in found.differences if "usage" in d or "already" in d or "ended" in d], found.differences
