"""A model for the offline night: it works with tools as real ones do, and goes wrong as real ones do.

What it does depends on what it is shown: on the prompt, on the skill that it loads, on what tools answer. Where nothing
tells it to look, it mostly writes what the page said before, in other words. Now and then it calls a tool that is not
there, garbles its arguments, turns to another file, says that it has done what it has not, or declines. The same
messages and the same seed give the same answer.
"""

import ast
import random
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from experiments.docs_agent.pages import (
    ASKED,
    BLOCK,
    HEADING,
    RETURNS,
    ROW,
    SIGNATURE,
    Parameter,
    Signature,
    functions_in,
    links_of,
    normal,
    row,
    sections_of,
    slug,
    stated,
    summary_of,
)
from harness.protocols import Message, Reply, ToolSpec
from harness.testing import Scripted
from traces.records import ToolCall

SLIPS: Mapping[str, float] = {
    "claims": 0.02,
    "cut": 0.015,
    "garbles": 0.015,
    "invents": 0.015,
    "network": 0.01,
    "refuses": 0.01,
    "repeats": 0.01,
    "strays": 0.015,
}
"""What goes wrong in a trial, and how often: says that it is done; is cut off; garbles arguments; invents a tool; asks
for the network; declines; calls the same again and again; changes the code instead of the page."""
OBEYS = 0.97
"""How often it does what it is told to do."""
UNTOLD = 0.12
"""How often it looks where nothing tells it to."""
MENDS = 0.7
"""How often it finds out what a verifier means."""
SLOPPY = 0.03
"""How often it has looked, and still overlooks it."""
ATTENTION = 6_000
"""Characters of prompt and skills that it follows; of more it follows the less."""

NOT = re.compile(r"\b(?:not|never|no|without|instead|rather)\b|n't\b", re.IGNORECASE)
GUIDES: Mapping[str, tuple[str, str]] = {
    "source": (r"\b(?:read|open|look into)\b", r"\b(?:source|code)\b|pocket/"),
    "example": (r"\b(?:run|runs|execute)\b", r"\bexamples?\b"),
    "headings": (r"\b(?:look up|check|search|follow|verify)\b", r"\b(?:headings?|anchors?)\b"),
    "page": (r"\b(?:write|rewrite)\b", r"\b(?:whole|entire) (?:page|file)\b"),
}
"""What a sentence has to hold to tell it to read the source, run the example, look up headings, rewrite the page."""


@dataclass(frozen=True)
class ScriptedWriter(Scripted):
    """The model. It costs nothing, and answers at once."""

    name: str = "scripted:writer"

    def reply(self, messages: Sequence[Message], seed: int, tools: Sequence[ToolSpec]) -> Reply:
        return answer(Chat(tuple(messages), seed, frozenset(tool.name for tool in tools)))


# ── what it has been shown ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Chat:
    """The conversation so far, as the model understands it."""

    messages: tuple[Message, ...]
    seed: int
    tools: frozenset[str]

    @cached_property
    def done(self) -> list[tuple[ToolCall, Message]]:
        """The calls that were answered, with their answers."""
        answers = {m.answers: m for m in self.messages if m.role == "tool"}
        return [(c, answers[c.id]) for m in self.messages for c in m.calls if c.id in answers]

    @cached_property
    def told(self) -> str:
        """The prompt, and the skills that it has loaded."""
        prompt = [m.content for m in self.messages[:2] if m.role in ("system", "user")]
        return "\n\n".join([*prompt, *(m.content for c, m in self.done if c.name == "skill")])

    @cached_property
    def asked(self) -> tuple[str, str]:
        """The page and the section."""
        found = ASKED.search("\n".join(m.content for m in self.messages if m.role == "user"))
        return (found[1], found[2]) if found else ("README.md", "")

    @property
    def module(self) -> str:
        return f"pocket/{self.asked[0].rpartition('/')[2].removesuffix('.md')}.py"

    @cached_property
    def feedback(self) -> str:
        """What it was told after its first attempt, the last first."""
        return "\n".join(m.content for m in reversed(self.messages[2:]) if m.role == "user")

    @property
    def since(self) -> int:
        """How many calls had been made when somebody last spoke to it."""
        last = max((i for i, m in enumerate(self.messages) if m.role == "user"), default=0)
        return sum(len(m.calls) for m in self.messages[:last])

    @cached_property
    def slip(self) -> str:
        at = random.Random(f"{self.seed}/slip").random()
        for name, share in SLIPS.items():
            at -= share
            if at < 0:
                return name
        return ""

    def chance(self, what: str, share: float) -> bool:
        return random.Random(f"{self.seed}/{what}").random() < share

    def is_told(self, what: str) -> bool:
        verb, thing = GUIDES[what]
        sentences = re.split(r"(?<=[.!?:])\s+|\n\s*\n|\n- ", self.told)
        return any(
            re.search(verb, s, re.IGNORECASE) and re.search(thing, s, re.IGNORECASE) and not NOT.search(s)
            for s in sentences
        )

    def will(self, what: str) -> bool:
        """Does it see to that? The more there is to follow, the less it does."""
        attention = min(1.0, ATTENTION / len(self.told))
        return self.chance(what, OBEYS * attention**2 if self.is_told(what) else UNTOLD)

    def read(self, path: str) -> str | None:
        """The file as it stands after what was done to it; ``None``: it was not looked at."""
        text: str | None = None
        for call, answer in self.done:
            if answer.is_error or call.arguments.get("path") != path:
                continue
            if call.name == "read_file":
                text = unnumbered(answer.content)
            elif call.name == "write_file":
                text = call.arguments["text"]
            elif call.name == "edit_file" and text is not None:
                text = text.replace(call.arguments["old"], call.arguments["new"], 1)
        return text

    def answer_to(self, command: str) -> str | None:
        """What a command printed that began like this, if it was run."""
        found = [m.content for c, m in self.done if str(c.arguments.get("command", "")).startswith(command)]
        return found[-1] if found else None

    def has_called(self, name: str) -> bool:
        return any(call.name == name for message in self.messages for call in message.calls)


