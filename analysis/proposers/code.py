"""A proposer for code that asks a model: it reads the files, what was tried and how it ended, and writes one change.

What it answers is believed as far as a machine can look it up: files that it may edit and was shown, passages that
stand there once, Python that compiles, nothing that was tried before or changes what is measured. With what is wrong it
is asked once more, and then the round is a recorded failure.
"""

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

import harness
from analysis.proposers.analyst import (
    copied_faults,
    kept_key,
    odd_faults,
    replied,
    size_faults,
    text_in,
    unseen,
)
from analysis.proposers.briefing import element, fitting, sealed, shortened
from analysis.proposers.examples import proposal_id
from analysis.proposers.recap import recap
from harness.agent.context import text_tokens
from harness.agent.inbox import visible
from harness.candidacy import GUARDED, identity, objection
from harness.errors import OutOfIdeas, TrialError, UserError
from harness.graders.judge import FENCE, closed, once, seed_of
from harness.protocols import History, Message, Model
from harness.redact import redacted
from harness.text import Slots, render
from harness.versions import InvalidEdit, applied
from traces.journal import clean
from traces.records import Edit, Proposal, Turn

FOLDER = Path(harness.__file__).parent / "text" / "coder"
PROPOSE = "prompts/propose.md"
MORE = "prompts/more.md"
AGAIN = "prompts/again.md"
PROMPTS: Mapping[str, Slots] = MappingProxyType(
    {
        PROPOSE: Slots(
            frozenset({"key", "subject", "tried", "metric", "better", "places"}),
            may=frozenset({"goal", "context", "printed", "more", "most_files", "most_changed", "most_read"}),
        ),
        MORE: Slots(frozenset({"files"}), may=frozenset({"key"})),
        AGAIN: Slots(frozenset({"problems"}), may=frozenset({"key", "gave_up"})),
    }
)
"""What a version of the coder's own text has to hold, for ``harness.text.validate``."""

ROLE = "coder"
TRIES = 2
"""Answers to one question, the corrected one included; a wish for more files is none."""
ANSWER = 16_000
"""Tokens that a model named by a string may answer with."""
MOST_READ = 8
"""Files that it may ask for."""
MOST_SAID = 2000
"""Characters of a rationale."""
TOLD = 400
"""Characters of one problem that a model is told."""
LONGEST = 200
"""Characters that the nearest to something wrong is looked for with."""
OPENING = re.compile(r'\A(?:\s|#[^\n]*\n)*[rRuU]?(?:"""|\'\'\')\s*([^\n"]+)|\A\s*#+\s*([^\n]+)')
"""The first line of a docstring, else of a comment or a heading."""
WORDS = re.compile(r"[\w./-]*\w")


def wording() -> dict[str, str]:
    """What the coder is told, from ``harness/text/coder``: path → text, as of a version of that subject."""
    return text_in(FOLDER)


@dataclass(frozen=True)
class CodeRoom:
    """How much each part may take, in tokens of about four bytes."""

    files: int = 30_000
    more: int = 15_000
    """What the model asks for besides."""
    context: int = 10_000
    tried: int = 6_000
    printed: int = 1_500
    """Of what the program printed."""


