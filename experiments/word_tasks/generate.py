"""Write ``tasks.jsonl``: short tasks about words, each with one right answer of one word.

Each file in ``words/`` is one kind of task, a line each: what is asked about, a bar, the accepted answers. Chance
only decides the order of the lines that are written, so that any stretch of them is a fair mix. The same seed
writes the same bytes::

    python -m experiments.word_tasks.generate
"""

import random
from collections.abc import Iterator
from pathlib import Path

from traces.records import Task

SEED = 20261120
HERE = Path(__file__).parent

QUESTIONS = {
    "sentiment": "{} Is this review positive or negative?",
    "opposite": "What is the opposite of {}?",
    "plural": "What is the plural of {}?",
    "number": "How do you spell the number {}?",
    "person": "Who {}?",
    "place": "{}",
    "language": "Which language is this? {}",
}


def entries(kind: str) -> Iterator[tuple[str, str, str]]:
    """Of each task: what is asked about, its answers, and the cluster that it shares with another one if it does.

    Opposites are asked both ways; of several words on a side only the first is asked about.
    """
    for number, line in enumerate((HERE / "words" / f"{kind}.txt").read_text("utf-8").splitlines()):
        one, other = line.split(" | ")
        if kind == "opposite":
            yield one.split(", ")[0], other, f"opposites-{number:02}"
            yield other.split(", ")[0], one, f"opposites-{number:02}"
        else:
            yield one, other, ""


def tasks() -> Iterator[Task]:
    for kind, question in QUESTIONS.items():
        for number, (about, answers, cluster) in enumerate(entries(kind)):
            yield Task(
                id=f"{kind}-{number:02}",
                input=question.format(about),
                targets=tuple(answers.split(", ")),
                tags=(kind,),
                cluster=cluster,
            )


def render(seed: int = SEED) -> str:
    """The text of ``tasks.jsonl``."""
    shuffled = list(tasks())
    random.Random(seed).shuffle(shuffled)
    return "".join(task.model_dump_json(exclude_defaults=True) + "\n" for task in shuffled)


if __name__ == "__main__":
    (HERE / "tasks.jsonl").write_text(render(), "utf-8", newline="\n")
