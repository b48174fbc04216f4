def total_ways(dice: int, sides: int = 6) -> int:
    return sides**dice


def best_of(rolls: list[int], count: int = 3) -> list[int]:
    return sorted(rolls, reverse=True)[:count]


def has_streak(rolls: list[int], length: int = 3) -> bool:
    return any(len(set(rolls[i : i + length])) == 1 for i in range(len(rolls) - length + 1))


def score_hand(cards: list[int], ace: int = 11, limit: int = 21) -> int:
    points = sum(cards) + (ace - 1 if 1 in cards else 0)
    return points if points <= limit else sum(cards)


def deal(cards: list[str], players: int = 2) -> list[list[str]]:
    return [cards[i::players] for i in range(players)]


def expected_points(rolls: int, sides: int = 6) -> float:
    return rolls * (sides + 1) / 2


def winner(points: dict[str, int], tie: str = "nobody") -> str:
    best = max(points.values())
    leaders = [name for name, score in points.items() if score == best]
    return leaders[0] if len(leaders) == 1 else tie


def pairings(players: list[str], home_and_away: bool = False) -> list[tuple[str, str]]:
    games = [(a, b) for i, a in enumerate(players) for b in players[i + 1 :]]
    return games + [(b, a) for a, b in games] if home_and_away else games


def next_player(players: list[str], current: str, skip: int = 0) -> str:
    return players[(players.index(current) + 1 + skip) % len(players)]


def level_for(points: int, per_level: int = 100, first: int = 1) -> int:
    return first + points // per_level
