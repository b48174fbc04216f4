"""Memory: a Markdown file that outlives a session. What is done, what is next, what was learned.

A person may edit it. It is replaced whole or not at all, so a kill never leaves half of it; each version before it is
kept beside it for a while.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

import frontmatter
import yaml
from filelock import FileLock, Timeout

from harness.agent.context import mark_of
from harness.agent.words import say
from harness.errors import ToolError, UserError
from harness.protocols import Tool, Work
from traces.records import Effect, now

Section = Literal["done", "next", "learned"]
SECTIONS: Final[tuple[Section, ...]] = get_args(Section)

CAP = 8_000
"""Characters of a whole file."""
LONGEST_ITEM = 400
KEPT = 10
"""Versions that stay beside the file."""
PATIENCE = 30.0
"""Seconds to wait for another writer."""
BULLETS = ("- ", "* ", "+ ")
MARKUP = tuple("\\#>-+*=`~|<")


class MemoryFull(UserError):
    """What is next and what was learned leave no room, and neither is dropped unasked."""


@dataclass(frozen=True)
class Notes:
    """What a memory holds."""

    done: tuple[str, ...] = ()
    """The oldest first, as in each section."""
    next: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    version: int = 0
    """Grows with each write; 0: nothing was written yet."""
    updated: datetime | None = None
    dropped: int = 0
    """How many of the oldest done items went, to make room."""

    def of(self, section: Section) -> tuple[str, ...]:
        return getattr(self, section)

    def having(self, section: Section, items: tuple[str, ...]) -> "Notes":
        match section:
            case "done":
                return replace(self, done=items)
            case "next":
                return replace(self, next=items)
            case "learned":
                return replace(self, learned=items)

    @property
    def body(self) -> str:
        """The three sections, as Markdown."""
        parts = [
            "\n".join([f"## {s.capitalize()}", "", *(f"- {escaped(item)}" for item in self.of(s))]) for s in SECTIONS
        ]
        return "\n\n".join(part.rstrip() for part in parts) + "\n"

    @property
    def text(self) -> str:
        """The whole file. ``read_notes`` is the inverse."""
        updated = self.updated.isoformat(timespec="seconds") if self.updated else "never"
        header = f"version: {self.version}\nupdated: {updated}\ndropped: {self.dropped}"
        return f"---\n{header}\n---\n\n{self.body}"

    def within(self, cap: int) -> "Notes":
        """These, without as many of the oldest done items as it takes to fit; ``dropped`` counts them.

        The newest stays.

        Raises:
            MemoryFull: the rest is too long by itself.
        """
        over = len(self.text) - cap
        fewer = 0
        while over > 0 and fewer < len(self.done) - 1:
            over -= len(escaped(self.done[fewer])) + 3
            fewer += 1
        fitting = replace(self, done=self.done[fewer:], dropped=self.dropped + fewer) if fewer else self
        if len(fitting.text) <= cap:
            return fitting
        if len(fitting.done) > 1:  # the count of those dropped has grown by a digit
            return fitting.within(cap)
        raise MemoryFull(
            f"what is next and what was learned take {len(fitting.text):,} characters, and a memory has {cap:,}. "
            "Nothing was written. Forget items that are done or no longer true, then remember this one"
        )


def one_line(text: str) -> str:
    """*text* on one line, without what a terminal would take for more than text."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def one_item(text: str) -> str:
    """*text* as an item can be: one line of at most ``LONGEST_ITEM`` characters."""
    line = one_line(text)
    return line if len(line) <= LONGEST_ITEM else line[: LONGEST_ITEM - 1] + "…"


def escaped(item: str) -> str:
    """*item* as it stands in the file: what Markdown would take for a heading, a list or HTML has a backslash before
    it."""
    return f"\\{item}" if item.startswith(MARKUP) else item