@dataclass(frozen=True)
class CodeProposer:
    """Asks *model* for one change of code that makes *metric* better.

    It is out of ideas when the model says so twice.
    """

    model: Model | str
    metric: str
    """As the gate names it."""
    better: Literal["higher", "lower"]
    """As the gate has it."""
    files: Sequence[str] = ("**/*.py",)
    """Patterns of the paths that it may edit; ``**`` is any number of folders."""
    context: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Place → file or folder outside of the subject that the model can read, such as what the runner has fixed. It is
    sent to the provider as it is: never the evaluator of hidden data, nor the data."""
    goal: str = ""
    """What a person wants to tell it besides: what the program is about, which ideas to try."""
    most_files: int = 3
    most_changed: int = 8000
    """Characters of words put in, taken out or moved, all files together."""
    guarded: Sequence[str] = GUARDED
    """What a candidate may not change, as the runner has it."""
    room: CodeRoom = field(default_factory=CodeRoom)
    wording: Mapping[str, str] = field(default_factory=wording)
    """The files of a version of its own text."""

    def __post_init__(self) -> None:
        if not self.metric or self.better not in ("higher", "lower"):
            raise ValueError('name the metric and say which is better, CodeProposer(…, "val_bpb", better="lower")')
        if gone := [f"{place!r} ({path})" for place, path in self.context.items() if not path.exists()]:
            raise UserError(
                f"CodeProposer(context=…) names what is not there: {', '.join(gone)}. A model that cannot read what "
                "its code stands on guesses at it. Correct the path, or take the entry out"
            )
        if isinstance(self.model, str):
            from harness.models import model  # the SDKs take a while to import

            object.__setattr__(self, "model", model(self.model, max_tokens=ANSWER, stream=True))

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        """One change to *text*.

        Raises:
            OutOfIdeas: the model sees nothing left to try, also when it was asked again.
            UserError: it could change nothing of this subject.
            ModelError: the model cannot be asked.
            TrialError: what it answers cannot be used, also when it was told what is wrong.
        """
        key = kept_key(history.run)
        tried = recap(history, self.room.tried, key=key, metric=self.metric)
        printed = self.printed(history, key)
        shown = shown_of(text, key, self.room.files, self.is_mine, named=tried + printed)
        self.refuse_unseen(text, shown)
        messages = self.asked(shown, tried, printed, key)
        problems: Sequence[str] = ()
        reasons: list[str] = []
        may_read, left, number = bool(shown.others), TRIES, 0
        while left:
            reply = self.reply(number, messages, seed_of(history.seed, number))
            number += 1
            messages = [*messages, Message("assistant", reply.text or "…")]
            answer, problems = read_answer(reply, key)
            if answer is not None and may_read and answer.read and not answer.edits:
                may_read = False
                more = more_of(answer.read, text, shown, key, self.room.more)
                shown = shown.with_more(more.readable)
                messages += render(self.wording, MORE, files=more.said, key=key)
                continue
            left -= 1
            if answer is not None:
                edits, problems = edits_of(answer, text)
                problems = problems or self.faults(answer, edits, text, history, shown)
                if not problems:
                    return self.proposal_of(answer, edits, incumbent)
            if gave_up := answer.rationale if answer is not None and gives_up(answer) else "":
                reasons.append(gave_up)
            messages += self.corrected(problems, bool(gave_up), key)
        if len(reasons) == TRIES:
            raise OutOfIdeas(f"the model sees nothing left to try: {visible(reasons[-1][:TOLD])}")
        raise TrialError("proposer", "malformed", f"no proposal that can be used: {visible('; '.join(problems))}")

    def is_mine(self, path: str) -> bool:
        """May it edit the file?"""
        return any(glob(pattern).fullmatch(path) for pattern in self.files) and path not in self.context

    def refuse_unseen(self, text: Mapping[str, str], shown: "Shown") -> None:
        mine = {path: len(source) for path, source in text.items() if self.is_mine(path)}
        if not mine:
            raise UserError(
                f"CodeProposer may edit no file of this subject: none of its {len(text)} paths matches "
                f'{" or ".join(map(repr, self.files))}. Say what it may edit: CodeProposer(…, files=("**/*.py",))'
            )
        if not shown.readable.intersection(mine):
            path, size = min(mine.items(), key=lambda item: item[1])
            raise UserError(
                f"none of the files that CodeProposer may edit can be shown to it whole, so it could change none: the "
                f"smallest, {path}, has {size:,} characters, and there is room for {self.room.files:,} tokens (or it "
                "holds a key). Give it more room, CodeProposer(…, room=CodeRoom(files=…)), or make the file smaller"
            )

    # ── the conversation ───────────────────────────────────────────────────────────────────────────────────────

    def asked(self, shown: "Shown", tried: str, printed: str, key: str) -> list[Message]:
        return render(
            self.wording,
            PROPOSE,
            key=key,
            metric=self.metric,
            better=self.better,
            goal=self.goal.strip(),
            places=", ".join(self.files),
            most_files=str(self.most_files),
            most_changed=f"{self.most_changed:,}",
            most_read=str(MOST_READ),
            subject=shown.said,
            more="yes" if shown.others else "",
            context=context_of(self.context, key, self.room.context),
            tried=element("round", key, tried),
            printed=printed,
        )

    def printed(self, history: History, key: str) -> str:
        """The end of what the incumbent printed in its last run, or why it ended without a number."""
        said = [(t, t.output or t.error) for t in history.trials if t.output or t.error]
        if not said:
            return ""
        trial, last = max(said, key=lambda pair: pair[0].started)
        return element("trial", key, shortened(sealed(last or "", key), self.room.printed), id=trial.id)

    def corrected(self, problems: Iterable[str], gave_up: bool, key: str) -> list[Message]:
        listed = "\n".join(f"- {problem}" for problem in problems)
        return render(self.wording, AGAIN, problems=listed, gave_up="yes" if gave_up else "", key=key)

    def reply(self, number: int, messages: Sequence[Message], seed: int) -> Turn:
        assert not isinstance(self.model, str)
        return replied(self.model, ROLE, schema(), number, messages, seed)

    # ── what is wrong with an answer ───────────────────────────────────────────────────────────────────────────

    def faults(
        self, answer: "Answer", edits: Sequence[Edit], text: Mapping[str, str], history: History, shown: "Shown"
    ) -> list[str]:
        """A sentence for each thing that a machine can see to be wrong."""
        if gives_up(answer):
            return ["it proposes nothing; that nothing is left to try is believed when it is said twice"]
        if answer.read and not edits:
            return ["it asks for files, and no more can be shown: decide with what there is"]
        wrong = [*self.edit_faults(edits, text, shown), *copied_faults(edits, text, history.tasks.values())]
        wrong = wrong or [*compile_faults(edits, text)] or [*self.version_faults(edits, text, history)]
        return [fault[:TOLD] for fault in (*wrong, *rationale_faults(answer))]

    def edit_faults(self, edits: Sequence[Edit], text: Mapping[str, str], shown: "Shown") -> Iterator[str]:
        """What is wrong with where and how much it edits."""
        if not edits:
            yield 'it edits nothing; if nothing is left to try, say why in "rationale"'
        if len(edits) > self.most_files:
            yield f"it edits {len(edits)} files, and may edit {self.most_files}"
        for edit in edits:
            yield from self.place_faults(edit, text, shown)
        yield from size_faults(edits, text, self.most_changed)

    def place_faults(self, edit: Edit, text: Mapping[str, str], shown: "Shown") -> Iterator[str]:
        try:
            if edit.text is not None:
                applied(text, [edit])
        except InvalidEdit as e:
            yield str(e)
            return
        if not self.is_mine(edit.path):
            why = "it is fixed" if edit.path in self.context else f"a path that may matches {' or '.join(self.files)}"
            yield f"{edit.path!r} may not be edited: {why}"
        elif edit.path in text and edit.path not in shown.readable:
            yield f"{edit.path!r} was not shown whole, so nobody can tell what a change of it would destroy"
        yield from odd_faults(edit, text, shown.key)

    def version_faults(self, edits: Sequence[Edit], text: Mapping[str, str], history: History) -> Iterator[str]:
        """Why the version that *edits* would make is none to run."""
        try:
            after = applied(text, edits)
        except InvalidEdit as e:
            yield str(e)
            return
        if after == text:
            yield "it changes nothing: each text is what the file holds already"
        elif history.version_of is not None and (version := history.version_of(edits)) in history.tried:
            yield f"exactly this was tried before ({history.tried[version]}): propose something else"
        elif (does := identity(after)) == identity(text):
            yield "it does the same as what is there: comments, docstrings and blanks are no change"
        elif does in history.tried:
            yield f"it does the same as what was tried before ({history.tried[does]}): propose something else"
        if why := objection(text, after, self.guarded):
            yield f"it is no candidate: {why}"

    def proposal_of(self, answer: "Answer", edits: Sequence[Edit], incumbent: str) -> Proposal:
        said = answer.rationale.strip()
        if answer.expected is not None:
            said += f" It expects {self.metric} to get better by {answer.expected:.4g}."
        return Proposal(
            id=proposal_id(incumbent, edits), proposer=type(self).__name__, edits=tuple(edits), rationale=said
        )


def rationale_faults(answer: "Answer") -> Iterator[str]:
    if strange := unseen(answer.rationale):
        yield f'"rationale" holds characters that nobody sees: {strange}'
    if not answer.rationale.strip() or len(answer.rationale) > MOST_SAID:
        yield f'"rationale" has to say why, in {MOST_SAID:,} characters at most'


# ── what code would be ─────────────────────────────────────────────────────────────────────────────────────────


def compile_faults(edits: Sequence[Edit], text: Mapping[str, str]) -> Iterator[str]:
    """Which of the Python files that are edited would not compile, where they did before."""
    for edit in edits:
        if edit.text is None or not edit.path.endswith(".py"):
            continue
        if (why := why_not_python(edit.text)) and not (edit.path in text and why_not_python(text[edit.path])):
            yield f"{edit.path!r} would be no Python: {why}"


def why_not_python(source: str) -> str:
    """The line and what is wrong with it; empty where it compiles. Nothing of it is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<proposal>", "exec", dont_inherit=True)
    except SyntaxError as e:
        return f"line {e.lineno}: {e.msg}: {(e.text or '').strip()[:100]}"
    except (ValueError, RecursionError, MemoryError, OverflowError) as e:
        return f"{type(e).__name__}: {e}"
    return ""


