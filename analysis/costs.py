"""What a night cost: by role and model, for verification apart from making, by task, with the cache and without."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from analysis.report import duration, money, plain
from harness.models.prices import list_price
from traces import otel
from traces.journal import read
from traces.records import Span, Summary, Trial, Usage

VERIFICATION = frozenset({"judge", "verifier", "checker", "reviewer"})
"""Roles that look at what others made."""
LISTED = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
"""Provider → the address that its price list is for. A call elsewhere has no list price."""
CLOSE = 0.01
"""How far the list price of a call may lie from what it was charged: further, and it was not charged by the list."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Spend:
    """What one role spent on one model."""

    role: str
    model: str
    usage: Usage
    seconds: float
    """Of its calls, added up: more than has passed, where some ran at once."""
    without_cache: float | None
    """Dollars that the same calls would have cost without the provider's cache; ``None``: not known."""

    @property
    def is_verification(self) -> bool:
        return self.role in VERIFICATION

    @property
    def cached_share(self) -> float | None:
        """Of the prompt tokens, those that came from the cache; ``None`` where there were none."""
        return cached_share(self.usage)


@dataclass(frozen=True)
class Costs:
    """Of one run."""

    by_role: tuple[Spend, ...]
    """The role that spent most tokens first."""
    trials: int
    calls_in_trials: int
    most_calls: int
    """In one trial."""
    making: float
    """Seconds in which makers' models or tools were at work, trial by trial."""
    verifying: float
    """Seconds in which verifiers, judges and graders were."""
    compactions: tuple[Summary, ...] = ()

    @property
    def usage(self) -> Usage:
        return Usage.sum(spend.usage for spend in self.by_role)

    @property
    def verification(self) -> Usage:
        """What verification spent."""
        return Usage.sum(spend.usage for spend in self.by_role if spend.is_verification)

    @property
    def calls_per_task(self) -> float | None:
        """Model calls per attempt at a task; a single-shot baseline takes one. ``None``: there was no attempt."""
        return self.calls_in_trials / self.trials if self.trials else None

    @property
    def saved(self) -> float | None:
        """Dollars that the provider's cache saved, by list price; below zero where writing it cost more. ``None``: not
        known."""
        without = [spend.without_cache for spend in self.by_role]
        if self.usage.dollars is None or None in without:
            return None
        return sum(cast(list[float], without)) - self.usage.dollars


def cached_share(usage: Usage) -> float | None:
    return usage.cached_tokens / usage.input_tokens if usage.input_tokens else None


def read_costs(journal: Path) -> Costs:
    """The costs that *journal* tells of, line by line: one trial at a time is held in memory."""
    tally = Tally()
    for line in read(journal):
        match line.type:
            case "Span":
                tally.span(cast(Span, line.record()))
            case "Trial":
                tally.trial(cast(Trial, line.record()))
            case "Summary":
                tally.compactions.append(cast(Summary, line.record()))
            case _:
                pass
    return tally.costs()


class Tally:
    """Adds spans up, in the order in which they ended."""

    def __init__(self) -> None:
        self.spent: defaultdict[tuple[str, str], Usage] = defaultdict(Usage)
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.without: dict[tuple[str, str], float | None] = {}
        self.under_way: defaultdict[str, list[Span]] = defaultdict(list)
        self.compactions: list[Summary] = []
        self.trials = self.calls = self.most = 0
        self.making = self.verifying = 0.0

    def span(self, span: Span) -> None:
        if span.trial is not None:
            self.under_way[span.trial].append(bare(span))
        if span.usage.calls:
            key = (role_of(span), span.name)
            self.spent[key] += span.usage
            self.seconds[key] += span.seconds
            before, more = self.without.get(key, 0.0), dollars_without_cache(span)
            self.without[key] = None if before is None or more is None else before + more

    def trial(self, trial: Trial) -> None:
        self.trials += 1
        self.settle(self.under_way.pop(trial.id, []))

    def settle(self, spans: list[Span]) -> None:
        """A trial is over."""
        calls = sum(span.usage.calls for span in spans)
        self.calls += calls
        self.most = max(self.most, calls)
        self.making += covered(during(span) for span in spans if is_making(span))
        self.verifying += covered(during(span) for span in spans if is_verifying(span))

    def costs(self) -> Costs:
        for spans in self.under_way.values():  # of trials that never ended
            self.settle(spans)
        self.under_way.clear()
        spent = (
            Spend(role, model, usage, self.seconds[role, model], self.without[role, model])
            for (role, model), usage in self.spent.items()
        )
        return Costs(
            by_role=tuple(sorted(spent, key=lambda s: (-s.usage.tokens, s.role, s.model))),
            trials=self.trials,
            calls_in_trials=self.calls,
            most_calls=self.most,
            making=self.making,
            verifying=self.verifying,
            compactions=tuple(self.compactions),
        )


