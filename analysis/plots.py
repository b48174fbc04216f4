"""Pictures of a night. Each function takes facts and returns a matplotlib figure; nothing is shown or saved here.

They are drawn to be read on a telephone too: narrow, with what the marks mean below.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter

from analysis.night import Night
from analysis.predictions import Scored
from analysis.report import COST, EVIDENCE, FINDINGS, PREDICTIONS, PROGRESS, after_what, at_the_end
from analysis.shrinkage import Aftermath, Shrinkage
from harness.gate.eprocess import DeadlineE, over_margin
from traces.records import Comparison, Round

KEPT, DISCARDED, BEST, BAND, TEST = "#1a7f37", "#b8bec6", "#0b3d1c", "#1a7f37", "#8250df"
QUIET, WORSE = "#6e7781", "#b35900"
"""Of guiding lines and of what nobody aimed at; of what rose that should have fallen."""
WIDTH = 5.0
"""Inches of every picture."""
LEAST_EVIDENCE = 1e-3
"""Evidence below it is drawn at it: a test that is lost is lost."""
LISTED = 20
"""Findings that one picture has room for."""
MANY = 60
"""Rounds above which their dots are smaller and paler."""
FEW = 3
"""Rounds of a metric below which its axis has room for all of its working versions."""
EARLY = 20
"""The first 1/20 of the rounds may be off the axis of a metric: a first gain is often larger than all that follow."""
NAME = 28
"""Characters of a finding's title that a line has room for; it has two."""


def progress(rounds: Sequence[Round], title: str) -> Figure:
    """Score on train by round: each candidate a dot, discarded ones grey and kept ones green, or a green ring where the
    change was taken out again after a lost promotion test. The line is the working version, with its 90 % interval;
    the trials that it was kept for count. It lies above the dots, which are smaller and paler where there are many. A
    metric has its own axis; candidates far off it stand at its edge, as triangles that point to where they are."""
    figure, axes = sheet(title)
    line = [r for r in rounds if r.score is not None and r.stop is None]
    last = line[-1].number if line else 0
    size = 6.0 if last <= MANY else 3.0
    xs = [*(r.number for r in line), last + 0.6]  # the last value is held, or it could not be seen
    line = [*line, *line[-1:]]
    if line:
        scores = [r.score or 0.0 for r in line]
        axes.step(xs, scores, where="post", color=BEST, linewidth=1.6, zorder=4, label="working version")
        axes.fill_between(
            xs,
            [r.score_low or 0.0 for r in line],
            [r.score_high or 0.0 for r in line],
            step="post",
            color=BAND,
            alpha=0.18,
            linewidth=0,
            zorder=3,
            label="90 % interval",
        )
    bottom, top = limits(rounds)
    seen: dict[str, list[tuple[int, float]]] = {}
    beyond: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for r in rounds:
        word, score = fate(r, rounds), candidate_score(r)
        if r.decision is not None and score is not None:
            if top is not None and score > top:
                beyond.setdefault((word, "^"), []).append((r.number, top))
            elif score < bottom:
                beyond.setdefault((word, "v"), []).append((r.number, bottom))
            else:
                seen.setdefault(word, []).append((r.number, score))
        elif r.decision is not None and r.score is not None:
            seen.setdefault("not measured", []).append((r.number, min(max(r.score, bottom), top or r.score)))
    marks = {
        "kept": ("o", KEPT, KEPT),
        "kept, taken out later": ("o", KEPT, "white"),
        "discarded": ("o", DISCARDED, DISCARDED),
        "inconclusive": ("o", DISCARDED, "white"),
        "not measured": ("x", DISCARDED, DISCARDED),
    }
    for word, (marker, colour, face) in marks.items():
        if word not in seen:
            continue
        if word.startswith("kept"):
            dots(axes, seen[word], marker, colour, face, word, size=max(size, 5.0), order=5.0)
        else:
            pale = 1.0 if last <= MANY else 0.6
            dots(axes, seen[word], marker, colour, face, word, size=size, alpha=pale, order=2.0)
    for i, ((word, marker), points) in enumerate(beyond.items()):
        _, colour, face = marks.get(word, marks["discarded"])
        dots(axes, points, marker, colour, face, "_" if i else "off the scale", size=size, order=2.0)
    say_baseline(axes, line, lambda r: float(r.number), bottom, top)
    for r in rounds:
        if r.certification is not None:
            at = min(r.number, last + 0.5)  # the last one follows the last round
            out = len(dropped(r))
            axes.axvline(at, color=TEST, linewidth=1, linestyle=":")
            axes.annotate(
                f"promotion test: {r.certification.verdict}" + (f", {out} taken out" if out else ""),
                (at, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-4, -4),
                textcoords="offset points",
                ha="right",
                va="top",
                rotation=90,
                fontsize=9,
                color=TEST,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
            )
    axes.set_xlabel("round (0 is the baseline)")
    axes.set_ylabel(scale(rounds))
    axes.set_xlim(-0.4, last + 0.7)
    axes.set_ylim(bottom, top)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return with_legend(figure, axes)


