"""Findings: recurring failures, mined from trials without a model."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from harness import progress
from traces.records import Finding, Trial

EXAMPLES = 5
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|‘[^’]*’|“[^”]*”")

Fingerprint = tuple[tuple[str, ...], str, str]
"""Tags, kind and message."""


def lost(trial: Trial) -> float:
    """Score that the trial left on the table; all of it when it could not be scored."""
    return 1.0 - (trial.grade.score if trial.grade is not None else 0.0)


def failed(trial: Trial) -> bool:
    return lost(trial) > 0


def general(message: str) -> str:
    """Its first line without what differs from one occurrence to the next: quoted text, times, paths and numbers."""
    line = next((line for line in message.splitlines() if line.strip()), "")
    return progress.general(QUOTED.sub("…", line))[:160]


def fingerprint(trial: Trial) -> Fingerprint:
    """What makes two failures the same: tags, the kind of failure, and the message in general."""
    if trial.error is not None:
        return trial.tags, trial.error_class or "error", general(trial.error)
    return trial.tags, "wrong answer", general(trial.grade.reason if trial.grade else "")


def findings(trials: Iterable[Trial]) -> list[Finding]:
    """The recurring failures among *trials*, the one that costs most score first."""
    trials = [trial for trial in trials if not trial.is_lost]
    groups: defaultdict[Fingerprint, list[Trial]] = defaultdict(list)
    for trial in trials:
        if failed(trial):
            groups[fingerprint(trial)].append(trial)
    ranked = sorted(groups.items(), key=lambda item: (-sum(map(lost, item[1])), item[0]))
    return [finding(print_, group, len(trials)) for print_, group in ranked]


def finding(print_: Fingerprint, group: Sequence[Trial], looked_at: int) -> Finding:
    tags, kind, message = print_
    return Finding(
        id=hashlib.sha256(repr(print_).encode()).hexdigest()[:12],
        title=" ".join(f"[{tag}]" for tag in tags)
        + (" " if tags else "")
        + (f"{kind}: {message}" if message else kind),
        tags=tags,
        kind=kind,
        count=len(group),
        share=len(group) / looked_at,
        versions=tuple(sorted({trial.version for trial in group})),
        examples=tuple(trial.id for trial in sorted(group, key=lambda t: (t.task, t.repeat))[:EXAMPLES]),
    )


def score_by_tag(trials: Iterable[Trial]) -> dict[tuple[str, ...], float]:
    """Mean score of each combination of tags; a version's own failure counts 0, a lost trial not at all."""
    groups: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    for trial in trials:
        if not trial.is_lost:
            groups[trial.tags].append(1.0 - lost(trial))
    return {tags: fmean(scores) for tags, scores in sorted(groups.items())}
