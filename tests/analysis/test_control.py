"""Eight facts about a run that nobody watches."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from analysis.control import FACTS, facts, lines
from analysis.night import read_night
from harness.agent.limits import Limits
from harness.agent.policy import Policy, allow, deny, standard_policy
from harness.experiment import Budget, Contract
from harness.ledger import journal_file, runs
from tests.conftest import a_checkout
from tests.world import KnowingRunner, an_experiment, play, some_tasks
from traces.records import Escalation

CONTRACT = Contract(
    owner="Ada <ada@example.org>",
    stops="the limits of the budget",
    proves="the grader on hidden tasks",
    repeats="all of it, nothing acts outside",
    person="whatever the policy holds",
)


@dataclass(frozen=True)
class SomeTool:
    name: str
    effect: str


@dataclass(frozen=True)
class AVerifier:
    attempts: int = 3


@dataclass(frozen=True)
class AnAgent(KnowingRunner):
    tools: tuple = (SomeTool("read_file", "none"), SomeTool("send_mail", "outside"), SomeTool("report", "outside"))
    policy: object = field(default_factory=lambda: standard_policy().plus(allow("report")))
    limits: Limits = field(default_factory=lambda: Limits(steps=12))
    verifier: object = field(default_factory=AVerifier)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    place = tmp_path_factory.mktemp("night")
    experiment = an_experiment(tasks=some_tasks(20), budget=Budget(rounds=1, trials=5000))
    play(experiment, a_checkout(place / "repository"), place / "data")
    found = read_night(journal_file(place / "data", runs(place / "data", "example")[-1]))
    assert found is not None
    return found


def test_there_are_exactly_eight_and_none_is_empty(night):
    for runner in (KnowingRunner(), AnAgent()):
        said = facts(an_experiment(runner=runner), night, [])
        assert tuple(said) == FACTS
        assert len(said) == 8
        assert all(said.values())
        assert len(lines(said)) == 8


def test_it_says_what_is_left_of_each_limit(night):
    left = facts(an_experiment(), night, [])["retry budget left"]
    assert "rounds 0 of 1" in left
    assert f"trials {5000 - night.trials:,} of 5,000" in left


def test_of_an_agent_it_says_what_the_policy_makes_of_each_tool(night):
    said = facts(replace(an_experiment(runner=AnAgent()), contract=CONTRACT), night, [])
    assert "read_file (changing nothing)" in said["allowed actions"]
    assert "send_mail (hold), report (outside of it)" in said["allowed actions"]
    assert "AVerifier reviews each attempt, 3 attempts at most" in said["required verification"]
    assert "12 turns" in said["retry budget left"]
    assert "asks Ada <ada@example.org>" in said["what forces escalation"]


def test_a_tool_that_is_allowed_with_some_arguments_is_said_to_be_so(night):
    docs = Policy((allow("write_file", path="docs/*"), allow("write_file", path=("a/*", "b/*"), mode="new")))
    tools = (SomeTool("write_file", "worktree"), SomeTool("shell", "worktree"))
    said = facts(an_experiment(runner=AnAgent(tools=tools, policy=docs)), night, [])["allowed actions"]
    assert "write_file (only path=docs/* or path=a/*|b/* and mode=new), shell (deny) (in the worktree)" in said
    narrower = docs.narrowed(Policy((allow("*", path="docs/a*"),)))
    said = facts(an_experiment(runner=AnAgent(tools=tools, policy=narrower)), night, [])["allowed actions"]
    assert "and mode=new, and only path=docs/a*), shell (deny)" in said
    never = docs.plus(deny("write_file", "out_of_scope", "not tonight"))
    said = facts(an_experiment(runner=AnAgent(tools=tools, policy=never)), night, [])["allowed actions"]
    assert "write_file (deny), shell (deny)" in said


def test_a_runner_without_tools_is_said_to_have_none(night):
    said = facts(an_experiment(), night, [])
    assert "has no tools" in said["allowed actions"]
    assert "ExactGrader" in said["required verification"]


def test_what_waits_for_a_person_is_named_with_its_owner(night):
    waiting = [
        Escalation(
            id=f"e{n}",
            kind="approval",
            concern="money",
            experiment="example",
            owner="Ada",
            summary=f"pay {n}\n\x1b[2Jdollars",
            raised=datetime(2026, 11, 1, tzinfo=UTC),
        )
        for n in range(5)
    ]
    said = facts(an_experiment(), night, waiting)["what needs approval"]
    assert said.startswith("5 things of Ada: e0: pay 0")
    assert "and 2 more (ratchet inbox list)" in said
    assert "\x1b" not in said
    assert facts(an_experiment(), night, [])["what needs approval"].startswith("nothing now")


def test_nothing_is_on_a_branch_before_a_person_promotes_it(night):
    assert facts(an_experiment(), night, [])["what is committed"].startswith("nothing on your branches")