def unnumbered(shown: str) -> str:
    """A file without the line numbers that it is shown with."""
    return "".join(re.sub(r"^ *\d+\t", "", line) + "\n" for line in shown.split("\n"))


# ── what it does next ──────────────────────────────────────────────────────────────────────────────────────────

HEADINGS = "grep -rn '^#' docs"
PROGRAM = "python3 -S -B -c "


def answer(chat: Chat) -> Reply:
    return slipped(chat) or next_step(chat)


def slipped(chat: Chat) -> Reply | None:
    """What goes wrong now, if it does: each thing once."""
    path, _ = chat.asked
    has_page = chat.read(path) is not None
    match chat.slip:
        case "refuses" if not chat.done:
            return Reply("I am sorry, I cannot help with that.", finish_reason="refusal")
        case "invents" if not chat.has_called("open_file"):
            return calling(chat, "I open the page.", ("open_file", {"path": path}))
        case "network" if has_page and chat.answer_to("pip ") is None:
            return calling(chat, "I get what I need.", ("run_command", {"command": "pip install pocket-docs"}))
        case "strays" if has_page and chat.read(chat.module) is None and not chat.has_called("write_file"):
            code = {"path": chat.module, "text": "# as the page says\n"}
            return calling(chat, "The code does not do what the page says.", ("write_file", code))
        case "repeats" if has_page:
            return calling(chat, "I look at the page again.", ("read_file", {"path": path}))
        case "garbles" if has_page and not any(c.malformed for m in chat.messages for c in m.calls):
            torn = ToolCall(id=call_id(chat, 0), name="edit_file", malformed=f'{{"path": "{path}", "old": "## ')
            return Reply("I change the section.", tool_calls=(torn,), finish_reason="tool_calls")
        case "cut" if has_page and not chat.feedback:
            return Reply("Let me think about this section in all detail. " * 20, finish_reason="length")
        case "claims" if has_page and not chat.feedback:
            return Reply("I have brought the section up to date.")
        case _:
            return None


def next_step(chat: Chat) -> Reply:
    path, name = chat.asked
    if not chat.done and "skill" in chat.tools and (skill := offered(chat.told)) and chat.chance("skill", OBEYS):
        plan = "My plan: load the skill, read the page, see what it needs, change the one section."
        return calling(chat, plan, ("skill", {"name": skill}))
    page = chat.read(path)
    if page is None:
        if any(call.arguments == {"path": path} and call.name == "read_file" for call, _ in chat.done):
            return Reply(f"I cannot read {path}, so nothing is changed.")
        return calling(chat, "I read the page.", ("read_file", {"path": path}))
    if look_up := to_look_up(chat, page, name):
        return calling(chat, "I look up what I need.", *look_up)
    edits_made = [call for call, message in chat.done[chat.since :] if call.name in WRITES and not message.is_error]
    if edits_made:
        return Reply(f"The section `{name}` of {path} is up to date.")
    return change(chat, path, page)


