"""An attempt of a version of the analyst's text at one workshop, and what its proposal is worth there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.proposers.analyst import PROMPTS, AnalysisAgent
from experiments.self_improve.workshop import Workshop, attainable, history, solved, solves, whole, workshop
from harness.errors import OutOfIdeas
from harness.protocols import Model
from harness.text import validate
from traces.records import Edit, Grade, Proposal, Task

NOBODY = "0" * 40


@dataclass(frozen=True)
class ProposingRunner:
    """Has the analysis agent, under a version of its own text, propose one change to the harness of a workshop."""

    model: Model

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        """The proposal, as JSON; empty where it saw nothing left to try."""
        shop = at(task)
        try:
            proposal = AnalysisAgent(self.model, wording=text).propose(NOBODY, shop.text, history(shop, seed))
        except OutOfIdeas:
            return ""
        return proposal.model_dump_json(exclude={"findings"})

    def check(self, text: Mapping[str, str]) -> None:
        validate(text, PROMPTS)


@dataclass(frozen=True)
class GainGrader:
    """Scores a proposal by the gain that it brings on the hidden tasks of the workshop, of what one change can bring:
    0.5 gains nothing, 1 all of it, 0 loses as much or more."""

    def grade(self, task: Task, output: str) -> Grade:
        shop = at(task)
        if not output:
            return Grade(score=0.5, reason="it saw nothing left to try, and there was")
        after = applied(shop, Proposal.model_validate_json(output).edits)
        gained = (solved(shop, after) - solved(shop, shop.text)) / attainable(shop)
        return Grade(score=min(max(0.5 + gained / 2, 0.0), 1.0), reason=reason(shop, after))


def reason(shop: Workshop, after: Mapping[str, str]) -> str:
    """What to learn from it."""
    was = {kind for kind, form in shop.wanted.items() if solves(whole(shop.text), kind, form)}
    now = {kind for kind, form in shop.wanted.items() if solves(whole(after), kind, form)}
    mended, lost = bool(now - was), was - now
    if lost:
        fields = {field for _, field in now - was}
        why = "the new rule holds for other documents, too" if {f for _, f in lost} & fields else "a rule was left out"
        return f"{'it mends one kind and spoils' if mended else 'it spoils'} another, which worked: {why}"
    return "it mends what can be mended" if mended else "it mends nothing: the failure is there as before"


def applied(shop: Workshop, edits: tuple[Edit, ...]) -> dict[str, str]:
    made = {**shop.text, **{edit.path: edit.text for edit in edits if edit.text is not None}}
    return {path: text for path, text in made.items() if path not in {e.path for e in edits if e.text is None}}


def at(task: Task) -> Workshop:
    asked = json.loads(task.input)
    return workshop(asked["case"], asked["seed"])
