def steps_between(low: float, high: float, count: int = 5) -> list[float]:
    return [low + (high - low) * i / (count - 1) for i in range(count)]


def overlaps(one: tuple[int, int], other: tuple[int, int], touching: bool = False) -> bool:
    return (one[0] <= other[1] and other[0] <= one[1]) if touching else (one[0] < other[1] and other[0] < one[1])


def merge_spans(spans: list[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def contains(span: tuple[int, int], value: int, with_end: bool = True) -> bool:
    return span[0] <= value <= span[1] if with_end else span[0] <= value < span[1]


def widen(span: tuple[int, int], by: int = 1) -> tuple[int, int]:
    return (span[0] - by, span[1] + by)


def chunked(values: list[int], size: int = 2) -> list[list[int]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def countdown(start: int, stop: int = 0, step: int = 1) -> list[int]:
    return list(range(start, stop - 1, -step))


def gaps_in(values: list[int], most: int = 1) -> list[tuple[int, int]]:
    ordered = sorted(values)
    return [(a, ordered[i]) for i, a in enumerate(ordered[:-1], 1) if ordered[i] - a > most]


def sliding(values: list[int], length: int = 2) -> list[list[int]]:
    return [values[i : i + length] for i in range(len(values) - length + 1)]


def wrap_around(index: int, size: int, first: int = 0) -> int:
    return first + (index - first) % size