WRITES = ("edit_file", "write_file")


def offered(told: str) -> str | None:
    """The skill in the prompt that sounds as if it were about this work."""
    listed = re.findall(r"^- ([a-z0-9-]+): (.*)$", told, re.MULTILINE)
    return next((name for name, about in listed if re.search(r"reference|docs|page", about)), None)


def to_look_up(chat: Chat, page: str, name: str) -> list[tuple[str, dict[str, Any]]]:
    """What it wants to know before it writes, and does not yet: all at once."""
    wanted: list[tuple[str, dict[str, Any]]] = []
    if chat.read(chat.module) is None and not has_tried(chat, chat.module) and chat.will("source"):
        wanted.append(("read_file", {"path": chat.module}))
    is_sent_back = "lead" in chat.feedback and chat.chance("mends links", MENDS)
    if chat.answer_to(HEADINGS) is None and (chat.will("headings") or is_sent_back):
        wanted.append(("run_command", {"command": HEADINGS}))
    if not wanted and chat.answer_to(PROGRAM) is None and chat.will("example"):
        text = current(page, name)
        if text and (program := program_for(chat, text)):
            wanted.append(("run_command", {"command": PROGRAM + shlex.quote(program)}))
    return wanted


def has_tried(chat: Chat, path: str) -> bool:
    return any(call.name == "read_file" and call.arguments.get("path") == path for call, _ in chat.done)


def change(chat: Chat, path: str, page: str) -> Reply:
    """The section, written into the page."""
    _, name = chat.asked
    old = current(page, name)
    if not old:
        return Reply(f"There is no section `{name}` in {path}.")
    new = written_anew(chat, old)
    if chat.will("page") and chat.is_told("page"):
        text = HEADING.sub(lambda m: m[0], page.replace(old, new)).replace("\nReturns ", "\nIt returns ")
        return calling(chat, "I write the whole page.", ("write_file", {"path": path, "text": text}))
    if chat.has_called("write_file") and "section" in chat.feedback and chat.chance("mends page", MENDS):
        text = page.replace("\nIt returns ", "\nReturns ")
        return calling(chat, "I put the rest back.", ("write_file", {"path": path, "text": text}))
    return calling(chat, "I change the section.", ("edit_file", {"path": path, "old": old, "new": new}))


def calling(chat: Chat, said: str, *calls: tuple[str, dict[str, Any]]) -> Reply:
    made = tuple(ToolCall(id=call_id(chat, i), name=name, arguments=a) for i, (name, a) in enumerate(calls))
    return Reply(said, tool_calls=made, finish_reason="tool_calls")


def call_id(chat: Chat, number: int) -> str:
    return f"call_{len(chat.messages)}_{number}"


# ── what it writes ─────────────────────────────────────────────────────────────────────────────────────────────


def current(page: str, name: str) -> str:
    """The section that was asked for, also where it has got another name meanwhile."""
    sections = sections_of(page)
    close = get_close_matches(name, [s for s in sections if s], n=1, cutoff=0.5)
    return sections.get(name) or (sections[close[0]] if close else "")


def written_anew(chat: Chat, old: str) -> str:
    """The section, by what it knows: at best by the code, at worst by what was there."""
    new = old
    true = by_source(chat, old)
    if true is not None and not chat.chance("overlooks", SLOPPY):
        new = with_signature(new, true)
    if (values := printed(chat)) is not None:
        new = with_values(new, values, chat)
    if headings := chat.answer_to(HEADINGS):
        new = with_links(new, headings, chat.asked[0])
    if "TODO" in summary_of(new):
        new = new.replace("TODO", f"{heading_of(new).replace('_', ' ').capitalize()}, as the name says.", 1)
    if new == old:
        said = summary_of(old)
        new = old.replace(said, f"{said[:-1]}, in short.", 1)
    return new


def heading_of(text: str) -> str:
    found = HEADING.search(text)
    return found[1] if found else ""


def by_source(chat: Chat, text: str) -> Signature | None:
    """The function that the section is about, in the source that it has read."""
    source = chat.read(chat.module)
    if source is None:
        return None
    functions, name = functions_in(source), heading_of(text)
    page = sections_of(chat.read(chat.asked[0]) or "")
    undocumented = [function for function in functions if function not in page]
    close = get_close_matches(name, undocumented, n=1, cutoff=0.3)
    return functions.get(name) or (functions[close[0]] if close else None)


