def celsius(fahrenheit: float, digits: int = 1) -> float:
    return round((fahrenheit - 32) / 1.8, digits)


def fahrenheit(celsius: float, digits: int = 1) -> float:
    return round(celsius * 1.8 + 32, digits)


def kilometres(miles: float, digits: int = 2) -> float:
    return round(miles * 1.609344, digits)


def file_size(size: int, base: int = 1024) -> str:
    units = ["B", "kB", "MB", "GB"]
    at = 0
    while size >= base and at < len(units) - 1:
        size //= base
        at += 1
    return f"{size} {units[at]}"


def litres(cups: float, cup: float = 0.25) -> float:
    return cups * cup


def pace(minutes: float, distance: float, digits: int = 1) -> float:
    return round(minutes / distance, digits)


def body_mass(kilograms: float, metres: float, digits: int = 1) -> float:
    return round(kilograms / metres**2, digits)


def dozens(count: int, size: int = 12) -> tuple[int, int]:
    return divmod(count, size)


def angle_between(one: int, other: int, full: int = 360) -> int:
    apart = abs(one - other) % full
    return min(apart, full - apart)


def signal_bars(strength: float, bars: int = 5) -> int:
    return round(strength * bars)
