"""Which messages say the same? By the words that they share."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

NEAR = 0.6
"""Cosine of the words of two messages from which on one belongs where the other does. It knows no corpus, so what is
near tonight is near tomorrow."""
ALIKE = 0.3
"""Mean cosine, of weighted words, down to which groups of messages are joined."""
COMMON = 1 / 8
"""Share of the failures from which on a word weighs less, as it tells fewer of them apart."""
RARE = 1 / 400
"""Share of the failures below which a word weighs next to nothing: it is a name, or whatever else fills a gap."""
LIGHTEST = 0.2
"""What a word weighs at least."""
BLOCK = 500
"""Messages that are compared with all others at once: what bounds the memory."""

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
OWNER = re.compile(r"['’]s$")
NO_OUTPUT = re.compile(r"\b(?:no|blank|empty|missing) (?:answer|output|response|result|solution)\b", re.IGNORECASE)
IDEOGRAPHS = "\u2e80"
"""From here on, scripts hardly put blanks between words: each two characters stand for one."""
ENDINGS = (("ies", "y"), ("ing", ""), ("ion", ""), ("ed", ""), ("es", ""), ("s", ""), ("e", ""))
LINKING = """
a about after all also although an and any are as at away be because been before being between both but by can could
did do does down each for from had has have he her his how however i if in into is it its may more most must no nor not
of off on one ones only or other out over own s said say says she should so some such t than that the their them then
there these they this though thus to too under up was we were what when where whether which while who whose why will
with within without would yet you your
"""
"""Words that hold a sentence together."""
VERDICTS = """
above accepted actual another answer answers assert assertion bad below check checks correct criteria criterion
different differs equal error errors expected fail failed fails failure failures false fault got grade graded grader
incorrect incorrectly instead judged match matched matches matching mismatch ok output outputs pass passed passes
problem reference rejected result results right score scored scores seconds solution solved suite test tests threshold
true unexpected value values verdict want wanted wrong wrongly
"""
"""Words that say that something is wrong, and nothing of what."""


@lru_cache(maxsize=60_000)  # each is asked for several times
def words(message: str) -> frozenset[str]:
    """The stems of the words of *message* that say what is wrong; none: it says only that something is."""
    return frozenset(stems(message))


def stems(message: str) -> Iterator[str]:
    if NO_OUTPUT.search(message):
        yield "no output"
    for word in WORD.findall(HUMP.sub(" ", message)):
        if word[0] >= IDEOGRAPHS:
            yield from (word[i : i + 2] for i in range(max(len(word) - 1, 1)))
        elif (folded := word.casefold()) not in silent_words():
            yield stem(OWNER.sub("", folded))


@lru_cache
def silent_words() -> frozenset[str]:
    return frozenset([*LINKING.split(), *VERDICTS.split()])


@lru_cache(maxsize=10_000)
def stem(word: str) -> str:
    """*word* without an English ending, as far as at least three letters are left."""
    for ending, instead in ENDINGS:
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            return word.removesuffix(ending) + instead
    return word


def says_nothing(message: str) -> bool:
    """Does it say only that something is wrong?"""
    return not words(message)


# ── is a message near to some? ─────────────────────────────────────────────────────────────────────────────────────


def nearness(message: str, others: Iterable[str]) -> float:
    """Cosine of the words of *message* and of the nearest of *others*; 1 where both say nothing. Without *others*:
    as near as need be, whatever it says."""
    return max((cosine(words(message), words(other)) for other in others), default=NEAR)


def cosine(ones: frozenset[str], twos: frozenset[str]) -> float:
    if not ones or not twos:
        return float(ones == twos)
    return len(ones & twos) / math.sqrt(len(ones) * len(twos))


def nearest(messages: Sequence[str], sets: Sequence[Sequence[str]]) -> Iterator[list[tuple[int, float]]]:
    """``nearness`` of many at once: for each of *messages* those of *sets* that it is near to, by their numbers, and
    how near; the nearest first, and of those that are as near the first."""
    import numpy as np

    told = [number for number, one in enumerate(sets) if one]
    flat = [words(message) for number in told for message in sets[number]]
    bags = [words(message) for message in messages]
    numbers = numbered([*bags, *flat])
    left, right = matrix(bags, numbers), matrix(flat, numbers).T.tocsc()
    sizes, widths = (np.array([len(bag) for bag in part], dtype=float) for part in (bags, flat))
    starts = np.cumsum([0, *(len(sets[number]) for number in told)])[:-1]
    for at in range(0, len(bags), BLOCK):
        here = sizes[at : at + BLOCK, None]
        close = np.full((len(here), len(sets)), NEAR)
        if told:
            cosines = (left[at : at + BLOCK] @ right).toarray() / np.sqrt(np.maximum(here * widths, 1))
            close[:, told] = np.maximum.reduceat(cosines + ((here == 0) & (widths == 0)), starts, axis=1)
        for row in close:
            near = np.flatnonzero(row >= NEAR)
            best = near[np.argsort(-row[near], kind="stable")]
            yield list(zip(best.tolist(), row[best].tolist(), strict=True))


def exemplars(group: Sequence[str], most: int) -> tuple[str, ...]:
    """At most *most* of *group*, in its order, to which as many of the others as possible are near: first those that
    none before is near to, then the first of the rest."""
    chosen: list[str] = []
    for message in group:
        if len(chosen) < most and (not chosen or nearness(message, chosen) < NEAR):
            chosen.append(message)
    rest = [message for message in group if message not in chosen]
    kept = {*chosen, *rest[: most - len(chosen)]}
    return tuple(message for message in group if message in kept)


# ── which messages belong together? ────────────────────────────────────────────────────────────────────────────────


def weights(counts: Mapping[str, int]) -> dict[str, float]:
    """What each word of some messages (message → how many failures say it) weighs: little where it is in most of them,
    so that the nouns of a whole experiment join nothing, and little where hardly any has it."""
    total = sum(counts.values())
    said: Counter[str] = Counter()
    for message, count in counts.items():
        said.update(dict.fromkeys(words(message), count))
    heaviest = math.log(1 / COMMON)
    return {
        word: LIGHTEST if count < max(2, RARE * total) else min(1.0, max(LIGHTEST, math.log(total / count) / heaviest))
        for word, count in said.items()
    }


def groups(counts: Mapping[str, int], weights: Mapping[str, float]) -> list[list[str]]:
    """The messages of *counts* (message → how many failures say it), those together that say the same; the most
    frequent first, in each group too. All that say nothing are one group.

    Average linkage (Sokal and Michener 1958) over the cosine of their weighted words: two groups are joined while they
    are alike on the whole, so that no chain of small steps joins what differs.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    messages = sorted(counts, key=lambda message: (-counts[message], message))
    told = [message for message in messages if not says_nothing(message)]
    silent = [message for message in messages if says_nothing(message)]
    joined: Iterable[Any] = range(len(told))
    if len(told) > 1:
        joined = fcluster(linkage(distances(told, weights), "average"), 1 - ALIKE, "distance")
    found: dict[int, list[str]] = {}
    for message, group in zip(told, joined, strict=True):
        found.setdefault(int(group), []).append(message)
    return [*found.values(), *([silent] if silent else [])]


def distances(messages: Sequence[str], weights: Mapping[str, float]) -> Any:
    """1 - cosine of each pair, in the order that scipy has."""
    import numpy as np
    from scipy.spatial.distance import squareform

    bags = [words(message) for message in messages]
    numbers = numbered(bags)
    rows = matrix(bags, numbers).multiply(np.array([weights[word] for word in numbers])).tocsr()
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    apart = 1 - (rows @ rows.T).toarray() / lengths[:, None] / lengths[None, :]
    np.fill_diagonal(apart, 0)
    return squareform(np.clip(apart, 0, 1).round(9), checks=False)  # 9: rounding errors join nothing


def matrix(bags: Sequence[frozenset[str]], numbers: Mapping[str, int]) -> Any:
    """A row for each bag of words, a column for each word."""
    import numpy as np
    from scipy import sparse

    columns = np.array([column for bag in bags for column in sorted(numbers[word] for word in bag)], dtype=np.int64)
    ends = np.cumsum([0, *(len(bag) for bag in bags)])
    return sparse.csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(bags), max(len(numbers), 1)))


def numbered(bags: Iterable[frozenset[str]]) -> dict[str, int]:
    return {word: number for number, word in enumerate(sorted(set[str]().union(*bags)))}
