"""Which messages say the same? Told from their words alone: no corpus, so that what is near tonight is near tomorrow."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

NEAR = 0.5
"""Cosine of two messages' words from which on they say the same."""
ALIKE = 0.45
"""Mean cosine down to which groups of messages are joined."""
MOST = 2000
"""Messages among which groups are sought: what bounds time and memory, as each is compared with each."""
BLOCK = 500
"""Messages that are compared with all others at once."""

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
IDEOGRAPHS = "\u2e80"
"""From here on scripts hardly put blanks between words: two characters at a time stand for them."""
ENDINGS = (("ies", "y"), ("ing", ""), ("ion", ""), ("ed", ""), ("es", ""), ("s", ""), ("e", ""))
LINKING = frozenset(
    "a about after all also an and any are as at away be because been before but by can could did do does down each for"
    " from had has have he her his how i if in into is it its may more most must no nor not of off on one only or other"
    " out over own s says she should so some such t than that the their them then there these they this though to too"
    " under up was we were what when where whether which while who whose why will with within without would you your"
    " although however thus yet between both".split()
)
"""Words that hold a sentence together."""
VERDICTS = frozenset(
    "accepted actual answer answers assert assertion bad be check checks correct criterion criteria equal error errors"
    " expected fail failed fails failure failures fault false got grade grader graded incorrect incorrectly instead"
    " judged match matches matched matching mismatch ok output outputs pass passed passes problem reference rejected"
    " result results right score scored scores seconds solution solved suite test tests threshold true unexpected"
    " value values verdict want wanted wrong wrongly another below above different differs s".split()
)
"""Words that say that something is wrong, and nothing of what."""


@lru_cache(maxsize=100_000)
def words(message: str) -> frozenset[str]:
    """The stems of the words of *message* that say what is wrong; none: it says only that something is."""
    return frozenset(stems(message))


def stems(message: str) -> Iterator[str]:
    for word in WORD.findall(HUMP.sub(" ", message)):
        if word[0] >= IDEOGRAPHS:
            yield from (word[i : i + 2] for i in range(max(len(word) - 1, 1)))
        elif (folded := re.sub("['’]s$", "", word.casefold())) not in LINKING | VERDICTS:
            yield stem(folded)


def stem(word: str) -> str:
    """*word* without an English ending, as far as at least three letters are left."""
    for ending, instead in ENDINGS:
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            return word.removesuffix(ending) + instead
    return word


def says_nothing(message: str) -> bool:
    """Does it say only that something is wrong?"""
    return not words(message)


def nearness(message: str, others: Sequence[str]) -> float:
    """Cosine of the words of *message* and of the nearest of *others*; 1 for the same message, or where both say
    nothing. Without *others*: as near as it needs to be, whatever it says."""
    if not others:
        return NEAR
    if message in others:
        return 1.0
    return max(cosine(words(message), words(other)) for other in others)


def cosine(ones: frozenset[str], twos: frozenset[str]) -> float:
    if not ones or not twos:
        return float(ones == twos)
    return len(ones & twos) / (len(ones) * len(twos)) ** 0.5


def neighbours(messages: Sequence[str], others: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Which of *messages* are near to which of *others*, by their numbers, and how near; see ``nearness``."""
    import numpy as np

    numbers = numbered([*messages, *others])
    left, right = matrix(messages, numbers), matrix(others, numbers).T.tocsc()
    sizes, widths = (np.array([len(words(m)) for m in part], dtype=float) for part in (messages, others))
    for start in range(0, len(messages), BLOCK):
        shared: Any = (left[start : start + BLOCK] @ right).tocoo()
        near = shared.data / np.sqrt(sizes[shared.row + start] * widths[shared.col])
        for at in np.flatnonzero(near >= NEAR):
            yield int(shared.row[at]) + start, int(shared.col[at]), float(near[at])


def groups(counts: Mapping[str, int]) -> list[list[str]]:
    """The messages that *counts* has (message → how often), those together that say the same; of each group the most
    frequent first.

    Average linkage over the cosine of their words: a group grows while the messages of two groups are alike on the
    whole, so that a chain of small steps does not join what differs.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    messages = sorted(counts, key=lambda m: (-counts[m], m))
    if len(messages) < 2:
        return [[message] for message in messages]
    joined = fcluster(linkage(distances(messages), "average"), 1 - ALIKE, "distance")
    found: dict[int, list[str]] = {}
    for message, group in zip(messages, joined, strict=True):
        found.setdefault(int(group), []).append(message)
    return list(found.values())


def distances(messages: Sequence[str]) -> Any:
    """1 - cosine of each pair, in the order that scipy has."""
    import numpy as np
    from scipy.spatial.distance import squareform

    numbers = numbered(messages)
    rows = matrix(messages, numbers)
    sizes = np.sqrt(np.maximum(np.array([len(words(m)) for m in messages], dtype=float), 1))
    apart = 1 - (rows @ rows.T).toarray() / sizes[:, None] / sizes[None, :]
    np.fill_diagonal(apart, 0)
    return squareform(np.maximum(apart, 0), checks=False)


def matrix(messages: Sequence[str], numbers: Mapping[str, int]) -> Any:
    """A row for each of *messages*, a column for each word."""
    import numpy as np
    from scipy import sparse

    columns = [sorted(numbers[word] for word in words(message)) for message in messages]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.array([column for row in columns for column in row], dtype=np.int64)
    return sparse.csr_matrix((np.ones(len(flat)), flat, ends), shape=(len(messages), max(len(numbers), 1)))


def numbered(messages: Iterable[str]) -> dict[str, int]:
    return {word: number for number, word in enumerate(sorted({w for message in messages for w in words(message)}))}


def exemplars(group: Sequence[str], most: int) -> tuple[str, ...]:
    """At most *most* of *group*, in its order, to which as many of the others as possible are near.

    First those that no earlier one is near to, then the first of the rest.
    """
    chosen: list[str] = []
    for message in group:
        if len(chosen) < most and (not chosen or nearness(message, chosen) < NEAR):
            chosen.append(message)
    rest = [message for message in group if message not in chosen]
    kept = {*chosen, *rest[: most - len(chosen)]}
    return tuple(message for message in group if message in kept)
