"""What became of a lesson: which kind of artifact answered a finding, by the paths of the change that was kept."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from analysis.report import short
from traces.records import Round

Lesson = Literal["instruction", "eval", "routing rule", "tool contract", "approval gate"]

PLACES: Mapping[Lesson, tuple[str, ...]] = {
    "approval gate": ("polic", "approv", "permission", "hook"),
    "routing rule": ("rout", "model"),
    "tool contract": ("tool", "mcp", "schema"),
    "eval": ("rubric", "eval", "grader", "check", "tasks", "test"),
}
"""Kind → how a part of the path begins. The first that fits counts."""
KINDS: tuple[Lesson, ...] = (*PLACES, "instruction")


def lesson(round: Round) -> Lesson | None:
    """What the change of *round* made of a failure; ``None`` where no change was kept.

    Of a change to several files, the kind that most of them are; of as many of each, the one that binds more.
    """
    if round.proposal is None or round.decision is None or round.decision.verdict != "keep":
        return None
    kinds = [kind_of(edit.path) for edit in round.proposal.edits]
    return max(KINDS, key=kinds.count) if kinds else None


def kind_of(path: str) -> Lesson:
    """Skills and prompts instruct, whatever they are about; but a prompt that routes is a rule of routing."""
    parts = path.lower().split("/")
    if parts[0] == "skills" or (parts[0] == "prompts" and not parts[-1].startswith(PLACES["routing rule"])):
        return "instruction"
    for kind, starts in PLACES.items():
        if any(part.startswith(starts) for part in parts):
            return kind
    return "instruction"


def answered(finding: str, rounds: Iterable[Round]) -> list[Round]:
    """The rounds that kept a change which answers the *finding*, oldest first; those taken out again left out."""
    rounds = list(rounds)
    gone = {n for r in rounds for removal in r.removals if removal.verdict == "drop" for n in removal.rounds}
    return [
        r
        for r in rounds
        if r.proposal is not None and finding in r.proposal.answers and lesson(r) is not None and r.number not in gone
    ]


def sentence(finding: str, rounds: Sequence[Round]) -> str:
    """Which artifact answered the *finding*; empty where none did."""
    parts: list[str] = []
    for r in answered(finding, rounds):
        assert r.proposal is not None
        paths = ", ".join(edit.path for edit in r.proposal.edits)
        parts.append(f"{lesson(r)} in round {r.number} ({short(paths, 80)})")
    return "answered by " + "; ".join(parts) if parts else ""
