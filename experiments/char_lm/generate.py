"""Writes the text that is learned and the text that is foretold: stories, talk, sums, letters and verse.

It is made of ``words.toml``, which we wrote. Who is in a passage comes again in it, verbs agree with what they belong
to over the clauses between, sums come out right, verses rhyme: so there is something to gain for a model that looks
further back. The same seed writes the same bytes::

    python -m experiments.char_lm.generate

Each passage has a seed of its own. What is foretold is one character in each of so many passages, after the
``WINDOW`` characters before it: no window holds the target of another, or what comes after its own.
"""

import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

SEED = 20261120
HERE = Path(__file__).parent
TRAIN = 380_000
"""Characters to learn from, at least."""
TARGETS = 8192
"""Characters to foretell."""
WINDOW = 40
"""Characters that are shown before each."""


@cache
def words() -> Mapping[str, Any]:
    return tomllib.loads((HERE / "words.toml").read_text("utf-8"))


@dataclass(frozen=True)
class Cast:
    """What a passage is about, and comes back to."""

    names: tuple[str, str]
    pronouns: tuple[str, str]
    place: str
    thing: tuple[str, str]
    person: tuple[str, str]


def some_cast(rng: random.Random) -> Cast:
    w = words()
    gender = {**dict.fromkeys(w["women"], "she"), **dict.fromkeys(w["men"], "he")}
    first, second = rng.sample(sorted(gender), 2)
    place, thing, person = rng.choice(w["places"]), rng.choice(w["things"]), rng.choice(w["people"])
    return Cast((first, second), (gender[first], gender[second]), place, tuple(thing), tuple(person))


# ── sentences ──────────────────────────────────────────────────────────────────────────────────────────────────


def upper(text: str) -> str:
    return text[0].upper() + text[1:]


