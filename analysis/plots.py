"""Pictures of a night. Each function takes facts and returns a matplotlib figure; nothing is shown or saved here."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from traces.records import Comparison, Round

KEPT, DISCARDED, BEST, BAND, TEST = "#1a7f37", "#b8bec6", "#0b3d1c", "#1a7f37", "#8250df"


def progress(rounds: Sequence[Round], title: str) -> Figure:
    """Score on train by round: each candidate a dot, discarded ones grey and kept ones green, or a green ring where the
    change was taken out again after a lost promotion test. The line is the working version, with its 90 % interval;
    the trials that it was kept for count. A metric has its own axis; candidates far off it stand at its edge."""
    figure = Figure(figsize=(9, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    line = [r for r in rounds if r.score is not None and r.stop is None]
    last = line[-1].number if line else 0
    xs = [*(r.number for r in line), last + 0.6]  # the last value is held, or it could not be seen
    line = [*line, *line[-1:]]
    axes.step(xs, [r.score or 0.0 for r in line], where="post", color=BEST, linewidth=1.6, label="working version")
    axes.fill_between(
        xs,
        [r.score_low or 0.0 for r in line],
        [r.score_high or 0.0 for r in line],
        step="post",
        color=BAND,
        alpha=0.12,
        linewidth=0,
        label="90 % interval",
    )
    bottom, top = limits(rounds)
    seen: dict[str, list[tuple[int, float]]] = {}
    for r in rounds:
        if r.decision is not None and (score := candidate_score(r)) is not None:
            word = "off the scale" if score < bottom or (top is not None and score > top) else fate(r, rounds)
            seen.setdefault(word, []).append((r.number, max(bottom, score if top is None else min(score, top))))
        elif r.decision is not None and r.score is not None:
            seen.setdefault("not measured", []).append((r.number, r.score))
    for word, (marker, colour, face) in {
        "kept": ("o", KEPT, KEPT),
        "kept, taken out later": ("o", KEPT, "white"),
        "discarded": ("o", DISCARDED, DISCARDED),
        "inconclusive": ("o", DISCARDED, "white"),
        "off the scale": ("D", DISCARDED, DISCARDED),
        "not measured": ("x", DISCARDED, DISCARDED),
    }.items():
        if word in seen:
            x, y = zip(*seen[word], strict=True)
            axes.plot(
                x,
                y,
                linestyle="none",
                marker=marker,
                markersize=6,
                markeredgecolor=colour,
                markerfacecolor=face,
                zorder=3,
                clip_on=False,
                label=word,
            )
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
                fontsize=8,
                color=TEST,
            )
    axes.set_title(title, loc="left")
    axes.set_xlabel("round (0 is the baseline)")
    axes.set_ylabel(scale(rounds))
    axes.set_xlim(-0.4, last + 0.7)
    axes.set_ylim(bottom, top)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    return figure


def scale(rounds: Sequence[Round]) -> str:
    """What the scores are, and for a metric which way is better: the way in which gains go."""
    found = [c for r in rounds if (c := compared(r)) is not None and c.metric]
    if not found:
        return "mean score on train"
    upwards = sum((c.gain or 0.0) * ((c.candidate_score or 0.0) - (c.incumbent_score or 0.0)) for c in found)
    return f"{found[0].metric} on train ({'lower' if upwards < 0 else 'higher'} is better)"


def limits(rounds: Sequence[Round]) -> tuple[float, float | None]:
    """Of the axis: from 0 for scores; for a metric, what the working versions need and twice as much around it."""
    if not any(c.metric for r in rounds if (c := compared(r)) is not None):
        return 0.0, None
    needed = [y for r in rounds for y in (r.score, r.score_low, r.score_high) if y is not None]
    needed += [y for r in rounds if fate(r, rounds) == "kept" and (y := candidate_score(r)) is not None]
    low, high = min(needed), max(needed)
    room = (high - low) or abs(high) or 1.0
    others = [y for r in rounds if (y := candidate_score(r)) is not None and low - room <= y <= high + room]
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
