def column(rows: list[dict[str, str]], name: str, missing: str = "") -> list[str]:
    return [row.get(name, missing) for row in rows]


def where_equal(rows: list[dict[str, str]], name: str, value: str, limit: int = 100) -> list[dict[str, str]]:
    return [row for row in rows if row.get(name) == value][:limit]


def order_by(rows: list[dict[str, str]], name: str, descending: bool = False) -> list[dict[str, str]]:
    return sorted(rows, key=lambda row: row.get(name, ""), reverse=descending)


def group_sizes(rows: list[dict[str, str]], name: str, least: int = 1) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.get(name, "")] = sizes.get(row.get(name, ""), 0) + 1
    return {value: size for value, size in sizes.items() if size >= least}


def csv_line(values: list[str], separator: str = ",") -> str:
    return separator.join(f'"{value}"' if separator in value else value for value in values)


def rename_column(rows: list[dict[str, str]], old: str, new: str, strict: bool = False) -> list[dict[str, str]]:
    if strict and any(old not in row for row in rows):
        raise KeyError(old)
    return [{(new if name == old else name): value for name, value in row.items()} for row in rows]


def markdown_row(values: list[str], edge: str = "|") -> str:
    return f"{edge} " + f" {edge} ".join(values) + f" {edge}"


def transpose(rows: list[list[str]], filler: str = "") -> list[list[str]]:
    width = max((len(row) for row in rows), default=0)
    return [[row[i] if i < len(row) else filler for row in rows] for i in range(width)]


def header_of(rows: list[dict[str, str]], ordered: bool = False) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return sorted(names) if ordered else names


def total_of(rows: list[dict[str, str]], name: str, start: int = 0) -> int:
    return start + sum(int(row[name]) for row in rows if name in row)