def a(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" and not text.startswith("one") else f"a {text}"


def counted(number: int, thing: Sequence[str]) -> str:
    return f"{words()['numbers'][number]} {thing[number != 1]}"


def clause(rng: random.Random, cast: Cast, depth: int) -> str:
    """What is said of a thing, to be read after it: the verb in it agrees with its own subject."""
    one, many = cast.person
    deed = rng.choice(words()["deeds"])
    who, verb = rng.choice(((f"the {one}", deed[0]), (f"the {many}", deed[1]), (rng.choice(cast.names), deed[0])))
    if depth and rng.random() < 0.35:
        inner = rng.choice(words()["deeds"])
        who, verb = f"the {one} who {inner[0]} the {rng.choice(words()['things'])[1]}", deed[0]
    return f"that {who} {verb}"


def agreement(rng: random.Random, cast: Cast) -> str:
    number = rng.randrange(2)
    be, adjective = ("is", "are")[number], rng.choice(words()["adjectives"])
    rest = f"{be} {adjective}" if rng.random() < 0.6 else f"{be} at {cast.place}"
    return upper(f"the {cast.thing[number]} {clause(rng, cast, 1)} {rest}.")


def action(rng: random.Random, cast: Cast) -> str:
    w, who = words(), rng.randrange(2)
    deed, adjective = rng.choice(w["deeds"]), rng.choice(w["adjectives"])
    subject = rng.choice((cast.names[who], upper(cast.pronouns[who]), f"The {cast.person[0]}"))
    what = rng.choice((f"the {cast.thing[0]}", f"the {adjective} {cast.thing[0]}", a(f"{adjective} {cast.thing[0]}")))
    after = rng.choice(
        (f" {rng.choice(w['adverbs'])}", f" because {rng.choice(w['reasons'])}", f" at {cast.place}", "")
    )
    return f"{subject} {deed[2]} {what}{after}."


def memory(rng: random.Random, cast: Cast) -> str:
    w, who = words(), rng.randrange(2)
    name, other, pronoun = cast.names[who], cast.names[1 - who], cast.pronouns[who]
    deed, feeling = rng.choice(w["deeds"]), rng.choice(w["feelings"])
    return rng.choice(
        (
            f"{name} was {feeling}, for {pronoun} had {deed[3]} the {cast.thing[0]}.",
            f"{name} knew that {other} had {deed[3]} it, but {pronoun} said nothing.",
            f"When {name} came back from {cast.place}, {other} was {deed[4]} the {cast.thing[1]}.",
            f"If {other} had not {deed[3]} the {cast.thing[0]}, {name} would have been {feeling}.",
            f"Neither {name} nor {other} was {feeling}.",
        )
    )


def speech(rng: random.Random, cast: Cast, who: int) -> str:
    w, other = words(), cast.names[1 - who]
    number, deed = rng.randint(2, 20), rng.choice(w["deeds"])
    return rng.choice(
        (
            f"Where is the {cast.thing[0]}, {other}?",
            f"The {cast.thing[0]} is at {cast.place}, {other}.",
            f"Have you {deed[3]} {counted(number, cast.thing)}?",
            f"I have {deed[3]} {counted(number, cast.thing)}, and I am {rng.choice(w['feelings'])}.",
            f"We {deed[1]} the {cast.thing[1]} on {rng.choice(w['days'])}.",
            f"Ask the {cast.person[0]}; {rng.choice(w['reasons'])}.",
        )
    )


# ── passages ───────────────────────────────────────────────────────────────────────────────────────────────────


def story(rng: random.Random) -> str:
    w, cast = words(), some_cast(rng)
    begin = f"One {rng.choice(w['seasons'])}, {cast.names[0]} and {cast.names[1]} went to {cast.place}."
    middle = [rng.choice((agreement, action, action, memory))(rng, cast) for _ in range(rng.randint(4, 8))]
    return " ".join((begin, *middle))


def talk(rng: random.Random) -> str:
    w, cast = words(), some_cast(rng)
    lines: list[str] = []
    for turn in range(rng.randint(3, 7)):
        said = speech(rng, cast, turn % 2)
        verb = "asked" if said.endswith("?") else rng.choice(w["said"])
        end = "," if said.endswith(".") else said[-1]
        lines.append(f'"{said[:-1]}{end}" {verb} {cast.names[turn % 2]}.')
    return "\n".join(lines)


def sums(rng: random.Random) -> str:
    cast, w = some_cast(rng), words()
    lines: list[str] = []
    for _ in range(rng.randint(2, 5)):
        x, y = rng.randint(1, 10), rng.randint(1, 10)
        lines.append(
            rng.choice(
                (
                    f"{upper(counted(x, cast.thing))} and {counted(y, cast.thing)} make {counted(x + y, cast.thing)}.",
                    f"{cast.names[0]} sold {x} {cast.thing[x != 1]} at {y} pence each and took {x * y} pence.",
                    f"On {rng.choice(w['days'])} {cast.names[1]} counted {x + y} and gave {y} away, and {x} were left.",
                )
            )
        )
    return "\n".join(lines)


def verse(rng: random.Random) -> str:
    cast, w = some_cast(rng), words()
    lines: list[str] = []
    for _ in range(rng.randint(2, 4)):
        for rhyme in rng.sample(rng.choice(w["rhymes"]), 2):
            end = rng.choice(w["endings"]).format(r=rhyme)
            slots = {"a": rng.choice(w["adjectives"]), "n": cast.thing[0], "name": cast.names[0], "place": cast.place}
            lines.append(rng.choice(w["verses"]).format(r=end, **slots) + ",")
    return "\n".join(lines)[:-1] + "."


def letter(rng: random.Random) -> str:
    cast, w = some_cast(rng), words()
    body = [rng.choice((agreement, action, memory))(rng, cast) for _ in range(rng.randint(2, 4))]
    thanks = f"Thank you for the {counted(rng.randint(1, 20), cast.thing)}."
    day = f"{rng.choice(w['days'])}, {rng.randint(1, 28)} {rng.choice(w['seasons'])}"
    return f"{upper(cast.place)}, {day}\nDear {cast.names[1]},\n{thanks} {' '.join(body)}\nYours, {cast.names[0]}"


KINDS: tuple[Callable[[random.Random], str], ...] = (story, story, talk, sums, verse, letter)


def passage(split: str, number: int) -> str:
    """The same whatever else is made."""
    rng = random.Random(f"{SEED}/{split}/{number}")
    return rng.choice(KINDS)(rng) + "\n\n"


def train() -> Iterator[str]:
    length = 0
    for number in count():
        if length >= TRAIN:
            return
        made = passage("train", number)
        length += len(made)
        yield made


def window(number: int) -> tuple[str, str]:
    """What is shown, and the character that follows."""
    text = passage("validation", 2 * number) + passage("validation", 2 * number + 1)
    at = random.Random(f"{SEED}/window/{number}").randrange(WINDOW, len(text))
    return text[at - WINDOW : at], text[at]


def main() -> None:
    shown, hidden = zip(*map(window, range(TARGETS)), strict=True)
    for name, parts in (("data/train.txt", train()), ("data/contexts.txt", shown), ("hidden/targets.txt", hidden)):
        (HERE / name).write_text("".join(parts), "ascii", newline="\n")


if __name__ == "__main__":
    main()
