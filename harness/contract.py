"""What it takes to leave an experiment alone: whose it is, four honest answers, and a ceiling.

An answer is honest when something outside of the model sees to it: a prompt is advice, a limit of the runtime is
control.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from harness.errors import UserError
from harness.experiment import Budget, Contract, Experiment
from harness.protocols import Tool
from traces.records import ToolCall

QUESTIONS: Mapping[str, str] = {
    "owner": "whom an escalation names",
    "stops": "what stops it",
    "proves": "what proves the last step, outside of the model that did it",
    "repeats": "what is safe to repeat, and what is not",
    "person": "what forces it to ask a person",
}
"""Field → what it answers."""

EXAMPLES: Mapping[str, str] = {
    "owner": "NAME <EMAIL>",
    "stops": "the limits in Budget(…) and Limits(…), and: ratchet stop",
    "proves": "the grader on hidden tasks, and the promotion test of the gate",
    "repeats": "model calls and reads; whatever changes something outside runs at most once",
    "person": "any call that the policy holds, and the same error twice with nothing changed",
}

SHORTEST = 12
"""Columns of text below which nothing is answered; a wide character takes two."""

PLACEHOLDER = re.compile(
    r"\b(?:todo|tbd|tba|fixme|xxx+|placeholder|lorem ipsum|fill (?:me|this|it) in|your (?:name|answer)|changeme)\b"
    r"|^\W*(?:n/?a|none|nothing|unknown|name|owner|me|you|(?:the )?user|test|asdf|foo|bar)\W*$"
    r"|^\W*(?:nobody|no one|someone|somebody|anyone)\W*$"
    r"|^[\W_]*$|^(?:…|\.\.\.)|(?:…|\.\.\.)$|^<[^<>@]*>$|<email>|^\{.*\}$",
    re.IGNORECASE,
)

MODEL = r"(?:the |our |this )?(?:model|agent|llm|assistant|maker|bot|ai|claude|gpt\S*|it)"
PROMPT = r"(?:the |our |its |a )?(?:system |user )?(?:prompt|instruction)s?"
SAYS = "says?|tells?|asks?|instructs?|states?|forbids?|requires?|makes|contains|ensures?|handles?|takes care|limits?"
THINKS = "decides?|knows?|notices?|reali[sz]es?|understands?|thinks?|feels?|believes?|(?:checks?|judges?) itself"
TOLD = "told|asked|instructed|prompted|supposed|trusted"
ADVICE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{PROMPT} (?:\w+ )?(?:{SAYS})\b",
        rf"\b{MODEL} (?:\w+ )?(?:{THINKS}|(?:is|was|has been|gets|will be) (?:\w+ )?(?:{TOLD}))\b",
        rf"\b(?:we|i|you|they) (?:\w+ )?(?:tell|told|ask(?:ed)?|instruct(?:ed)?|trust(?:ed)?) {MODEL}\b",
        rf"\b(?:stated|written|mentioned|described|told|asked|says so) in {PROMPT}\b",
        rf"^\W*{PROMPT}\W*$",
        r"(?:프롬프트|지시문)(?:가|에|에서|로)?\s*\S*(?:말|지시|적|쓰|정)",
        r"모델이\s*(?:스스로\s*)?(?:판단|결정|안다|알아서)",
    )
)
"""What leans on the model's own goodwill."""
DENIED = re.compile(
    r"\b(?:not|never|no matter|whatever|nor|rather than|instead of|regardless of|outside of)\b", re.IGNORECASE
)
EXCEPTED = re.compile(r"\b(?:unless|until|except|but|only|if|when)\b", re.IGNORECASE)


# ── the contract ───────────────────────────────────────────────────────────────────────────────────────────────


def faults(contract: Contract | None) -> list[str]:
    """What is wrong with the answers, a sentence each; none where they can be relied on."""
    if contract is None:
        return [f"contract.{field} is missing: it says {question}" for field, question in QUESTIONS.items()]
    answers = {field: str(getattr(contract, field) or "").strip() for field in QUESTIONS}
    found = [f"contract.{field} {what}" for field, answer in answers.items() if (what := fault(field, answer))]
    seen: dict[str, str] = {}
    for field, answer in answers.items():
        known = " ".join(answer.lower().split())
        if known and known in seen:
            found.append(f"contract.{field} says the same as contract.{seen[known]}, and they are different questions")
        seen.setdefault(known, field)
    return found


