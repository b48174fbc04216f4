def clamp(value: float, low: float = 0.0, high: float = 1.0) -> float:
    return max(low, min(high, value))


def round_to(value: float, step: float = 0.5) -> float:
    return round(value / step) * step


def digits_of(number: int, base: int = 10) -> list[int]:
    found: list[int] = []
    while number:
        number, digit = divmod(number, base)
        found.append(digit)
    return found[::-1] or [0]


def is_near(one: float, other: float, tolerance: float = 0.001) -> bool:
    return abs(one - other) <= tolerance


def percent(part: float, whole: float, digits: int = 1) -> str:
    return f"{100 * part / whole:.{digits}f} %"


def ordinal(number: int, short: bool = True) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}" if short else f"number {number}"


def grouped(number: int, mark: str = ",", size: int = 3) -> str:
    digits = str(number)
    head = len(digits) % size
    parts = [digits[:head]] if head else []
    return mark.join(parts + [digits[i : i + size] for i in range(head, len(digits), size)])


def factors(number: int, least: int = 2) -> list[int]:
    found: list[int] = []
    divisor = 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [factor for factor in found if factor >= least]


def scale(value: float, factor: float = 100.0, offset: float = 0.0) -> float:
    return value * factor + offset


def next_multiple(number: int, of: int = 8) -> int:
    return -(-number // of) * of
