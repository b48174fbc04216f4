import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.findings import findings
from analysis.proposers.analyst import FOLDER, PROPOSE, wording
from experiments.self_improve import generate
from experiments.self_improve.experiment import HERE, experiment
from experiments.self_improve.runner import ProposingRunner, applied, at
from experiments.self_improve.scripted import answer
from experiments.self_improve.workshop import PROMPT, attainable, history, rule, solved, special, workshop
from harness.experiment import Budget
from harness.text import InvalidText
from tests.conftest import git
from tests.world import play
from traces import data_directory
from traces.records import Edit, Proposal, Task

CASES = sorted(generate.CASES)
SCOPE = HERE / "ideas" / "whom-a-rule-is-for" / "skills" / "scope-of-a-rule" / "SKILL.md"


def some(case: str, many: int = 6) -> list[Task]:
    return [task for task in experiment.tasks if task.tags == (case,)][:many]


def mean_score(text: dict[str, str], case: str) -> float:
    scores = [experiment.grader.grade(t, experiment.runner.run(t, text, 0)).score for t in some(case)]
    return sum(scores) / len(scores)


def test_the_tasks_are_what_the_generator_writes():
    written = (HERE / "tasks.jsonl").read_text().splitlines()
    assert written == [task.model_dump_json(exclude_defaults=True) for task in generate.tasks()]


@given(st.sampled_from(CASES), st.integers(0, 10_000))
def test_every_workshop_has_a_failure_that_one_rule_mends(case, seed):
    shop = workshop(case, seed)
    assert workshop(case, seed) == shop
    best = max(
        solved(shop, {PROMPT: f"# system\n{rule(kind, special(kind), scoped=True)}\n{shop.text[PROMPT]}"})
        for kind in shop.wanted
    )
    assert best - solved(shop, shop.text) == attainable(shop)
    assert attainable(shop) > 0


@given(st.sampled_from(CASES), st.integers(0, 10_000))
def test_an_analyst_sees_train_trials_of_a_workshop_and_what_was_tried_there(case, seed):
    shop = workshop(case, seed)
    seen = history(shop)
    found = findings(seen.trials)
    assert len(seen.trials) == sum(shop.many.values())
    assert len(seen.rounds) == (2 if case == "stubborn" else 0)
    assert all(r.proposal is not None and r.proposal.answers == (found[0].id,) for r in seen.rounds)


def test_an_analyst_is_asked_by_the_seed_of_its_trial():
    @dataclasses.dataclass
    class Remembering:
        name: str = "scripted:remembering"
        takes_tools: bool = False
        seeds: list[int] = dataclasses.field(default_factory=list)

        def complete(self, messages, *, seed):
            self.seeds.append(seed)
            return answer(messages)

    model = Remembering()
    for seed in (1, 2, 1):
        ProposingRunner(model).run(some("lone", 1)[0], wording(), seed)
    first, second, third = model.seeds
    assert first == third != second


def test_a_rule_that_does_not_say_whom_it_is_for_spoils_the_twin():
    shop = at(some("twins", 1)[0])
    kind = next(kind for kind, form in shop.wanted.items() if form != "spoken" and kind[0] not in shop.text[PROMPT])
    head, tail = shop.text[PROMPT].split("\n\n# user")
    gains = {
        scoped: solved(shop, {PROMPT: f"{head}\n{rule(kind, special(kind), scoped=scoped)}\n\n# user{tail}"})
        - solved(shop, shop.text)
        for scoped in (True, False)
    }
    assert gains[True] == attainable(shop)
    assert gains[False] < gains[True] / 2


def test_the_text_as_shipped_fails_at_twins_alone_and_the_idea_cures_it():
    text = wording()
    assert {case: mean_score(text, case) for case in CASES if case != "twins"} == dict.fromkeys(
        ("lone", "misled", "stubborn"), 1.0
    )
    assert mean_score(text, "twins") < 0.7
    assert mean_score({**text, "skills/scope-of-a-rule/SKILL.md": SCOPE.read_text()}, "twins") == 1.0


@pytest.mark.parametrize(
    ("words", "case"),
    [("in vain", "stubborn"), ("what misleads", "misled"), ("character by character|Leave what works", "lone")],
)
def test_without_the_sentence_that_tells_it_the_analyst_errs(words, case):
    text = wording()
    assert mean_score({**text, PROPOSE: re.sub(words, "…", text[PROPOSE])}, case) < 1.0


def test_a_version_without_a_placeholder_is_refused_before_a_trial_is_bought():
    text = wording()
    experiment.runner.check(text)
    with pytest.raises(InvalidText, match="findings"):
        experiment.runner.check({**text, PROPOSE: text[PROPOSE].replace("{{ findings }}", "")})


def test_an_edit_can_take_a_file_out_of_a_workshop():
    shop = at(some("lone", 1)[0])
    gone = Proposal(id="p", proposer="x", edits=(Edit(path=PROMPT, text=None),), rationale="less")
    assert applied(shop, gone.edits) == {}
    assert experiment.grader.grade(some("lone", 1)[0], gone.model_dump_json()).score == 0.0
    assert experiment.grader.grade(some("lone", 1)[0], "").score == 0.5


def test_a_short_night_on_its_own_text_keeps_the_idea_that_answers_the_finding(checkout):
    subject = checkout / experiment.subject
    for path, text in wording().items():
        (subject / path).parent.mkdir(parents=True, exist_ok=True)
        (subject / path).write_text(text)
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "The analyst's text")
    twins = [task for task in experiment.tasks if task.tags == ("twins",)]
    rest = [task for task in experiment.tasks if task.tags != ("twins",) and task.split == "train"][:10]
    gate = dataclasses.replace(experiment.gate, min_clusters=20)
    night = dataclasses.replace(experiment, tasks=twins + rest, gate=gate, budget=Budget(rounds=1))

    rounds = play(night, checkout, data_directory(checkout))

    assert FOLDER.is_dir()
    assert rounds[1].proposal is not None
    assert rounds[1].proposal.rationale.startswith("whom-a-rule-is-for")
    assert rounds[1].decision is not None
    assert rounds[1].decision.verdict == "keep"
    certified = rounds[-1].certification
    assert certified is not None
    assert certified.verdict == "accept"
