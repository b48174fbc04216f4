"""Models for the offline night: a translator and a critic that know our few kinds of sentence and err as real ones do.

Both understand Korean by the same grammar that the sentences were made with; neither is given a task's references. The
translator words things in its own way; where its wording is criticised, it comes to put them as a reference does. The
same messages and the same seed give the same answer.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from experiments.translation.glossary import terms, terms_in
from experiments.translation.grammar import Filler, Fillers, Kind, in_english, large, understood
from harness.protocols import Message, Reply, ToolSpec
from harness.testing import Scripted
from traces.records import ToolCall

SLIPS: Mapping[str, float] = {
    "numbers": 0.8,
    "register": 0.8,
    "drops": 0.06,
    "swaps": 0.04,
    "hangul": 0.02,
    "adds": 0.02,
}
"""How it goes wrong where nothing tells it better, and how often: is out by a factor of ten where Korean counts in ten
thousands; turns a request into an order; loses a *not* or an *if*; exchanges two names; leaves a word in Korean; adds a
note."""
TOLD: Mapping[str, float] = {"numbers": 0.04, "register": 0.06}
"""How often still, where it is told how to."""
BRIEF: Mapping[str, float] = {"register": 0.95, "drops": 0.5}
"""How often, where it is told to be brief."""
NAMED: Mapping[str, tuple[str, ...]] = {
    "numbers": ("numbers", "adequacy"),
    "register": ("register",),
    "drops": ("adequacy",),
    "swaps": ("adequacy",),
    "hangul": ("hangul", "terms"),
    "adds": ("sentences",),
}
"""Slip → the criteria under which a critic finds it."""
MENDS = 0.9
"""How often it finds out what a critic means."""
GARBLES = 0.01
"""How often the arguments of a call are torn."""

NOTICES: Mapping[str, float] = {"numbers": 0.15, "register": 0.4, "drops": 0.75, "swaps": 0.5}
"""How often the critic sees a slip."""
FUSSY = 0.03
"""How often it finds fault with wording that is good."""
CONTRADICTS = 0.03
"""How often its verdict is not what its own criteria come to."""

NOT = re.compile(r"\b(?:not|never|no|without|instead|rather)\b|n't\b", re.IGNORECASE)
GUIDES: Mapping[str, tuple[str, str]] = {
    "numbers": (r"만.*억|억.*만", r"10,000|ten thousand|four zeros"),
    "register": (r"\b(?:polite|politely|courtesy|honorifics?)\b", r"please|would you|could you"),
    "brief": (r"\b(?:brief|briefly|terse|short)\b", r"\b(?:leave out|drop|cut)\b"),
}
"""What a paragraph has to hold to tell it how to count, to be polite, to be brief."""


def chance(share: float, *what: object) -> bool:
    return random.Random("/".join(map(str, what))).random() < share


# ── the translator ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ScriptedTranslator(Scripted):
    """The maker's model. It costs nothing, and answers at once."""

    name: str = "scripted:translator"

    def reply(self, messages: Sequence[Message], seed: int, tools: Sequence[ToolSpec]) -> Reply:
        return next_turn(Chat(tuple(messages), seed, frozenset(tool.name for tool in tools)))


