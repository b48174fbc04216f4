"""Proposers that need no model: they add, swap and cut worked examples, and tighten the instruction.

``ExampleProposer`` reads the findings and answers the one that costs most. ``BlindProposer`` makes the same moves
without looking: the control arm that says what reading the findings is worth.
"""

import hashlib
import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

import harness
from analysis.findings import findings, members
from harness.errors import OutOfIdeas, UserError
from harness.protocols import History, Message
from harness.text import escape, parse_chat, write_chat
from traces.records import Edit, Finding, Proposal, Round, Task

PROMPT = "prompts/solve.md"
INSTRUCTIONS = Path(harness.__file__).parent / "text" / "proposers" / "instructions.md"
TASK = re.compile(r"\{\{-?\s*task\s*-?\}\}")
DISAPPOINTMENT = 0.5
"""What a finding's expected gain is multiplied by for each proposal that answered it in vain."""
DRAWS = 12
"""How many tasks are drawn before a move is given up as tried already."""
DEFAULT_YIELD = 0.5
"""Share of a finding's failures that a first proposal is expected to cure."""

Chat = list[Message]
Move = Callable[["Prompt", Sequence[Task], random.Random], "tuple[Chat, str] | None"]
"""A changed chat and what was done, in words; ``None`` when the move does not apply. Tasks: those it may learn from."""


@dataclass(frozen=True)
class Prompt:
    """A chat template taken apart: what comes first, the worked examples, the question."""

    head: tuple[Message, ...]
    examples: tuple[tuple[Message, Message], ...]
    question: Message
    tags: tuple[tuple[str, ...], ...]
    """Of each example, as far as it is a train task; else empty."""

    @classmethod
    def parse(cls, source: str, tasks: Mapping[str, Task]) -> "Prompt":
        *turns, question = parse_chat(source)
        head = [m for m in turns if m.role == "system"]
        rest = [m for m in turns if m.role != "system"]
        pairs = tuple((a, b) for a, b in zip(rest[::2], rest[1::2], strict=False))
        known = {turn(question, task): task.tags for task in tasks.values()}
        tags = tuple(known.get(asked.content, ()) for asked, _ in pairs)
        return cls(tuple(head), pairs, question, tags)

    def chat(
        self, examples: Sequence[tuple[Message, Message]] | None = None, head: Sequence[Message] | None = None
    ) -> Chat:
        turns = self.examples if examples is None else examples
        return [*(self.head if head is None else head), *(m for pair in turns for m in pair), self.question]

    def example(self, task: Task) -> tuple[Message, Message]:
        """*task* as a chat turn, answered right."""
        return Message("user", turn(self.question, task)), Message("assistant", escape(task.targets[0]))

    def fresh(self, tasks: Sequence[Task], rng: random.Random) -> Task | None:
        """One of *tasks* that is no example yet, with an answer that no example gives if there is one."""
        shown = {asked.content for asked, _ in self.examples}
        given = {answer.content for _, answer in self.examples}
        unused = [t for t in tasks if t.targets and turn(self.question, t) not in shown]
        new = [t for t in unused if escape(t.targets[0]) not in given]
        return rng.choice(new or unused) if unused else None


def turn(question: Message, task: Task) -> str:
    """The question's template with *task* in its place, as text that renders to itself."""
    return TASK.sub(lambda _: escape(task.input), question.content)


# ── moves ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def add(prompt: Prompt, tasks: Sequence[Task], rng: random.Random) -> tuple[Chat, str] | None:
    """A worked example more."""
    task = prompt.fresh(tasks, rng)
    if task is None:
        return None
    at = rng.randint(0, len(prompt.examples))
    examples = [*prompt.examples[:at], prompt.example(task), *prompt.examples[at:]]
    return prompt.chat(examples), f"add a worked example of {label(task.tags)}"


def swap(prompt: Prompt, tasks: Sequence[Task], rng: random.Random) -> tuple[Chat, str] | None:
    """Another worked example in the place of one of the same kind."""
    wanted = {task.tags for task in tasks}
    places = [i for i, tags in enumerate(prompt.tags) if tags in wanted]
    if not places:
        return None
    at = rng.choice(places)
    task = prompt.fresh([t for t in tasks if t.tags == prompt.tags[at]], rng)
    if task is None:
        return None
    examples = list(prompt.examples)
    examples[at] = prompt.example(task)
    return prompt.chat(examples), f"swap a worked example of {label(task.tags)} for another"


def cut(prompt: Prompt, tasks: Sequence[Task], rng: random.Random) -> tuple[Chat, str] | None:
    """A worked example less."""
    if not prompt.examples:
        return None
    at = rng.randrange(len(prompt.examples))
    examples = [e for i, e in enumerate(prompt.examples) if i != at]
    return prompt.chat(examples), f"cut a worked example of {label(prompt.tags[at])}"


def tighten(prompt: Prompt, tasks: Sequence[Task], rng: random.Random) -> tuple[Chat, str] | None:
    """A sentence more in the instruction."""
    said = "\n".join(m.content for m in prompt.head)
    unsaid = [line for line in instructions() if line not in said]
    if not unsaid:
        return None
    line = rng.choice(unsaid)
    head = [Message("system", f"{said.rstrip()}\n{line}".strip())]
    return prompt.chat(head=head), f"tell it: {line}"


