"""Small harnesses with a known fault, and whether a change mends it: what an analyst's proposals are worth.

A clerk, who is no model, fills in a field of a document by the rules of a prompt. A rule is a line; it says how a
field (date, amount, name, weight) is written, and it holds for the documents that it names, or for all where it names
none. Of several rules that hold, the first counts; without one the clerk writes the field as people speak. So what a
new text does on cases that nobody has seen is computed, not judged.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.protocols import History
from traces.records import Decision, Edit, Finding, Grade, Proposal, Round, Task, Trial, Usage, now

PROMPT = "prompts/solve.md"
DOCUMENTS = ("invoice", "letter", "logbook", "label")
RULES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "date": {
        "year first": ("Write a date with the year first, as in 2026-05-31.", r"year first|iso|yyyy|20\d\d-\d\d-\d\d"),
        "spoken": (
            "Write a date in words, as in 31 May 2026.",
            r"in words|month by name|\d+ (?:may|june|march) 20\d\d",
        ),
    },
    "amount": {
        "cents": ("Write an amount in cents, a whole number.", r"in cents|whole cents"),
        "spoken": ("Write an amount in euros, with the word.", r"in euros|the word euro"),
    },
    "name": {
        "surname first": ("Write a name with the surname first.", r"surname first|last name first|family name first"),
        "spoken": ("Write a name with the given name first.", r"given name first|first name first"),
    },
    "weight": {
        "grams": ("Write a weight in grams.", r"in grams|in g\b"),
        "spoken": ("Write a weight in kilograms.", r"in kilograms|in kilos|in kg\b"),
    },
}
"""Field → form → the rule as we write it, and by what a line is known to ask for it. ``spoken`` goes without a rule."""
FIELD = {"date": r"\bdates?\b", "amount": r"\bamounts?\b", "name": r"\bnames?\b", "weight": r"\bweights?\b"}
HIDDEN = "the customer's own wish"
"""What no rule can tell: it does not stand in the task."""

Kind = tuple[str, str]
"""Document and field."""


@dataclass(frozen=True)
class Workshop:
    """A harness that fails at something, the failures, and the tasks on which a change of it is measured."""

    case: str
    """What is hard about it: ``lone``, ``twins``, ``stubborn`` or ``misled``."""
    seed: int
    wanted: Mapping[Kind, str]
    """Kind of task → the form that is right for it; ``HIDDEN``: nobody can know."""
    many: Mapping[Kind, int]
    """Kind → how many train tasks it has, and as many hidden ones."""
    text: Mapping[str, str]
    failed_before: int = 0
    """Changes against the largest failure that were tried in vain."""


def solves(text: str, kind: Kind, form: str) -> bool:
    """Does the clerk write this kind of field in this *form*, by the rules of *text*?"""
    return form != HIDDEN and form == written(text, kind)


def written(text: str, kind: Kind) -> str:
    document, field = kind
    for line in text.lower().splitlines():
        named = [name for name in DOCUMENTS if re.search(rf"\b{name}s?\b", line)]
        if named and document not in named:
            continue
        for form, (_, known_by) in RULES[field].items():
            if re.search(FIELD[field], line) and re.search(known_by, line):
                return form
    return "spoken"


def whole(text: Mapping[str, str]) -> str:
    """All that the clerk reads."""
    return "\n".join(text[path] for path in sorted(text))


def solved(workshop: Workshop, text: Mapping[str, str]) -> int:
    """How many of the hidden tasks the clerk solves with *text*. There are as many of each kind as among the train
    tasks, and what stands in *text* of any one train task helps with none of them."""
    return sum(n for kind, n in workshop.many.items() if solves(whole(text), kind, workshop.wanted[kind]))


def attainable(workshop: Workshop) -> int:
    """How many more one change can make it solve: it mends one kind."""
    return max(
        n
        for kind, n in workshop.many.items()
        if workshop.wanted[kind] != HIDDEN and not solves(whole(workshop.text), kind, workshop.wanted[kind])
    )


def rule(kind: Kind, form: str, *, scoped: bool) -> str:
    said = RULES[kind[1]][form][0]
    return f"For the {kind[0]}: {said[0].lower()}{said[1:]}" if scoped else said


# ── making them ────────────────────────────────────────────────────────────────────────────────────────────────


def workshop(case: str, seed: int) -> Workshop:
    """The one of this *case* that *seed* draws.

    ``lone``: one kind fails, for want of a rule. ``twins``: and the same field of another document works, in another
    form. ``misled``: a rule for another form stands there. ``stubborn``: the largest failure can be cured by nobody,
    and that was tried; a smaller one can.
    """
    rng = random.Random(f"{case}/{seed}")
    fields, documents = rng.sample(sorted(RULES), 3), rng.sample(DOCUMENTS, 3)
    broken, other, fine = ((documents[i], fields[i]) for i in range(3))
    wanted: dict[Kind, str] = {broken: special(broken), other: "spoken", fine: special(fine)}
    many = {broken: rng.randint(4, 6), other: rng.randint(3, 5), fine: rng.randint(4, 6)}
    lines = [rule(fine, wanted[fine], scoped=True)]
    if case == "twins":
        twin = (documents[1], fields[0])
        wanted[twin], many[twin] = "spoken", rng.randint(4, 6)
    if case == "misled":
        lines.insert(0, rule(broken, "spoken", scoped=True))
    if case == "stubborn":
        hopeless = (documents[2], fields[1])
        wanted[hopeless], many[hopeless] = HIDDEN, rng.randint(8, 9)
    prompt = f"# system\nFill in the field.\n{chr(10).join(lines)}\n\n# user\n{{{{ task }}}}\n"
    return Workshop(case, seed, wanted, many, {PROMPT: prompt}, failed_before=2 if case == "stubborn" else 0)


def special(kind: Kind) -> str:
    return next(form for form in RULES[kind[1]] if form != "spoken")


# ── what an analyst sees of it ─────────────────────────────────────────────────────────────────────────────────


def history(workshop: Workshop, seed: int = 0) -> History:
    """The train tasks, how the harness does on them, and what was tried; nothing of the hidden tasks. *seed*: the
    proposer's only source of chance."""
    kinds = [kind for kind, n in workshop.many.items() for _ in range(n)]
    trials = [trial(workshop, kind, number) for number, kind in enumerate(kinds)]
    tasks = {
        t.task: Task(id=t.task, input=asked(kind, t.task), tags=kind, split="train")
        for kind, t in zip(kinds, trials, strict=True)
    }
    return History(
        run=f"workshop-{workshop.case}-{workshop.seed}",
        tasks=tasks,
        trials=trials,
        rounds=rounds(workshop, trials),
        seed=seed,
    )