def e_paths(rounds: Sequence[Round]) -> Figure:
    """The evidence of each test, cluster by cluster, against what it had to reach: promotion tests on hidden tasks and,
    fainter, the tests on train that a change was kept or discarded by. On a logarithmic scale; 1 is no evidence."""
    figure, axes = sheet("Evidence in each test, against what it needed")
    kept = [(c, fate(r, rounds).startswith("kept")) for r in rounds if (c := compared(r)) is not None]
    tests = [r.certification for r in rounds if r.certification is not None]
    needed: dict[float, str] = {}
    seen: set[str] = set()
    for c, is_kept in kept:
        if c.spec is not None:
            word = "on train, kept" if is_kept else "on train, not kept"
            draw_path(axes, c, KEPT if is_kept else DISCARDED, 1.0, "" if word in seen else word)
            needed.setdefault(1 / c.spec.alpha, QUIET)
            seen.add(word)
    for test in tests:
        if test.validation is not None and test.validation.spec is not None:
            draw_path(axes, test.validation, TEST, 1.8, "" if "p" in seen else "promotion test")
            needed[1 / test.validation.spec.alpha] = TEST
            seen.add("p")
            end = max(path_of(test.validation)[-1], LEAST_EVIDENCE)
            axes.annotate(
                f"{test.checkpoint}: {test.verdict}",
                (len(test.validation.differences), end),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=TEST,
            )
    axes.set_yscale("log")
    axes.axhline(1.0, color=QUIET, linewidth=0.8)
    for level, colour in needed.items():
        axes.axhline(level, color=colour, linewidth=1, linestyle="--")
        axes.annotate(
            f"needed: {level:,.3g}",
            (1.0, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=colour,
        )
    ends = [len(c.differences) for c, _ in kept if c.spec is not None]
    ends += [len(test.validation.differences) for test in tests if test.validation is not None]
    axes.set_xlim(0, 1.35 * max([10, *ends]))
    axes.set_ylim(LEAST_EVIDENCE / 2, 8 * max([10.0, *needed]))
    axes.set_xlabel("clusters seen")
    axes.set_ylabel("e-value")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    if not needed:
        metric = next((c.metric for c, _ in kept if c.metric), "")
        say(
            axes,
            f"none: {metric} is tested by fresh runs, all at once"
            if metric
            else "no test that watches its evidence was made yet",
        )
    return with_legend(figure, axes)


def path_of(comparison: Comparison) -> list[float]:
    """The e-value before the first difference and after each: what ``harness.gate.eprocess.decide`` passed through."""
    if comparison.spec is None:
        return []
    spec = comparison.spec
    process = DeadlineE(spec.alpha, spec.n_max, spec.v0)
    path = [process.wealth]
    for d in comparison.differences:
        process.update(over_margin(d, spec.margin))
        path.append(process.wealth)
    return path


def draw_path(axes: Axes, comparison: Comparison, colour: str, width: float, label: str) -> None:
    path = [max(e, LEAST_EVIDENCE) for e in path_of(comparison)]
    axes.plot(range(len(path)), path, color=colour, linewidth=width, label=label or "_")


def findings_before_after(rows: Sequence[Shrinkage], title: str = "Before and after") -> Figure:
    """How often each finding showed before the change, a ring, and after it, a dot, with the 90 % interval of the
    difference around where it ended. Those that the change aimed at are green and come first; the rest is grey, and
    orange where it clearly rose. All of those aimed at and the largest movements are shown."""
    ranked = sorted(rows, key=lambda row: (not row.targeted, -abs(row.change)))
    shown = ranked[:LISTED]
    figure, axes = sheet(f"Findings: {title}", height=1.6 + 0.36 * max(4, len(shown)))
    for word, (marker, colour) in {
        "aimed at": ("o", KEPT),
        "clearly rose": (">", WORSE),
        "other": ("o", QUIET),
    }.items():
        some = [(i, row) for i, row in enumerate(shown) if aim(row) == word]
        for i, row in some:
            was, is_now = rate(row.before, row.n_before), rate(row.after, row.n_after)
            if row.low is not None and row.high is not None and math.isfinite(row.low) and math.isfinite(row.high):
                ends = [min(1.0, max(0.0, was + end)) for end in (row.low, row.high)]
                axes.plot(ends, [i, i], color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
            axes.plot([was, is_now], [i, i], color=colour, linewidth=1.4)
            axes.plot(was, i, "o", markersize=6, markeredgecolor=colour, markerfacecolor="white", clip_on=False)
        if some:
            dots(axes, [(rate(row.after, row.n_after), i) for i, row in some], marker, colour, colour, word)
    if shown:
        axes.plot([], [], "o", markersize=6, markeredgecolor=QUIET, markerfacecolor="white", label="before")
    more = len(rows) - len(shown)
    axes.set_yticks(range(len(shown)), [in_two_lines(row.finding.title) for row in shown], fontsize=9, parse_math=False)
    axes.set_ylim(len(shown) - 0.4 if shown else 1.0, -0.6)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(percent))
    axes.set_xlabel("share of trials" + (f" ({more} more not shown)" if more > 0 else ""))
    axes.grid(axis="x", color=DISCARDED, alpha=0.35, linewidth=0.7)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if not rows:
        say(axes, "nothing to compare yet")
    return with_legend(figure, axes)


def percent(value: float, _: object) -> str:
    return f"{100 * value:.3g} %"


def in_two_lines(title: str) -> str:
    first, *rest = wrap(cut(title, 2 * NAME), NAME) or [""]
    return first + (f"\n{cut(' '.join(rest), NAME)}" if rest else "")


def aim(row: Shrinkage) -> str:
    """Whether a change was about the finding; else whether it clearly shows more often than before."""
    if row.targeted:
        return "aimed at"
    return "clearly rose" if row.low is not None and row.low > 0 else "other"


def rate(count: int, n: int) -> float:
    return count / n if n else 0.0


def cost_against_score(rounds: Sequence[Round]) -> Figure:
    """What the working version scored on train by the time so much had been spent: dollars where they are known and
    not zero, else model calls, else trials. Each round that kept a change is marked, green rings as in ``progress``."""
    figure, axes = sheet("Score against what it cost")
    line = [r for r in rounds if r.score is not None]
    of, word = spent(rounds)
    if line:
        axes.step(
            [of(r) for r in line],
            [r.score or 0.0 for r in line],
            where="post",
            color=BEST,
            linewidth=1.6,
            label="working version",
        )
    bottom, top = limits(rounds)
    for fate_of, face in {"kept": KEPT, "kept, taken out later": "white"}.items():
        marks = [(of(r), r.score or 0.0) for r in line if fate(r, rounds) == fate_of]
        marks = [(x, y) for x, y in marks if bottom <= y and (top is None or y <= top)]
        if marks:
            dots(axes, marks, "o", KEPT, face, fate_of)
    tests = [of(r) for r in rounds if r.certification is not None]
    for i, at in enumerate(tests):
        axes.axvline(at, color=TEST, linewidth=1, linestyle=":", label="_" if i else "promotion test")
    axes.set_ylim(bottom, top)
    say_baseline(axes, line, of, bottom, top)
    axes.set_xlim(left=0, right=1.03 * max([of(r) for r in rounds], default=0.0) or 1.0)
    axes.set_xlabel(f"{word} so far")
    axes.set_ylabel(scale(rounds))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return with_legend(figure, axes)


def predictions(found: Sequence[Scored]) -> Figure:
    """What proposals promised against what was measured on train, with its 90 % interval. On the diagonal a promise was
    kept; below it, it was too large. A dot is a whole change, a ring one kind of task."""
    figure, axes = sheet("Gains, predicted and measured", height=4.6)
    known = (end for s in found for end in (s.low, s.high) if end is not None and abs(end) < 1)
    ends = [0.0, *(100 * value for s in found for value in (s.predicted, s.gain)), *(100 * end for end in known)]
    low, high = min(ends), max(ends)
    room = max(5.0, 0.12 * (high - low))
    low, high = low - room, high + room
    axes.axhline(0, color=DISCARDED, linewidth=0.8)
    axes.axvline(0, color=DISCARDED, linewidth=0.8)
    axes.plot([low, high], [low, high], color=QUIET, linewidth=1, linestyle="--", label="as predicted")
    for word, face, some in (
        ("whole change", BEST, [s for s in found if not s.tags]),
        ("one kind of task", "white", [s for s in found if s.tags]),
    ):
        for s in some:
            if s.low is not None and s.high is not None and math.isfinite(s.low) and math.isfinite(s.high):
                axes.plot([100 * s.predicted] * 2, [100 * s.low, 100 * s.high], color=BEST, linewidth=1.2, alpha=0.35)
        if some:
            dots(axes, [(100 * s.predicted, 100 * s.gain) for s in some], "o", BEST, face, word)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted gain, points")
    axes.set_ylabel("measured gain on train, points")
    if not found:
        say(axes, "no prediction was measured yet")
    return with_legend(figure, axes)


def pictures(night: Night, aftermath: Aftermath, promised: Sequence[Scored] = ()) -> dict[str, Figure]:
    """Those that have something to show, by the names under which the morning report looks for them."""
    found: dict[str, Figure] = {}
    if any(r.score is not None for r in night.rounds):
        found[PROGRESS] = progress(night.rounds, f"{night.run.experiment}: {night.run.id}")
        found[COST] = cost_against_score(night.rounds)
    if any(
        path_of(c) for r in night.rounds for c in (compared(r), r.certification and r.certification.validation) if c
    ):
        found[EVIDENCE] = e_paths(night.rounds)
    if promised:
        found[PREDICTIONS] = predictions(promised)
    if last := [after for after in at_the_end(aftermath) if after.rows][-1:]:
        found[FINDINGS] = findings_before_after(last[0].rows, after_what(last[0]))
    return found


# ── what they share ────────────────────────────────────────────────────────────────────────────────────────────────


def sheet(title: str, height: float = 3.7) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(cut(title, 50), loc="left", fontsize=10.5, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def with_legend(figure: Figure, axes: Axes) -> Figure:
    """Below, so that the picture keeps its width."""
    if axes.get_legend_handles_labels()[0]:
        figure.legend(
            loc="outside lower left", ncols=3, frameon=False, fontsize=9, handletextpad=0.5, columnspacing=1.2
        )
    return figure


def dots(
    axes: Axes,
    points: Iterable[tuple[float, float]],
    marker: str,
    colour: str,
    face: str,
    label: str = "_",
    *,
    size: float = 6.0,
    alpha: float = 1.0,
    order: float = 3.0,
) -> None:
    x, y = zip(*points, strict=True)
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=marker,
        markersize=size,
        markeredgecolor=colour,
        markerfacecolor=face,
        alpha=alpha,
        zorder=order,
        clip_on=False,
        label=label,
    )


def say_baseline(
    axes: Axes, line: Sequence[Round], of: Callable[[Round], float], bottom: float, top: float | None
) -> None:
    """Where the line comes from, when that is off the axis; said where it comes in."""
    score = line[0].score if line else None
    if score is None or top is None or bottom <= score <= top:
        return
    at = next((of(r) for r in line if r.score is not None and bottom <= r.score <= top), of(line[0]))
    is_above = score > top
    axes.annotate(
        f"{'↑' if is_above else '↓'} baseline {score:.4g}",
        (at, top if is_above else bottom),
        xytext=(8, -6 if is_above else 6),
        textcoords="offset points",
        va="top" if is_above else "bottom",
        fontsize=9,
        color=BEST,
        zorder=2.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
    )


def say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=QUIET)


