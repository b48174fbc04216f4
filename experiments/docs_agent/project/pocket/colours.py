def to_hex(colour: tuple[int, int, int], sign: str = "#") -> str:
    return sign + "".join(f"{part:02x}" for part in colour)


def from_hex(code: str, sign: str = "#") -> tuple[int, int, int]:
    digits = code.removeprefix(sign)
    return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


def lighten(colour: tuple[int, int, int], by: int = 16) -> tuple[int, int, int]:
    red, green, blue = (min(255, part + by) for part in colour)
    return red, green, blue


def darken(colour: tuple[int, int, int], by: int = 16) -> tuple[int, int, int]:
    red, green, blue = (max(0, part - by) for part in colour)
    return red, green, blue


def blend(one: tuple[int, int, int], other: tuple[int, int, int], percent: int = 50) -> tuple[int, int, int]:
    red, green, blue = (a + (b - a) * percent // 100 for a, b in zip(one, other, strict=True))
    return red, green, blue


def greyed(colour: tuple[int, int, int], digits: int = 0) -> float:
    return round(sum(colour) / 3, digits)


def is_dark(colour: tuple[int, int, int], below: int = 128) -> bool:
    return sum(colour) / 3 < below


def inverted(colour: tuple[int, int, int], top: int = 255) -> tuple[int, int, int]:
    return top - colour[0], top - colour[1], top - colour[2]


def palette(start: int, count: int = 4, step: int = 32) -> list[int]:
    return [start + i * step for i in range(count)]


def strongest_part(colour: tuple[int, int, int], names: tuple[str, str, str] = ("red", "green", "blue")) -> str:
    return names[colour.index(max(colour))]
