"""Ratchet's trace store beside Arize Phoenix and MLflow, in one run, on the same spans: speed, and what a kill loses.

    uv run --no-project --with-editable . --with arize-phoenix==19.8.0 --with mlflow==3.17.2 \\
        python -m tests.benchmarks.stores [SPANS] [SECONDS] [ROUNDS] [STORE …]

Their pins are older than ours, so they are no group of ours: in one lock they would hold ours back.

SPANS are written as fast as it goes, SECONDS is how long each store is asked while spans arrive, ROUNDS how often the
writer, and then the server, is killed with -9. All of it happens on this machine; nothing is fetched. What matters is
how the stores compare in one run: other figures depend on the machine and on who else uses it.

Each is used in two settings. "as it comes": Ratchet's journal with a merge each second; the OpenTelemetry SDK with its
BatchSpanProcessor, which Phoenix and MLflow recommend, over OTLP/HTTP to their own servers. "safest": Ratchet waits for
the disk at each span; the SDK's SimpleSpanProcessor sends each span by itself, and waits until it was taken.

When a writer is killed, a span counts as lost if the call that ended it had returned, and it is not in the store. When
a server is killed, a span counts as lost if the server had said that it took it, and it is not in the store after that.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles

from tests.benchmarks.stores_peers import Server, Store, Unavailable, peer
from tests.benchmarks.stores_writer import PER_TRIAL, TAGS, numbers_in, span

SETTINGS = ("as it comes", "safest")
RATE = 100.0
"""Spans a second while the stores are asked."""
WARM = 10**9
"""Numbers of spans that only warm a server up: from here."""
STILL = 4.0
"""Seconds without a new span, after which a store counts as done."""
MOST = 300.0
"""Seconds that it may take until then."""


def main(spans: int, seconds: float, rounds: int, stores: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="stores-", ignore_cleanup_errors=True) as folder:
        print("| store | setting | measured | found |\n|---|---|---|---|", flush=True)
        firsts: dict[str, float] = {}
        for name in stores:
            try:
                for setting, measured, found, value in rows(name, Path(folder) / name, spans, seconds, rounds):
                    ratio = ""
                    if value is not None and firsts.setdefault(setting + measured, value) != value:
                        ratio = f" = {value / firsts[setting + measured]:.3g} × {stores[0]}'s"
                    print(f"| {name} | {setting} | {measured} | {found}{ratio} |", flush=True)
            except Unavailable as e:
                print(f"| {name} | | left out | {e} |", flush=True)


Row = tuple[str, str, str, float | None]
"""Setting, what was measured, what was found; and the figure that is compared with the first store's."""


def rows(name: str, folder: Path, spans: int, seconds: float, rounds: int) -> Iterator[Row]:
    for setting in SETTINGS:
        store = peer(name, folder / setting.replace(" ", "-"))
        try:
            if setting == SETTINGS[0]:
                yield "", "set up as", store.setup, None
            warm_up(store)
            yield from ingested(store, setting, spans)
            if setting == SETTINGS[0]:
                yield from asked(store, setting, spans, seconds)
            yield from writer_killed(store, setting, rounds)
            if isinstance(store, Server):
                yield from server_killed(store, setting, rounds)
        finally:
            store.close()


class Writer:
    """A program that writes spans, in a process of its own."""

    def __init__(self, store: Store, setting: str, first: int, count: int = 0, rate: float = 0) -> None:
        self.log = Path(tempfile.mkdtemp(prefix="writer-", dir=store.folder)) / f"w{first}"
        what = [store.name, setting, store.target, str(self.log), str(first), str(count), str(rate)]
        command = [sys.executable, "-m", "tests.benchmarks.stores_writer", *what]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def began(self) -> float | None:
        """When it wrote the first span."""
        found = Path(f"{self.log}.began")
        return float(text) if found.exists() and (text := found.read_text()) else None

    def safe(self, kind: str) -> list[int]:
        return numbers_in(self.log.with_suffix(f".{kind}"))

    def wait(self) -> None:
        self.process.wait(MOST)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def warm_up(store: Store) -> None:
    """The first spans take a server many times as long as all others."""
    Writer(store, SETTINGS[0], WARM, PER_TRIAL).wait()
    drained(store)


def drained(store: Store) -> None:
    """Wait until nothing more arrives."""
    until(lambda count, seconds: seconds >= STILL, store)


def until(done: Callable[[int, float], bool], store: Store) -> float:
    """Look at the number of spans in *store* until *done* says so, of that and of the seconds since it changed last;
    return when it was that it did."""
    deadline = time.monotonic() + MOST
    count, since, at = -1, time.monotonic(), time.time()
    while time.monotonic() < deadline:
        if (found := store.count()) != count:
            count, since, at = found, time.monotonic(), time.time()
        if done(count, time.monotonic() - since):
            break
        time.sleep(0.05)
    return at


