"""Write ``tasks.jsonl``: short Korean texts, each with English references and what must not be lost.

They are made of ``sentences.txt`` and ``glossary.txt``, which we wrote. The same seed writes the same bytes::

    python -m experiments.translation.generate
"""

import random
from collections.abc import Iterator
from pathlib import Path

from experiments.translation.grader import Facts
from experiments.translation.grammar import Filler, Fillers, Kind, in_english, kinds, some_filler
from traces.records import Task

SEED = 20261120
HERE = Path(__file__).parent


def tasks(seed: int = SEED) -> Iterator[Task]:
    rng = random.Random(seed)
    numbers: dict[str, int] = {}
    for kind in kinds():
        used: set[Filler] = set()
        for _ in range(kind.count):
            fillers = some_fillers(kind, rng, used)
            used |= {*fillers.values()}
            number = numbers[kind.tag] = numbers.get(kind.tag, 0) + 1
            yield task(f"{kind.tag}-{number:02}", kind, fillers)


def some_fillers(kind: Kind, rng: random.Random, used: set[Filler]) -> Fillers:
    """One for each slot, none of them twice, and none that another sentence of the kind has."""
    found: dict[str, Filler] = {}
    for slot in kind.slots:
        while (filler := some_filler(slot, rng)) in used or filler in found.values():
            pass
        found[slot] = filler
    return found


def task(id: str, kind: Kind, fillers: Fillers) -> Task:
    both = (in_english(r, fillers, spoken=spoken) for spoken in (False, True) for r in kind.references)
    references = tuple(dict.fromkeys(both))
    facts = Facts(
        numbers=tuple(filler.number for filler in fillers.values() if filler.number is not None),
        needs=tuple((f.english.removeprefix("the "),) for slot, f in fillers.items() if is_fixed(slot, f))
        + ((kind.needs,) if kind.needs else ()),
        wrong=tuple(in_english(r, kind.swapped(fillers)) for r in kind.references) if kind.swaps else (),
    )
    return Task(
        id=id,
        input=kind.in_korean(fillers),
        targets=(*references, facts.model_dump_json(exclude_defaults=True)),
        tags=(kind.tag,),
    )


def is_fixed(slot: str, filler: Filler) -> bool:
    """Is there one English for it? A thing may be called otherwise."""
    return filler.number is None and not slot.startswith("thing")


def render(seed: int = SEED) -> str:
    """The text of ``tasks.jsonl``."""
    made = list(tasks(seed))
    random.Random(seed).shuffle(made)
    return "".join(task.model_dump_json(exclude_defaults=True) + "\n" for task in made)


if __name__ == "__main__":
    (HERE / "tasks.jsonl").write_text(render(), "utf-8", newline="\n")
