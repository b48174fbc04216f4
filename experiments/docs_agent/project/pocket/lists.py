def without(items: list[str], unwanted: str, most: int = 100) -> list[str]:
    kept: list[str] = []
    for item in items:
        if item == unwanted and most > 0:
            most -= 1
        else:
            kept.append(item)
    return kept


def flatten(nested: list[list[str]], skip_empty: bool = True) -> list[str]:
    return [item for inner in nested for item in inner if item or not skip_empty]


def rotate(items: list[str], places: int = 1) -> list[str]:
    at = places % len(items) if items else 0
    return items[at:] + items[:at]


def every_nth(items: list[str], n: int = 2, start: int = 0) -> list[str]:
    return items[start::n]


def interleave(one: list[str], other: list[str], rest: bool = True) -> list[str]:
    mixed = [item for pair in zip(one, other, strict=False) for item in pair]
    short = min(len(one), len(other))
    return mixed + one[short:] + other[short:] if rest else mixed


def split_at(items: list[str], mark: str, keep: bool = False) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for item in items:
        if item == mark:
            parts.append([item] if keep else [])
        else:
            parts[-1].append(item)
    return parts


def top_items(scores: dict[str, int], count: int = 3) -> list[str]:
    return sorted(scores, key=lambda name: (-scores[name], name))[:count]


def pad_list(items: list[str], length: int, filler: str = "") -> list[str]:
    return items + [filler] * (length - len(items))


def index_of(items: list[str], wanted: str, otherwise: int = -1) -> int:
    return items.index(wanted) if wanted in items else otherwise


def halves(items: list[str], first_longer: bool = True) -> tuple[list[str], list[str]]:
    middle = (len(items) + first_longer) // 2
    return items[:middle], items[middle:]
