"""Whether an experiment may be left alone is asked before it starts."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contract import (
    EXAMPLES,
    QUESTIONS,
    faults,
    lines_to_write,
    lints,
    refuse_scheduled,
    refuse_unattended,
)
from harness.errors import UserError
from harness.experiment import Budget, Contract
from harness.models.routing import Routes
from harness.testing import ScriptedModel
from tests.world import KnowingRunner, an_experiment

GOOD = Contract(
    owner="Ada <ada@example.org>",
    stops="the limits of the budget, and a person with: ratchet stop",
    proves="the grader, on hidden tasks that no proposer has seen",
    repeats="model calls; what changes something outside is done once at most",
    person="whatever the policy holds, and the same error twice",
)


def test_honest_answers_are_accepted():
    assert faults(GOOD) == []


def test_the_answers_that_a_refusal_proposes_would_be_accepted_but_for_the_owner():
    proposed = Contract(**EXAMPLES)
    assert [fault.split()[0] for fault in faults(proposed)] == ["contract.owner"]


@pytest.mark.parametrize("field", QUESTIONS)
@pytest.mark.parametrize("answer", ["", "  \n", "TODO", "…", "...", "n/a", "NAME", "-", "None", "<fill in>", "{{x}}"])
def test_an_answer_that_is_none_is_named_with_its_question(field, answer):
    [fault] = faults(replace(GOOD, **{field: answer}))
    assert fault.startswith(f"contract.{field} ")
    assert QUESTIONS[field] in fault


def test_a_word_is_too_short_to_be_an_answer_but_names_an_owner():
    [fault] = faults(replace(GOOD, stops="budget"))
    assert "too short" in fault
    assert faults(replace(GOOD, owner="Bo")) == []


def test_answers_may_be_given_in_korean():
    assert faults(replace(GOOD, owner="김철수", stops="예산 한도와 중지 버튼", person="삭제와 결제는 승인 필요")) == []
    assert faults(replace(GOOD, stops="모델이 스스로 판단해서 멈춘다")) != []


@pytest.mark.parametrize(
    "answer",
    [
        "the prompt says so",
        "Because the system prompt tells it to stop after ten steps.",
        "The model decides when it is finished",
        "the model knows when to stop",
        "We tell it to stop when it is done",
        "I asked the model to be careful with deletions",
        "the agent is instructed never to call it twice",
        "It is told to ask a person first",
        "It stops, as written in the prompt",
        "it never stops unless the prompt says so",
        "The budget ends it. The model also knows when to stop",
        "System prompt.",
    ],
)
def test_an_answer_that_leans_on_the_prompt_is_no_answer(answer):
    for question in ("stops", "proves", "repeats", "person"):
        [fault] = faults(replace(GOOD, **{question: answer}))
        assert "A prompt is advice" in fault


@pytest.mark.parametrize(
    "answer",
    [
        "the step cap of the runtime, whatever the model thinks about it",
        "a limit of 30 turns; not because the prompt says so",
        "a second model judges it by a rubric, in a context of its own",
        "the tests of prompts/solve.md pass in a sandbox",
        "rejected calls are never made again, no matter what the prompt says",
    ],
)
def test_speaking_of_prompts_and_models_is_not_leaning_on_them(answer):
    assert faults(replace(GOOD, stops=answer)) == []


def test_one_answer_to_two_questions_is_pointed_out():
    [fault] = faults(replace(GOOD, proves=GOOD.stops.upper()))
    assert "contract.proves says the same as contract.stops" in fault


@given(st.text(max_size=60))
def test_any_text_gets_a_verdict(text):
    for fault in faults(replace(GOOD, stops=text, owner=text)):
        assert fault.startswith("contract.")


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hours", [None, 1.01, 8])
def test_a_long_run_without_a_contract_is_refused_with_the_lines_to_write(hours):
    with pytest.raises(UserError) as e:
        refuse_unattended(an_experiment(contract=None), hours)
    for question in QUESTIONS:
        assert f"{question}=" in str(e.value)
    assert "experiments/example/experiment.py" in str(e.value)


def test_a_refusal_keeps_the_answers_that_hold():
    experiment = replace(an_experiment(), contract=replace(GOOD, person="the model decides that by itself"))
    with pytest.raises(UserError, match=r"contract\.person rests on 'the model decides'") as e:
        refuse_unattended(experiment, 8)
    assert repr(GOOD.stops) in str(e.value)
    assert "contract.stops" not in str(e.value)


def test_a_run_of_an_hour_or_one_with_a_good_contract_may_start():
    refuse_unattended(an_experiment(), 1)
    refuse_unattended(replace(an_experiment(), contract=GOOD), None)


def test_the_lines_to_write_are_python():
    written = lines_to_write(replace(GOOD, stops='it\'s "over"\nthen: the budget'))
    assert eval(f"dict({written})", {"Contract": Contract})["contract"].proves == GOOD.proves


@pytest.mark.parametrize("trigger", ["cron", "schedule", "webhook"])
def test_what_a_clock_starts_needs_a_ceiling_on_its_cost(trigger):
    with pytest.raises(UserError, match=f"started by '{trigger}'.*dollars=5"):
        refuse_scheduled(an_experiment(), trigger, Budget(rounds=4, hours=1))
    refuse_scheduled(an_experiment(), trigger, Budget(rounds=4, dollars=1))
    refuse_scheduled(an_experiment(), trigger, Budget(rounds=4, tokens=1000))


def test_what_a_person_starts_does_not():
    refuse_scheduled(an_experiment(), "manual", Budget(rounds=4))


# ── what may be missing ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Verdict:
    verdict: str


@dataclass(frozen=True)
class OnePolicy:
    verdict: str

    def judge(self, call, effect):
        return Verdict(self.verdict)


@dataclass(frozen=True)
class SomeTool:
    name: str
    effect: str = "outside"


@dataclass(frozen=True)
class Named:
    name: str
    agent: object = None


@dataclass(frozen=True)
class SomeVerifier:
    judge: object


@dataclass(frozen=True)
class SomeMemory:
    cap: int | None = None


@dataclass(frozen=True)
class SomeAgent(KnowingRunner):
    model: object = field(default_factory=lambda: ScriptedModel("x", name="small"))
    tools: tuple = ()
    policy: object = None
    verifier: object = None
    memory: object = None
    servers: tuple = ()
    children: tuple = ()


def warned(runner, budget=None):
    budget = budget or Budget(rounds=1, dollars=1)
    return lints(replace(an_experiment(runner=runner, budget=budget), contract=GOOD))


WATCHED = SomeVerifier(ScriptedModel("x", name="large"))


def test_a_runner_that_is_no_agent_gets_no_warning():
    assert warned(KnowingRunner()) == []


def test_a_tool_that_acts_outside_needs_a_policy_that_says_no_to_something():
    agent = SomeAgent(tools=(SomeTool("send_mail"),), verifier=WATCHED)
    assert "'send_mail' can change" in warned(agent)[0]
    assert "policy allows it" in warned(replace(agent, policy=OnePolicy("allow")))[0]
    assert warned(replace(agent, policy=OnePolicy("hold"))) == []
    assert warned(replace(agent, tools=(SomeTool("read_file", "none"),))) == []


def test_tools_of_a_sub_agent_count_too():
    agent = SomeAgent(children=(Named("helper", SomeAgent(tools=(SomeTool("pay"),))),), verifier=WATCHED)
    assert "'pay' can change" in warned(agent)[0]


def test_tools_without_a_verifier_are_pointed_out_and_mcp_alone_is_no_loop():
    agent = SomeAgent(policy=OnePolicy("deny"))
    assert "its own word" in warned(replace(agent, tools=(SomeTool("write_file", "worktree"),)))[0]
    assert "tools alone are no loop" in warned(replace(agent, servers=(Named("crm"),)))[0]


def test_a_judge_that_is_the_makers_own_model_is_pointed_out():
    agent = SomeAgent(tools=(SomeTool("a", "none"),), verifier=SomeVerifier(ScriptedModel("x", name="small")))
    [warning] = warned(agent)
    assert "'small' both makes and judges" in warning


def test_a_verifier_that_knows_what_makes_it_doubtful_is_asked():
    class Doubting:
        def warnings(self, makers):
            return [f"{maker} judges its own work" for maker in makers]

    assert warned(SomeAgent(verifier=Doubting())) == ["small judges its own work"]


def test_with_a_table_of_models_the_one_for_its_role_counts():
    small, large = ScriptedModel("x", name="small"), ScriptedModel("x", name="large")
    agent = SomeAgent(tools=(SomeTool("a", "none"),), model=Routes(small, judge=large))
    assert warned(replace(agent, verifier=SomeVerifier(agent.model))) == []
    assert "'small' both" in warned(replace(agent, verifier=SomeVerifier(Routes(small, reviewer=large))))[0]


def test_a_budget_without_a_ceiling_and_a_memory_without_a_cap_are_pointed_out():
    assert "no ceiling" in warned(KnowingRunner(), Budget(rounds=3))[0]
    assert "memory has no cap" in warned(SomeAgent(memory=SomeMemory()))[0]
    assert warned(SomeAgent(memory=SomeMemory(cap=4000))) == []


def test_a_contract_that_a_night_would_be_refused_for_is_pointed_out():
    found = lints(an_experiment(contract=None, budget=Budget(rounds=1, tokens=10)))
    assert len(found) == len(QUESTIONS)
    assert all("more than an hour is refused" in warning for warning in found)