@lru_cache(maxsize=256)
def glob(pattern: str) -> re.Pattern[str]:
    """The paths that *pattern* is for: ``*`` and ``?`` stay within a folder, ``**/`` is any number of them."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    means = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(means.get(part) or re.escape(part) for part in parts), re.DOTALL)


# ── what it is shown ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Shown:
    """The files of a subject, as a model was shown them."""

    key: str
    said: str
    readable: frozenset[str]
    """Those that stand there whole."""
    others: frozenset[str]
    """Those that do not."""

    def with_more(self, paths: Iterable[str]) -> "Shown":
        readable = self.readable.union(paths)
        return Shown(self.key, self.said, readable, self.others - readable)


def shown_of(text: Mapping[str, str], key: str, tokens: int, is_mine: Callable[[str], bool], *, named: str) -> Shown:
    """The files whole, as many as there is room for: those that may be edited first, of these what is *named* in the
    history, then by depth and length. Of the others a line each, then how many there are in each folder."""
    words = frozenset(WORDS.findall(named))
    order = sorted(
        text, key=lambda path: (not is_mine(path), path not in words, path.count("/"), len(text[path]), path)
    )
    left = tokens - tokens // 5
    whole: dict[str, str] = {}
    for path in order:
        if len(text[path]) > 4 * left:  # before it is numbered
            continue
        part = file_of(path, text[path], key)
        if part and text_tokens(part) < left:
            whole[path] = part
            left -= text_tokens(part) + 1
    others = [path for path in order if path not in whole]
    parts = [whole[path] for path in sorted(whole)]
    if others:
        index = listed(others, text, key, tokens // 5 - 60)
        parts.append(element("more", key, index, files=f"{len(others)} that are not shown"))
    return Shown(key, "\n\n".join(parts), frozenset(whole), frozenset(others))


def file_of(path: str, source: str, key: str) -> str:
    """The file with numbered lines; empty where it may not be shown, since it holds a key."""
    if redacted(source) != source or key in source:
        return ""
    return element("file", key, numbered(source), path=path)


def numbered(source: str) -> str:
    lines = source.split("\n")
    if lines[-1] == "":
        lines.pop()
    return "\n".join(f"{n:>5}  {line}" for n, line in enumerate(lines, 1))


def listed(paths: Sequence[str], text: Mapping[str, str], key: str, tokens: int) -> str:
    """A line for each file, as many as there is room for; the others counted by folder."""
    kept = list(fitting((line_of(path, text[path], key) for path in paths), tokens - tokens // 4))
    rest = Counter(path.rpartition("/")[0] or "." for path in paths[len(kept) :])
    folders = fitting((f"{sealed(name, key)}/: {n} more files" for name, n in rest.most_common()), tokens // 4 - 20)
    counted = list(folders)
    if missing := len(rest) - len(counted):
        counted.append(f"and in {missing} more folders")
    return "\n".join([*kept, *counted])


def line_of(path: str, source: str, key: str) -> str:
    """Path, size and what it says of itself."""
    found = OPENING.match(source[:2000])
    about = sealed((found[1] or found[2]).strip(), key)[:100] if found else ""
    size = f"{len(source):,} characters, {source.count(chr(10)) + 1:,} lines"
    return f"{sealed(path, key)} ({size}){f': {about}' if about else ''}"


@dataclass(frozen=True)
class More:
    """What a model asked for."""

    said: str
    readable: frozenset[str]


def more_of(asked: Sequence[str], text: Mapping[str, str], shown: Shown, key: str, tokens: int) -> More:
    """The files that it *asked* for, within so many *tokens*; and of each that is not shown why."""
    left, parts, readable = tokens, list[str](), list[str]()
    wanted = list(dict.fromkeys(asked))
    for path in wanted[:MOST_READ]:
        within = sorted(p for p in text if p.startswith(path)) if path.endswith("/") else []
        said = sealed(path, key)[:100]
        if within:
            part = element("more", key, listed(within, text, key, min(left, tokens // 3)), folder=path[:100])
        elif path in shown.readable:
            part = f"{said}: it was shown already, and is as it was"
        elif path not in text:
            near = get_close_matches(path[:LONGEST], text, 1)
            part = f"{said}: there is no such file{f'; the nearest is {sealed(near[0], key)}' if near else ''}"
        else:
            part = file_of(path, text[path], key) or f"{said}: it holds a key, and is shown to nobody"
            if text_tokens(part) + 1 > left:
                part = f"{said}: it is too long to be shown ({len(text[path]):,} characters)"
            elif "\n" in part:
                readable.append(path)
        left -= text_tokens(part) + 1
        parts.append(part)
    if len(wanted) > MOST_READ:
        parts.append(f"Of {len(wanted)} that it asks for, the first {MOST_READ} are told of.")
    return More("\n\n".join(parts), frozenset(readable))


def context_of(context: Mapping[str, Path], key: str, tokens: int) -> str:
    """What is declared to be readable, the shortest whole and of the others both ends."""
    files = sorted(read_context(context).items(), key=lambda item: (len(item[1]), item[0]))
    parts: dict[str, str] = {}
    for at, (path, source) in enumerate(files):
        room = tokens // (len(files) - at) - 30
        if room < 20:
            continue
        parts[path] = element("file", key, shortened(sealed(numbered(source), key), room), path=path, read="only")
        tokens -= text_tokens(parts[path]) + 1
    missing = len(files) - len(parts)
    more = [f"[… {missing} more files are left out …]"] if missing else []
    return "\n\n".join([*(parts[path] for path in sorted(parts)), *more])


def read_context(context: Mapping[str, Path]) -> dict[str, str]:
    """Place → text, of what is text."""
    found: dict[str, str] = {}
    for place, root in context.items():
        paths = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
        for path in paths:
            inner = path.relative_to(root).as_posix()
            name = place if inner == "." else f"{place.rstrip('/')}/{inner}"
            content = path.read_bytes()
            if b"\0" not in content[:4096]:
                found[name] = content.decode("utf-8", "replace")
    return found


# ── what it answers ────────────────────────────────────────────────────────────────────────────────────────────


class Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    search: str
    replace: str


class Change(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: str
    how: Literal["replace", "write", "delete"]
    text: str = ""
    blocks: list[Block] = []


class Answer(BaseModel):
    """What the model answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    of: str
    """The key it was given: an answer that was copied from a log cannot have it."""
    read: list[str] = []
    rationale: str
    expected: float | None = None
    edits: list[Change]