def fault(field: str, answer: str) -> str:
    """What is wrong with one answer, to be read after the name of its field; empty where nothing is."""
    question = QUESTIONS[field]
    if not answer:
        return f"is empty: it says {question}"
    if PLACEHOLDER.search(answer):
        return f"is {answer[:80]!r}, a placeholder: it says {question}"
    if field == "owner":
        return "" if sum(c.isalpha() for c in answer) >= 2 else f"is {answer[:80]!r}, which names nobody"
    if columns(answer) < SHORTEST:
        return f"is {answer!r}, too short to be an answer: it says {question}"
    if leaning := advice_in(answer):
        return (
            f"rests on {leaning!r}. A prompt is advice, and the model may not take it: name what the runtime does, "
            f"such as {EXAMPLES[field]!r}"
        )
    return ""


def advice_in(answer: str) -> str:
    """The words of *answer* that rely on the model's own goodwill; empty where there are none."""
    for clause in re.split(r"[.;\n]|, (?:and|or|so) ", answer):
        for pattern in ADVICE:
            match = pattern.search(clause)
            if match is None:
                continue
            denied = list(DENIED.finditer(clause, 0, match.start()))
            if not denied or EXCEPTED.search(clause, denied[-1].end(), match.start()):
                return match.group().strip()
    return ""