def present(store: Store) -> Counter[int]:
    return Counter({number: n for number, n in store.numbers().items() if number < WARM})


# ── measurements ───────────────────────────────────────────────────────────────────────────────────────────────────


def ingested(store: Store, setting: str, spans: int) -> Iterator[Row]:
    before = store.count()
    writer = Writer(store, setting, 0, spans)
    at = until(
        lambda count, seconds: count >= before + spans or (seconds >= 30 and writer.process.poll() is not None), store
    )
    writer.wait()
    began, there = writer.began, len(present(store))
    assert began is not None
    took = at - began
    dropped = f"; {spans - there:,} of them never arrived" if there < spans else ""
    yield (
        setting,
        f"{spans:,} spans until a query counts them all",
        f"{there / took:,.0f} spans/s{dropped}",
        there / took,
    )


def asked(store: Store, setting: str, spans: int, seconds: float) -> Iterator[Row]:
    rng = random.Random(5)
    questions: dict[str, Callable[[], object]] = {
        "failures by tag": store.failures_by_tag,
        "cost by model": store.cost_by_model,
        "one trace": lambda: store.one_trace(rng.randrange(spans // PER_TRIAL)),
    }
    refuse_wrong_answers(store, spans)
    writer = Writer(store, setting, 10 * spans, rate=RATE)
    took: dict[str, list[float]] = {question: [] for question in questions}
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or min(map(len, took.values())) < 3:
            for question, ask in questions.items():
                began = time.perf_counter()
                ask()
                took[question].append(time.perf_counter() - began)
    finally:
        writer.kill()
    drained(store)
    for question, times in took.items():
        p50, p95 = median(times), quantiles(times, n=20, method="inclusive")[18]
        found = f"p50 {1000 * p50:,.0f} ms, p95 {1000 * p95:,.0f} ms (n = {len(times)})"
        yield setting, f"{question}, while {RATE:.0f} spans/s arrive", found, p50


def refuse_wrong_answers(store: Store, spans: int) -> None:
    """A store that answers fast and wrongly is no better."""
    records = [span(number) for number in present(store)]
    failed = Counter(TAGS[number % 5] for number in present(store) if number % 7 == 0)
    found = store.failures_by_tag()
    assert {tag: found[tag] - failed[tag] for tag in failed if not 0 <= found[tag] - failed[tag] < PER_TRIAL} == {}
    spent = sum(record.usage.dollars or 0 for record in records)
    assert abs(sum(store.cost_by_model().values()) - spent) < 0.001 * PER_TRIAL * 10
    assert store.one_trace(0) == PER_TRIAL


def writer_killed(store: Store, setting: str, rounds: int) -> Iterator[Row]:
    rng = random.Random(7)
    safe: set[int] = set()
    for number in range(rounds):
        writer = Writer(store, setting, 10**6 * (number + 1))
        wait_for_some(writer, "returned")
        time.sleep(rng.uniform(0, 2))
        writer.kill()
        safe.update(writer.safe("returned"))
    drained(store)
    yield setting, f"writer killed {rounds} times", lost(safe, present(store)), None


def server_killed(store: Server, setting: str, rounds: int) -> Iterator[Row]:
    rng = random.Random(9)
    safe: set[int] = set()
    for number in range(rounds):
        writer = Writer(store, setting, 10**7 * (number + 1))  # type: ignore[arg-type]
        wait_for_some(writer, "taken")
        time.sleep(rng.uniform(0, 2))
        store.kill()
        writer.kill()
        safe.update(writer.safe("taken"))
        store.start()
        drained(store)  # type: ignore[arg-type]
    yield setting, f"server killed {rounds} times", lost(safe, present(store)), None  # type: ignore[arg-type]


def wait_for_some(writer: Writer, kind: str) -> None:
    deadline = time.monotonic() + MOST
    while not writer.safe(kind) and time.monotonic() < deadline:
        time.sleep(0.05)


def lost(safe: set[int], there: Counter[int]) -> str:
    missing = sum(number not in there for number in safe)
    doubled = sum(there[number] > 1 for number in safe)
    return f"{missing:,} of {len(safe):,} lost, {doubled} doubled"


if __name__ == "__main__":
    figures = [float(a) for a in sys.argv[1:4]]
    spans, seconds, rounds = [*figures, *(2000.0, 20.0, 3.0)[len(figures) :]]
    main(int(spans), seconds, int(rounds), sys.argv[4:] or ["ratchet", "phoenix", "mlflow"])
