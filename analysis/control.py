"""Eight facts about a run that nobody watches: what it may do, what holds it, and what waits for a person."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.night import Night
from analysis.report import count, decision, duration, money, short
from harness.agent.limits import Limits
from harness.agent.policy import Matcher, Policy, Rule, globs
from harness.contract import tools_of
from harness.experiment import Experiment
from harness.trials import RETRIES
from traces.records import Effect, Escalation, ToolCall

FACTS = (
    "state",
    "allowed actions",
    "required verification",
    "retry budget left",
    "what forces escalation",
    "what is logged",
    "what is committed",
    "what needs approval",
)
CHANGES: Mapping[Effect, str] = {"none": "changing nothing", "worktree": "in the worktree", "outside": "outside of it"}
SHOWN = 3
"""Escalations that are named."""


def facts(experiment: Experiment, night: Night, waiting: Sequence[Escalation]) -> dict[str, str]:
    """Exactly these eight, a sentence each. *waiting*: what nobody has ruled on yet."""
    runner = experiment.runner
    said = (
        state(night),
        allowed(experiment),
        verification(experiment),
        left(night, runner),
        escalation(experiment),
        f"each model call, tool call, hook, grade and decision, in traces/data/spool/{night.run.id}.jsonl: "
        f"{night.trials:,} trials and {night.usage.calls:,} model calls ({money(night.usage)}) so far",
        committed(night),
        approval(experiment, waiting),
    )
    return dict(zip(FACTS, said, strict=True))


def lines(of: Mapping[str, str]) -> list[str]:
    """Aligned, for a terminal."""
    width = max(map(len, of))
    return [f"{name.ljust(width)}  {said}" for name, said in of.items()]


def state(night: Night) -> str:
    rounds = night.run.budget.get("rounds")
    played = f"{len(night.tries)} of {rounds:g} rounds" if rounds is not None else count(len(night.tries), "round")
    last = f"; last: {decision(night.tries[-1])}" if night.tries else ""
    why = f" ({short(night.ended.detail)})" if night.ended is not None and night.ended.detail else ""
    return f"{night.state}{why}, {played}, {len(night.kept)} kept, {duration(night.seconds)} at work{last}"


def allowed(experiment: Experiment) -> str:
    """The tools, by what they change, as the policy has it where no argument says otherwise."""
    runner = experiment.runner
    edits = f"proposals may edit {experiment.subject} and nothing else"
    tools = tools_of(runner)
    servers = [str(getattr(server, "name", server)) for server in getattr(runner, "servers", ())]
    if not tools and not servers:
        does = "runs its command in a sandbox" if hasattr(runner, "metric") else "asks its model"
        return f"an attempt {does} and has no tools; {edits}"
    by_effect: defaultdict[str, list[str]] = defaultdict(list)
    for tool in tools:
        verdict = verdict_on(runner, tool.name, tool.effect)
        by_effect[CHANGES[tool.effect]].append(tool.name if verdict == "allow" else f"{tool.name} ({verdict})")
    parts = [f"{', '.join(names)} ({what})" for what, names in by_effect.items()]
    parts += [f"the tools of {name}, as the policy has it" for name in servers]
    return f"{'; '.join(parts)}; {edits}"


def verdict_on(runner: Any, tool: str, effect: Effect) -> str:
    """``allow``, ``hold``, ``deny``, or what its arguments must be; without a policy nothing is in the way."""
    policy = getattr(runner, "policy", None)
    return "allow" if policy is None else verdict_of(policy, ToolCall(id="status", name=tool), effect)


def verdict_of(policy: Policy, call: ToolCall, effect: Effect) -> str:
    """On *call* without its arguments: where a rule that allows it asks for some, these."""
    judged = policy.judge(call, effect)
    if judged.verdict != "deny" or judged.rule:
        return judged.verdict
    if policy.bounds:
        parts = [verdict_of(part, call, effect) for part in (replace(policy, bounds=()), *policy.bounds)]
        asked = dict.fromkeys(part for part in parts if part.startswith("only "))
        return "deny" if "deny" in parts else ", and ".join(asked)
    wanted = dict.fromkeys(condition(rule.where) for rule in policy.rules if is_allowing(rule, call.name, effect))
    return f"only {' or '.join(wanted)}" if wanted else "deny"


def is_allowing(rule: Rule, tool: str, effect: Effect) -> bool:
    return rule.verdict == "allow" and effect in rule.effects and rule.names(tool)


def condition(where: Mapping[str, Matcher]) -> str:
    """``path=docs/*``."""
    return " and ".join(f"{name}={matched(matcher)}" for name, matcher in where.items())


def matched(matcher: Matcher) -> str:
    if isinstance(matcher, str | tuple):
        return "|".join(globs(matcher))
    return type(matcher).__name__


def verification(experiment: Experiment) -> str:
    grader, tries = type(experiment.grader).__name__, attempts_of(experiment.runner)
    verifier = type(getattr(experiment.runner, "verifier", None)).__name__
    reviewed = f"{verifier} reviews each attempt, {tries} at most; " if tries else ""
    gate = type(experiment.gate).__name__
    where = "by fresh runs" if hasattr(experiment.gate, "metric") else "on hidden tasks"
    return f"{reviewed}{grader} grades each trial; {gate} tests what is kept {where} before a promotion"


def attempts_of(runner: object) -> str:
    """``3 attempts``; empty where no verifier looks."""
    verifier = getattr(runner, "verifier", None)
    return "" if verifier is None else count(getattr(verifier, "attempts", 1), "attempt")


def left(night: Night, runner: object) -> str:
    """Of the run, and of each trial."""
    spent: Mapping[str, float | None] = {
        "rounds": len(night.tries),
        "trials": night.trials,
        "tokens": night.usage.tokens,
        "dollars": night.usage.dollars,
    }
    parts = [
        f"time {duration(max(0.0, 3600 * limit - night.seconds))} of {duration(3600 * limit)}"
        if name == "hours"
        else f"{name} {rest(limit, spent[name])} of {limit:,.4g}"
        for name, limit in limits_of(night)
        if name in spent or name == "hours"
    ]
    limits, tries = getattr(runner, "limits", None), attempts_of(runner)
    each = [f"{RETRIES} repeats after an infrastructure error"]
    if isinstance(limits, Limits):
        each.append(
            f"{limits.steps} turns, {limits.calls} tool calls, {limits.seconds:g} s, {limits.corrections} corrections"
        )
    if tries:
        each.append(tries)
    return f"of the run: {', '.join(parts) or 'no limit'}; each trial: {', '.join(each)}"


def limits_of(night: Night) -> Iterator[tuple[str, float]]:
    for name, limit in (night.limits or night.run.budget).items():
        if limit is not None:
            yield name, limit


def rest(limit: float, spent: float | None) -> str:
    return "not known" if spent is None else f"{max(0.0, limit - spent):,.4g}"


def escalation(experiment: Experiment) -> str:
    """By the runtime first, then as the contract says."""
    runner, contract = experiment.runner, experiment.contract
    parts: list[str] = []
    if tools_of(runner) or getattr(runner, "servers", ()):
        parts.append("a call that the policy holds; the same error twice with nothing changed")
    if tries := attempts_of(runner):
        parts.append(f"a verifier not satisfied after {tries}, broken, or with a bad rubric")
    parts.append("a trial that failed in all its attempts")
    if contract is not None:
        parts.append(f"by contract: {short(contract.person)} (asks {short(contract.owner, 60)})")
    return "; ".join(parts)


def committed(night: Night) -> str:
    """What of it is on a branch."""
    held = f"version {night.working[:12]} works" if night.working != night.run.live else "the live version works"
    proven = f", {night.certified.candidate[:12]} is proven" if night.certified else ""
    return (
        f"nothing on your branches: {held}{proven}, candidates are in .git/ratchet; only "
        f"`ratchet promote {night.run.experiment}` commits"
    )


def approval(experiment: Experiment, waiting: Sequence[Escalation]) -> str:
    promote = "making a version live (ratchet promote)"
    if not waiting:
        return f"nothing now; {promote}"
    shown = "; ".join(f"{e.id}: {short(e.summary, 80)}" for e in waiting[:SHOWN])
    more = f"; and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
    owner = waiting[0].owner or (experiment.contract.owner if experiment.contract else "")
    by = f" of {short(owner, 60)}" if owner else ""
    return f"{count(len(waiting), 'thing')}{by}: {shown}{more} (ratchet inbox list); {promote}"
