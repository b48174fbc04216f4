"""Which number does a command report? What its output and the files that it wrote look like they say."""

import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from experiments.scaffold import quoted
from harness.protocols import Finished
from harness.runners.metrics import InFile, Metric, Printed
from harness.sandboxes.folder import Folder

NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
WORD = r"[^\W\d][^\s:=]*"
"""Of a name, as ``is_name`` will have it."""
PLAIN = re.compile(rf"\s*({WORD}(?: {WORD}){{0,3}})\s*[:=]\s*({NUMBER})\s*")
WITH_UNIT = re.compile(rf"\s*({WORD}(?: {WORD}){{0,3}})\s*[:=]\s*({NUMBER})\s*(%|[A-Za-zµμ][A-Za-zµμ/%]*)\s*")
TWO_WORDS = re.compile(rf"\s*({WORD})\s+({NUMBER})\s*")
DEEPEST = 4
"""Levels of a JSON file that are looked at."""

# fmt: off
LOWER = frozenset({
    "loss", "error", "errors", "err", "bpb", "bpc", "perplexity", "ppl", "nll", "rmse", "mse", "mae", "mape", "wer",
    "cer", "latency", "cost", "regret", "penalty", "energy", "time", "times", "seconds", "second", "secs", "sec",
    "ms", "us", "ns", "duration", "elapsed", "runtime", "wall", "conflicts", "violations", "misses"
})
HIGHER = frozenset({
    "accuracy", "acc", "score", "f1", "reward", "throughput", "return", "auc", "auroc", "precision", "recall",
    "bleu", "rouge", "r2", "fps", "qps", "rps", "speedup", "wins", "solved", "fitness"
})
TIMING = frozenset({
    "time", "times", "seconds", "second", "secs", "sec", "ms", "us", "ns", "latency", "throughput", "duration",
    "elapsed", "runtime", "wall", "fps", "qps", "rps", "speedup"
})
UNITS = frozenset({
    "s", "sec", "secs", "second", "seconds", "ms", "msec", "us", "usec", "µs", "μs", "ns", "nsec", "min", "mins",
    "fps", "qps", "rps"
})
"""Of time, and of what is done in it."""
# fmt: on
Direction = Literal["lower", "higher"]


@dataclass(frozen=True)
class Figure:
    """A number that a command reported, and how Ratchet would read it."""

    metric: Printed | InFile
    value: float
    times: int = 1
    """How often it was printed; where it was more than once, nobody could tell which counts."""
    unit: str = ""
    """As it was printed, such as ``ms``."""

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def is_timing(self) -> bool:
        """Does it depend on what else the machine does?"""
        return is_timing(self.name) or not UNITS.isdisjoint(self.unit.casefold().split("/"))


def figures(finished: Finished, folder: Path, known: Collection[str] = ()) -> list[Figure]:
    """All of them, by where they stand; of one name in the output and in a file the file's, which is exact.

    *known*: files that were there before, so that the command did not write them.
    """
    printed: dict[str, Figure] = {}
    for found in in_output(finished.output):
        before = printed.get(found.name)
        printed[found.name] = replace(found, times=before.times + 1) if before else found
    written = {metric.name: Figure(metric, value) for metric, value in in_files(folder, known)}
    return list({**printed, **written}.values())


def in_output(output: str) -> Iterator[Figure]:
    for line in output.splitlines():
        if (found := PLAIN.fullmatch(line)) and is_name(found[1]):
            yield Figure(Printed(found[1]), float(found[2]))
        elif (found := WITH_UNIT.fullmatch(line)) and is_name(found[1]):
            pattern = rf"^\s*{re.escape(found[1])}\s*[:=]\s*({NUMBER})\s*{re.escape(found[3])}\s*$"
            yield Figure(Printed(found[1], pattern), float(found[2]), unit=found[3])
        elif (found := TWO_WORDS.fullmatch(line)) and is_name(found[1]):
            yield Figure(Printed(found[1], rf"^\s*{re.escape(found[1])}\s+({NUMBER})\s*$"), float(found[2]))
        elif line.lstrip().startswith("{"):
            for key, value in numbers_in(parsed(line), most=1):
                yield Figure(Printed(key), value)


def is_name(text: str) -> bool:
    """Is there nothing in it but letters of any script, their marks, digits, and what joins them?"""
    return all(c.isalnum() or c in "_.@/%+- " or unicodedata.category(c).startswith("M") for c in text)


def in_files(folder: Path, known: Collection[str]) -> Iterator[tuple[InFile, float]]:
    """Of the JSON files at the top of *folder*, but those that are *known*."""
    for path in sorted(path for path in folder.glob("*.json") if path.name not in known):
        try:
            text = Folder(folder).read(path.name)
        except (OSError, ValueError):
            continue
        for key, value in numbers_in(parsed(text)):
            name = key.rpartition(".")[2]
            yield InFile(name, path.name, "" if key == name else key), value


def parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def numbers_in(value: object, most: int = DEEPEST, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Dotted key → number, of JSON objects within each other."""
    if not isinstance(value, dict) or most == 0:
        return
    for key, below in cast(Mapping[str, object], value).items():
        if isinstance(below, int | float) and not isinstance(below, bool) and math.isfinite(below):
            yield f"{prefix}{key}", float(below)
        yield from numbers_in(below, most - 1, f"{prefix}{key}.")


def source_of(metric: Metric) -> str:
    """*metric* as it stands in an experiment: ``Printed("loss")``."""
    kind: Any = type(metric)
    first, *rest = [field for field in fields(kind) if field.init]
    settings = [(field.name, getattr(metric, field.name)) for field in rest if is_set(metric, field)]
    named = ", ".join(f"{name}={quoted(value)}" for name, value in settings)
    return f"{kind.__name__}({quoted(getattr(metric, first.name))}{', ' if named else ''}{named})"


def is_set(metric: Metric, field: Any) -> bool:
    return field.default is MISSING or getattr(metric, field.name) != field.default


# ── what a name says ───────────────────────────────────────────────────────────────────────────────────────────


def direction(name: str) -> Direction | None:
    """Which is better, as far as the name tells."""
    words = words_of(name)
    rate = words.index("per") if "per" in words[1:] else None
    if rate is not None:  # seconds per token: the fewer, the better; tokens per second: the more
        words = [word for word in words[:rate] if word in LOWER] or ["throughput"]
    says = {"lower" if word in LOWER else "higher" for word in words if word in LOWER | HIGHER}
    return cast(Direction, says.pop()) if len(says) == 1 else None


def is_timing(name: str) -> bool:
    """Does a number of that name depend on what else the machine does?"""
    words = words_of(name)
    return not TIMING.isdisjoint(words) or (len(words) > 1 and words[-1] == "s")


def words_of(name: str) -> list[str]:
    """``valLoss_2/ms`` → val, loss, 2, ms."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", unicodedata.normalize("NFC", name))
    return [word.casefold() for word in re.findall(r"[^\W\d_]+\d*|\d+", apart)]
