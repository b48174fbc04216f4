def enqueue(queue: list[str], item: str, most: int = 10) -> list[str]:
    return [*queue, item] if len(queue) < most else queue


def served(queue: list[str], count: int = 1) -> list[str]:
    return queue[count:]


def position_in(queue: list[str], item: str, first: int = 1) -> int:
    return queue.index(item) + first


def waiting_time(ahead: int, minutes: int = 5, desks: int = 1) -> int:
    return ahead * minutes // desks


def by_urgency(jobs: dict[str, int], highest_first: bool = True) -> list[str]:
    return sorted(jobs, key=lambda name: jobs[name], reverse=highest_first)


def spread_over(jobs: list[str], desks: int = 2) -> list[list[str]]:
    return [jobs[i::desks] for i in range(desks)]


def retry_delays(tries: int, base: int = 1, longest: int = 60) -> list[int]:
    return [min(base * 2**i, longest) for i in range(tries)]


def moved_up(queue: list[str], item: str, places: int = 1) -> list[str]:
    at = max(queue.index(item) - places, 0)
    rest = [other for other in queue if other != item]
    return [*rest[:at], item, *rest[at:]]


def is_full(waiting: int, seats: int = 20, standing: bool = False) -> bool:
    return waiting >= seats * (2 if standing else 1)


def batches(count: int, size: int = 10) -> list[int]:
    full, rest = divmod(count, size)
    return [size] * full + ([rest] if rest else [])
