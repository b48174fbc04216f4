import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.agent.files import file_tools
from harness.agent.tools import arguments_of, specs
from harness.errors import ToolError, UserError
from harness.protocols import Work
from harness.sandboxes import best_sandbox
from harness.testing import FakeSandbox
from traces.records import Task, ToolCall

TASK = Task(id="t", input="Do it.")
TOOLS = {tool.name: tool for tool in file_tools()}


@pytest.fixture(scope="session")
def sandbox():
    try:
        return best_sandbox()
    except UserError as e:
        pytest.skip(str(e))


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "trial"
    for path, text in {
        "README.md": "# A project\n\nIt adds.\n",
        "src/add.py": "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n",
        "src/deep/er/mul.py": "def mul(a, b):\n    return a * b\n",
        "crlf.txt": "one\r\ntwo\r\n",
        ".git/config": "def hidden():\n",
    }.items():
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_bytes(text.encode())
    return made


@pytest.fixture
def use(sandbox, folder):
    """Call a tool as a session does: the arguments are checked first."""
    with sandbox.open(folder) as box:

        def call(name: str, seconds: float = 20.0, **arguments) -> str:
            fit = arguments_of(TOOLS[name], ToolCall(id="1", name=name, arguments=arguments))
            return TOOLS[name].call(fit, Work(TASK, {}, box, seconds=seconds))

        yield call


def refused(use, name: str, **arguments) -> ToolError:
    with pytest.raises(ToolError) as error:
        use(name, **arguments)
    return error.value


def test_a_model_is_shown_six_tools_with_what_they_are_for():
    shown = specs(file_tools())
    assert [s.name for s in shown] == [
        "edit_file",
        "list_files",
        "read_file",
        "run_command",
        "search_files",
        "write_file",
    ]
    assert all(len(s.description) > 60 for s in shown)
    effects = {name: tool.effect for name, tool in TOOLS.items()}
    assert {name for name, effect in effects.items() if effect == "none"} == {"read_file", "list_files", "search_files"}
    assert set(effects.values()) == {"none", "worktree"}


@pytest.mark.parametrize("name", TOOLS)
def test_without_a_sandbox_each_says_what_to_configure(name):
    with pytest.raises(ToolError, match="sandbox=best_sandbox") as error:
        TOOLS[name].call({}, Work(TASK, {}))
    assert error.value.error_class == "permission"


# ── one file ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_read_with_the_numbers_of_its_lines_a_part_at_a_time(use, folder):
    assert use("read_file", path="README.md") == "     1\t# A project\n     2\t\n     3\tIt adds."
    part = use("read_file", path="src/add.py", offset=2, limit=1)
    assert part == "     2\t    return a + b\n(4 of 6 lines follow; go on with offset=3)"
    (folder / "empty").write_text("")
    assert use("read_file", path="empty") == "empty is empty"
    assert "offset is 9" in str(refused(use, "read_file", path="README.md", offset=9))


def test_whatever_is_in_a_file_what_is_shown_is_bounded(use, folder):
    (folder / "long").write_text("x" * 1_000_000)
    (folder / "many").write_text("line\n" * 100_000)
    (folder / "wide").write_text(("y" * 5_000 + "\n") * 1_000)
    for name in ("long", "many", "wide"):
        assert len(use("read_file", path=name)) < 30_000
    assert "(999,000 more characters)" in use("read_file", path="long")
    assert use("read_file", path="many").endswith("go on with offset=1001)")


@pytest.mark.parametrize(
    ("path", "error_class"),
    [
        ("nowhere.py", "not_found"),
        ("src", "arguments"),
        ("../secret", "arguments"),
        ("/etc/passwd", "arguments"),
        ("out", "arguments"),
        ("pipe", "arguments"),
        ("sparse", "arguments"),
        ("README.md/x", "failed"),
        ("a\0b", "arguments"),
        ("x" * 300, "failed"),
    ],
)
def test_a_path_that_cannot_be_read_is_said_and_nothing_is_told_of_outside(use, folder, path, error_class):
    (folder.parent / "secret").write_text("hunter2")
    (folder / "out").symlink_to("../secret")
    os.mkfifo(folder / "pipe")
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    for name, further in (("read_file", {}), ("edit_file", {"old": "hunter2", "new": "x"})):
        error = refused(use, name, path=path, **further)
        assert error.error_class == error_class
        assert error.safe_to_repeat
        assert "hunter2" not in str(error).replace("`hunter2`", "")


def test_a_file_is_written_with_the_folders_on_its_way(use, folder):
    assert use("write_file", path="docs/new/a.md", text="ü\nb") == "wrote docs/new/a.md: 2 lines, 4 bytes"
    assert (folder / "docs" / "new" / "a.md").read_bytes() == "ü\nb".encode()
    (folder.parent / "secret").write_text("hunter2")
    (folder / "out").symlink_to("../secret")
    for path in ("out", "../secret", "src"):
        assert refused(use, "write_file", path=path, text="x").error_class == "arguments"
    assert (folder.parent / "secret").read_text() == "hunter2"


def test_an_edit_changes_the_one_place_and_shows_it(use, folder):
    shown = use("edit_file", path="src/add.py", old="    return a + b\n", new="    # adds\n    return b + a\n")
    assert (folder / "src" / "add.py").read_text().startswith("def add(a, b):\n    # adds\n    return b + a\n\n")
    assert "     2\t    # adds\n     3\t    return b + a\n" in shown


def test_edits_of_one_file_at_the_same_time_are_all_kept(use, folder):
    (folder / "list").write_text("".join(f"<{n}>\n" for n in range(40)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: use("edit_file", path="list", old=f"<{n}>", new=f"[{n}]"), range(40)))
    assert (folder / "list").read_text() == "".join(f"[{n}]\n" for n in range(40))


