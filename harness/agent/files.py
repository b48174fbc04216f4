"""Tools to read, change and try out the files of the trial's worktree, all of them within its sandbox."""

import difflib
import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
from harness.errors import ToolError
from harness.protocols import Box, Tool, Work
from traces.records import Effect

WORDING = Path(harness.__file__).parent / "text" / "tools"
LOOK = Path(__file__).with_name("look.py")

LINES = 1_000
"""Of a file that is shown, unless the model asks for fewer."""
LONGEST_LINE = 1_000
CHARACTERS = 24_000
"""Of any one result."""
SECONDS = 60.0
"""For a command, unless the model asks for others."""
LOOKING = 10.0
"""Seconds to look through all files."""
AROUND = 3
"""Lines on either side of a place that is shown."""
COMPARED = 3_000
"""Lines among which a similar one is looked for."""
EDITING = threading.Lock()
"""Held from reading a file until its edit is written: calls of one turn run side by side."""
UNREADABLE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, eq=False)
class FileTool:
    """Something that an agent can do with the files in its box."""

    name: str
    description: str
    effect: Effect
    act: Callable[[Mapping[str, Any], Box, Work], str]
    arguments: Mapping[str, Mapping[str, Any]] = field(repr=False)
    required: tuple[str, ...] = field(repr=False)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {
            "type": "object",
            "properties": dict(self.arguments),
            "required": list(self.required),
            "additionalProperties": False,
        }

    def call(self, arguments: Mapping[str, Any], work: Work) -> str:
        if work.box is None:
            raise ToolError(
                "permission",
                f"{self.name} needs a sandbox, and this agent has none: only who set it up can give it one, with "
                "AgentRunner(…, sandbox=best_sandbox(), worktree=Worktree(folder))",
                safe_to_repeat=True,
            )
        return self.act(arguments, work.box, work)


def file_tools() -> tuple[Tool, ...]:
    """``read_file``, ``write_file``, ``edit_file``, ``list_files``, ``search_files`` and ``run_command``."""
    path = {"type": "string", "description": "From the working folder, such as src/main.py."}
    text, number = {"type": "string"}, {"type": "integer", "minimum": 1}
    glob = {"type": "string", "description": "Such as *.py or docs/**/*.md; without it, all files."}
    first = {**number, "description": "The first line to show; 1 without it."}
    limit = {**number, "description": f"How many lines to show; at most {LINES}."}
    ignore_case = {"type": "boolean", "description": "Without it, case matters."}
    seconds = {"type": "number", "exclusiveMinimum": 0, "description": f"{SECONDS:g} without it."}
    return (
        tool("read_file", "none", read_file, {"path": path}, offset=first, limit=limit),
        tool("write_file", "worktree", write_file, {"path": path, "text": text}),
        tool("edit_file", "worktree", edit_file, {"path": path, "old": text, "new": text}),
        tool("list_files", "none", list_files, {}, pattern=glob),
        tool("search_files", "none", search_files, {"regex": text}, files=glob, ignore_case=ignore_case),
        tool("run_command", "worktree", run_command, {"command": text}, seconds=seconds),
    )


def tool(
    name: str,
    effect: Effect,
    act: Callable[[Mapping[str, Any], Box, Work], str],
    required: Mapping[str, Any],
    **optional: Mapping[str, Any],
) -> FileTool:
    wording = (WORDING / f"{name}.md").read_text(encoding="utf-8").strip()
    return FileTool(name, wording, effect, act, {**required, **optional}, tuple(required))


# ── one file ───────────────────────────────────────────────────────────────────────────────────────────────────


def read_file(arguments: Mapping[str, Any], box: Box, work: Work) -> str:
    path, first = arguments["path"], arguments.get("offset", 1)
    with mistakes(path, "read"):
        lines = lines_of(box.read(path))
    if first > max(len(lines), 1):
        raise ToolError("arguments", f"{path} has {len(lines)} lines, and offset is {first}", safe_to_repeat=True)
    last = min(first - 1 + min(arguments.get("limit", LINES), LINES), len(lines))
    shown: list[str] = []
    size = 0
    for number in range(first, last + 1):
        shown.append(numbered(number, lines[number - 1]))
        size += len(shown[-1]) + 1
        if size > CHARACTERS:
            last = number
            break
    if not lines:
        return f"{path} is empty"
    if last < len(lines):
        shown.append(f"({len(lines) - last} of {len(lines)} lines follow; go on with offset={last + 1})")
    return "\n".join(shown)


