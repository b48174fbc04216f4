"""How far rubrics agree with people, in words and tables."""

from collections.abc import Iterable, Iterator, Sequence

from analysis.report import count
from harness.agreement import FEW, Pair, cells
from harness.graders.agreement import AgreementGrader
from traces.records import Agreement, Bias, Calibration, Round, Task, Trial

FEWEST = 10
"""Outputs of each kind, passed and refused by people, below which a share of mistakes says next to nothing."""
GOOD, POOR = 0.6, 0.4
"""Kappa from which on agreement is called substantial, and up to which it is fair at best: Landis and Koch, "The
measurement of observer agreement for categorical data", 1977."""


def in_words(found: Agreement) -> str:
    """Kappa with its interval and n, in a line."""
    same = round(found.agreed * found.n)
    if found.kappa is None:
        alike = "the only output" if found.n == 1 else f"all {found.n} outputs"
        return f"{found.criterion}: no kappa, since judge and people say the same of {alike}"
    interval = f"90% interval {found.low:.2f} to {found.high:.2f}, n = {found.n}"
    return f"{found.criterion}: kappa {found.kappa:.2f} ({interval}), the same verdict on {same}"


def disagreement(found: Calibration) -> Iterator[str]:
    """What ``ratchet check`` tells of a judge: how often people say otherwise."""
    for each in found.agreements:
        differ = each.n - round(each.agreed * each.n)
        yield f"The judge {found.judge} and people differ on {differ} of {count(each.n, 'output')}. {in_words(each)}"


def meaning_of(found: Agreement) -> str:
    """What to make of it."""
    if found.kappa is None or found.low is None or found.high is None:
        return "nothing can be told: label outputs that fail, and outputs that pass"
    if found.low >= GOOD:
        return "it can stand in for people here"
    if found.high <= POOR:
        return "it goes by something else than people do: word the criterion by what can be seen in an output"
    return "not settled: label more outputs, or word the criterion by what can be seen in an output"


def mistakes(pairs: Sequence[Pair]) -> str:
    """Counts of both kinds."""
    both, lenient, strict, neither = cells(pairs)
    refused, passed = lenient + neither, strict + both
    return f"passes {lenient} of {refused} that people refuse, refuses {strict} of {passed} that they pass"


def cautions(criterion: str, pairs: Sequence[Pair]) -> Iterator[str]:
    """Why its figures say little, where they do."""
    both, lenient, strict, neither = cells(pairs)
    if len(pairs) < FEW:
        are = "output is" if len(pairs) == 1 else "outputs are"
        yield f"{criterion}: only {len(pairs)} {are} labelled, and below {FEW} a kappa says little. Label more"
    for n, what in ((lenient + neither, "refuse"), (strict + both, "pass")):
        if n < FEWEST:
            yield f"{criterion}: people {what} only {count(n, 'output')}, so how it does there is hardly known"


def bias_in_words(bias: Bias) -> str:
    if bias.effect is None or bias.low is None or bias.high is None:
        return {
            "length": "length: cannot be told, all outputs are about as long",
            "own-model": "own model: cannot be told, since it is not known which outputs its model made",
            "position": "position: not measured",
        }[bias.kind]
    if bias.kind == "position":
        interval = f"90% interval {bias.low:.0%} to {bias.high:.0%}, n = {count(bias.n, 'verdict')}"
        return f"position: {bias.effect:.0%} change with the order of criteria and choices ({interval})"
    interval = f"90% interval {bias.low:+.0%} to {bias.high:+.0%}, n = {count(bias.n, 'output')}"
    whom = {"length": "the longer half", "own-model": "what its own model made"}[bias.kind]
    firmly = "" if bias.low > 0 or bias.high < 0 else "; that is no proof of a bias"
    return f"{bias.kind.replace('-', ' ')}: passes {whom} more often by {bias.effect:+.0%} ({interval}){firmly}"


def agreement_table(
    grader: AgreementGrader, tasks: Sequence[Task], trials: Iterable[Trial], rounds: Sequence[Round]
) -> str:
    """A part of a report, in Markdown: each version that a night tried against people, in kappa, on ``train``; and the
    live and the certified version on ``test``, once that was opened."""
    names = {r.candidate: f"round {r.number}" for r in reversed(rounds) if r.candidate}
    names |= {rounds[0].working: "live"} if rounds else {}
    sides: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if trial.version in names and trial.split in ("train", "test"):
            sides.setdefault((trial.split, trial.version), []).append(trial)
    lines = ["| split | version | criterion | kappa | 90 % interval | n |", "|---|---|---|---:|---:|---:|"]
    for split in ("train", "test"):
        for version, name in sorted(names.items(), key=lambda item: (item[1] != "live", item[1])):
            for found in grader.agreements(sides.get((split, version), ()), tasks):
                kappa = "" if found.kappa is None else f"{found.kappa:.2f} | {found.low:.2f} to {found.high:.2f}"
                lines.append(f"| {split} | {name} | {found.criterion} | {kappa or ' | '} | {found.n} |")
    return "\n".join(lines)