def with_signature(text: str, true: Signature) -> str:
    """*text* with the name, the parameters and the type returned of *true*, in the example as well."""
    old, name = stated(text), heading_of(text)
    rows = map(row, true.parameters)
    first = ROW.search(text)
    if first:
        rest = ROW.sub("", text[first.start() :]).lstrip("\n")
        text = text[: first.start()] + "\n".join(rows) + "\n\n" + rest
    text = SIGNATURE.sub(lambda _: f"Signature: `{true}`", text)
    text = RETURNS.sub(lambda _: f"Returns `{true.returns}`.", text)
    text = (
        re.sub(rf"\b{re.escape(name)}\b(?=\(| *$)", true.name, text, flags=re.MULTILINE) if name != true.name else text
    )
    for before, after in renamed(old.parameters if old else (), true.parameters):
        text = re.sub(rf"\b{re.escape(before)}=", f"{after}=", text)
    return text


def renamed(old: Sequence[Parameter], true: Sequence[Parameter]) -> list[tuple[str, str]]:
    """Parameters that are called otherwise now, by their places."""
    known, were = {p.name for p in true}, {p.name for p in old}
    gone, new = [p.name for p in old if p.name not in known], [p.name for p in true if p.name not in were]
    return list(zip(gone, new, strict=True)) if len(gone) == len(new) else []


def assertions(text: str) -> list[ast.Compare]:
    """What the example of a section asserts."""
    try:
        nodes = ast.parse("\n".join(BLOCK.findall(text))).body
    except SyntaxError:
        return []
    tests = [node.test for node in nodes if isinstance(node, ast.Assert)]
    return [test for test in tests if isinstance(test, ast.Compare) and isinstance(test.left, ast.Call)]


def repaired_calls(chat: Chat, text: str) -> list[str]:
    """The calls of the example, with the names that the code has as far as it knows."""
    true = by_source(chat, text) or stated(text)
    calls: list[str] = []
    for test in assertions(text if true is None else with_signature(text, true)):
        call = test.left
        assert isinstance(call, ast.Call)
        names = [p.name for p in true.parameters] if true else []
        for keyword in call.keywords:
            if keyword.arg is not None and keyword.arg not in names:
                keyword.arg = next(iter(get_close_matches(keyword.arg, names, n=1)), keyword.arg)
        calls.append(normal(ast.unparse(call)))
    return calls


def program_for(chat: Chat, text: str) -> str:
    """A program that prints what the calls of the example return."""
    true = by_source(chat, text) or stated(text)
    calls = repaired_calls(chat, text)
    module = chat.module.removesuffix(".py").replace("/", ".")
    if true is None or not calls:
        return ""
    return "\n".join([f"from {module} import {true.name}", *(f"print(repr({call}))" for call in calls)])


def printed(chat: Chat) -> list[str] | None:
    """What the calls of the example return, if it has run them and nothing broke."""
    output = chat.answer_to(PROGRAM)
    if output is None or "Error" in output:
        return None
    values: list[str] = []
    for line in output.splitlines():
        try:
            ast.literal_eval(line)
        except (ValueError, SyntaxError):
            continue
        values.append(normal(line))
    return values


def with_values(text: str, values: Sequence[str], chat: Chat) -> str:
    """*text* with an example that gives *values*, one for each call."""
    calls, block = repaired_calls(chat, text), BLOCK.search(text)
    true = by_source(chat, text) or stated(text)
    if block is None or true is None or len(calls) != len(values):
        return text
    module = chat.module.removesuffix(".py").replace("/", ".")
    lines = [f"assert {c} {'is' if v in ('True', 'False') else '=='} {v}" for c, v in zip(calls, values, strict=True)]
    code = "\n".join([f"from {module} import {true.name}", "", *lines, ""])
    return text[: block.start(1)] + code + text[block.end(1) :]


def with_links(text: str, headings: str, path: str) -> str:
    """*text* with links to the headings that they name, by what a search has found."""
    here = path.rpartition("/")[0]
    found = {title.strip("`"): file for file, title in re.findall(r"^([^:\n]+):\d+:#+ (.+)$", headings, re.MULTILINE)}
    for link in links_of(text):
        file = found.get(link.label.strip("`"))
        if file is not None:
            name = file.removeprefix(f"{here}/") if file.startswith(f"{here}/") else "../" + file.removeprefix("docs/")
            text = text.replace(str(link), str(replace(link, target=f"{name}#{slug(link.label)}")))
    return text
