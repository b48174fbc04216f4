"""``ratchet plan``: what so many iterations would take, before anything is spent."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

import typer

from analysis.night import Night, read_night
from analysis.report import count, duration
from harness.agent.limits import Limits
from harness.experiment import Budget, Experiment, find_experiment, load_experiment
from harness.ledger import journal_file, runs
from harness.runners.command import CommandRunner
from harness.trials import RETRIES
from traces.journal import read
from traces.places import data_directory, spool
from traces.records import Check

ITERATIONS = 20
"""Where neither the command nor an experiment says how many."""
ATTEMPTS = 3
"""How often a maker may try, where no verifier says it."""


@dataclass(frozen=True)
class Amount:
    """What something takes; ``None``: nobody can tell."""

    calls: float | None
    tokens: float | None = None
    dollars: float | None = None
    hours: float | None = None
    trials: float | None = None
    """Where they ask no model."""


@dataclass(frozen=True)
class Loop:
    """What is repeated: attempts at a task by a maker, each looked at by a verifier or not."""

    iterations: int
    is_verified: bool
    limits: Limits = field(default_factory=Limits)
    """Of one attempt, its verification's feedback included."""
    has_turns: bool = True
    """Can the maker take more than one turn?"""
    attempts: int = ATTEMPTS
    """How often a verifier looks at most."""
    review: int = 1
    """Model calls that a look takes at most; 0: nothing in it asks a model."""
    grade: int = 0
    """Model calls that grading an iteration takes at most."""
    most: int | None = None
    """Iterations in the worst case; ``None``: no more than usual."""
    budget: Budget | None = None
    """Of the whole."""
    has_model: bool = True
    """Does an attempt ask one?"""
    is_open: bool = False
    """Does the time alone end it? Then it has as many iterations as fit, and how many these are is an expectation."""
    seconds: float | None = None
    """What an attempt may take, where there is no model whose limits say it."""

    @property
    def is_reviewed(self) -> bool:
        """Does a model look at each iteration?"""
        return self.is_verified and self.review > 0


@dataclass(frozen=True)
class Seen:
    """What earlier trials took, all told."""

    run: str
    trials: int
    each: Amount
    was_verified: bool
    foretold: float | None = None
    """Trials of a night, where it was a check that they were seen in."""


@dataclass(frozen=True)
class Plan:
    """What a loop takes: at the least, as seen before, and at the most."""

    loop: Loop
    least: Amount
    expected: Amount | None
    """``None``: nothing like it has run yet."""
    worst: Amount
    seen: Seen | None


def plan_of(loop: Loop, seen: Seen | None = None) -> Plan:
    """What *loop* takes, by its limits and by what was *seen* of it before."""
    return Plan(loop, least(loop), expected(loop, seen) if seen else None, worst(loop), seen)


def least(loop: Loop) -> Amount:
    """An iteration is a call that makes, and one that looks at what was made, where a model does."""
    if not loop.has_model:
        return Amount(calls=0, trials=loop.iterations)
    return Amount(calls=loop.iterations * (1 + loop.is_reviewed))


def expected(loop: Loop, seen: Seen) -> Amount:
    """As it went before; a verification that was not there then counts as one more call like the others."""
    before = seen.each.calls or 0
    calls = before + (loop.is_reviewed and not seen.was_verified)
    more = calls / before if before else 1.0

    def all_of(each: float | None) -> float | None:
        return None if each is None else each * more * loop.iterations

    amount = Amount(
        calls=loop.iterations * max(calls, 1 + loop.is_reviewed) if loop.has_model else 0,
        trials=None if loop.has_model else loop.iterations,
        tokens=all_of(seen.each.tokens),
        dollars=all_of(seen.each.dollars),
        hours=all_of(seen.each.hours),
    )
    return capped(amount, loop.budget)


def worst(loop: Loop) -> Amount:
    """Each iteration up to every cap of its own, all of them up to the budget's."""
    of, n = loop.limits, loop.most or loop.iterations
    if loop.is_open:  # of short ones there may be any number
        return capped(Amount(None), loop.budget)
    if not loop.has_model:
        hours = n * loop.seconds / 3600 if loop.seconds else None
        return capped(Amount(calls=0, trials=n, hours=hours), loop.budget)
    turns = of.steps if loop.has_turns else 1
    amount = Amount(
        calls=n * (turns + loop.attempts * loop.review * loop.is_verified + loop.grade),
        tokens=None if of.tokens is None else n * of.tokens,
        dollars=None if of.dollars is None else n * of.dollars,
        hours=n * of.seconds / 3600 if loop.has_turns else None,
    )
    return capped(amount, loop.budget)


def capped(amount: Amount, budget: Budget | None) -> Amount:
    """Never more than the budget."""
    if budget is None:
        return amount
    caps = {name: getattr(budget, name) for name in ("tokens", "dollars", "hours")}
    known = {name: [v for v in (getattr(amount, name), cap) if v is not None] for name, cap in caps.items()}
    return dataclasses.replace(amount, **{name: min(values, default=None) for name, values in known.items()})