def bare(span: Span) -> Span:
    """What of *span* is needed until its trial is over."""
    return span.model_copy(update={"attributes": {}, "input_preview": None, "output_preview": None})


def role_of(span: Span) -> str:
    """Who spent it: where nobody said, the maker in a trial, the proposer outside of one."""
    return span.role or ("maker" if span.trial else "proposer")


def is_verifying(span: Span) -> bool:
    return span.operation == "grade" or (span.operation in ("chat", "execute_tool") and role_of(span) in VERIFICATION)


def is_making(span: Span) -> bool:
    return span.operation in ("chat", "execute_tool") and not is_verifying(span)


def during(span: Span) -> Interval:
    start = span.started.timestamp()
    return start, start + span.seconds


def covered(intervals: Iterable[Interval]) -> float:
    """Seconds that lie in at least one of *intervals*: a judge's call within a grade counts once."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def dollars_without_cache(span: Span) -> float | None:
    """What the call would have cost with an empty cache and none to fill; ``None``: not known."""
    usage = span.usage
    if not usage.dollars or not (usage.cached_tokens or usage.cache_write_tokens):
        return usage.dollars
    url, model = LISTED.get(span.attributes.get(otel.PROVIDER, "")), span.attributes.get(otel.REQUEST_MODEL)
    if url is None or not isinstance(model, str):
        return None
    plain = usage.model_copy(update={"cached_tokens": 0, "cache_write_tokens": 0})
    charged, without = (list_price(url, model, used, span.started) for used in (usage, plain))
    is_by_list = charged is not None and abs(charged - usage.dollars) <= CLOSE * usage.dollars
    return without if is_by_list else None


# ── in words ───────────────────────────────────────────────────────────────────────────────────────────────────


def render(costs: Costs) -> str:
    """A section of the morning report, in Markdown, without its title; empty where nothing was spent."""
    if not costs.by_role:
        return ""
    lines = [line for line in (verification_line(costs), per_task(costs), cache_line(costs), compacted(costs)) if line]
    return "\n\n".join((table(costs), "\n".join(f"- {line}" for line in lines)))


def table(costs: Costs) -> str:
    rows = ["| role | model | calls | tokens | from the cache | cost | seconds |", "|---|---|---:|---:|---:|---:|---:|"]
    rows += [
        f"| {plain(s.role)} | {plain(s.model)} | {s.usage.calls:,} | {s.usage.tokens:,} | {percent(s.cached_share)} | "
        f"{money(s.usage)} | {s.seconds:,.1f} |"
        for s in costs.by_role
    ]
    return "\n".join(rows)


def verification_line(costs: Costs) -> str:
    """Verification beside what it verified: tokens, dollars and seconds."""
    spent, whole = costs.verification, costs.usage
    tokens = spent.tokens / whole.tokens if whole.tokens else None
    dollars = spent.dollars / whole.dollars if spent.dollars is not None and whole.dollars else None
    at_work = costs.making + costs.verifying
    seconds = costs.verifying / at_work if at_work else None
    return (
        f"Verification took {spent.tokens:,} tokens{of_all(tokens)}, {money(spent)}{of_all(dollars)} and "
        f"{duration(costs.verifying)}{of_all(seconds)}; making took {duration(costs.making)}."
    )


def per_task(costs: Costs) -> str:
    each = costs.calls_per_task
    if each is None:
        return ""
    return (
        f"{each:,.2f} model calls per attempt at a task (n = {costs.trials:,}, at most {costs.most_calls:,}): "
        f"×{each:,.2f} of a single shot, which is one."
    )


def cache_line(costs: Costs) -> str:
    share = cached_share(costs.usage)
    if not costs.usage.cached_tokens and not costs.usage.cache_write_tokens:
        return ""
    saved = costs.saved
    worth = "what it saved is not known: a price is not on the list"
    if saved is not None:
        worth = f"by list price it saved ${saved:,.2f}" if saved >= 0 else f"by list price it cost ${-saved:,.2f} more"
    return f"{percent(share)} of the prompt tokens came from the provider's cache; {worth}."


def compacted(costs: Costs) -> str:
    if not costs.compactions:
        return ""
    before, after = (sum(getattr(c, name) for c in costs.compactions) for name in ("tokens_before", "tokens_after"))
    return f"{len(costs.compactions):,} sessions were made shorter: {before:,} tokens became {after:,}."


def of_all(share: float | None) -> str:
    return "" if share is None else f" ({share:.0%} of all)"


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
