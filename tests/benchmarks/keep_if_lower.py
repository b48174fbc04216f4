"""What is claimed, and what is true: one run each and keep when it is better, beside a night of Ratchet.

    uv run python -m tests.benchmarks.keep_if_lower NAME [--for 20m] [--night JOURNAL] [--seed N] [--out FILE]

The same experiment, proposer and evaluator. The rule: run the candidate once, keep it when its number is better than
the one that the incumbent was kept with; one run at a time. It claims the gain of its last number over its first. Then
its last version and the start are run with ``FRESH`` seeds each that nothing was chosen by. ``--night`` does the same
for the last certified version of a run of Ratchet by its journal (``traces/data/spool/RUN.jsonl``), which claims what
its certification had measured; ``--for 0m`` measures a night alone. ``--out`` writes each step down as a line of JSON.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import OutOfIdeas, TrialError
from harness.experiment import Experiment, digest, find_experiment, load_experiment
from harness.gate.metric import MetricGate, Welch, welch
from harness.protocols import History, Referee
from harness.trials import seed_of
from harness.versions import Repo, applied
from traces.journal import read
from traces.records import Certification, Comparison, Decision, Round, Run, Trial, now

FRESH = 5
CONFIDENCE = 0.90
INFRASTRUCTURE = ("sandbox", "grader")

Text = Mapping[str, str]


@dataclass(frozen=True)
class Search:
    """What a night came to."""

    rule: str
    start: Text
    final: Text
    claimed: float | None
    """``None``: it claims nothing."""
    trials: int
    rounds: int
    keeps: int
    minutes: float


@dataclass
class Climb:
    """One of keep-if-lower, with all that its proposer may know."""

    experiment: Experiment
    start: Text
    seed: int
    rounds: list[Round] = field(default_factory=list[Round])
    texts: dict[str, Text] = field(default_factory=dict[str, Text])
    trials: int = 0

    def steps(self, seconds: float) -> Iterator[tuple[Round, float]]:
        """Each round, with the number that its working version was kept with; after round 0, the start."""
        end = time.monotonic() + seconds
        text, number = self.start, 0
        best = self.value(text, number)
        self.texts[digest(text)] = text
        yield (
            Round(
                run="keep-if-lower", number=0, incumbent=digest(text), working=digest(text), started=now(), seconds=0.0
            ),
            best,
        )
        while time.monotonic() < end:
            number, started = number + 1, now()
            history = History(
                run="keep-if-lower",
                tasks={task.id: task for task in self.experiment.tasks},
                trials=(),
                rounds=tuple(self.rounds),
                tried=dict.fromkeys(self.texts, "here"),
                seed=seed_of(self.seed, "proposal", number),
                version_of=lambda edits, text=text: digest(applied(text, edits)),
                text_of=lambda version: self.texts[version],
            )
            try:
                proposal = self.experiment.proposer.propose(digest(text), text, history)
            except OutOfIdeas:
                return
            tried = applied(text, proposal.edits)
            self.texts[digest(tried)] = tried
            decision, value = self.decide(digest(text), digest(tried), text, tried, best, number)
            is_kept = decision.verdict == "keep"
            round = Round(
                run="keep-if-lower",
                number=number,
                incumbent=digest(text),
                candidate=digest(tried),
                proposal=proposal,
                decision=decision,
                working=digest(tried if is_kept else text),
                started=started,
                seconds=(now() - started).total_seconds(),
            )
            self.rounds.append(round)
            if is_kept:
                text, best = tried, value
            yield round, best

    def decide(
        self, incumbent: str, candidate: str, before: Text, after: Text, best: float, number: int
    ) -> tuple[Decision, float]:
        runner = self.experiment.runner
        if isinstance(runner, Referee) and (why := runner.objection(before, after)):
            return Decision(verdict="discard", because="not-a-candidate", detail=why), math.nan
        try:
            value = self.value(after, number)
        except TrialError as e:
            if e.boundary in INFRASTRUCTURE:
                return Decision(verdict="inconclusive", because="errors", detail=str(e)), math.nan
            return Decision(verdict="discard", because="no-improvement", detail=f"{e.error_class}: {e}"), math.nan
        gain = sign(self.experiment) * (value - best)
        comparison = Comparison(
            incumbent=incumbent,
            candidate=candidate,
            split="train",
            tasks=1,
            incumbent_score=best,
            candidate_score=value,
            gain=gain,
            low=None,
            high=None,
            confidence=CONFIDENCE,
            differences=(gain,),
            metric=gate_of(self.experiment).metric,
        )
        if gain > 0:
            return Decision(verdict="keep", because="unconfirmed", comparison=comparison), value
        return Decision(verdict="discard", because="no-improvement", comparison=comparison), value

    def value(self, text: Text, number: int) -> float:
        self.trials += 1
        return run_once(self.experiment, text, seed_of(self.seed, "trial", number))


def gate_of(experiment: Experiment) -> MetricGate:
    if not isinstance(experiment.gate, MetricGate):
        raise SystemExit(f"{experiment.name} has no single number: its gate is {type(experiment.gate).__name__}")
    return experiment.gate


def sign(experiment: Experiment) -> int:
    return 1 if gate_of(experiment).better == "higher" else -1


def run_once(experiment: Experiment, text: Text, seed: int) -> float:
    """The number of one trial, as the grader reads it.

    Raises:
        TrialError: it gave none.
    """
    [task] = experiment.tasks
    done = experiment.runner.run(task, text, seed)
    grade = experiment.grader.grade(task, done if isinstance(done, str) else done.output)
    if grade.value is None:
        raise TrialError("runner", "no_metric", grade.reason)
    return grade.value


def keep_if_lower(experiment: Experiment, start: Text, minutes: float, seed: int, out: Path | None) -> Search:
    climb, began = Climb(experiment, start, seed), time.monotonic()
    first = best = math.nan
    working = digest(start)
    for round, best in climb.steps(60 * minutes):
        first, working = best if round.number == 0 else first, round.working
        note(round, best, time.monotonic() - began, out)
    kept = [round for round in climb.rounds if round.decision and round.decision.verdict == "keep"]
    took = (time.monotonic() - began) / 60
    claimed = sign(experiment) * (best - first)
    final = climb.texts[working]
    return Search("keep if better once", start, final, claimed, climb.trials, len(climb.rounds), len(kept), took)


def note(round: Round, best: float, seconds: float, out: Path | None) -> None:
    decision = round.decision
    said = f"{decision.verdict}: {round.proposal.rationale}" if decision and round.proposal else "the start"
    found = decision.comparison.candidate_score if decision and decision.comparison else None
    print(f"{seconds:7.1f} s  round {round.number:>3}  {best:.5f}  {said}"[:140], file=sys.stderr, flush=True)
    if out is not None:
        line = {"round": round.number, "seconds": seconds, "best": best, "value": found, "said": said}
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def of_night(journal: Path, root: Path) -> Search:
    """A run of Ratchet: what it started from, and what it would promote."""
    records = [(line.at, line.record()) for line in read(journal)]
    run = next(record for _, record in records if isinstance(record, Run))
    rounds = [record for _, record in records if isinstance(record, Round) and record.decision is not None]
    done = [record for _, record in records if isinstance(record, Certification)]
    done += [r.certification for _, r in records if isinstance(r, Round) and r.certification is not None]
    accepted = [one for one in done if one.verdict == "accept" and one.measured is not None]
    trials = sum(isinstance(record, Trial) for _, record in records)
    subject = Repo.find(root).subject(run.subject)
    kept = sum(r.decision is not None and r.decision.verdict == "keep" for r in rounds)
    final, claimed = run.live, None
    if accepted:
        final, measured = accepted[-1].candidate, accepted[-1].measured
        claimed = measured.gain if measured is not None else None
    minutes = (records[-1][0] - records[0][0]).total_seconds() / 60
    return Search(
        "Ratchet, certified" if accepted else "Ratchet, nothing certified",
        subject.text(run.live),
        subject.text(final),
        claimed,
        trials,
        len(rounds),
        kept,
        minutes,
    )


def true_gain(experiment: Experiment, search: Search, seed: int) -> tuple[list[float], list[float], Welch]:
    """Fresh runs of the start and of what was made of it, interleaved, and the gain with its interval."""
    seeds = [seed_of(seed, "fresh", search.rule, number) for number in range(2 * FRESH)]
    arms = [search.start, search.final] * FRESH
    with ThreadPoolExecutor(2) as executor:
        found = list(executor.map(lambda pair: run_once(experiment, *pair), zip(arms, seeds, strict=True)))
    before, after = found[::2], found[1::2]
    better = sign(experiment)
    return before, after, welch([better * x for x in before], [better * x for x in after], CONFIDENCE)


def changed(search: Search) -> list[str]:
    """Lines of the final version that the start does not have."""
    known = {line for text in search.start.values() for line in text.splitlines()}
    return [line for text in search.final.values() for line in text.splitlines() if line not in known]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="keep_if_lower")
    parser.add_argument("name")
    parser.add_argument("--for", dest="minutes", default="20m", help="such as 20m")
    parser.add_argument("--night", type=Path, action="append", default=[], help="journal of a run of Ratchet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    length = re.fullmatch(r"(\d+(?:\.\d+)?)m", given.minutes)
    if length is None:
        parser.error(f"--for {given.minutes}: minutes are wanted, such as 20m")
    root = Path.cwd()
    experiment = load_experiment(find_experiment(given.name, root))
    subject = Repo.find(root).subject(experiment.subject)
    start = subject.text(subject.live().id)
    searches = [of_night(journal, root) for journal in given.night]
    if minutes := float(length.group(1)):
        searches.append(keep_if_lower(experiment, start, minutes, given.seed, given.out))
    gate = gate_of(experiment)
    print(f"{gate.metric}, {gate.better} is better; true: {FRESH} fresh seeds of each, {CONFIDENCE:.0%} intervals\n")
    print("| rule | minutes | rounds | trials | kept | start | final | claimed gain | true gain |")
    print("|---|---|---|---|---|---|---|---|---|")
    runs: list[str] = []
    for search in searches:
        if search.start == search.final:
            print(
                f"| {search.rule} | {search.minutes:.1f} | {search.rounds} | {search.trials} | {search.keeps} "
                "| | the start | none | 0, it is the same |"
            )
            continue
        before, after, gain = true_gain(experiment, search, given.seed)
        for side, found in (("start", before), ("final", after)):
            runs.append(f"{search.rule}, {side}: {', '.join(f'{number:.4f}' for number in sorted(found))}")
        claimed = f"{search.claimed:+.4f}" if search.claimed is not None else "none"
        print(
            f"| {search.rule} | {search.minutes:.1f} | {search.rounds} | {search.trials} | {search.keeps} "
            f"| {sum(before) / FRESH:.4f} | {sum(after) / FRESH:.4f} | {claimed} "
            f"| {gain.gain:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] |"
        )
    print("\n" + "\n".join(runs))
    for search in searches:
        print(f"\n{search.rule}, what it changed:")
        print("\n".join(f"    {line.strip()}"[:120] for line in changed(search)) or "    nothing")


if __name__ == "__main__":
    main(sys.argv[1:])
