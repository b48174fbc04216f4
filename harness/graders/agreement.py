"""The grader of a rubric: does a judge that goes by it say what people say? What scores it hands out does not count."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from harness.agreement import Pair, agreement
from harness.errors import UserError
from traces.records import Agreement, Grade, Split, Task, Trial


@dataclass(frozen=True)
class Costs:
    """What it costs to be wrong by one criterion: 1 for the kind of mistake that there are fewest chances to make."""

    false_pass: float
    """To let pass what people refuse."""
    false_failure: float
    """To refuse what people let pass."""
    marked: float = 1.0
    """Share of the clusters in which people have marked it."""


@dataclass(frozen=True)
class AgreementGrader:
    """Scores marks by how far they are those of people, so that whoever always says the same earns nothing by it.

    The score is 1 less the mean cost of the criteria that are wrong. A wrong pass costs 1 / (1 - p) and a wrong failure
    1 / p, where p is the share that people let pass, both divided by the greater of the two; so on the mean over a
    split it is

        1 - (false passes' rate + false failures' rate) · min(p, 1 - p)

    the balanced accuracy of Brodersen and others (2010), or Youden's J (1950), on another scale. Whoever passes all,
    refuses all or tosses a coin, fair or not, scores the same ``chance``: J is 0 exactly where Cohen's kappa is, and
    where p is a half they are equal. A criterion by which nearly all are the same tells little, and counts for little.
    The shares are those of each split, clusters counting as one: all this holds in each exactly.
    """

    costs: Mapping[Split, Mapping[str, Costs]]

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "AgreementGrader":
        """For *tasks* as ``harness.labels.tasks_from_labels`` makes them.

        Raises:
            UserError: people say the same of everything in a split, so that no verdict could be wrong.
        """
        criteria = sorted({criterion for task in tasks for criterion in marks_of(task)})
        splits: dict[Split, list[Task]] = {}
        for task in tasks:
            if task.split is not None:
                splits.setdefault(task.split, []).append(task)
        return cls({split: {c: costs_of(c, own) for c in criteria} for split, own in splits.items()})

    def chance(self, split: Split = "train") -> float:
        """What a rubric scores that tells nothing."""
        costs = self.costs[split].values()
        lost = [c.marked * c.false_pass * c.false_failure / (c.false_pass + c.false_failure) for c in costs]
        return 1 - sum(lost) / len(lost)

    def grade(self, task: Task, output: str) -> Grade:
        """How far the marks in *output*, a JSON object of criteria, are those of people. The reason says which way it
        erred, and nothing of what people wrote."""
        said = read_marks(output)
        if said is None:
            return Grade(score=0.0, reason="no marks: not a JSON object that says of each criterion true or false")
        assert task.split is not None
        costs, known = self.costs[task.split], marks_of(task)
        missing = [criterion for criterion in known if criterion not in said]
        lenient = [c for c, mark in known.items() if not mark and said.get(c, False)]
        strict = [c for c, mark in known.items() if mark and not said.get(c, True)]
        lost = [1.0 for _ in missing]
        lost += [costs[c].false_pass for c in lenient] + [costs[c].false_failure for c in strict]
        faults = {"not judged": missing, "passes what people refuse": lenient, "refuses what people pass": strict}
        reason = "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in faults.items() if names)
        return Grade(score=max(0.0, 1 - sum(lost) / len(costs)), reason=reason or "as people say")

    def agreements(self, trials: Iterable[Trial], tasks: Iterable[Task]) -> tuple[Agreement, ...]:
        """By each criterion, how far the judge of *trials* agrees with people on *tasks*: in kappa, for people to read.
        Of several trials of a task the first one counts, so that no output counts twice."""
        known = {task.id: marks_of(task) for task in tasks}
        first: dict[str, Mapping[str, bool]] = {}
        for trial in trials:
            if trial.task in known and trial.output is not None and (marks := read_marks(trial.output)) is not None:
                first.setdefault(trial.task, marks)
        pairs: defaultdict[str, list[Pair]] = defaultdict(list)
        for task, said in first.items():
            for criterion, mark in known[task].items():
                if criterion in said:
                    pairs[criterion].append((said[criterion], mark))
        return tuple(agreement(criterion, pairs[criterion]) for criterion in sorted(pairs))


def costs_of(criterion: str, tasks: Sequence[Task]) -> Costs:
    """By the share of the *tasks* of a split that people let pass, each cluster counting as one."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for task in tasks:
        sizes[task.cluster or task.id] += 1
    weights = {True: 0.0, False: 0.0}
    for task in tasks:
        mark = marks_of(task).get(criterion)
        if mark is not None:
            weights[mark] += 1 / sizes[task.cluster or task.id]
    if not all(weights.values()):
        only = "pass" if weights[True] else "refuse"
        raise UserError(
            f"people {only} {criterion!r} in every labelled output of the split {tasks[0].split}, so whatever always "
            f"says so would agree with them. Label outputs that they do not {only}, or leave that criterion out"
        )
    rarer = min(weights.values())
    return Costs(rarer / weights[False], rarer / weights[True], sum(weights.values()) / len(sizes))


def marks_of(task: Task) -> dict[str, bool]:
    """What people say of a labelled output, its target."""
    found = read_marks(task.targets[0]) if task.targets else None
    if found is None:
        raise ValueError(f"task {task.id!r} has no marks to compare with: make it by tasks_from_labels")
    return found


def read_marks(text: str) -> dict[str, bool] | None:
    """Criterion → does it pass; ``None`` where *text* says no such thing."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not all(isinstance(mark, bool) for mark in cast(dict[str, Any], found).values()):
        return None
    return cast(dict[str, bool], found)
