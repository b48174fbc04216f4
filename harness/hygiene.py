"""Are the splits apart, and is the subject free of the hidden ones? Looked at before a night.

A text is compared by its words, see ``harness.snoop.words``: case, punctuation, blanks and compatible characters make
no difference, operators such as + and < do.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.experiment import SPLITS
from harness.snoop import words
from traces.records import Leak, Split, Task, Twin

LIGHT = 0.5
"""Length of the part of a text's vector that may be left out while pairs are sought; its frequent words are in it."""
BLOCK = 500
"""Texts that are compared with all others at once: what bounds the memory."""
ALMOST = 0.999
"""The most that texts of other words, or of the same in another order, can be alike."""
LEAST = (3, 12)
"""Words and bytes of an input from which on it does not stand in a subject by chance. In bytes, as an ideograph says
about as much as a short word."""


def twins(tasks: Iterable[Task], threshold: float = 0.9) -> list[Twin]:
    """Tasks of different splits whose inputs ask the same, the most similar first.

    Similarity is 1 for the same words in the same order, and else the cosine of the words' weights, (1 + ln count)
    times ln(tasks / tasks that have the word): what all tasks share, such as a template, weighs little or nothing. Of
    each task only the closest in each of the other splits is listed; so each that has a twin is there at least once,
    and the list is no longer than two for each task. Targets are no part of it. *threshold*: above 0.5.
    """
    if not LIGHT < threshold <= 1:
        raise ValueError(f"a threshold of {threshold} would call everything a twin: above {LIGHT}, at most 1")
    rank = {split: number for number, split in enumerate(SPLITS)}
    sides = sorted((rank[task.split], task.id, task.input) for task in tasks if task.split)
    numbers: dict[str, int] = {}
    texts = [array("I", [numbers.setdefault(word, len(numbers)) for word in words(text)]) for *_, text in sides]
    closest: dict[tuple[int, int], tuple[float, int]] = {}  # text and other split → similarity and other text

    def meet(one: int, other: int, similarity: float) -> None:
        for here, there in ((one, other), (other, one)):
            known = closest.get((here, sides[there][0]))
            if known is None or (-similarity, there) < (-known[0], known[1]):
                closest[here, sides[there][0]] = (similarity, there)

    same: dict[bytes, list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        same[text.tobytes()].append(i)
    for group in same.values():
        first = {sides[i][0]: i for i in reversed(group)}
        for i in group:
            for split, other in first.items():
                if split != sides[i][0]:
                    meet(i, other, 1.0)
    for one, other, similarity in _similar(texts, [split for split, *_ in sides], threshold):
        if texts[one] != texts[other]:
            meet(one, other, min(similarity, ALMOST))
    pairs = {(min(i, j), max(i, j)): similarity for (i, _), (similarity, j) in closest.items()}
    return [
        Twin(
            task=sides[i][1],
            split=SPLITS[sides[i][0]],
            other=sides[j][1],
            other_split=SPLITS[sides[j][0]],
            similarity=similarity,
        )
        for (i, j), similarity in sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def _similar(
    texts: Sequence["array[int]"], splits: Sequence[int], threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Pairs i < j of *texts* (numbers for words) of different *splits* (ascending) with a cosine over *threshold*."""
    import numpy as np

    if not any(texts):
        return
    weights = _weights(texts)
    heavy = _heavy(weights)
    index = np.asarray(splits)
    for start in range(0, len(texts), BLOCK):
        others = int(np.searchsorted(index, index[start], "right"))  # the first text of a later split
        if others == len(texts):
            return
        found: Any = (heavy[start : start + BLOCK] @ weights[others:].T).tocoo()
        near = found.data >= threshold - LIGHT
        left, right = found.row[near] + start, found.col[near] + others
        apart = index[left] < index[right]
        left, right = left[apart], right[apart]
        for at in range(0, len(left), 100 * BLOCK):
            ones, twos = left[at : at + 100 * BLOCK], right[at : at + 100 * BLOCK]
            cosines = np.asarray(weights[ones].multiply(weights[twos]).sum(axis=1)).ravel()
            for pair in np.flatnonzero(cosines >= threshold):
                yield int(ones[pair]), int(twos[pair]), float(cosines[pair])


def _weights(texts: Sequence["array[int]"]) -> Any:
    """Unit vectors of the *texts* as rows of a sparse matrix; zero where no word tells a text from the others."""
    import numpy as np
    from scipy import sparse

    parts = [np.unique(np.frombuffer(text, np.uint32), return_counts=True) for text in texts]
    sizes = [len(ids) for ids, _ in parts]
    rows = np.repeat(np.arange(len(texts)), sizes)
    columns = np.concatenate([ids for ids, _ in parts])
    counts = np.concatenate([counts for _, counts in parts])
    values = (1 + np.log(counts)) * np.log(len(texts) / np.bincount(columns)[columns])
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=len(texts)))
    lengths[lengths == 0] = 1
    return sparse.csr_matrix((values / lengths[rows], columns, np.cumsum([0, *sizes])))


def _heavy(weights: Any) -> Any:
    """*weights* without the lightest words of each row, which together are at most ``LIGHT`` long.

    So a cosine is found too low by at most that much, and at a fraction of the work: the frequent words are gone.
    """
    import numpy as np

    matrix = weights.copy()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    squares = matrix.data**2
    order = np.lexsort((squares, rows))  # by row, the lightest first
    summed = np.cumsum(squares[order])
    before = np.concatenate(([0.0], summed))[matrix.indptr[rows]]
    matrix.data[order[summed - before < LIGHT**2]] = 0
    matrix.eliminate_zeros()
    return matrix


def leaks(tasks: Iterable[Task], text: Mapping[str, str]) -> list[Leak]:
    """Validation and test tasks whose input stands word for word in a file of the subject (path → text).

    Inputs of fewer than 3 words or 12 bytes are not looked for: they would be found by chance. Nor are those that a
    train task asks as well, which a proposer may show: they are twins.
    """
    tasks = list(tasks)
    taught = {line_of(task.input) for task in tasks if task.split == "train"}
    files = {path: line_of(content) for path, content in sorted(text.items())}
    hidden: list[tuple[Task, Split, str]] = [
        (task, task.split, line_of(task.input)) for task in tasks if task.split in ("validation", "test")
    ]
    return [
        Leak(task=task.id, split=split, path=path)
        for task, split, asked in hidden
        if asked not in taught and is_distinctive(asked)
        for path, content in files.items()
        if asked in content
    ]


def line_of(text: str) -> str:
    """Its words with a blank around each."""
    return f" {' '.join(words(text))} "


def is_distinctive(line: str) -> bool:
    """Is a *line* of ``line_of`` long enough that it stands nowhere by chance?"""
    return len(line.split()) >= LEAST[0] and len(line.strip().encode(errors="replace")) >= LEAST[1]
