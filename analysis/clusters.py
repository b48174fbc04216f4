"""Which messages say the same? Those of the form ``words: key``, if they name the same keys; all others by the words
that they share, unless they say the opposite."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

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
RECURS = 5
"""Failures with the same keys from which on they are a group of their own, and not only of the most frequent key."""
NAMES = {1: (12, 3), 2: (4, 2), 3: (4, 2)}
"""Words of a key → if more keys than that come after the same words, and each of them less often on the mean, they are
names of things, or what a person or a model wrote, and not kinds of failure."""
FAR = 1e9
"""Between messages that say the opposite of each other, so that nothing that both are alike to joins them."""
ANY = "…"
"""In the place of a key: whatever it is."""

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
LETS = """
accept accepting accepts allow allowing allows approve approved approves approving let lets pass passes passing permit
permits
"""
REFUSES = """
block blocked blocks decline declined declines denied denies deny denying forbid forbids refuse refused refuses refusing
reject rejected rejecting rejects
"""
"""Words that say what was done with something: the first of them says of a message which of the two it was."""
NEGATIONS = frozenset(["no", "not", "never", "cannot", "can't", "doesn't", "don't", "didn't", "isn't", "wasn't"])
CLAUSES = re.compile(r"[,;:.!?()#]+|\b(?:and|but)\b")
LISTED = re.compile(r", *(?:and +)?| and ")
KEY = re.compile(r"(?=.*[^\W\d_])[\w#./+-]+|[^\W\d_](?:[^\W\d_]|['’-])*(?: [^\W\d_](?:[^\W\d_]|['’-])*){1,2}")
"""One word as code has them, or up to three as people have them."""


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


# ── what a message names, and which way it goes ───────────────────────────────────────────────────────────────────


class Named(NamedTuple):
    """A key, and the words before it: what a message of the form ``words: key, key; words: key`` is made of."""

    label: str
    key: str


@lru_cache(maxsize=60_000)
def named(message: str) -> frozenset[Named]:
    """All that *message* names, if it is nothing but words and keys; else nothing. A key has at most three words."""
    found: set[Named] = set()
    for clause in message.strip(" .;").split(";"):
        label, _, listed = clause.strip().rpartition(": ")
        keys = LISTED.split(listed.strip(" ."))
        if not WORD.search(label) or not all(key == ANY or KEY.fullmatch(key) for key in keys):
            return frozenset()
        found.update(Named(label, key) for key in keys)
    return frozenset(found)


@lru_cache(maxsize=60_000)
def is_keyed(message: str) -> bool:
    """Does it name a key that is one?"""
    return any(each.key != ANY for each in named(message))


def shows(message: str, claim: str) -> float:
    """Does *message* name all that *claim* names? If so, how near it is: 1 where both name the same; else 0."""
    own, asked = named(message), named(claim)
    labels = {each.label for each in own}
    if not asked or not all(each in own or (each.key == ANY and each.label in labels) for each in asked):
        return 0.0
    return NEAR + (1 - NEAR) * len(own & asked) / len(own)


def as_text(names: Iterable[Named]) -> str:
    """The message that names them."""
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for label, key in sorted(names):
        keys[label].append(key)
    return "; ".join(f"{label}: {', '.join(those)}" for label, those in keys.items())


class Sense(NamedTuple):
    """Which way a message goes."""

    lets: int
    """1: something was let pass; -1: refused; 0: it does not say."""
    said: tuple[str, ...]
    """All of its words, sorted."""
    turns: frozenset[tuple[str, ...]]
    """Its verdicts, in the order in which each of its clauses has them."""

    def is_against(self, other: "Sense") -> bool:
        """Is one the opposite of the other: the other verdict, or the same words the other way round?"""
        return self.lets * other.lets < 0 or (self.said == other.said and self.turns != other.turns)


@lru_cache(maxsize=60_000)
def sense(message: str) -> Sense:
    lets, before = 0, ""
    clauses = [[w.casefold() for w in WORD.findall(clause)] for clause in CLAUSES.split(message)]
    for word in (word for clause in clauses for word in clause):
        lets = lets or sides().get(word, 0) * (-1 if before in NEGATIONS else 1)
        before = word
    turns = (tuple(stem(word) for word in clause if word in turning_words()) for clause in clauses)
    said = sorted(stem(word) for clause in clauses for word in clause)
    return Sense(lets, tuple(said), frozenset(turn for turn in turns if turn))


@lru_cache
def sides() -> dict[str, int]:
    return {**dict.fromkeys(LETS.split(), 1), **dict.fromkeys(REFUSES.split(), -1)}


@lru_cache
def turning_words() -> frozenset[str]:
    return frozenset([*VERDICTS.split(), *sides(), "yes", "no"])


def is_against(message: str, others: Sequence[str]) -> bool:
    """Is it the opposite of one of *others*, and none of them goes the way it does? Where both name keys, these
    tell."""
    own = sense(message)
    senses = [sense(other) for other in others if not are_named(message, other)]
    lets = {each.lets for each in senses}
    turns = {each.turns for each in senses if each.said == own.said}
    return (own.lets != 0 and -own.lets in lets and own.lets not in lets) or (bool(turns) and own.turns not in turns)


# ── is a message near to some? ─────────────────────────────────────────────────────────────────────────────────────


def nearness(message: str, others: Sequence[str]) -> float:
    """How near *message* is to the nearest of *others*; 1 where both say nothing, 0 where they say the opposite.
    Without *others*: as near as need be, whatever it says."""
    if not others:
        return NEAR
    return 0.0 if is_against(message, others) else max(likeness(message, other) for other in others)


def likeness(message: str, other: str) -> float:
    """By what they name, where one names keys and the other some as well; else cosine of their words."""
    if are_named(message, other):
        return shows(message, other)
    ones, twos = words(message), words(other)
    if not ones or not twos:
        return float(ones == twos)
    return len(ones & twos) / math.sqrt(len(ones) * len(twos))


def are_named(one: str, other: str) -> bool:
    return bool(named(one) and named(other)) and (is_keyed(one) or is_keyed(other))


def nearest(messages: Sequence[str], sets: Sequence[Sequence[str]]) -> Iterator[list[tuple[int, float]]]:
    """``nearness`` of many at once: for each of *messages* those of *sets* that it is near to, by their numbers, and
    how near; the nearest first, and of those that are as near the first."""
    import numpy as np

    told = [number for number, one in enumerate(sets) if one]
    flat = [message for number in told for message in sets[number]]
    bags, others = [words(message) for message in messages], [words(message) for message in flat]
    numbers = numbered([*bags, *others])
    left, right = matrix(bags, numbers), matrix(others, numbers).T.tocsc()
    sizes, widths = (np.array([len(bag) for bag in part], dtype=float) for part in (bags, others))
    starts = np.cumsum([0, *(len(sets[number]) for number in told)])[:-1]
    by_label: defaultdict[str, list[int]] = defaultdict(list)
    for column, message in enumerate(flat):
        for label in {each.label for each in named(message)}:
            by_label[label].append(column)
    naming = np.array([bool(named(message)) for message in flat], dtype=bool)
    keyed = np.array([is_keyed(message) for message in flat], dtype=bool)
    for at in range(0, len(bags), BLOCK):
        here = sizes[at : at + BLOCK, None]
        close = np.full((len(here), len(sets)), NEAR)
        if told:
            cosines = (left[at : at + BLOCK] @ right).toarray() / np.sqrt(np.maximum(here * widths, 1))
            cosines += (here == 0) & (widths == 0)
            for row, message in enumerate(messages[at : at + BLOCK]):
                if names := named(message):
                    cosines[row, naming if is_keyed(message) else keyed] = 0
                    for column in {column for each in names for column in by_label[each.label]}:
                        if are_named(message, flat[column]):
                            cosines[row, column] = shows(message, flat[column])
            close[:, told] = np.maximum.reduceat(cosines, starts, axis=1)
        for message, row in zip(messages[at : at + BLOCK], close, strict=True):
            near = np.flatnonzero(row >= NEAR)
            best = near[np.argsort(-row[near], kind="stable")]
            pairs: list[tuple[int, float]] = list(zip(best.tolist(), row[best].tolist(), strict=True))
            yield [(number, how) for number, how in pairs if not is_against(message, sets[number])]


def exemplars(group: Sequence[str], most: int) -> tuple[str, ...]:
    """At most *most* of *group*, in its order, to which as many of the others as possible are near: first those that
    none before is near to, then the first of the rest. Where all name the same key, that alone."""
    if shared := frozenset.intersection(*(keys(message) for message in group)) if group else frozenset[Named]():
        return (as_text(shared),)
    chosen: list[str] = []
    for message in group:
        if len(chosen) < most and (not chosen or nearness(message, chosen) < NEAR):
            chosen.append(message)
    rest = [message for message in group if message not in chosen]
    kept = {*chosen, *rest[: most - len(chosen)]}
    return tuple(message for message in group if message in kept)


def differ(messages: Sequence[str]) -> bool:
    """Do all name keys, and none that the others name too?"""
    return bool(messages) and all(map(is_keyed, messages)) and not frozenset.intersection(*map(keys, messages))


def keys(message: str) -> frozenset[Named]:
    return frozenset(each for each in named(message) if each.key != ANY)


def common_words(counts: Mapping[str, int], share: float) -> str:
    """The words that at least a *share* of *counts* (message → how many failures say it) have, all of them at once: as
    the most frequent of these has them, in its order, with ``…`` for what is between them."""
    said: Counter[str] = Counter()
    for message, count in counts.items():
        said.update(dict.fromkeys(words(message), count))
    usual = max(counts, key=counts.__getitem__)
    if any(sense(message).is_against(sense(usual)) for message in counts):
        return ""
    enough = share * sum(counts.values())
    chosen: set[str] = set()
    for word, _ in sorted(said.items(), key=lambda pair: (-pair[1], pair[0])):
        if sum(count for message, count in counts.items() if {*chosen, word} <= words(message)) >= enough:
            chosen.add(word)
    whole = [message for message in counts if chosen and chosen <= words(message)]
    return between(min(whole, key=lambda message: (-counts[message], message)), chosen) if whole else ""


def between(message: str, chosen: set[str]) -> str:
    parts: list[str] = []
    for word in message.split():
        if not chosen.isdisjoint(stems(word)):
            parts.append(word.strip(",;:.!?()"))
        elif parts and parts[-1] != ANY:
            parts.append(ANY)
    return " ".join(parts).removesuffix(f" {ANY}")


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


class Group(NamedTuple):
    """Messages that say the same, the most frequent first."""

    messages: list[str]
    claim: str = ""
    """What all of them name; empty: they are alike by their words."""


def groups(counts: Mapping[str, int], weights: Mapping[str, float], names: Collection[str] = ()) -> list[Group]:
    """The messages of *counts* (message → how many failures say it), those together that say the same. *names*: words
    before keys that are names of things, as ``before_names`` says."""
    messages = sorted(counts, key=lambda message: (-counts[message], message))
    of_keys = {m: without_names(m, names) for m in messages if is_keyed(m)}
    told = [message for message in messages if message not in of_keys and not says_nothing(message)]
    silent = [message for message in messages if message not in of_keys and says_nothing(message)]
    return [*by_keys(of_keys, counts), *map(Group, by_words(told, weights)), *map(Group, by_sense(silent))]


def before_names(counts: Mapping[str, int]) -> frozenset[str]:
    """The words in *counts* (message → how many failures say it) whose keys are but names, as ``NAMES`` says."""
    said: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for message, count in counts.items():
        for label, key in keys(message):
            said[label][key] += count
    names: set[str] = set()
    for label, of_it in said.items():
        many, seldom = NAMES[max(len(key.split()) for key in of_it)]
        if len(of_it) > many and of_it.total() < seldom * len(of_it):
            names.add(label)
    return frozenset(names)


def without_names(message: str, names: Collection[str]) -> frozenset[Named]:
    return frozenset(Named(label, ANY if label in names else key) for label, key in named(message))


def by_keys(of_keys: Mapping[str, frozenset[Named]], counts: Mapping[str, int]) -> list[Group]:
    """The same keys together, as often as they recur; what recurs less goes where all that is named it names too, and
    else with its most frequent key. So each group has something that all in it name."""
    together: Counter[frozenset[Named]] = Counter()
    alone: Counter[Named] = Counter()
    for message, own in of_keys.items():
        together[own] += counts[message]
        alone.update(dict.fromkeys(own, counts[message]))
    recurring = sorted((own for own, count in together.items() if count >= RECURS), key=sorted)
    found: defaultdict[frozenset[Named], list[str]] = defaultdict(list)
    for message, own in of_keys.items():
        within = [each for each in recurring if each <= own]
        most = frozenset([max(sorted(own), key=lambda each: (each.key != ANY, alone[each]))])
        found[max(within, key=lambda each: (len(each), together[each])) if within else most].append(message)
    return [
        Group(messages, as_text(frozenset.intersection(*(of_keys[message] for message in messages))))
        for messages in found.values()
    ]


def by_words(messages: Sequence[str], weights: Mapping[str, float]) -> list[list[str]]:
    """Average linkage (Sokal and Michener 1958) over the cosine of their weighted words: two groups are joined while
    they are alike on the whole, so that no chain of small steps joins what differs."""
    from scipy.cluster.hierarchy import fcluster, linkage

    joined: Iterable[Any] = range(len(messages))
    if len(messages) > 1:
        joined = fcluster(linkage(distances(messages, weights), "average"), 1 - ALIKE, "distance")
    found: dict[int, list[str]] = {}
    for message, group in zip(messages, joined, strict=True):
        found.setdefault(int(group), []).append(message)
    return [*found.values()]


def by_sense(messages: Sequence[str]) -> list[list[str]]:
    """All together, but for those that say the opposite of one before."""
    found: list[list[str]] = []
    for message in messages:
        own = sense(message)
        group = next((g for g in found if not any(own.is_against(sense(other)) for other in g)), None)
        if group is None:
            found.append([message])
        else:
            group.append(message)
    return found


def distances(messages: Sequence[str], weights: Mapping[str, float]) -> Any:
    """1 - cosine of each pair, in the order that scipy has; but ``FAR`` where one says the opposite of the other."""
    import numpy as np
    from scipy.spatial.distance import squareform

    bags = [words(message) for message in messages]
    numbers = numbered(bags)
    rows = matrix(bags, numbers).multiply(np.array([weights[word] for word in numbers])).tocsr()
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    apart = 1 - (rows @ rows.T).toarray() / lengths[:, None] / lengths[None, :]
    apart = np.clip(apart, 0, 1).round(9)  # 9: rounding errors join nothing
    senses = [sense(message) for message in messages]
    lets = np.array([each.lets for each in senses])
    apart[np.outer(lets, lets) < 0] = FAR
    alike: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, each in enumerate(senses):
        alike[each.said].append(number)
    for same in alike.values():
        for one in same:
            apart[one, [other for other in same if senses[one].is_against(senses[other])]] = FAR
    np.fill_diagonal(apart, 0)
    return squareform(apart, checks=False)


def matrix(bags: Sequence[frozenset[str]], numbers: Mapping[str, int]) -> Any:
    """A row for each bag of words, a column for each word."""
    import numpy as np
    from scipy import sparse

    columns = np.array([column for bag in bags for column in sorted(numbers[word] for word in bag)], dtype=np.int64)
    ends = np.cumsum([0, *(len(bag) for bag in bags)])
    return sparse.csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(bags), max(len(numbers), 1)))


def numbered(bags: Iterable[frozenset[str]]) -> dict[str, int]:
    return {word: number for number, word in enumerate(sorted(set[str]().union(*bags)))}