def read_notes(text: str, where: str = "memory") -> Notes:
    """The notes in the *text* of a file. Takes what people's edits do to white space, bullets, capitals and order.

    Raises:
        UserError: something stands in it that a rewrite would lose; names the line and how to mend it.
    """
    header, lines, first = _split(text, where)
    found: dict[Section, list[str]] = {}
    section: Section | None = None
    for number, line in enumerate(lines, first):
        if line.startswith("#"):
            section = _section(line, f"{where}:{number}")
            if section in found:
                raise UserError(f"{where}:{number}: a second section {section!r}, so it is not clear which one holds. "
                                "Move its items to the first one")  # fmt: skip
            found[section] = []
        elif line.strip():
            _add(found[section] if section else None, line, f"{where}:{number}")
    items = {s: tuple(one_line(item.removeprefix("\\")) for item in found.get(s, ()) if item) for s in SECTIONS}
    return Notes(
        done=items["done"],
        next=items["next"],
        learned=items["learned"],
        version=_count(header, "version", where),
        updated=_time(header.get("updated")),
        dropped=_count(header, "dropped", where),
    )


def _split(text: str, where: str) -> tuple[dict[str, Any], list[str], int]:
    """The front matter, the lines after it, and the number of the first of them."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    try:
        header, body = frontmatter.parse(text)
    except (yaml.YAMLError, ValueError) as e:
        raise UserError(
            f"{where}: what stands between the --- lines at its top is no YAML ({' '.join(str(e).split())[:200]}), so "
            "its version is not known. Write there: version: 1"
        ) from e
    if unknown := sorted(map(str, header.keys() - {"version", "updated", "dropped"})):
        raise UserError(f"{where}: {', '.join(unknown)} at its top would be lost when it is written next. Remove it")
    lines = body.split("\n")
    return header, lines, text.rstrip().count("\n") - body.rstrip().count("\n") + 1


def _section(line: str, where: str) -> Section:
    name = line.strip("# \t").casefold()
    if name not in SECTIONS:
        raise UserError(
            f"{where}: {line[:80]!r} is none of a memory's sections, so what stands under it would be lost when it is "
            "written next. Move its items to '## Done', '## Next' or '## Learned'"
        )
    return name


def _add(items: list[str] | None, line: str, where: str) -> None:
    """*line* as a new item, or as more of the last one."""
    stripped = line.strip()
    is_item = stripped.startswith(BULLETS) and len(line) - len(line.lstrip()) < 2
    if items is None or not (is_item or stripped in ("-", "*", "+") or (items and line[0].isspace())):
        raise UserError(
            f"{where}: {stripped[:80]!r} is no item of a section, so it would be lost when it is written next. Put it "
            "under '## Done', '## Next' or '## Learned' and begin the line with '- '"
        )
    if is_item:
        items.append(stripped[2:].strip())
    elif line[0].isspace():
        items[-1] = f"{items[-1]} {stripped}"


def _count(header: Mapping[str, Any], name: str, where: str) -> int:
    value = header.get(name, 0)
    if type(value) is not int or value < 0:
        raise UserError(f"{where}: {name}: {str(value)[:80]!r} is no whole number. Write: {name}: 1")
    return value


def _time(value: object) -> datetime | None:
    """*value* as YAML read it; a date that a person wrote will do."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return None