def asked(kind: Kind, number: str) -> str:
    return f"Fill in the {kind[1]} of the {kind[0]} ({number})."


def trial(workshop: Workshop, kind: Kind, number: int) -> Trial:
    form, right = written(whole(workshop.text), kind), workshop.wanted[kind]
    is_right = solves(whole(workshop.text), kind, right)
    why = (
        "the customer wanted it otherwise" if right == HIDDEN else f"the {kind[1]} of the {kind[0]} has to be: {right}"
    )
    return Trial(
        id=f"trial-{number}",
        run="workshop",
        version="0" * 40,
        task=f"task-{number}",
        split="train",
        tags=kind,
        output=f"{kind[0]}, {kind[1]}: {form}",
        grade=Grade(score=float(is_right), reason="" if is_right else why),
        started=now(),
        seconds=0.0,
    )


def rounds(workshop: Workshop, trials: Sequence[Trial]) -> tuple[Round, ...]:
    """What was tried against the largest failure, in vain."""
    from analysis.findings import findings

    found = findings(trials)
    return tuple(in_vain(number, found[0], found) for number in range(1, workshop.failed_before + 1))


def in_vain(number: int, finding: Finding, found: Sequence[Finding]) -> Round:
    text = f"# system\nFill in the field. Take care, try {number}.\n\n# user\n{{{{ task }}}}\n"
    proposal = Proposal(
        id=f"before-{number}",
        proposer="before",
        edits=(Edit(path=PROMPT, text=text),),
        rationale=f"Say once more what the customer wants, in other words ({number}).",
        answers=(finding.id,),
        predicted=0.2,
        findings=tuple(found),
    )
    decision = Decision(verdict="discard", because="no-improvement", detail="it gained nothing")
    return Round(
        run="workshop",
        number=number,
        incumbent="0" * 40,
        candidate=f"{number}" * 40,
        proposal=proposal,
        decision=decision,
        working="0" * 40,
        usage=Usage(),
        started=now(),
        seconds=0.0,
    )
