"""Hooks narrow what an agent may do; they are ordered, timed, and cannot hang a run."""

import threading
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.hooks import MOST_HANGING, Append, Event, Hold, Hook, Hooks, Rewrite, Veto
from harness.errors import BudgetSpent, UserError
from harness.meter import Unmetered, meter, metered
from harness.protocols import Message, Reply
from traces.records import Task, ToolCall, ToolResult

CALL = ToolCall(id="c1", name="write_file", arguments={"path": "a.md", "lines": [1]})
RESULT = ToolResult(call="c1", tool="write_file", text="written")


class Kept(Unmetered):
    """A meter that keeps its spans."""

    def __init__(self) -> None:
        super().__init__()
        self.spans = []

    def end(self, span, texts=()):
        self.spans.append(span)


@contextmanager
def tracing():
    kept = Kept()
    with metered(kept):
        yield kept.spans


def event(point="pre_trigger", **facts) -> Event:
    facts = {"call": CALL} | facts if point.endswith("trigger") else facts
    return Event(point, "s", 3, (Message("user", "do it"), Message("assistant", "", calls=(CALL,))), **facts)


def hook(answer, point="pre_trigger", **options) -> Hook:
    return Hook(point, answer if callable(answer) else lambda event: answer, **options)


def raising(event):
    raise ValueError("no idea")


def test_without_hooks_all_stays_as_it_is_and_nothing_is_traced():
    with tracing() as spans:
        answered = Hooks().run(event())
    assert (answered.call, answered.veto, answered.hold, spans) == (CALL, None, None, [])
    assert not Hooks().asks("pre_turn")


def test_lower_priority_is_asked_first_and_equals_in_the_order_of_their_declaration():
    asked = []
    order = [("c", 5), ("a", -1), ("b", 0), ("b2", 0)]
    Hooks([hook(lambda e, n=name: asked.append(n), name=name, priority=p) for name, p in order]).run(event())
    assert asked == ["a", "b", "b2", "c"]


@pytest.mark.parametrize("first", [Veto("never"), Hold("money", "it costs")])
def test_the_first_veto_or_hold_wins_and_later_hooks_are_not_asked(first):
    asked = []
    answered = Hooks([hook(first, name="strict"), hook(asked.append)]).run(event())
    assert (answered.veto or answered.hold, answered.by, asked) == (first, "strict", [])


def test_a_later_hook_sees_the_rewritten_call_under_the_same_id():
    seen = []
    hooks = Hooks([hook(Rewrite({"path": "b.md"})), hook(lambda e: seen.append(e.call))])
    answered = hooks.run(event())
    assert seen == [answered.call] == [ToolCall(id="c1", name="write_file", arguments={"path": "b.md"})]


def test_rewrites_of_results_and_replies_change_their_text_alone():
    result = Hooks([hook(Rewrite("seen"), "post_trigger")]).run(event("post_trigger", result=RESULT)).result
    assert result == RESULT.model_copy(update={"text": "seen"})
    reply = Reply("yes", tool_calls=(CALL,), opaque=({"signature": "s"},))
    new = Hooks([hook(Rewrite("no"), "post_generate")]).run(event("post_generate", reply=reply)).reply
    assert new == Reply("no", tool_calls=(CALL,), opaque=({"signature": "s"},))


def test_what_is_appended_comes_in_order_and_blank_text_is_nothing():
    texts = ("one", " \n", "two")
    answered = Hooks([hook(Append(text), "pre_generate") for text in texts]).run(event("pre_generate"))
    assert answered.appended == ("one", "two")


def test_a_hook_cannot_change_what_it_is_shown():
    def spoil(e):
        e.call.arguments["lines"].append(2)
        e.call.arguments["path"] = "/etc/passwd"
        e.messages[1].calls[0].arguments.clear()

    shown = event()
    answered = Hooks([hook(spoil)]).run(shown)
    assert answered.call == CALL == ToolCall(id="c1", name="write_file", arguments={"path": "a.md", "lines": [1]})
    assert shown.messages[1].calls == (CALL,)


def test_a_hook_cannot_change_arguments_after_it_gave_them_away():
    given_away = {"path": "b.md", "lines": [1]}
    answered = Hooks([hook(lambda e: Rewrite(given_away))]).run(event())
    given_away["lines"].append(2)
    assert answered.call.arguments == {"path": "b.md", "lines": [1]}


def test_a_hook_is_not_shown_the_targets_of_the_task():
    seen = []
    Hooks([hook(lambda e: seen.append(e.task))]).run(event(task=Task(id="t", input="i", targets=("secret",))))
    assert seen[0].targets == ()