# ── from an experiment ─────────────────────────────────────────────────────────────────────────────────────────


def loop_of(experiment: Experiment, iterations: int | None, *, verify: bool, seen: Seen | None = None) -> Loop:
    """The attempts at tasks that a night of *experiment* makes, or *iterations* of them. *seen*: how long they took."""
    runner, budget = experiment.runner, experiment.budget
    verifier, limits = getattr(runner, "verifier", None), getattr(runner, "limits", None)
    return Loop(
        iterations=iterations or trials_of(experiment, seen),
        most=iterations * (1 + RETRIES) if iterations else most_trials_of(experiment),
        is_verified=verify or has_verifier(experiment),
        limits=limits if isinstance(limits, Limits) else Limits(),
        has_turns=any(getattr(runner, part, ()) for part in ("tools", "servers", "children", "worktree"))
        or verifier is not None,
        attempts=getattr(verifier, "attempts", ATTEMPTS),
        review=0 if verifier is not None and judge_of(verifier) is None else judge_calls(verifier),
        grade=judge_calls(experiment.grader) if has_judge(experiment.grader) else 0,
        budget=budget,
        has_model=not isinstance(runner, CommandRunner) or has_judge(experiment.grader),
        is_open=iterations is None and budget.rounds is None and budget.trials is None and budget.hours is not None,
        seconds=runner.seconds if isinstance(runner, CommandRunner) else None,
    )


def has_verifier(experiment: Experiment) -> bool:
    return getattr(experiment.runner, "verifier", None) is not None


def trials_of(experiment: Experiment, seen: Seen | None = None) -> int:
    """Trials that a night may need: the baseline, each round on all of ``train``, and the promotion test. Where no
    number of rounds ends it, as many as its hours hold, by those *seen*. What a check has foretold is known better."""
    sizes, budget = experiment.sizes(), experiment.budget
    if seen is not None and seen.foretold is not None:
        return max(1, round(seen.foretold))
    if seen is not None and budget.rounds is None and budget.hours is not None and seen.each.hours:
        needed = max(1, int(budget.hours / seen.each.hours))
    else:
        needed = sizes["train"] * (experiment.gate.repeats + (budget.rounds or ITERATIONS))
        needed += experiment.gate.cost(sizes)
    return min(needed, budget.trials or needed)


def most_trials_of(experiment: Experiment) -> int:
    """Trials of a night in which whatever can happen does.

    In each round a candidate is compared, the scores at hand are measured afresh for their age and for a drift, what
    was lost is bought again, and the change is kept; each promotion test falls due, has its slices run again, and all
    but the last are lost, so that the stack is taken apart down to single changes. Each trial meets infrastructure
    errors until it is given up.
    """
    sizes, budget, gate = experiment.sizes(), experiment.budget, experiment.gate
    train, rounds = sizes["train"], budget.rounds or ITERATIONS
    each_round = train * (4 * gate.repeats + 1 + getattr(gate, "confirm", 0))
    each_test = gate.cost(sizes) + 2 * sizes["validation"]
    apart = 2 * rounds * 2 * train + gate.repeats * train
    once = (
        2 * gate.repeats * train + rounds * each_round + gate.checkpoints * each_test + (gate.checkpoints - 1) * apart
    )
    needed = (1 + RETRIES) * once
    return min(needed, budget.trials or needed)


def judge_of(looks: object) -> object:
    """What of a verifier or a grader asks a model; ``None``: nothing does. Itself, where it does not say."""
    return getattr(looks, "judge", looks)


def judge_calls(looks: object) -> int:
    from harness.graders.judge import TRIES  # most commands do without

    return TRIES if has_judge(looks) else 1


def has_judge(looks: object) -> bool:
    from harness.graders.judge import Judge

    return isinstance(judge_of(looks), Judge)


def seen_before(directory: Path, experiment: Experiment) -> Seen | None:
    """What the trials of its last night took, or of its last check where it had none."""
    known = [journal_file(directory, run) for run in reversed(runs(directory, experiment.name))]
    nights = (read_night(path) for path in known)
    if (night := next((night for night in nights if night is not None and night.trials), None)) is not None:
        return Seen(night.run.id, night.trials, each_of(night), has_verifier(experiment))
    checks = sorted(spool(directory).glob(f"{experiment.name}-check-*.jsonl"), key=lambda p: -p.stat().st_mtime)
    return next((seen for path in checks if (seen := seen_by(path, experiment)) is not None), None)