def write_file(arguments: Mapping[str, Any], box: Box, work: Work) -> str:
    path, text = arguments["path"], arguments["text"]
    with mistakes(path, "written"):
        box.write(path, text)
    return f"wrote {path}: {len(lines_of(text))} lines, {len(text.encode('utf-8', 'replace'))} bytes"


def edit_file(arguments: Mapping[str, Any], box: Box, work: Work) -> str:
    path, old, new = arguments["path"], arguments["old"], arguments["new"]
    if not old or old == new:
        fault = "`old` is empty; write_file makes a whole file" if not old else "`old` and `new` are the same"
        raise ToolError("arguments", f"{fault}. Nothing was done.", safe_to_repeat=True)
    with EDITING:
        with mistakes(path, "read"):
            text = box.read(path)
        if UNREADABLE in text and UNREADABLE not in old:
            fault = f"{path} is not UTF-8 text throughout; edit it with run_command"
            raise ToolError("failed", fault, safe_to_repeat=True)
        if old not in text and "\r\n" in text:
            old, new = (part.replace("\r\n", "\n").replace("\n", "\r\n") for part in (old, new))
        places = places_of(old, text)
        edited = text.replace(old, new, 1)
        if len(places) == 1:
            with mistakes(path, "written"):
                box.write(path, edited)
    if len(places) != 1:
        fault = repeated(places, text) if places else missing(old, text)
        raise ToolError("arguments", f"`old` is {fault}\nNothing was done to {path}.", safe_to_repeat=True)
    first = line_at(text, places[0])
    return f"edited {path}; now:\n{excerpt(edited, first, first + new.count(chr(10)))}"


@contextmanager
def mistakes(path: str, done: str) -> Generator[None]:
    """What can be wrong with *path*, as a model is told it."""
    try:
        yield
    except FileNotFoundError as e:
        fault = f"there is no file {path}; list_files shows what there is"
        raise ToolError("not_found", fault, safe_to_repeat=True) from e
    except IsADirectoryError as e:
        raise ToolError("arguments", f"{path} is a folder; name a file in it", safe_to_repeat=True) from e
    except PermissionError as e:
        raise ToolError("permission", f"{path} may not be {done}", safe_to_repeat=True) from e
    except OSError as e:
        raise ToolError("failed", f"{path} could not be {done}: {e.strerror}", safe_to_repeat=True) from e
    except ValueError as e:
        raise ToolError("arguments", str(e), safe_to_repeat=True) from e