def cut(text: str, limit: int) -> str:
    """*text* on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def spent(rounds: Sequence[Round]) -> tuple[Callable[[Round], float], str]:
    """What the run had spent by the end of a round, in the most telling unit that is known."""
    last = rounds[-1] if rounds else None
    if last is not None and all(r.usage.dollars is not None for r in rounds) and last.usage.dollars:
        return (lambda r: r.usage.dollars or 0.0), "dollars"
    if last is not None and last.usage.calls:
        return (lambda r: float(r.usage.calls)), "model calls"
    return (lambda r: float(r.trials)), "trials"


def scale(rounds: Sequence[Round]) -> str:
    """What the scores are, and for a metric which way is better: the way in which gains go."""
    found = [c for r in rounds if (c := compared(r)) is not None and c.metric]
    if not found:
        return "mean score on train"
    upwards = sum((c.gain or 0.0) * ((c.candidate_score or 0.0) - (c.incumbent_score or 0.0)) for c in found)
    return f"{found[0].metric} on train ({'lower' if upwards < 0 else 'higher'} is better)"


def limits(rounds: Sequence[Round]) -> tuple[float, float | None]:
    """Of the axis: from 0 for scores; for a metric, what the working versions need once the night was under way, and as
    much again around it where there is something."""
    if not any(c.metric for r in rounds if (c := compared(r)) is not None):
        return 0.0, None
    early = max((r.number for r in rounds), default=0) // EARLY
    settled = [r for r in rounds if r.number > early and r.score is not None]
    settled = rounds if len(settled) < FEW else settled
    needed = [y for r in settled for y in (r.score, r.score_low, r.score_high) if y is not None]
    needed += [y for r in settled if fate(r, rounds) == "kept" and (y := candidate_score(r)) is not None]
    low, high = min(needed), max(needed)
    room = (high - low) or abs(high) or 1.0
    others = [y for r in rounds for y in (candidate_score(r), r.score, r.score_low, r.score_high) if y is not None]
    others = [y for y in others if low - room <= y <= high + room]
    low, high = min([low, *others]), max([high, *others])
    return low - room / 10, high + room / 10


def fate(round: Round, rounds: Sequence[Round]) -> str:
    """What became of the round's change, in a word or four."""
    verdict = round.decision.verdict if round.decision else ""
    if verdict == "keep":
        gone = any(round.number in dropped(other) for other in rounds)
        return "kept, taken out later" if gone else "kept"
    return {"discard": "discarded"}.get(verdict, verdict)


def dropped(round: Round) -> list[int]:
    """The rounds whose changes were taken out at the end of this one."""
    return [number for removal in round.removals if removal.verdict == "drop" for number in removal.rounds]


def compared(round: Round) -> Comparison | None:
    return round.decision.comparison if round.decision else None


def candidate_score(round: Round) -> float | None:
    comparison = compared(round)
    return comparison.candidate_score if comparison else None
