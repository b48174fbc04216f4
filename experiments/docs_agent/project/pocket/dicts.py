def pick(record: dict[str, str], keys: list[str], missing: str = "") -> dict[str, str]:
    return {key: record.get(key, missing) for key in keys}


def omit(record: dict[str, str], keys: list[str], also_empty: bool = False) -> dict[str, str]:
    return {k: v for k, v in record.items() if k not in keys and (v or not also_empty)}


def invert(record: dict[str, str], keep_first: bool = True) -> dict[str, str]:
    turned: dict[str, str] = {}
    for key, value in record.items():
        if not (keep_first and value in turned):
            turned[value] = key
    return turned


def merged(one: dict[str, int], other: dict[str, int], add: bool = False) -> dict[str, int]:
    both = {**one, **other}
    return {k: one.get(k, 0) + other.get(k, 0) for k in both} if add else both


def tally(items: list[str], start: int = 0) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items:
        counts[item] = counts.get(item, start) + 1
    return counts


def dig(record: dict[str, dict[str, str]], outer: str, inner: str, otherwise: str = "") -> str:
    return record.get(outer, {}).get(inner, otherwise)


def query_string(values: dict[str, str], joint: str = "&") -> str:
    return joint.join(f"{key}={value}" for key, value in values.items())


def from_pairs(text: str, pair: str = ",", equals: str = "=") -> dict[str, str]:
    parts = [part.partition(equals) for part in text.split(pair)]
    return {key: value for key, _, value in parts}


def renamed_keys(record: dict[str, str], prefix: str = "x_") -> dict[str, str]:
    return {prefix + key: value for key, value in record.items()}


def largest_keys(record: dict[str, int], count: int = 1) -> list[str]:
    return sorted(record, key=lambda key: (-record[key], key))[:count]