@dataclass(frozen=True)
class Chat:
    """The conversation so far, as the model understands it."""

    messages: tuple[Message, ...]
    seed: int
    tools: frozenset[str]

    @cached_property
    def source(self) -> str:
        """The Korean text."""
        return next(m.content for m in self.messages if m.role == "user").strip()

    @cached_property
    def told(self) -> str:
        """The prompt, and the skills that it has loaded."""
        loaded = {call.id for m in self.messages for call in m.calls if call.name == "skill"}
        return "\n\n".join(m.content for m in self.messages if m.role == "system" or m.answers in loaded)

    @cached_property
    def feedback(self) -> list[list[str]]:
        """The criteria that each critique named, the first critique first."""
        said = [m.content for m in self.messages if m.role == "user"][1:]
        return [re.findall(r"^- ([a-z_-]+) \(", text, re.MULTILINE) for text in said]

    def is_told(self, what: str) -> bool:
        one, other = GUIDES[what]
        parts = re.split(r"\n\s*\n|\n- ", self.told)
        return any(
            re.search(one, p, re.IGNORECASE | re.DOTALL) and re.search(other, p, re.IGNORECASE) and not NOT.search(p)
            for p in parts
        )

    def has_slipped(self, slip: str) -> bool:
        """Does it go wrong that way, and has no critique helped?"""
        share = SLIPS[slip]
        if self.is_told("brief"):
            share = BRIEF.get(slip, share)
        elif slip in TOLD and self.is_told(slip):
            share = TOLD[slip]
        if not chance(share, self.seed, slip):
            return False
        named = [n for n, criteria in enumerate(self.feedback) if {*NAMED[slip]} & {*criteria}]
        return not any(chance(MENDS, self.seed, slip, n) for n in named)

    def has_called(self, name: str, **arguments: str) -> bool:
        return any(c.name == name and c.arguments == arguments for m in self.messages for c in m.calls)


def next_turn(chat: Chat) -> Reply:
    english = translation(chat)
    if chat.tools and len(chat.feedback) == 0 and not any(m.calls for m in chat.messages):
        names = [term.korean for term in terms_in(chat.source, terms())]
        wanted = [("recall", {"sentence": chat.source}), *(("look_up", {"term": name}) for name in names)]
        if "skill" in chat.tools and (skill := re.search(r"^- ([a-z0-9-]*korean[a-z0-9-]*):", chat.told, re.MULTILINE)):
            wanted.append(("skill", {"name": skill[1]}))
        return calling(chat, "My plan: look up the names, mind what is easily lost, write it, compare.", *wanted)
    kept = {"sentence": chat.source, "english": english}
    if "remember" in chat.tools and not chat.has_called("remember", **kept):
        if chance(GARBLES, chat.seed, "garbles") and not any(c.malformed for m in chat.messages for c in m.calls):
            torn = ToolCall(id=call_id(chat, 0), name="remember", malformed='{"sentence": "')
            return Reply("I keep it.", tool_calls=(torn,), finish_reason="tool_calls")
        return calling(chat, "I keep this wording.", ("remember", kept))
    return Reply(english)


def calling(chat: Chat, said: str, *calls: tuple[str, dict[str, str]]) -> Reply:
    made = tuple(ToolCall(id=call_id(chat, i), name=name, arguments=dict(a)) for i, (name, a) in enumerate(calls))
    return Reply(said, tool_calls=made, finish_reason="tool_calls")


def call_id(chat: Chat, number: int) -> str:
    return f"call_{len(chat.messages)}_{number}"


def translation(chat: Chat) -> str:
    """What it would hand in now: other words after each critique of its wording, and fewer slips."""
    read = understood(chat.source)
    if read is None:
        return "I cannot read this sentence."
    kind, fillers = read
    if chat.has_slipped("numbers"):
        up = chance(0.5, chat.seed, "up")
        fillers = {slot: miscounted(filler, up) for slot, filler in fillers.items()}
    if kind.swaps and chat.has_slipped("swaps"):
        fillers = kind.swapped(fillers)
    slips = chat.has_slipped("register" if kind.tag == "honorific" else "drops") and kind.slip
    wordings = (kind.said, *kind.references)
    reworded = sum("fluency" in criteria for criteria in chat.feedback)
    text = in_english(kind.slip if slips else wordings[reworded % len(wordings)], fillers, spoken=True)
    if (names := terms_in(chat.source, terms())) and chat.has_slipped("hangul"):
        text = text.replace(names[0].bare, names[0].korean)
    return f"{text} (A free translation.)" if chat.has_slipped("adds") else text


