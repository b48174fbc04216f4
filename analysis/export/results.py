"""A night as autoresearch's ``results.tsv``, a line a round. https://github.com/karpathy/autoresearch, program.md"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from analysis.night import Night
from harness.graders.metric import number, reported
from harness.redact import redacted
from traces.records import Comparison, Round, Trial

SHORT = 7
"""Characters of an id, as in autoresearch's short commits."""
NO_VERSION = "0" * SHORT
MEMORY = ("peak_vram_mb", "peak_memory_mb")
"""What autoresearch's ``train.py`` prints of its memory, and ``CommandRunner`` of any command's, in MiB: that of a GPU
goes before that of the machine."""
LONGEST = 300
"""Characters of a description."""


def results(night: Night, outputs: Mapping[str, float]) -> Iterator[str]:
    """The header, the baseline, and each round; ended by newlines. *outputs*: version → gigabytes it took, at most.

    What could not be measured is a crash, with zeros, as autoresearch has it; and so is memory that nothing printed.
    The column of the score has the name of the metric, or ``score`` where scores are between 0 and 1, 1 the best. All
    its values are on one scale, that of ``Round.score``; see ``values``.
    """
    found = values(night.rounds)
    yield line("commit", metric_of(night) or "score", "memory_gb", "status", "description")
    for round in night.rounds:
        if round.decision is None and round.number > 0:
            continue  # the last one, which only says why the run ended
        version = (round.candidate or "") if round.decision else round.working
        value = found[round.number]
        yield line(
            version[:SHORT] or NO_VERSION,
            f"{value or 0:.6f}",
            f"{outputs.get(version, 0) if value is not None else 0:.1f}",
            status_of(round, value),
            description_of(round),
        )


def metric_of(night: Night) -> str:
    return str(night.run.gate.get("metric") or "")


def values(rounds: Sequence[Round]) -> dict[int, float | None]:
    """Round → what the version that it is about scores over the whole train split; ``None``: it was not measured.

    The baseline and what was kept were measured on all of it, and have their ``Round.score``. A candidate that was
    discarded was measured on the tasks that its test happened to see: it has the score of the incumbent, and what it
    gained or lost against that on those tasks. So has one that was kept and never measured in full.
    """
    found: dict[int, float | None] = {}
    before: float | None = None
    """Of the incumbent, when it was measured last."""
    for round in rounds:
        comparison = round.decision.comparison if round.decision else None
        is_its_own = round.decision is None or (round.decision.verdict == "keep" and round.working == round.candidate)
        if is_its_own and (round.score is not None or comparison is None):
            found[round.number] = round.score
        else:
            incumbent = round.score if round.working == round.incumbent and round.score is not None else before
            found[round.number] = estimate(comparison, incumbent)
        before = round.score if round.score is not None else found[round.number] if is_its_own else before
    return found


def estimate(comparison: Comparison | None, incumbent: float | None) -> float | None:
    """The score of a candidate whose *incumbent* has that score, by their difference on the tasks that both had."""
    if comparison is None or comparison.candidate_score is None:
        return None
    if comparison.incumbent_score is None or incumbent is None:
        return comparison.candidate_score
    score = incumbent + comparison.candidate_score - comparison.incumbent_score
    return score if comparison.metric else min(1.0, max(0.0, score))


def status_of(round: Round, value: float | None) -> str:
    if value is None:
        return "crash"
    return "keep" if round.decision is None or round.decision.verdict == "keep" else "discard"


def description_of(round: Round) -> str:
    if round.decision is None:
        return "baseline"
    said = round.proposal.rationale if round.proposal else round.decision.detail
    return said if round.decision.comparison else f"{round.decision.because}: {said}"


def line(*fields: str) -> str:
    return "\t".join(map(plain, fields)) + "\n"


def plain(text: str) -> str:
    """*text* as one field: on one line, and with no quotation mark that a reader of tables would go by."""
    text = " ".join(redacted(text).replace('"', "'").split())
    text = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def memory(trials: Iterable[Trial]) -> dict[str, float]:
    """Version → the most gigabytes that its runs say they took."""
    found: dict[str, float] = {}
    for trial in trials:
        mebibytes = next((most for name in MEMORY if (most := said(name, trial.output or "")) is not None), None)
        if mebibytes is not None:
            found[trial.version] = max(found.get(trial.version, 0.0), mebibytes / 1024)
    return found


def said(name: str, output: str) -> float | None:
    """The largest number of that *name* that a line of *output* reports."""
    reports = (text for line in output.splitlines() if (text := reported(name, line)) is not None)
    return max((value for text in reports if (value := number(text)) is not None), default=None)