def seen_by(journal: Path, experiment: Experiment) -> Seen | None:
    """What a check says that trials take: those of a night, which are not run as its own are."""
    found = [cast(Check, line.record()) for line in read(journal) if line.type == "Check"]
    if found and (night := found[-1].night).trials:
        n, dollars = night.trials, None if night.dollars is None else night.dollars / night.trials
        each = Amount(night.calls / n, night.tokens / n, dollars, night.hours / n)
        return Seen(found[-1].id.partition("/")[0], found[-1].trials, each, has_verifier(experiment), foretold=n)
    cut_off = read_night(journal)
    if cut_off is None or not cut_off.trials:
        return None
    return Seen(cut_off.run.id, cut_off.trials, each_of(cut_off), has_verifier(experiment))


def each_of(night: Night) -> Amount:
    """What a trial took of the whole *night*, its share of proposals and of waiting included."""
    n, used = night.trials, night.usage
    dollars = None if used.dollars is None else used.dollars / n
    return Amount(used.calls / n, used.tokens / n, dollars, night.seconds / n / 3600)


# ── in words ───────────────────────────────────────────────────────────────────────────────────────────────────


def lines(plan: Plan) -> list[str]:
    """What a person reads before anything is spent."""
    loop = plan.loop
    with_ = "with verification" if loop.is_verified else "without verification"
    what = count(loop.iterations, "iteration" if loop.has_model else "trial")
    begin = "As many trials as the budget's hours hold" if loop.is_open else what
    said = [f"{begin} {with_}; nothing is spent yet"]
    said += [] if loop.is_open else [f"  at least  {amounts(plan.least)}"]
    if plan.expected is not None and plan.seen is not None:
        by = f"as {plan.seen.trials:,} trials of {plan.seen.run} went"
        said.append(f"  expected  {amounts(plan.expected)} ({by})")
    elif loop.is_open:
        said.append("  expected  not known, since none has run yet: ratchet check measures how long one takes")
    if most := amounts(plan.worst):
        said.append(f"  at most   {most}")
    if loop.is_open:
        said.append(f"The most is by the budget{budget_of(loop).removeprefix(', and the budget')}.")
    elif loop.has_model:
        said.append(f"The most is by the caps: {caps(loop)}{budget_of(loop)}.")
    else:
        limit = f", of {loop.seconds:g} s each" if loop.seconds else ""
        said.append(f"The most is with repeats and fresh measurements{limit}{budget_of(loop)}.")
    return said + ([] if loop.has_model else ["Its trials ask no model; what a proposer asks is not in the figures."])


def caps(loop: Loop) -> str:
    """Of one iteration, and how many there may be."""
    parts = [count(loop.limits.steps if loop.has_turns else 1, "turn")]
    if loop.is_reviewed:
        parts.append(f"{count(loop.attempts, 'review')} of {count(loop.review, 'call')}")
    elif loop.is_verified:
        parts.append("reviews that ask no model")
    if loop.grade:
        parts.append(f"a grade of {count(loop.grade, 'call')}")
    most = loop.most or loop.iterations
    more = f", in {most:,} iterations with repeats and fresh measurements" if most > loop.iterations else ""
    return f"{' and '.join(parts)} an iteration{more}"


def amounts(amount: Amount) -> str:
    parts = [count(round(amount.trials), "trial")] if amount.trials is not None else []
    parts += [count(round(amount.calls), "call")] if amount.trials is None and amount.calls is not None else []
    if amount.trials is not None and not amount.tokens:  # of a model that is not asked
        amount = dataclasses.replace(amount, tokens=None, dollars=amount.dollars or None)
    parts += [count(round(amount.tokens), "token")] if amount.tokens is not None else []
    parts += [f"${amount.dollars:,.2f}"] if amount.dollars is not None else []
    parts += [duration(amount.hours * 3600)] if amount.hours is not None else []
    return ", ".join(parts)


def budget_of(loop: Loop) -> str:
    budget = loop.budget
    if budget is None:
        return ""
    known = [count(budget.trials, "trial")] if budget.trials is not None else []
    known += [count(budget.tokens, "token")] if budget.tokens is not None else []
    known += [f"${budget.dollars:,.2f}"] if budget.dollars is not None else []
    known += [duration(budget.hours * 3600)] if budget.hours is not None else []
    return f", and the budget of {', '.join(known)}" if known else ""


def plan(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An experiment; default: any loop")] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Attempts at a task; default: what a night of NAME may need, else 20")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Each attempt is looked at by a verifier")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout; its field names are stable")] = False,
) -> None:
    """Model calls, tokens, dollars and hours of so many iterations, before anything is spent."""
    if name is None:
        found = plan_of(Loop(iterations or ITERATIONS, verify))
    else:
        path = find_experiment(name, Path.cwd())
        experiment = load_experiment(path)
        seen = seen_before(data_directory(path.parent), experiment)
        found = plan_of(loop_of(experiment, iterations, verify=verify, seen=seen), seen)
    typer.echo(json.dumps(dataclasses.asdict(found), indent=2, default=str) if as_json else "\n".join(lines(found)))