def miscounted(filler: Filler, up: bool) -> Filler:
    """Out by a factor of ten, where Korean counts in other units."""
    if filler.number is None or not re.search("[억만]", filler.korean):
        return filler
    wrong = large(filler.number * 10 if up else filler.number // 10)
    return replace(wrong, korean=filler.korean)


# ── the critic ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ScriptedCritic(Scripted):
    """The judge's model. It finds what there is to find, most of the time; and no idiom is ever natural enough."""

    name: str = "scripted:critic"

    def reply(self, messages: Sequence[Message], seed: int, tools: Sequence[ToolSpec]) -> str:
        return criticism(messages)


CRITERION = re.compile(r'^- "([a-z_-]+)": .*? Choices, worst to best: (.*?)\. It passes with: ', re.MULTILINE)
WORK = re.compile(r"<work-([0-9a-f]+)>\n(.*?)\n</work-\1>", re.DOTALL)
ASKED = re.compile(r"<asked-([0-9a-f]+)>\n(.*?)\n</asked-\1>", re.DOTALL)


def criticism(messages: Sequence[Message]) -> str:
    shown = next(m.content for m in messages if m.role == "user")
    work, asked = WORK.search(shown), ASKED.search(shown)
    if work is None or asked is None:
        return "I was shown no work."
    found = faults(asked[2].strip(), work[2].strip())
    said = [judged(name, re.findall(r'"(.*?)"', choices), found.get(name, ""), work[2]) for name, choices in
            CRITERION.findall(shown)]  # fmt: skip
    is_satisfied = not any(one["because"] for one in said)
    if chance(CONTRADICTS, asked[2], work[2], "contradicts") and len(messages) < 3:
        is_satisfied = not is_satisfied
    verdict = "satisfied" if is_satisfied else "needs_revision"
    return json.dumps({"of": work[1], "criteria": said, "verdict": verdict, "detail": ""}, ensure_ascii=False)


def judged(name: str, choices: Sequence[str], because: str, work: str) -> dict[str, str]:
    passage = work.splitlines()[0][:80]
    if because:
        return {"id": name, "choice": choices[-2], "evidence": "", "because": because, "excerpt": passage}
    return {"id": name, "choice": choices[-1], "evidence": passage, "because": "", "excerpt": ""}


def faults(korean: str, english: str) -> dict[str, str]:
    """Criterion → what is wrong, as far as it sees."""
    read = understood(korean)
    if read is None:
        return {"adequacy": "the original cannot be made out in it"}
    kind, fillers = read

    def sees(slip: str) -> bool:
        return chance(NOTICES[slip], korean, english, slip)

    found: dict[str, str] = {}
    if has_miscounted(fillers, english) and sees("numbers"):
        found["adequacy"] = "an amount is of another size than in the original"
    elif kind.slip and is_said(kind.slip, fillers, english):
        if kind.tag == "honorific" and sees("register"):
            found["register"] = "the original asks politely, and this orders"
        elif kind.tag != "honorific" and sees("drops"):
            found["adequacy"] = "the original does not say that this is so"
    elif kind.swaps and is_exchanged(kind, fillers, english) and sees("swaps"):
        found["adequacy"] = "who does it and whom it concerns are exchanged"
    if kind.tag == "idiom" or chance(FUSSY, korean, english, "fussy"):
        found["fluency"] = "it can be understood, and could be more natural"
    return found


def has_miscounted(fillers: Fillers, english: str) -> bool:
    return any(f.english not in english and f.spoken not in english for f in fillers.values() if f.number is not None)


def is_said(template: str, fillers: Fillers, english: str) -> bool:
    return in_english(template, fillers, spoken=True) == english


def is_exchanged(kind: Kind, fillers: Fillers, english: str) -> bool:
    return any(is_said(template, kind.swapped(fillers), english) for template in (kind.said, *kind.references))