def instructions() -> list[str]:
    """The sentences that ``tighten`` chooses from."""
    lines = INSTRUCTIONS.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


# ── proposers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ExampleProposer:
    """Answers the finding that is expected to pay most, with the move that its kind asks for.

    A finding pays what it costs, halved for each proposal that answered it in vain. Where nothing of the failing kind
    is shown yet, an example is added; after that, adding, swapping, tightening and cutting take turns.
    """

    examples_per_kind: int = 4
    """How many worked examples of one combination of tags a prompt may hold."""

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        mined = findings(history.trials, history.known)
        shown_by = members(mined, history.trials)
        prompt = prompt_of(text, history)
        rng = random.Random(history.seed)
        for finding in sorted(mined, key=lambda f: (-f.share * DISAPPOINTMENT ** vain(f, history.rounds), f.id)):
            kinds = {trial.tags for trial in shown_by[finding.id]}
            tasks = [task for task in history.tasks.values() if task.tags in kinds]
            for move in self.moves(prompt, kinds, vain(finding, history.rounds)):
                for chat, done in draws(move, prompt, tasks, rng):
                    edits = edits_for(chat)
                    if is_new(edits, history):
                        return Proposal(
                            id=proposal_id(incumbent, edits),
                            proposer=type(self).__name__,
                            edits=edits,
                            rationale=f"{done}, to cure {finding.share:.0%} of all train trials: {finding.title}",
                            answers=(finding.id,),
                            evidence=finding.examples,
                            predicted=finding.share * usual_yield(history.rounds),
                            findings=tuple(mined),
                        )
        raise OutOfIdeas("no move is left that was not tried" if mined else "no train trial fails any more")

    def moves(self, prompt: Prompt, kinds: Collection[tuple[str, ...]], in_vain: int) -> list[Move]:
        """What to try for a failure of these *kinds* of task, best first; each failure moves on to the next."""
        shown = sum(tags in kinds for tags in prompt.tags)
        if shown == 0:
            order: list[Move] = [add, add, tighten]
        elif shown < self.examples_per_kind:
            order = [add, swap, tighten, cut]
        else:
            order = [swap, tighten, cut]
        first = in_vain % len(order)
        return [*order[first:], *order[:first]]


@dataclass(frozen=True)
class BlindProposer:
    """The same moves, drawn without looking at what fails: the control arm."""

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        prompt = prompt_of(text, history)
        rng = random.Random(history.seed)
        moves: list[Move] = [add, swap, tighten, cut]
        rng.shuffle(moves)
        for move in moves:
            for chat, done in draws(move, prompt, list(history.tasks.values()), rng):
                edits = edits_for(chat)
                if is_new(edits, history):
                    return Proposal(
                        id=proposal_id(incumbent, edits), proposer=type(self).__name__, edits=edits, rationale=done
                    )
        raise OutOfIdeas("no move is left that was not tried")


def draws(move: Move, prompt: Prompt, tasks: Sequence[Task], rng: random.Random) -> Iterator[tuple[Chat, str]]:
    """What *move* makes of some draws."""
    made = (move(prompt, tasks, rng) for _ in range(DRAWS))
    return (m for m in islice(made, DRAWS) if m is not None)


def prompt_of(text: Mapping[str, str], history: History) -> Prompt:
    if PROMPT not in text:
        raise UserError(f"this proposer edits {PROMPT}, and the subject has none. Add it, or pass another proposer")
    return Prompt.parse(text[PROMPT], history.tasks)


def edits_for(chat: Chat) -> tuple[Edit, ...]:
    return (Edit(path=PROMPT, text=write_chat(chat)),)


def is_new(edits: Sequence[Edit], history: History) -> bool:
    return history.version_of is None or history.version_of(edits) not in history.tried


def proposal_id(incumbent: str, edits: Sequence[Edit]) -> str:
    content = "\0".join([incumbent, *(f"{e.path}\0{e.text}" for e in edits)])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def vain(finding: Finding, rounds: Sequence[Round]) -> int:
    """Proposals that answered *finding* and were not kept, since one was."""
    count = 0
    for round in rounds:
        answered = round.proposal is not None and finding.id in round.proposal.answers
        if answered and round.decision is not None and round.decision.because != "errors":
            count = 0 if round.decision.verdict == "keep" else count + 1
    return count


def usual_yield(rounds: Sequence[Round]) -> float:
    """Share of its finding's failures that a kept proposal has cured so far."""
    found = [
        min(max(r.decision.comparison.gain / f.share, 0.0), 1.0)
        for r in rounds
        if r.proposal and r.decision and r.decision.comparison and r.decision.comparison.gain is not None
        for f in r.proposal.findings
        if f.id in r.proposal.answers and r.decision.verdict == "keep"
    ]
    return fmean(found) if found else DEFAULT_YIELD


def label(tags: Sequence[str]) -> str:
    return " ".join(f"[{tag}]" for tag in tags) or "no known kind"
