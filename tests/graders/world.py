"""What the tests of graders share: a folder for a box, a project to document, patches of it."""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.protocols import Finished, Work
from traces.records import Task

TASK = Task(id="t", input="Mend the reference.")


@dataclass
class FolderBox:
    """A real folder and real processes, without walls: quicker than a sandbox."""

    folder: Path

    def run(self, command, *, seconds=None, environment=None, fixed=()):
        try:
            done = subprocess.run(
                [sys.executable if command[0] == "python3" else command[0], *command[1:]],
                cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", **(environment or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Finished(-9, "", ended="timeout")
        return Finished(done.returncode, done.stdout)

    def read(self, path):
        place = (self.folder / path).resolve()
        if not place.is_relative_to(self.folder.resolve()):
            raise ValueError(f"{path} leads out")
        return place.read_text(encoding="utf-8")

    def write(self, path, text):
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


@dataclass
class FolderSandbox:
    """Opens a ``FolderBox``; keeps which folders it was opened on."""

    opened: list = field(default_factory=list)

    @contextmanager
    def open(self, folder=None):
        self.opened.append(folder)
        yield FolderBox(folder)


def files_in(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def work_on(folder):
    return Work(TASK, {}, FolderBox(folder))


def a_patch(path="docs/a.md", lines=1, mode="100644"):
    added = "".join(f"+line {n}\n" for n in range(lines))
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\nindex 0000000..1234567\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1,{lines} @@\n{added}"
    )


def faults(check, output="", folder=None):
    """What *check* finds wrong."""
    marks = check.check(TASK, output, work_on(folder) if folder else Work(TASK, {}))
    assert marks, "a check always says something"
    assert all(mark.criterion == check.id for mark in marks)
    assert all(mark.passed or (mark.because and mark.fingerprint and len(mark.excerpt) <= 300) for mark in marks)
    return [mark.because for mark in marks if not mark.passed]


# ── scripted judges ────────────────────────────────────────────────────────────────────────────────────────────


def key_in(messages):
    return re.search(r"<work-([0-9a-f]+)>", messages[-1].content if len(messages) < 3 else messages[1].content)[1]


def work_in(messages):
    key = key_in(messages)
    return re.search(rf"<work-{key}>\n(.*)\n</work-{key}>", messages[1].content, re.DOTALL)[1]


def an_answer(messages, criteria, verdict=None, **more):
    """The answer of a judge; *criteria*: id → (choice, evidence) of a pass or (choice, because, excerpt)."""
    said = []
    for name, (choice, *rest) in criteria.items():
        one = {"id": name, "choice": choice, "evidence": "", "because": "", "excerpt": ""}
        if len(rest) == 1:
            one["evidence"] = rest[0]
        elif rest:
            one["because"], one["excerpt"] = rest
        said.append(one)
    fails = any(len(rest) == 3 for rest in criteria.values())
    verdict = verdict or ("needs_revision" if fails else "satisfied")
    return json.dumps({"of": key_in(messages), "criteria": said, "verdict": verdict, "detail": "", **more})