def schema() -> Mapping[str, Any]:
    text = {"type": "string"}

    def some(properties: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": closed(properties)}

    how = {"type": "string", "enum": ["replace", "write", "delete"]}
    blocks = some({"search": text, "replace": text})
    return closed(
        {
            "of": text,
            "read": {"type": "array", "items": text},
            "rationale": text,
            "expected": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "edits": some({"path": text, "how": how, "text": text, "blocks": blocks}),
        }
    )


def gives_up(answer: Answer) -> bool:
    """Does it say, in due form, that nothing is left to try?"""
    return not answer.edits and not answer.read and bool(answer.rationale.strip())


def read_answer(reply: Turn, key: str) -> tuple[Answer | None, Sequence[str]]:
    """The answer that *reply* is, all of it; or what is wrong with its form."""
    if reply.finish_reason == "length":
        return None, ("it was cut off where the model may write no more: replace passages, and not whole files",)
    text = reply.text.strip()
    fenced = FENCE.fullmatch(text)
    try:
        answer = Answer.model_validate(clean(json.loads(fenced[1] if fenced else text, object_pairs_hook=once)))
    except ValidationError as e:
        return None, [f"{'.'.join(map(str, error['loc'])) or 'the object'}: {error['msg']}" for error in e.errors()[:8]]
    except (ValueError, RecursionError):
        return None, ("it is not one JSON object with nothing around it",)
    return (answer, ()) if answer.of == key else (None, ('its "of" is not the key that was given',))


def edits_of(answer: Answer, text: Mapping[str, str]) -> tuple[tuple[Edit, ...], list[str]]:
    """The new texts that *answer* asks for, and what is wrong with how it does."""
    edits: list[Edit] = []
    problems: list[str] = []
    for change in answer.edits:
        new, wrong = new_text(change, text)
        problems += wrong
        edits.append(Edit(path=change.path, text=new))
    return tuple(edits), [problem[:TOLD] for problem in problems[:8]]


def new_text(change: Change, text: Mapping[str, str]) -> tuple[str | None, Sequence[str]]:
    match change.how:
        case "delete":
            return None, [f"{change.path!r} cannot be deleted: it is not there"] if change.path not in text else []
        case "write" if change.blocks:
            return change.text, [f'{change.path!r} is to be written whole, and has "blocks" besides: one or the other']
        case "write":
            return change.text, []
        case "replace" if change.path not in text:
            return "", [f"{change.path!r} is not there, so nothing in it can be replaced"]
        case "replace" if change.text or not change.blocks:
            return "", [f'{change.path!r}: to replace passages, give "blocks" and leave "text" empty']
        case _:
            return Source(change.path, text[change.path]).replaced(change.blocks)


@dataclass(frozen=True)
class Source:
    """The text of a file, to look passages up in."""

    path: str
    text: str

    @cached_property
    def end(self) -> str:
        """What ends a line."""
        return "\r\n" if self.text.count("\r\n") == self.text.count("\n") > 0 else "\n"

    def replaced(self, blocks: Sequence[Block]) -> tuple[str, Sequence[str]]:
        """The text with each passage replaced; or what is wrong with them."""
        spots: list[tuple[int, int, str]] = []
        problems: list[str] = []
        for number, block in enumerate(blocks, 1):
            search = self.lines_as_here(block.search)
            found = places(search, self.text) if search.strip() else []
            if len(found) == 1:
                spots.append((found[0], found[0] + len(search), self.lines_as_here(block.replace)))
            else:
                problems.append(f"{self.path!r}, block {number}: {self.why_not(search, found)}")
        spots.sort()
        if any(a[1] > b[0] for a, b in pairwise(spots)):
            problems.append(f"{self.path!r}: two of its blocks overlap; make one of them")
        made, at = "", 0
        for start, stop, new in spots:
            made, at = made + self.text[at:start] + new, stop
        return made + self.text[at:], problems

    def lines_as_here(self, text: str) -> str:
        return text.replace("\r\n", "\n").replace("\n", self.end)

    def why_not(self, search: str, found: Sequence[int]) -> str:
        if not search.strip():
            return '"search" is empty'
        if found:
            lines = ", ".join(str(self.text.count("\n", 0, at) + 1) for at in found[:5])
            return f'"search" stands {len(found)} times, in lines {lines}: take in more lines until it stands once'
        first = next(line.strip() for line in search.splitlines() if line.strip())
        stripped = [line.strip() for line in self.text.split("\n")]
        near = get_close_matches(first[:LONGEST], stripped, 1, 0.6)
        if not near:
            return f'"search" stands nowhere in the file: {first[:80]!r}'
        at = stripped.index(near[0])
        line = self.text.split("\n")[at].rstrip("\r")
        return f'"search" stands nowhere in the file, character by character; near it is line {at + 1}: {line[:120]!r}'


def places(search: str, text: str) -> list[int]:
    """Where *search* stands, not in the middle of a word; overlapping ones too."""
    pattern = f"{BEGINS if is_word(search[0]) else ''}{re.escape(search)}{ENDS if is_word(search[-1]) else ''}"
    return [found.start() for found in re.finditer(f"(?={pattern})", text)]


BEGINS, ENDS = r"(?<!\w)", r"(?!\w)"


def is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