def lines_of(text: str) -> list[str]:
    """The lines, counted as editors do: what follows the last line break is one only if there is something."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def numbered(number: int, line: str) -> str:
    more = f"… ({len(line) - LONGEST_LINE:,} more characters)" if len(line) > LONGEST_LINE else ""
    return f"{number:6}\t{line[:LONGEST_LINE]}{more}"


def excerpt(text: str, first: int, last: int) -> str:
    """The lines *first* to *last* of *text* with some around them, numbered."""
    lines = lines_of(text)
    start = max(first - AROUND, 1)
    shown = [numbered(n, lines[n - 1]) for n in range(start, min(last + AROUND, len(lines), start + 40) + 1)]
    return cut("\n".join(shown), CHARACTERS // 4)


def places_of(old: str, text: str) -> list[int]:
    """Where *old* is in *text*; those that overlap count too."""
    places: list[int] = []
    at = text.find(old)
    while at >= 0 and len(places) < 100:
        places.append(at)
        at = text.find(old, at + 1)
    return places


def line_at(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def repeated(places: list[int], text: str) -> str:
    lines = ", ".join(str(line_at(text, place)) for place in places[:10])
    more = "" if len(places) <= 10 else " and more"
    return f"in it {len(places)} times, at lines {lines}{more}. Add the lines around the one that you mean."


def missing(old: str, text: str) -> str:
    """What to tell about text that is not there: the place that is most like it."""
    lines = lines_of(text)
    wanted = [line.strip() for line in old.split("\n") if line.strip()][:1]
    stripped = [line.strip()[:LONGEST_LINE] for line in lines[:COMPARED]]
    similar = difflib.get_close_matches(wanted[0][:LONGEST_LINE], stripped, 1, 0.6) if wanted else []
    if not similar:
        return "not in it, nor anything like its first line. Read the file again."
    at = stripped.index(similar[0]) + 1
    last = at + old.count("\n")
    return f"not in it as you wrote it. Mind spaces and line breaks. Most like it is:\n{excerpt(text, at, last)}"


# ── all files ──────────────────────────────────────────────────────────────────────────────────────────────────


def list_files(arguments: Mapping[str, Any], box: Box, work: Work) -> str:
    glob = arguments.get("pattern", "*")
    return looked(box, work, "list", glob) or f"no file matches {glob}"


def search_files(arguments: Mapping[str, Any], box: Box, work: Work) -> str:
    regex, glob = arguments["regex"], arguments.get("files", "*")
    case = "" if arguments.get("ignore_case") else "exact"
    found = looked(box, work, "search", glob, regex, case)
    return found or f"no line matches {regex} in the files {glob}"


def looked(box: Box, work: Work, *wanted: str) -> str:
    """What ``look.py`` finds, in lines."""
    seconds = min(LOOKING, work.seconds)
    try:
        source = LOOK.read_text(encoding="utf-8")
        done = box.run(["python3", "-I", "-S", "-W", "ignore", "-c", source, *wanted], seconds=seconds)
    except FileNotFoundError as e:
        raise ToolError("failed", "there is no python3 in the sandbox to look with", safe_to_repeat=True) from e
    except ValueError as e:
        raise ToolError("arguments", str(e), safe_to_repeat=True) from e
    if done.ended == "timeout":
        fault = f"it took more than {seconds:g} s; give a simpler expression, or fewer files"
        raise ToolError("timeout", fault, safe_to_repeat=True)
    try:
        seen = json.loads(done.output)
    except ValueError as e:
        fault = f"the files could not be looked at: {cut(done.output, 500)}"
        raise ToolError("failed", fault, safe_to_repeat=True) from e
    if "wrong" in seen:
        raise ToolError("arguments", f"the regular expression is wrong: {seen['wrong']}", safe_to_repeat=True)
    more = [f"({seen['more']} more; narrow the search to see them)"] if seen["more"] else []
    partial = ["(there are too many files; not all were looked at)"] if seen["partial"] else []
    return "\n".join([*seen["found"], *more, *partial])


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────


def run_command(arguments: Mapping[str, Any], box: Box, work: Work) -> str:
    seconds = min(arguments.get("seconds", SECONDS), work.seconds)
    try:
        done = box.run(["sh", "-c", arguments["command"]], seconds=seconds)
    except FileNotFoundError as e:
        raise ToolError("failed", "there is no sh in the sandbox", safe_to_repeat=True) from e
    except ValueError as e:
        raise ToolError("arguments", str(e), safe_to_repeat=True) from e
    output = cut(done.output, CHARACTERS).rstrip("\n")
    printed = f"{output}\n" if output else ""
    match done.ended:
        case "exit":
            killed = f" (signal {-done.exit_code} ended it)" if done.exit_code < 0 else ""
            return f"{printed}exit code {done.exit_code}{killed}"
        case "timeout":
            raise ToolError("timeout", f"{printed}ended after {seconds:g} s, before it was done")
        case "cpu":
            raise ToolError("failed", f"{printed}ended: it took too much CPU time")
        case "processes":
            raise ToolError("failed", f"{printed}ended: it started too many processes")
        case "memory":
            raise ToolError("failed", f"{printed}ended: it took too much memory")
        case "output":
            raise ToolError("failed", f"{printed}ended: it printed too much; send what it prints to a file")


def cut(text: str, most: int) -> str:
    """*text*, its middle left out where it is longer."""
    if len(text) <= most:
        return text
    left_out = len(text) - most
    return f"{text[: most // 2]}\n[… {left_out:,} characters left out …]\n{text[-most // 2 :]}"
