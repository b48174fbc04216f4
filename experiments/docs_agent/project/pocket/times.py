def clock_time(minutes: int, separator: str = ":") -> str:
    return f"{minutes // 60 % 24:02}{separator}{minutes % 60:02}"


def minutes_of(clock: str, separator: str = ":") -> int:
    hours, minutes = clock.split(separator)
    return 60 * int(hours) + int(minutes)


def in_words(seconds: int, parts: int = 2) -> str:
    sizes = (("h", 3600), ("min", 60), ("s", 1))
    found: list[str] = []
    for unit, size in sizes:
        if seconds >= size:
            found.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(found[:parts])


def is_leap(year: int, gregorian: bool = True) -> bool:
    return year % 4 == 0 and (not gregorian or year % 100 != 0 or year % 400 == 0)


def days_in(month: int, leap: bool = False) -> int:
    return [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]


def weekday_after(day: str, days: int = 1) -> str:
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    return names[(names.index(day) + days) % 7]


def rounded_up(minutes: int, to: int = 15) -> int:
    return -(-minutes // to) * to


def add_months(month: int, by: int = 1) -> int:
    return (month - 1 + by) % 12 + 1


def time_left(now: int, deadline: int, least: int = 0) -> int:
    return max(deadline - now, least)


def overtime(worked: list[int], daily: int = 8) -> int:
    return sum(max(hours - daily, 0) for hours in worked)
