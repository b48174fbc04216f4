def price_tag(cents: int, currency: str = "EUR") -> str:
    return f"{cents // 100}.{cents % 100:02} {currency}"


def with_tax(cents: int, rate: int = 20) -> int:
    return cents + cents * rate // 100


def discounted(cents: int, percent: int = 10, least: int = 0) -> int:
    return max(cents - cents * percent // 100, least)


def share_bill(cents: int, people: int, tip: int = 0) -> list[int]:
    each, rest = divmod(cents + tip, people)
    return [each + 1] * rest + [each] * (people - rest)


def change_due(paid: int, cents: int, coins: tuple[int, ...] = (50, 20, 10, 5, 2, 1)) -> list[int]:
    due = paid - cents
    given: list[int] = []
    for coin in coins:
        given += [coin] * (due // coin)
        due %= coin
    return given


def compound(cents: int, rate: int = 5, years: int = 1) -> int:
    for _ in range(years):
        cents += cents * rate // 100
    return cents


def cheapest(prices: dict[str, int], limit: int = 1) -> list[str]:
    return sorted(prices, key=lambda name: (prices[name], name))[:limit]


def monthly(yearly: int, months: int = 12) -> int:
    return yearly // months


def is_affordable(cents: int, budget: int, reserve: int = 0) -> bool:
    return cents <= budget - reserve


def invoice_number(count: int, prefix: str = "INV", width: int = 4) -> str:
    return f"{prefix}-{count:0{width}}"
