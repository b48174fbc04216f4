"""Nights with failures whose cause is known: what findings are held against.

Written before the clustering that is measured on it, in the words that graders, test runners, parsers, tools and judges
use. Thresholds were chosen on ``CODE``, whose failures are told in several wordings, and on ``RULES``, where each has
one and all share their nouns; so ``SUPPORT`` says what they are worth elsewhere. None was changed to be found better.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import comb

from traces.records import Grade, Trial, Usage, now

NAMES = (
    *("Ada", "Grace", "Linus", "Barbara", "Edsger", "Margaret", "Ken", "Radia", "Donald", "Frances", "Tony", "Jean"),
    *("Müller", "O'Neill", "García", "Nguyễn", "Kowalski", "van Dyke", "Ōe", "Smith", "Petrova", "Haddad", "Sørensen"),
)
THINGS = (
    *("encode", "split_rows", "Cache.get", "parse_date", "retry", "load_config", "Router", "to_json", "walk", "merge"),
    *("timeout", "limit", "user_id", "locale", "offset", "strict", "encoding", "invoice_no", "currency", "due_date"),
)
FILES = (
    "docs/api/cache.md",
    "pocket/text.py",
    "tests/test_rows.py",
    "/srv/box/out.txt",
    "src/router/index.ts",
    "a.md",
)
ODD = (
    *("calendar", "kettle", "checksum", "footer", "umbrella", "ledger", "semaphore", "viewport", "glossary", "turbine"),
    *("hyphen", "mutex", "palette", "quarter", "radius", "subtitle", "tarball", "voltage", "widget", "zipcode"),
    *(
        "anchor",
        "battery",
        "cursor",
        "dialect",
        "envelope",
        "fraction",
        "gradient",
        "headline",
        "inventory",
        "joystick",
    ),
)
EVENTS = (
    *("was rotated", "overlaps", "is upside down", "appears twice", "was rounded", "is shadowed", "went stale"),
    *("contradicts itself", "was swapped", "is truncated", "leaks", "blinks", "was renamed", "drifted", "is circular"),
)
ONE_OFFS = (
    "the {odd} {event} in the {odd} of {name}",
    "{odd}: {event} after the {odd}",
    "The {odd} next to the {odd} {event}, which {name} would notice",
    "{event} - {odd}/{odd}",
)


@dataclass(frozen=True)
class Mode:
    """One cause of failure."""

    name: str
    share: float
    """Of all trials."""
    wordings: tuple[str, ...]
    """The first is the most frequent."""
    error_class: str | None = None
    """``None``: a wrong answer, and the wordings are reasons of its grade."""
    tags: tuple[tuple[str, ...], ...] = ()
    """Where it happens; empty: everywhere."""
    path: str = ""
    """How its execution went; empty: as any other."""


@dataclass(frozen=True)
class World:
    name: str
    modes: tuple[Mode, ...]
    later: Mode
    """Begins in the second night."""
    tags: tuple[tuple[str, ...], ...]
    paths: tuple[tuple[str, float], ...]
    """How trials go that no mode sends elsewhere, with weights."""
    noise: float = 0.05
    """Share of failures that happen once."""


TESTS = ("{n} failed, {n} passed in {t}s", "{n} of {n} tests fail", "FAILED (failures={n})")
RESULT = ("the result is not the expected one", "expected {n}, got {n}", "AssertionError: {n} != {n}")
CODE = World(
    "code",
    modes=(
        Mode(
            "patch",
            0.20,
            (
                "the patch does not apply to {file}: hunk {n} of {n} failed at line {n}",
                "error: patch failed: {file}:{n}\nerror: {file}: patch does not apply",
                "git apply says that the patch does not apply ({file})",
                "Hunk #{n} FAILED at {n}, patch does not apply",
            ),
        ),
        Mode(
            "timeout",
            0.12,
            (
                "timed out after {t} s",
                "timed out: no answer from {name}'s sandbox within {n} seconds",
                "the session timed out at {date} after {n} turns",
            ),
            error_class="timeout",
        ),
        Mode(
            "signature",
            0.09,
            (
                "signature: documents a parameter {quote} that {quote} does not have",
                "signature: the parameter {quote} of {quote} is not documented",
                "signature: the default of the parameter {quote} is {quote} in the code",
            ),
            tags=(("api",),),
        ),
        Mode(
            "links",
            0.07,
            (
                "links: {file} leads nowhere",
                "links: the link to {quote} leads nowhere, as {file} has no such heading",
                "a link to {quote} is dead",
            ),
            tags=(("docs",), ("api",)),
        ),
        Mode("no edit", 0.06, TESTS, path="read_file > submit"),
        Mode("wrong rows", 0.05, RESULT, tags=(("sql",),)),
        Mode(
            "import",
            0.045,
            (
                "it fails when it is run: ModuleNotFoundError: No module named {quote}",
                'Traceback (most recent call last):\n  File "{file}", line {n}, in <module>\n    import {thing}\n'
                "ModuleNotFoundError: No module named {quote}",
                "exit code {n}: ModuleNotFoundError: No module named {quote}",
            ),
            tags=(("python",), ("tests",)),
        ),
        Mode("failed edit", 0.04, TESTS, path="read_file > edit_file! > submit"),
        Mode("wrong output", 0.035, RESULT, tags=(("shell",),)),
        Mode(
            "invented",
            0.032,
            (
                "The page claims that {thing} is thread-safe; the source does not say so",
                "unsupported claim: the source never says {quote}",
                "claims {quote}, for which there is no support in the source",
                "The claim about {name}'s {thing} is not supported by the source.",
            ),
            tags=(("docs",), ("api",), ("python",)),
        ),
        Mode(
            "scope",
            0.02,
            (
                "scope: {n} lines changed, at most {n} are allowed",
                "scope: changes {file}, and only {file} may be changed",
            ),
        ),
        Mode(
            "malformed",
            0.01,
            (
                "Expecting ',' delimiter: line {n} column {n} (char {n})",
                "Unterminated string starting at: line {n} column {n} (char {n})",
            ),
            error_class="malformed",
        ),
    ),
    later=Mode(
        "style",
        0.06,
        (
            "style: a line of {file} is {n} characters long",
            "{file}:{n}:{n}: E501 line too long ({n} > {n} characters)",
            "style: {n} lines are longer than {n} characters",
        ),
    ),
    tags=(("python",), ("sql",), ("shell",), ("docs",), ("api",), ("tests",)),
    paths=(
        ("read_file > edit_file > submit", 45),
        ("search > read_file > edit_file > submit", 25),
        ("read_file > edit_file > run_tests > submit", 15),
        ("read_file > edit_file! > edit_file > submit", 9),
        ("search > read_file > submit", 4),
        ("read_file > submit", 2),
    ),
)

WRONG = ("the answer is wrong", "Incorrect.", "incorrect: {quote} is not the right answer")
REFERENCE = ("does not match the reference", "no match with the reference answer", "score {t} below the threshold {t}")
SUPPORT = World(
    "support",
    modes=(
        Mode(
            "total",
            0.20,
            (
                "total: {t} is not the sum of the line items, {t}",
                "The total of {quote} does not equal the sum of the items ({t})",
                "line items add up to {t}, but the total says {t}",
            ),
        ),
        Mode(
            "missing field",
            0.12,
            (
                "{quote} is a required property",
                "schema: the required property {quote} is missing",
                "missing required field {quote}",
            ),
        ),
        Mode(
            "date",
            0.09,
            (
                "{quote} is not a valid date",
                "the date {date} is not written as YYYY-MM-DD",
                "due_date: invalid date format {quote}",
            ),
        ),
        Mode(
            "escalates",
            0.08,
            (
                "Escalates to a person although the policy answers the question",
                "The reply escalates to {name} without need: the policy covers this case.",
                "needless escalation, the policy covers it",
            ),
        ),
        Mode(
            "refund",
            0.07,
            (
                "promises a refund of {t} EUR that is outside the return window",
                "The reply grants {name} a refund outside the window of {n} days",
                "offers a refund although the {n}-day return window has passed",
            ),
            tags=(("returns",),),
        ),
        Mode("no lookup", 0.06, WRONG, path="answer"),
        Mode("clause", 0.05, REFERENCE, tags=(("legal",),)),
        Mode(
            "no such order",
            0.045,
            (
                "find_order: order {id} not found",
                "HTTP 404: no order {id} for customer {name}",
                "order {id} does not exist",
            ),
            error_class="tool_error",
        ),
        Mode("failed lookup", 0.04, WRONG, path="find_order! > answer"),
        Mode("carrier", 0.035, REFERENCE, tags=(("shipping",),)),
        Mode(
            "salutation",
            0.032,
            (
                "addresses the customer as {name}, whose name is {name}",
                "The customer's name is {name}, not {name}.",
                "calls the customer by the wrong name ({name})",
            ),
        ),
        Mode(
            "card",
            0.01,
            ("prints the full card number {n}", "leaks payment card data of {name}"),
            tags=(("billing",),),
        ),
    ),
    later=Mode(
        "tone",
        0.06,
        (
            "The tone is curt and there is no apology for the delay",
            "no apology to {name} for the delay of {n} days",
            "lacks an apology, and the tone is cold",
        ),
    ),
    tags=(("billing",), ("returns",), ("shipping",), ("account",), ("legal",)),
    paths=(
        ("find_order > answer", 50),
        ("find_order > find_policy > answer", 30),
        ("find_policy > answer", 15),
        ("find_order! > find_order > answer", 4),
        ("answer", 1),
    ),
)

RULES = World(
    "rules",
    modes=(
        Mode("missing", 0.16, ("field {quote} is missing",)),
        Mode("empty", 0.12, ("field {quote} is empty",)),
        Mode("type", 0.09, ("field {quote} has the wrong type: {n} is not a string",)),
        Mode("long", 0.08, ("field {quote} is longer than {n} characters",)),
        Mode("choice", 0.07, ("field {quote} is not in the list of allowed values",)),
        Mode("twice", 0.06, ("field {quote} appears twice",)),
        Mode("unknown", 0.05, ("unknown field {quote}",)),
        Mode("number", 0.045, ("field {quote} is not a number",)),
        Mode("format", 0.04, ("field {quote} holds a date in the wrong format",)),
        Mode("currency", 0.035, ("field {quote} names a currency that does not exist",)),
        Mode("few", 0.02, ("row {n}: too few fields",)),
        Mode("many", 0.01, ("row {n}: too many fields",)),
    ),
    later=Mode("order", 0.06, ("field {quote} stands in the wrong order",)),
    tags=(("invoice",), ("receipt",), ("letter",), ("form",)),
    paths=(("answer", 1),),
)


@dataclass(frozen=True)
class Night:
    """Trials whose cause of failure is known."""

    trials: tuple[Trial, ...]
    paths: Mapping[str, str]
    truth: Mapping[str, str]
    """Trial → the mode that it shows; failures that happen once are not in it."""


def night(world: World, trials: int, seed: int) -> Night:
    rng = random.Random(f"{world.name}/{seed}")
    made: list[Trial] = []
    paths: dict[str, str] = {}
    truth: dict[str, str] = {}
    kinds = [*world.modes, "one-off", "success"]
    rest = 1 - sum(mode.share for mode in world.modes) - world.noise
    weights = [*(mode.share for mode in world.modes), world.noise, rest]
    began = now() + timedelta(days=seed)
    for number, kind in enumerate(rng.choices(kinds, weights, k=trials)):
        trial = attempt(kind if isinstance(kind, Mode) else None, kind == "success", world, number, seed, began, rng)
        made.append(trial)
        usual = rng.choices([path for path, _ in world.paths], [weight for _, weight in world.paths])[0]
        paths[trial.id] = (kind.path if isinstance(kind, Mode) else "") or usual
        if isinstance(kind, Mode):
            truth[trial.id] = kind.name
    return Night(tuple(made), paths, truth)


def attempt(
    mode: Mode | None, solved: bool, world: World, number: int, seed: int, began: datetime, rng: random.Random
) -> Trial:
    wordings = mode.wordings if mode else ONE_OFFS
    weights = [1 / (i + 1) for i in range(len(wordings))] if mode else [1.0] * len(wordings)
    said = filled(rng.choices(wordings, weights)[0], rng)
    error_class = mode.error_class if mode else None
    grade = Grade(score=rng.choice((0.0, 0.0, 0.25, 0.5)), reason=said) if error_class is None else None
    return Trial(
        id=f"night{seed}/{number}",
        run=f"night{seed}",
        version=rng.choice("ab") * 8,
        task=f"task-{number % 700}",
        split="train",
        repeat=number // 700,
        tags=rng.choice((mode and mode.tags) or world.tags),
        grade=Grade(score=1.0, reason="right") if solved else grade,
        error=said if error_class and not solved else None,
        error_class=None if solved else error_class,
        boundary="runner" if error_class and not solved else None,
        started=began + timedelta(seconds=number),
        seconds=1.0,
        usage=Usage(calls=1, dollars=rng.choice((0.001, 0.002, 0.01))),
    )


def filled(wording: str, rng: random.Random) -> str:
    """*wording* with something else in each of its places each time."""
    quotes = ("'{}'", "`{}`", '"{}"')
    makers = {
        "{n}": lambda: str(rng.randint(1, 900)),
        "{t}": lambda: f"{rng.uniform(0, 500):.2f}",
        "{name}": lambda: rng.choice(NAMES),
        "{thing}": lambda: rng.choice(THINGS),
        "{file}": lambda: rng.choice(FILES),
        "{quote}": lambda: rng.choice(quotes).format(rng.choice((*THINGS, *NAMES, *ODD))),
        "{date}": lambda: f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
        "{id}": lambda: f"{rng.getrandbits(40):010x}",
        "{odd}": lambda: rng.choice(ODD),
        "{event}": lambda: rng.choice(EVENTS),
    }
    for place, make in makers.items():
        while place in wording:
            wording = wording.replace(place, make(), 1)
    return wording


def second(world: World) -> World:
    """The night after: every other mode half as frequent, the rest more so, and one that is new."""
    shifted = tuple(replace(mode, share=mode.share * (0.6 if i % 2 else 1.1)) for i, mode in enumerate(world.modes))
    return replace(world, modes=(*shifted, world.later))


def f1(truth: Mapping[str, str], groups: Iterable[Sequence[Trial]]) -> dict[str, float]:
    """Mode → pairwise F1: of pairs with at least one trial of the mode, those that are alike and those found alike."""
    sizes = Counter(truth.values())
    alike: Counter[str] = Counter()
    mixed: defaultdict[str, int] = defaultdict(int)
    for group in groups:
        shown = Counter(truth.get(trial.id, "") for trial in group)
        for mode, count in shown.items():
            alike[mode] += comb(count, 2)
            mixed[mode] += count * (len(group) - count)
    return {
        mode: 2 * alike[mode] / (2 * alike[mode] + mixed[mode] + comb(count, 2) - alike[mode])
        for mode, count in sizes.items()
        if count > 1
    }


def home(truth: Mapping[str, str], groups: Mapping[str, Sequence[Trial]]) -> dict[str, str]:
    """Mode → the finding that holds most of its trials; empty: none does."""
    held: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for id, group in groups.items():
        for trial in group:
            if trial.id in truth:
                held[truth[trial.id]][id] += 1
    return {mode: held[mode].most_common(1)[0][0] if held[mode] else "" for mode in set(truth.values())}