@pytest.mark.parametrize(
    ("answer", "point"),
    [
        (raising, "pre_trigger"),
        ("veto", "pre_trigger"),
        (True, "pre_turn"),
        (Append("more"), "pre_trigger"),
        (Hold("money", "it costs"), "pre_turn"),
        (Rewrite("text"), "pre_trigger"),
        (Rewrite({"path": Path("a.md")}), "pre_trigger"),
        (Rewrite({"n": float("nan")}), "pre_trigger"),
        (lambda e: Veto(5), "pre_trigger"),
        (lambda e: Hold("boredom", "…"), "pre_trigger"),
    ],
)
def test_before_an_action_a_broken_hook_counts_as_a_veto_unless_it_is_open(answer, point):
    with tracing() as spans:
        closed = Hooks([hook(answer, point, name="broken")]).run(event(point))
        opened = Hooks([hook(answer, point, on_error="open")]).run(event(point))
    assert closed.veto is not None
    assert "'broken' did not come to an answer" in closed.veto.because
    assert (opened.veto, opened.hold, opened.appended, opened.call) == (None, None, (), event(point).call)
    assert [span.status for span in spans] == ["error", "error"]
    assert all(span.error for span in spans)


def test_after_an_action_a_broken_hook_is_ignored_and_recorded_unless_it_is_closed():
    with tracing() as spans:
        answered = Hooks([hook(raising, "post_trigger")]).run(event("post_trigger", result=RESULT))
    assert (answered.veto, answered.result) == (None, RESULT)
    assert (spans[0].error, spans[0].error_class) == ("ValueError: no idea", "ValueError")
    closed = hook(raising, "post_trigger", on_error="closed")
    assert Hooks([closed]).run(event("post_trigger", result=RESULT)).veto is not None


def test_what_a_hook_raised_is_not_told_to_the_model():
    answered = Hooks([hook(raising)]).run(event())
    assert "no idea" not in answered.veto.because


def test_a_hook_that_hangs_is_given_up_and_the_call_denied():
    release, clock = threading.Event(), monotonic()
    with tracing() as spans:
        answered = Hooks([hook(lambda e: release.wait(60), timeout=0.05)]).run(event())
    release.set()
    assert answered.veto is not None
    assert monotonic() - clock < 10
    assert spans[0].error_class == "timeout"


def test_hooks_that_hang_have_no_more_time_together_than_the_session_has_left():
    release, clock = threading.Event(), monotonic()
    hanging = [hook(lambda e: release.wait(60), "post_generate", timeout=30) for _ in range(3)]
    Hooks(hanging).run(event("post_generate"), seconds=0.1)
    release.set()
    assert monotonic() - clock < 10


def test_a_hook_that_always_hangs_does_not_pile_up_threads_and_serves_again_when_it_has_ended():
    release, before = threading.Event(), threading.active_count()

    def wait(e):
        release.wait(60)

    hooks = Hooks([hook(wait, timeout=0.01)])
    for _ in range(MOST_HANGING + 5):
        assert hooks.run(event()).veto is not None
    assert threading.active_count() <= before + MOST_HANGING
    release.set()
    patient = monotonic() + 30
    while hooks.run(event()).veto is not None and monotonic() < patient:
        threading.Event().wait(0.01)
    assert hooks.run(event()).veto is None


def test_a_hook_spends_on_the_meter_of_whoever_asks_it():
    seen = []
    with tracing():
        outside = meter()
        Hooks([hook(lambda e: seen.append(meter().meter))]).run(event())  # on a leash, since it may be given up
    assert seen == [outside]


@pytest.mark.parametrize("passing", [BudgetSpent("dollars", "gone"), UserError("mend it")])
def test_a_spent_budget_and_an_error_of_the_user_are_no_answers(passing):
    def spend(e):
        raise passing

    with pytest.raises(type(passing)):
        Hooks([hook(spend)]).run(event())


def test_each_call_of_a_hook_is_a_span_that_says_what_came_of_it():
    with tracing() as spans:
        Hooks([hook(Rewrite({}), name="tidy"), hook(Veto("no"), name="strict")]).run(event())
    assert [(s.operation, s.name, s.status) for s in spans] == [("hook", "tidy", "ok"), ("hook", "strict", "ok")]
    assert [s.attributes["ratchet.hook.answer"] for s in spans] == ["rewrite", "veto"]
    assert spans[1].attributes["ratchet.hook.because"] == "no"


@pytest.mark.parametrize("options", [{"point": "post_turn"}, {"timeout": 0}, {"timeout": float("inf")}])
def test_a_hook_that_could_not_work_is_refused_when_it_is_declared(options):
    with pytest.raises(UserError):
        Hook(**{"point": "pre_turn", "call": lambda e: None, **options})


ANSWERS = st.sampled_from([None, Veto("no"), Hold("money", "costs"), Rewrite({"path": "c.md"}), "nonsense"])


@given(st.lists(st.tuples(ANSWERS, st.integers(-2, 2), st.sampled_from(["open", "closed"])), max_size=4))
def test_more_hooks_never_allow_what_fewer_refuse(declared):
    hooks = [hook(answer, priority=p, on_error=on_error) for answer, p, on_error in declared]
    refused = [h for h, (answer, _, on_error) in zip(hooks, declared, strict=True)
               if isinstance(answer, Veto | Hold) or (answer == "nonsense" and on_error == "closed")]  # fmt: skip
    answered = Hooks(hooks).run(event())
    assert bool(answered.veto or answered.hold) == bool(refused)
    assert (answered.call.id, answered.call.name) == (CALL.id, CALL.name)