@dataclass(frozen=True)
class Memory:
    """The memory in the file *path*. Several processes may write it."""

    path: Path
    cap: int = CAP
    kept: int = KEPT
    clock: Callable[[], datetime] = now

    def read(self) -> Notes:
        """What it holds; nothing, while there is no file.

        Raises:
            UserError: the file is none that could be written again without loss; says what to mend.
        """
        try:
            return read_notes(self.path.read_bytes().decode(), str(self.path))
        except FileNotFoundError:
            return Notes()
        except UnicodeDecodeError as e:
            raise UserError(f"{self.path}: byte {e.start} is no UTF-8, so it cannot be read. Save it as UTF-8") from e

    def remember(self, section: Section, item: str) -> Notes:
        """With *item* at the end of *section*; as it was, if it is there already.

        Raises:
            MemoryFull: there is no room; nothing was written.
            UserError: the file cannot be read, or another process holds it.
        """
        line = one_item(item)
        if not line:
            raise UserError("an empty line says nothing to whoever reads the memory. Write what is to be remembered")

        return self.change(
            lambda notes: notes if line in notes.of(section) else notes.having(section, (*notes.of(section), line))
        )

    def forget(self, section: Section, item: str) -> Notes:
        """Without *item* in *section*; as it was, if it is not there. Raises as ``remember`` does."""
        line = one_line(item)
        return self.change(
            lambda notes: notes.having(section, tuple(i for i in notes.of(section) if line not in (i, escaped(i))))
        )

    def change(self, make: Callable[[Notes], Notes]) -> Notes:
        """What *make* makes of what it holds, written down unless it is the same; nobody writes in between."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{self.path}.lock", timeout=PATIENCE):
                before = self.read()
                after = make(before)
                if after == before:
                    return before
                at = max([before.version, *(version + 1 for version in self.older())])  # also when a person set it back
                after = replace(after, version=at + 1, updated=self.clock().replace(microsecond=0)).within(self.cap)
                self._write(at, after)
                return after
        except Timeout as e:
            raise UserError(
                f"another process has held {self.path} for {PATIENCE:.0f} s, so nothing was written. End it, or try "
                "again"
            ) from e

    def block(self) -> str:
        """What a prompt is to hold of it, between tags; it lasts longer than the session. Empty while it holds nothing.

        Raises as ``read`` does.
        """
        notes = self.read()
        if not any(notes.of(section) for section in SECTIONS):
            return ""
        body = notes.body.rstrip()
        if notes.dropped:
            body = f"{say('dropped', count=f'{notes.dropped:,}')}\n\n{body}"
        return say("memory", notes=body, version=notes.version, mark=mark_of(body))

    def older(self) -> dict[int, Path]:
        """Version → where it is kept."""
        stem, suffix = f"{self.path.stem}.v", self.path.suffix
        beside = [path for path in self.path.parent.iterdir() if path.name.startswith(stem) and path.suffix == suffix]
        names = {path.name.removeprefix(stem).removesuffix(suffix): path for path in beside}
        return {int(name): path for name, path in sorted(names.items()) if name.isdecimal()}

    def _write(self, at: int, after: Notes) -> None:
        """Replace the file, which is kept as version *at*."""
        if self.path.exists():
            self._replace(self.path.with_name(f"{self.path.stem}.v{at}{self.path.suffix}"), self.path.read_bytes())
        self._replace(self.path, after.text.encode())
        older = self.older()
        for version in sorted(older)[: -self.kept or None]:
            older[version].unlink(missing_ok=True)

    def _replace(self, path: Path, content: bytes) -> None:
        """*path* holds *content* or what it held, whenever the process or the machine ends."""
        draft = self.path.with_name(f".{self.path.name}.draft")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


# ── tools ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class MemoryTool:
    """One thing that an agent can do with a memory."""

    name: str
    needs: Mapping[str, Any]
    """Argument → JSON schema."""
    effect: Effect
    do: Callable[[Mapping[str, Any]], str]

    @property
    def description(self) -> str:
        return say(self.name)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {
            "type": "object",
            "properties": dict(self.needs),
            "required": list(self.needs),
            "additionalProperties": False,
        }

    def call(self, arguments: Mapping[str, Any], work: Work) -> str:
        try:
            return self.do(arguments)
        except UserError as e:
            raise ToolError("failed", str(e), safe_to_repeat=True) from e
        except OSError as e:
            raise ToolError("failed", f"the memory cannot be reached ({e.strerror})", safe_to_repeat=True) from e


def memory_tools(memory: Memory) -> tuple[Tool, ...]:
    """``remember``, ``forget`` and ``recall``. Called twice, each does what it did once."""
    line: Mapping[str, Any] = {
        "section": {"type": "string", "enum": list(SECTIONS)},
        "item": {"type": "string", "maxLength": LONGEST_ITEM},
    }

    def remember(arguments: Mapping[str, Any]) -> str:
        return _count_of(memory.remember(arguments["section"], arguments["item"]))

    def forget(arguments: Mapping[str, Any]) -> str:
        section, item = arguments["section"], arguments["item"]
        before = memory.read()
        if (after := memory.forget(section, item)).version == before.version:
            return f"No such item is in {section}. {_count_of(after)}"
        return _count_of(after)

    def recall(arguments: Mapping[str, Any]) -> str:
        return memory.block() or "The memory is empty."

    return (
        MemoryTool("remember", line, "worktree", remember),
        MemoryTool("forget", line, "worktree", forget),
        MemoryTool("recall", {}, "none", recall),
    )


def _count_of(notes: Notes) -> str:
    counts = ", ".join(f"{len(notes.of(section))} {section}" for section in SECTIONS)
    dropped = f"; {notes.dropped} oldest done items were dropped to make room" if notes.dropped else ""
    return f"Version {notes.version} of the memory: {counts}{dropped}."
