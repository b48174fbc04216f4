"""Writes ``labels.jsonl``: answers of a support desk, put together from parts, and what three people say about them.

An answer names a thing to do or not, speaks of what was asked or not, promises something or not; and it is long or
short whatever it does. People mark what it does, and now and then something else. Run it again after a change of the
parts: ``python -m experiments.rubric_judge.generate``.
"""

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.labels import label_id
from traces.records import Label

SEED = 20261120
HERE = Path(__file__).parent
OUTPUTS = 300
CRITERIA = ("next-step", "on-topic", "no-promise")
SLIPS = 0.03
"""How often a person marks something else than there is."""
SECOND = 4
"""Every so many outputs are marked by a second person as well."""
MAKERS = ("scripted:desk", "scripted:judge")
BEGAN = datetime(2026, 11, 2, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Answer:
    asked: str
    output: str
    truth: Mapping[str, bool]
    maker: str


def answers(rng: random.Random) -> Iterator[Answer]:
    topics = tomllib.loads((HERE / "topics.toml").read_text("utf-8"))
    phrases: Mapping[str, Sequence[str]] = tomllib.loads((HERE / "phrases.toml").read_text("utf-8"))
    for number in range(OUTPUTS):
        name = sorted(topics)[number % len(topics)]
        another = rng.choice([topics[other] for other in sorted(topics) if other != name])
        yield answer(topics[name], another, phrases, rng)


def answer(
    topic: Mapping[str, Any], another: Mapping[str, Any], phrases: Mapping[str, Sequence[str]], rng: random.Random
) -> Answer:
    """To a question of *topic*; one that misses it speaks of nothing, and what it says to do is of *another*."""
    truth = {criterion: rng.random() < 0.55 for criterion in CRITERIA}
    said = topic if truth["on-topic"] else another
    body = [
        rng.choice(topic["about"] if truth["on-topic"] else phrases["elsewhere"]),
        rng.choice(said["step"] if truth["next-step"] else phrases["vague"]),
        rng.choice(phrases["careful"] if truth["no-promise"] else phrases["promise"]),
    ]
    body += rng.sample(phrases["padding"], rng.choice((0, 0, 1, 3, 4, 5)))
    rng.shuffle(body)
    output = "\n".join([rng.choice(phrases["opening"]), " ".join(body), rng.choice(phrases["closing"])])
    return Answer(rng.choice(topic["asked"]), output, truth, rng.choice(MAKERS))


def labels(seed: int = SEED) -> Iterator[Label]:
    rng = random.Random(seed)
    for number, made in enumerate(answers(rng)):
        for person in ("ada", "ben") if number % SECOND == 0 else (("ada", "cleo")[number % 2],):
            yield Label(
                id=label_id(made.asked, made.output),
                asked=made.asked,
                output=made.output,
                marks={criterion: mark != (rng.random() < SLIPS) for criterion, mark in made.truth.items()},
                who=person,
                labelled=BEGAN + timedelta(minutes=number),
                maker=made.maker,
            )


def render(seed: int = SEED) -> str:
    """The text of ``labels.jsonl``."""
    return "".join(label.model_dump_json(exclude_defaults=True) + "\n" for label in labels(seed))


if __name__ == "__main__":
    (HERE / "labels.jsonl").write_text(render(), "utf-8", newline="\n")
