"""Pictures of a night. Each function takes facts and returns a matplotlib figure; nothing is shown or saved here."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from traces.records import Round

KEPT, DISCARDED, BEST, BAND = "#1a7f37", "#b8bec6", "#0b3d1c", "#1a7f37"


def progress(rounds: Sequence[Round], title: str) -> Figure:
    """Score on train by round: each candidate a dot, discarded ones grey and kept ones green; the line is the best so
    far, measured afresh after each keep, with its 90 % interval."""
    figure = Figure(figsize=(9, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    line = [r for r in rounds if r.score is not None and r.stop is None]
    last = line[-1].number if line else 0
    xs = [*(r.number for r in line), last + 0.6]  # the last value is held, or it could not be seen
    line = [*line, *line[-1:]]
    best = [r.score or 0.0 for r in line]
    axes.step(xs, best, where="post", color=BEST, linewidth=1.6, label="working version")
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
    for verdict, label, colour, face in (
        ("keep", "kept", KEPT, KEPT),
        ("discard", "discarded", DISCARDED, DISCARDED),
        ("inconclusive", "inconclusive", DISCARDED, "white"),
    ):
        dots = [
            (r.number, r.decision.comparison.candidate_score or 0.0)
            for r in rounds
            if r.decision and r.decision.comparison and r.decision.verdict == verdict
        ]
        if dots:
            x, y = zip(*dots, strict=True)
            axes.scatter(x, y, edgecolors=colour, facecolors=face, s=36, zorder=3, label=label)
    refused = [(r.number, r.score or 0.0) for r in rounds if r.decision and r.decision.comparison is None]
    if refused:
        x, y = zip(*refused, strict=True)
        axes.scatter(x, y, color=DISCARDED, marker="x", s=24, zorder=3, label="not tried")
    for r in rounds:
        if r.certification is not None:
            at = min(r.number, last + 0.5)  # the last one follows the last round
            axes.axvline(at, color="#8250df", linewidth=1, linestyle=":")
            axes.annotate(
                f"promotion test: {r.certification.verdict}",
                (at, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-4, -4),
                textcoords="offset points",
                ha="right",
                va="top",
                rotation=90,
                fontsize=8,
                color="#8250df",
            )
    axes.set_title(title, loc="left")
    axes.set_xlabel("round (0 is the baseline)")
    axes.set_ylabel("mean score on train")
    axes.set_xlim(-0.4, last + 0.7)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    return figure
