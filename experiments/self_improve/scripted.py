"""An analyst without a model, who errs as models do: only where the text that it is given does not tell it otherwise.

It shows that the experiment works, not how good any text is for a real model.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.self_improve.workshop import DOCUMENTS, RULES, rule
from harness.protocols import Message, Reply
from harness.testing import ScriptedModel

KEY = re.compile(r"The key is ([0-9a-f]+)\.")
MINDS: Mapping[str, str] = {
    "what was tried in vain": r"in vain",
    "what misleads": r"what misleads",
    "what stays": r"character by character|leave what works",
    "whom a rule is for": r"whom (?:a|the) rule is for|which tasks (?:a|the) rule is for",
}
"""What it does not think of by itself → by which words of its instructions it is told to."""


@dataclass(frozen=True)
class Seen:
    """A finding as it is told."""

    id: str
    document: str
    field: str
    form: str
    """What has to be; empty where nobody can know."""
    tried: int
    """In how many rounds it was answered."""


def analyst() -> ScriptedModel:
    return ScriptedModel(answer, name="scripted:analyst")


def answer(messages: Sequence[Message]) -> Reply:
    told = "\n\n".join(message.content for message in messages if message.role == "user")
    key = KEY.search(told)
    assert key is not None
    instructions = " ".join(" ".join(m.content for m in messages if m.role == "system").lower().split())
    minds = {what for what, words in MINDS.items() if re.search(words, instructions)}
    return Reply(json.dumps({"of": key[1], **proposal(told, key[1], minds)}))


def proposal(told: str, key: str, minds: set[str]) -> dict[str, object]:
    found = findings(told, key)
    chosen = next((f for f in found if f.tried < 2), found[0]) if "what was tried in vain" in minds else found[0]
    [(path, prompt)] = elements("file", told, key, "path")
    trial, output = evidence(told, key, chosen)
    return {
        "finding": chosen.id,
        "rationale": f"The {chosen.field} of the {chosen.document} is not written as it has to be.",
        "citations": [{"trial": trial, "span": None, "quote": output}],
        "edits": [{"path": path, "text": changed(prompt, chosen, minds)}],
        "predicted": 0.25,
        "predictions": [{"tags": [chosen.document, chosen.field], "gain": 1.0}],
    }


def changed(prompt: str, finding: Seen, minds: set[str]) -> str:
    """The whole *prompt* with a rule against *finding*; of a file that it writes anew it forgets a line, unless it is
    told not to."""
    head, _, tail = prompt.partition("\n\n# user")
    lines = head.splitlines()
    if "what misleads" in minds:
        lines = [line for line in lines if not misleads(line, finding)]
    if "what stays" not in minds and len(lines) > 2:
        lines.pop()
    if finding.form:
        lines.append(rule((finding.document, finding.field), finding.form, scoped="whom a rule is for" in minds))
    else:
        lines.append("Mind what the customer wants.")
    return "\n".join(lines) + "\n\n# user" + tail


def misleads(line: str, finding: Seen) -> bool:
    return finding.document in line and re.search(rf"\b{finding.field}\b", line) is not None


# ── reading what it is told ────────────────────────────────────────────────────────────────────────────────────


def elements(name: str, told: str, key: str, attribute: str) -> list[tuple[str, str]]:
    """The attribute and the body of each element of that name."""
    pattern = rf'<{name}-{key}[^>]* {attribute}="([^"]*)"[^>]*>\n(.*?)\n</{name}-{key}>'
    return [(found[1], found[2]) for found in re.finditer(pattern, told, re.DOTALL)]


def findings(told: str, key: str) -> list[Seen]:
    return [finding(id, body) for id, body in elements("finding", told, key, "id")]


def finding(id: str, body: str) -> Seen:
    title = body.splitlines()[0]
    forms = [form for rules in RULES.values() for form in rules if form in title]
    answered = re.search(r"Answered in (.*)", body)
    return Seen(
        id,
        first(DOCUMENTS, title),
        first(RULES, title),
        forms[0] if forms else "",
        answered[1].count("round") if answered else 0,
    )


def first(names: Iterable[str], text: str) -> str:
    return next((name for name in names if name in text), "")


def evidence(told: str, key: str, finding: Seen) -> tuple[str, str]:
    """A trial that shows *finding*, and what it put out."""
    for id, body in elements("trial", told, key, "id"):
        if f"{finding.document}, {finding.field}:" in body:
            return id, next(line for line in body.splitlines() if line.startswith("output: ")).removeprefix("output: ")
    return "", ""
