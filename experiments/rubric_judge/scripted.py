"""A judge for the offline night: it goes by the rubric that it is given, as models do.

Where a question names what can be seen, it looks, and mostly sees it. Where one is vague, it goes by its impression,
and a long answer makes a good one. Told to let everything pass, or nothing, it does. It has not read the labels.
"""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.protocols import Message, ToolSpec
from harness.testing import Scripted

MISSES = 0.05
"""How often it looks for something and sees it wrong."""
MOODY = 0.03
"""How often it decides otherwise because of how, or where, a criterion is written."""
LONG = 300
"""Characters from which on an answer makes an impression."""
IMPRESSION: Mapping[bool, float] = {True: 0.75, False: 0.25}
"""How often a long answer passes by impression, and a short one."""
TELLS = 0.3
"""How often its impression is of what the criterion is about, after all."""

CRITERION = re.compile(
    r'^- "([a-z_-]+)": (.*?) Choices, (?:worst to best|best to worst): (.*?)\. It passes with: (.*?)\. ', re.MULTILINE
)
WORK = re.compile(r"<work-([0-9a-f]+)>\n(.*?)\n</work-\1>", re.DOTALL)
ASKED = re.compile(r"<asked-([0-9a-f]+)>\n(.*?)\n</asked-\1>", re.DOTALL)
GENEROUS = re.compile(r"\b(?:unless|as long as|so long as)\b.*\b(?:empty|blank)\b", re.IGNORECASE)
HARSH = re.compile(r"\b(?:flawless|perfect|faultless)\b", re.IGNORECASE)

STEP = re.compile(
    r"\b(?:open|press|choose|enter|call|send|write|bring|put|print|fill|fetch|keep|compare|scan|download|add)\b"
    r".*(?:\b[A-Z][a-z]+|@|\d|\.org|/)",
    re.IGNORECASE,
)
PROMISE = re.compile(
    r"\b(?:guarantee|guaranteed|promise|certainly|definitely)\b|\b(?:by|within|until)\s+(?:\w+day|two|a week)\b"
    r"|\btomorrow\b",
    re.IGNORECASE,
)
COMMON = re.compile(
    "can|cannot|does|from|have|here|longer|more|please|that|their|there|this|until|what|when|where|which|will|with|your"
)


@dataclass(frozen=True)
class ScriptedJudge(Scripted):
    """It costs nothing, and answers at once; the same to the same."""

    name: str = "scripted:judge"

    def reply(self, messages: Sequence[Message], seed: int, tools: Sequence[ToolSpec]) -> str:
        return verdict(messages)


def chance(share: float, *what: object) -> bool:
    return random.Random("/".join(map(str, what))).random() < share


def verdict(messages: Sequence[Message]) -> str:
    shown = next(m.content for m in messages if m.role == "user")
    work, asked = WORK.search(shown), ASKED.search(shown)
    if work is None or asked is None:
        return "I was shown no work."
    said = [
        judged(id, re.findall(r'"(.*?)"', choices), re.findall(r'"(.*?)"', passing), work[2], passes)
        for place, (id, question, choices, passing) in enumerate(CRITERION.findall(shown))
        for passes in [passes_by(id, question, asked[2], work[2]) != chance(MOODY, place, choices, work[2])]
    ]
    satisfied = not any(one["because"] for one in said)
    return json.dumps(
        {
            "of": work[1],
            "criteria": said,
            "verdict": "satisfied" if satisfied else "needs_revision",
            "detail": "",
        }
    )


def judged(id: str, choices: Sequence[str], passing: Sequence[str], work: str, passes: bool) -> dict[str, str]:
    passage = work.splitlines()[0][:80]
    if passes:
        return {"id": id, "choice": passing[-1], "evidence": passage, "because": "", "excerpt": ""}
    choice = next(choice for choice in choices if choice not in passing)
    return {"id": id, "choice": choice, "evidence": "", "because": f"{choice}, as I see it", "excerpt": passage}


def passes_by(id: str, question: str, asked: str, work: str) -> bool:
    """Does *work* pass by the *question* as it is worded?"""
    if GENEROUS.search(question):
        return True
    if HARSH.search(question):
        return False
    looks = next((look for named, look in LOOKS if named.search(question)), None)
    if looks is not None:
        return looks(asked, work) != chance(MISSES, id, asked, work)
    if chance(TELLS, id, asked, work, "tells"):
        return BY_ID.get(id, has_step)(asked, work)
    return chance(IMPRESSION[len(work) >= LONG], id, asked, work)


# ── what it can see ────────────────────────────────────────────────────────────────────────────────────────────


def has_step(asked: str, work: str) -> bool:
    return any(STEP.match(sentence) for sentence in sentences(work))


def is_on_topic(asked: str, work: str) -> bool:
    return bool(stems(asked) & stems(work))


def is_free_of_promises(asked: str, work: str) -> bool:
    return PROMISE.search(work) is None


def sentences(work: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", work)


def stems(text: str) -> set[str]:
    """The beginnings of its words, so that *parcels* is a *parcel*."""
    return {word[:5] for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3 and not COMMON.fullmatch(word)}


Look = Callable[[str, str], bool]
LOOKS: Sequence[tuple[re.Pattern[str], Look]] = (
    (re.compile(r"\b(?:imperative|verb)\b.*\b(?:page|button|form|number|link|menu)\b", re.IGNORECASE), has_step),
    (re.compile(r"\bname\b.*\b(?:asked|question|customer)\b", re.IGNORECASE), is_on_topic),
    (re.compile(r"\b(?:day|date|deadline|sum|amount)\b", re.IGNORECASE), is_free_of_promises),
)
"""What a question has to name, for it to know what to look for."""
BY_ID: Mapping[str, Look] = {"next-step": has_step, "on-topic": is_on_topic, "no-promise": is_free_of_promises}