def columns(text: str) -> int:
    """How wide it is to read: a letter of Korean says about as much as two of English."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def refuse_unattended(experiment: Experiment, hours: float | None) -> None:
    """Raise when a run that may take more than an hour, or has no limit of time, would start on a faulty contract.

    Raises:
        UserError: names what is missing, and the lines to write.
    """
    if hours is not None and hours <= 1:
        return
    found = faults(experiment.contract)
    if found:
        allowed = "without a limit of time" if hours is None else f"for up to {hours:g} h"
        said = "it has no contract" if experiment.contract is None else "; ".join(found)
        raise UserError(
            f"{experiment.name!r} may run {allowed} with nobody beside it, and {said}. So nobody could say what ends "
            f"it, what it proves and whom it asks. Write into experiments/{experiment.name}/experiment.py, in your "
            f"words:\n{lines_to_write(experiment.contract)}\nOr start a run of at most an hour: "
            f"ratchet run {experiment.name} --for 1h"
        )


def lines_to_write(contract: Contract | None) -> str:
    """The contract as it would stand in an experiment: answers that hold as they are, others by an example."""
    answers = {
        field: answer
        if contract is not None and (answer := str(getattr(contract, field) or "")) and not fault(field, answer.strip())
        else EXAMPLES[field]
        for field in QUESTIONS
    }
    lines = (f"        {field}={answer!r},  # {QUESTIONS[field]}" for field, answer in answers.items())
    return "\n".join(("    contract=Contract(", *lines, "    ),"))


def refuse_scheduled(experiment: Experiment, trigger: str, budget: Budget) -> None:
    """Raise when something else than a person would start a run without a ceiling on what it may cost.

    *trigger*: what starts it, ``manual`` for a person.

    Raises:
        UserError: there is a ceiling neither in dollars nor in tokens; says which line to write.
    """
    if trigger != "manual" and budget.dollars is None and budget.tokens is None:
        raise UserError(
            f"{experiment.name!r} is started by {trigger!r}, with nobody looking, and its budget has no ceiling in "
            f"dollars or tokens: what goes wrong once goes wrong each time. Write into "
            f"experiments/{experiment.name}/experiment.py: budget=Budget(…, dollars=5) or budget=Budget(…, "
            "tokens=2_000_000)"
        )


# ── what may be missing around it ──────────────────────────────────────────────────────────────────────────────


def lints(experiment: Experiment) -> list[str]:
    """Warnings: an agent that works, and lacks what would keep it from harm. Knows any runner by its fields alone."""
    runner = experiment.runner
    tools = tools_of(runner)
    verifier = first(runner, "verifier")
    found = [*loose_tools(runner, tools)]
    servers = [str(first(server, "name") or server) for server in parts_of(first(runner, "servers"))]
    if servers and verifier is None:
        found.append(
            f"the agent has the tools of MCP servers ({listed(servers)}) and no verifier: tools alone are no loop, "
            "since nothing tells whether what they did is right. Give its runner verifier=…"
        )
    elif tools and verifier is None:
        found.append(
            f"the agent has tools ({listed([t.name for t in tools])}) and no verifier: whether it is done is its own "
            "word. Give its runner verifier=…"
        )
    if experiment.budget.dollars is None and experiment.budget.tokens is None:
        found.append(
            "the budget has no ceiling in dollars or tokens. Write Budget(…, dollars=5) or Budget(…, tokens=2_000_000)"
        )
    found += doubts_about(experiment)
    memory = first(runner, "memory")
    if memory is not None and not isinstance(memory, int) and first(memory, "cap") is None:
        found.append("the memory has no cap on its size: it grows until it fills what the model can read")
    return found + [f"{fault}; a run of more than an hour is refused" for fault in faults(experiment.contract)]


def loose_tools(runner: object, tools: Sequence[Tool]) -> Iterator[str]:
    """A warning, where tools that change what is outside go unwatched."""
    outside = [tool for tool in tools if tool.effect == "outside"]
    policy = first(runner, "policy")
    if not outside:
        return
    if policy is None:
        yield (
            f"{listed([t.name for t in outside])} can change what lies outside of the worktree, and no policy looks at "
            "it. Give its runner policy=Policy(…) that holds or denies what a person should see first"
        )
        return
    verdicts = [policy.judge(ToolCall(id="lint", name=tool.name), tool.effect).verdict for tool in outside]
    if all(verdict == "allow" for verdict in verdicts):
        yield (
            f"{listed([t.name for t in outside])} can change what lies outside of the worktree, and the policy allows "
            "it whatever its arguments are. Hold or deny what a person should see first"
        )


def doubts_about(experiment: Experiment) -> list[str]:
    """What makes the verdicts doubtful on which a night rests: the verifier's, and the grader's."""
    runner = experiment.runner
    verifier = first(runner, "verifier")
    role = str(first(runner, "role") or "maker")
    makers = frozenset[str]().union(*(models_in(part, role) for part in parts_of(runner) if part is not verifier))
    return [doubt for part in (verifier, experiment.grader) for doubt in doubts(part, makers)]


def doubts(judging: object, makers: frozenset[str]) -> list[str]:
    """What makes the verdicts of *judging* doubtful, as it says itself or as its models show."""
    if callable(warnings := getattr(judging, "warnings", None)):
        return list(cast(Sequence[str], warnings(makers)))
    both = sorted(makers & models_in(judging, "judge"))
    return [
        f"{model!r} both makes and judges: what it does not see while it works, it does not see afterwards. Give the "
        "judge another model"
        for model in both
    ]


def tools_of(runner: object) -> list[Tool]:
    """The tools of *runner*, and of the agents below it."""
    tools = [cast(Tool, tool) for tool in parts_of(first(runner, "tools")) if hasattr(tool, "effect")]
    agents = [first(child, "agent") for child in parts_of(first(runner, "children"))]
    return tools + [tool for agent in agents for tool in tools_of(agent)]


def parts_of(thing: object) -> list[object]:
    """What *thing* is made of, where its fields show it."""
    if isinstance(thing, Mapping):
        return list(cast(Mapping[object, object], thing).values())
    if isinstance(thing, list | tuple):
        return list(cast(Sequence[object], thing))
    if is_dataclass(thing) and not isinstance(thing, type):
        return [getattr(thing, f.name, None) for f in fields(thing)]
    return []


def models_in(thing: object, role: str, depth: int = 6) -> frozenset[str]:
    """Names of the models that *thing* would ask in this *role*, as far as its fields show."""
    if thing is None or depth == 0:
        return frozenset()
    from harness.models.routing import Routes  # the SDKs take half a second to import, and most commands do without

    if isinstance(thing, Routes):
        return models_in(thing.of(role), role, depth - 1)
    if callable(getattr(thing, "complete", None)) and isinstance(getattr(thing, "name", None), str):
        return frozenset({cast(Any, thing).name})
    return frozenset[str]().union(*(models_in(part, role, depth - 1) for part in parts_of(thing)))


def first(thing: object, *names: str) -> Any:
    """The first of these attributes that *thing* has and that is not ``None``."""
    return next((value for name in names if (value := getattr(thing, name, None)) is not None), None)


def listed(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
