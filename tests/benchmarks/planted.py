"""Are failures found again whose cause is known? Findings without a model, on generated nights.

    uv run python -m tests.benchmarks.planted [TRIALS] [SEEDS]

For each world of ``tests/analysis/planted.py``: F1 of each planted failure, by pairs of trials, and the finding that
holds most of it; the same over seeds, with the time; the exact fingerprints of before (tags, kind, message) beside it;
and a second night, with other shares and a failure that is new, whether it attaches to the same findings.

What it does not test: messages of real experiments; wordings that share no words (``date`` of ``SUPPORT`` is one, and
is missed); languages other than English; failures that share their nouns *and* are told in several wordings; paths as
varied as those of real agents; a symptom of more than a third of all wrong answers that has one cause on all tags (it
is split by tags); and whether a finding's cause is one cause. Weights and thresholds were chosen on ``CODE`` and
``RULES``.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from analysis.findings import findings, fingerprint, members, prints_of
from tests.analysis.planted import CODE, RULES, SUPPORT, Night, World, f1, home, night, second
from traces.records import Finding, Trial

FOUND = 0.9
"""F1 from which on a failure counts as found."""
FREQUENT = 0.03


def exact(planted: Night) -> list[list[Trial]]:
    """The groups that exact fingerprints make."""
    groups: defaultdict[object, list[Trial]] = defaultdict(list)
    for group in prints_of(planted.trials, {}).values():
        print_ = fingerprint(group[0])
        groups[print_.tags, print_.kind, print_.message] += group
    return list(groups.values())


def mined(planted: Night, known: Sequence[Finding] = ()) -> tuple[list[Finding], float]:
    """The findings of a night, and how many seconds it took."""
    begun = time.perf_counter()
    found = findings(planted.trials, known, planted.paths)
    return found, time.perf_counter() - begun


def main(trials: int, seeds: int) -> None:
    for world in (CODE, RULES, SUPPORT):
        report(world, trials, seeds)


def report(world: World, trials: int, seeds: int) -> None:
    now: defaultdict[str, list[float]] = defaultdict(list)
    before: defaultdict[str, list[float]] = defaultdict(list)
    later: list[float] = []
    seconds: list[float] = []
    same = other = fresh = 0
    ids: dict[str, str] = {}
    for seed in range(seeds):
        first, then = night(world, trials, 2 * seed), night(second(world), trials, 2 * seed + 1)
        found, took = mined(first)
        again, took_again = mined(then, found)
        seconds += [took, took_again]
        groups, groups_again = members(found, first.trials, first.paths), members(again, then.trials, then.paths)
        was, is_now = home(first.truth, groups), home(then.truth, groups_again)
        ids = ids or was
        for mode, score in f1(first.truth, groups.values()).items():
            now[mode].append(score)
        for mode, score in f1(first.truth, exact(first)).items():
            before[mode].append(score)
        later.append(f1(then.truth, groups_again.values())[world.later.name])
        frequent = [mode.name for mode in world.modes if mode.share > FREQUENT]
        same += sum(was[mode] == is_now[mode] for mode in frequent)
        other += sum(was[mode] != is_now[mode] for mode in frequent)
        fresh += is_now[world.later.name] not in {f.id for f in found}
    print(f"\n{world.name}: {trials:,} trials a night, {seeds} seeds; at most {max(seconds):.1f} s a night")
    print(f"{'failure':>15} {'share':>6} {'F1':>6} {'least':>6} {'exact':>6}  finding (first seed)")
    for mode in world.modes:
        scores = now[mode.name]
        print(
            f"{mode.name:>15} {mode.share:>6.1%} {fmean(scores):>6.3f} {min(scores):>6.3f} "
            f"{fmean(before[mode.name]):>6.3f}  {ids[mode.name]}"
        )
    for name, scores in (("findings", now), ("exact fingerprints", before)):
        frequent = [s for mode in world.modes if mode.share > FREQUENT for s in scores[mode.name]]
        hits = sum(score >= FOUND for score in frequent)
        print(f"{name}: {hits} of {len(frequent)} failures above {FREQUENT:.0%} found with F1 of {FOUND} or more")
    print(
        f"second night: {same} of {same + other} in the same finding; the new failure ({world.later.name}) in one of "
        f"its own {fresh} of {seeds} times, F1 {fmean(later):.3f}"
    )


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    main(*(numbers + [5000, 5][len(numbers) :]))
