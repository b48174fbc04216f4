def number_lines(text: str, start: int = 1, gap: str = ": ") -> list[str]:
    return [f"{number}{gap}{line}" for number, line in enumerate(text.split("\n"), start)]


def first_lines(text: str, count: int = 10) -> str:
    return "\n".join(text.split("\n")[:count])


def last_lines(text: str, count: int = 10) -> str:
    return "\n".join(text.split("\n")[-count:])


def drop_comments(text: str, sign: str = "#") -> str:
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith(sign))


def matching_lines(text: str, part: str, most: int = 100) -> list[str]:
    return [line for line in text.split("\n") if part in line][:most]


def longest_line(text: str, tab: int = 8) -> int:
    return max(len(line.expandtabs(tab)) for line in text.split("\n"))


def split_blocks(text: str, blank_lines: int = 1) -> list[str]:
    return [block for block in text.split("\n" * (blank_lines + 1)) if block]


def sort_lines(text: str, backwards: bool = False) -> str:
    return "\n".join(sorted(text.split("\n"), reverse=backwards))


def pad_lines(text: str, width: int, fill: str = " ") -> list[str]:
    return [line.ljust(width, fill) for line in text.split("\n")]


def unique_lines(text: str, fold_case: bool = False) -> list[str]:
    seen: dict[str, str] = {}
    for line in text.split("\n"):
        seen.setdefault(line.casefold() if fold_case else line, line)
    return list(seen.values())
