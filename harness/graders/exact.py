"""The grader for tasks with known answers."""

import string
import unicodedata
from dataclasses import dataclass

from traces.records import Grade, Task

EDGES = string.punctuation + string.whitespace + "“”‘’„«»…–—"


def normalised(text: str) -> str:
    """Lower case, compatibility forms folded, blanks squeezed, punctuation stripped at both ends."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(EDGES)


@dataclass(frozen=True)
class ExactGrader:
    """1 when the output is one of the task's targets, both normalised; else 0. The reason never tells the answer.

    Raises:
        ValueError: from ``grade``, when the task has no targets to compare with.
    """

    def grade(self, task: Task, output: str) -> Grade:
        if not task.targets:
            raise ValueError(f"task {task.id!r} has no targets to compare with")
        answer = normalised(output)
        targets = [normalised(target) for target in task.targets]
        if answer in targets:
            return Grade(score=1.0, reason="right")
        return Grade(score=0.0, reason=what_is_wrong(task, answer, targets))


def what_is_wrong(task: Task, answer: str, targets: list[str]) -> str:
    """The kind of wrong answer, in words that tell nothing of the right one."""
    words = answer.split()
    expected = max(len(target.split()) for target in targets)
    if not words:
        return "no answer"
    if any(f" {target} " in f" {' '.join(word.strip(EDGES) for word in words)} " for target in targets):
        return "an accepted answer is in it, with other words around it"
    if normalised(task.input) in answer or answer in normalised(task.input).split():
        return "repeats the question" if len(words) > expected else "repeats a word of the question"
    if len(words) > max(2 * expected, expected + 2):
        return "a long answer where a short one is expected"
    return "another answer than the accepted ones"