def test_an_edit_of_text_that_is_there_twice_or_not_at_all_says_where_to_look(use, folder):
    before = (folder / "src" / "add.py").read_bytes()
    twice = refused(use, "edit_file", path="src/add.py", old="(a, b):", new="(x, y):")
    assert "2 times, at lines 1, 5" in str(twice)
    similar = refused(use, "edit_file", path="src/add.py", old="def sub(a,b):\n  return a-b", new="x")
    assert "     5\tdef sub(a, b):" in str(similar)
    nothing = refused(use, "edit_file", path="src/add.py", old="class Unheard:", new="x")
    assert "Read the file again" in str(nothing)
    for old, new in (("", "x"), ("def add", "def add")):
        assert refused(use, "edit_file", path="src/add.py", old=old, new=new).error_class == "arguments"
    overlapping = refused(use, "edit_file", path="README.md", old="\n", new="x")
    assert "3 times" in str(overlapping)
    assert (folder / "src" / "add.py").read_bytes() == before


def test_an_edit_keeps_line_breaks_and_never_spoils_what_is_no_text(use, folder):
    use("edit_file", path="crlf.txt", old="one\ntwo\n", new="one\n2\n")
    assert (folder / "crlf.txt").read_bytes() == b"one\r\n2\r\n"
    (folder / "latin").write_bytes(b"caf\xe9 one\n")
    assert "not UTF-8" in str(refused(use, "edit_file", path="latin", old="one", new="two"))
    assert (folder / "latin").read_bytes() == b"caf\xe9 one\n"


# ── all files ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (None, ["README.md", "crlf.txt", "src/add.py", "src/deep/er/mul.py"]),
        ("*.py", ["src/add.py", "src/deep/er/mul.py"]),
        ("src/*.py", ["src/add.py"]),
        ("src/**/*.py", ["src/add.py", "src/deep/er/mul.py"]),
        ("./src/", ["src/add.py", "src/deep/er/mul.py"]),
        ("[!a-z]*.md", ["README.md"]),
        ("????.txt", ["crlf.txt"]),
        ("[z-a]*", ["no file matches [z-a]*"]),
        ("../*", ["no file matches ../*"]),
    ],
)
def test_files_are_listed_by_pattern(use, pattern, found):
    assert use("list_files", **({"pattern": pattern} if pattern else {})).splitlines() == found


def test_lines_are_found_by_expression(use, folder):
    assert use("search_files", regex=r"def \w+\(a") .splitlines() == [
        "src/add.py:1: def add(a, b):",
        "src/add.py:5: def sub(a, b):",
        "src/deep/er/mul.py:1: def mul(a, b):",
    ]  # fmt: skip
    assert use("search_files", regex="IT ADDS", files="*.md", ignore_case=True) == "README.md:3: It adds."
    assert use("search_files", regex="IT ADDS").startswith("no line matches")
    (folder / "binary").write_bytes(b"def x(a\0")
    (folder / "strange").write_bytes(b"needle \x1b[31m \xff\n")
    assert (
        use("search_files", regex="needle")
        == "strange:1: needle \N{REPLACEMENT CHARACTER}[31m \N{REPLACEMENT CHARACTER}"
    )
    assert "binary" not in use("search_files", regex=r"def x\(a")
    wrong = refused(use, "search_files", regex="(")
    assert (wrong.error_class, wrong.safe_to_repeat) == ("arguments", True)
    assert use("search_files", regex="[[a]dds") == "README.md:3: It adds."  # Python warns of such a one


def test_what_is_found_is_bounded_in_size_and_in_time(use, folder):
    (folder / "many").write_text("needle é\n" * 5_000)
    found = use("search_files", regex="needle")
    assert len(found.splitlines()) == 301
    assert found.endswith("(4700 more; narrow the search to see them)")
    (folder / "trap").write_text("a" * 60)
    begun = time.monotonic()
    hangs = refused(use, "search_files", regex="(a+)+$b", seconds=0.5)
    assert hangs.error_class == "timeout"
    assert time.monotonic() - begun < 10


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_tells_what_it_printed_and_how_it_ended(use, folder):
    assert use("run_command", command="echo out; echo err >&2") == "out\nerr\nexit code 0"
    assert use("run_command", command="exit 3") == "exit code 3"
    assert use(
        "run_command", command="python3 -c 'import sys; sys.path.insert(0, \"src\"); import add; print(add.add(1, 2))'"
    ).startswith("3\n")
    assert use("run_command", command="kill -9 $$") == "exit code -9 (signal 9 ended it)"
    assert len(use("run_command", command="yes | head -c 3000000")) < 25_000
    assert refused(use, "run_command", command="a\0b").error_class == "arguments"


def test_a_command_has_no_longer_than_the_call(use):
    begun = time.monotonic()
    late = refused(use, "run_command", command="echo begun; sleep 50", seconds=0.3)
    assert late.error_class == "timeout"
    assert str(late) == "begun\nended after 0.3 s, before it was done"
    assert late.safe_to_repeat is None
    assert time.monotonic() - begun < 10


def test_what_a_sandbox_lacks_is_said():
    def nothing(command, files):
        raise FileNotFoundError(command[0])

    with FakeSandbox(nothing).open() as box:
        for name, arguments in (
            ("run_command", {"command": "true"}),
            ("list_files", {}),
            ("search_files", {"regex": "x"}),
        ):
            with pytest.raises(ToolError, match="in the sandbox"):
                TOOLS[name].call(arguments, Work(TASK, {}, box))
