import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.experiment import describe, digest
from harness.worktrees import Worktree


@pytest.fixture
def source(tmp_path) -> Path:
    made = tmp_path / "project"
    for path, data in {
        "README.md": b"# A project\n\nIt adds.\n",
        "src/add.py": b"def add(a, b):\n    return a + b\n",
        "run.sh": b"#!/bin/sh\necho hello\n",
        "logo.png": bytes(range(256)),
        "notes/latin.txt": b"caf\xe9\n",
        ".git/config": b"[core]\n",
        "src/__pycache__/add.pyc": b"x",
    }.items():
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_bytes(data)
    (made / "run.sh").chmod(0o755)
    (made / "docs").symlink_to("notes")
    return made


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files and links, as they are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = (0, os.fsencode(path.readlink()))
        elif path.is_file():
            found[name] = (path.stat().st_mode & 0o100, path.read_bytes())
    return found


def test_each_trial_gets_a_copy_of_all_files_but_gits_and_pythons(source, tmp_path):
    Worktree(source).prepare(tmp_path / "trial" / "1")
    copied = contents(tmp_path / "trial" / "1")
    assert copied == {
        path: data for path, data in contents(source).items() if ".git" not in path and "__pycache__" not in path
    }
    assert copied["docs"] == (0, b"notes")
    assert [path.name for path in (tmp_path / "trial").iterdir()] == ["1"]


def test_a_trial_that_has_begun_is_not_written_over(source, tmp_path):
    worktree = Worktree(source)
    worktree.prepare(tmp_path / "trial")
    (tmp_path / "trial" / "README.md").write_text("mine")
    with pytest.raises(OSError, match="not empty"):
        worktree.prepare(tmp_path / "trial")
    assert (tmp_path / "trial" / "README.md").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "trial"]


def test_another_project_is_another_experiment_and_another_place_is_not(source, tmp_path):
    first = Worktree(source)
    shutil.copytree(source, tmp_path / "copy", symlinks=True)
    assert digest(describe(Worktree(str(tmp_path / "copy")))) == digest(describe(first))
    (source / "README.md").write_text("# Another\n")
    assert digest(describe(Worktree(source))) != digest(describe(first))
    assert Worktree(source).digest in repr(Worktree(source))
    with pytest.raises(UserError, match="have changed"):
        first.prepare(tmp_path / "trial")


def test_two_trials_that_edit_the_same_file_both_keep_what_they_did(source, tmp_path):
    worktree = Worktree(source)
    before = contents(source)

    def trial(n: int) -> str:
        folder = tmp_path / f"trial-{n}"
        worktree.prepare(folder)
        (folder / "README.md").write_text(f"# A project\n\nIt adds {n}.\n")
        return worktree.patch(folder)

    with ThreadPoolExecutor(2) as pool:
        patches = list(pool.map(trial, range(2)))
    for n, patch in enumerate(patches):
        assert f"+It adds {n}." in patch
        worktree.apply(patch, tmp_path / f"again-{n}")
        assert (tmp_path / f"again-{n}" / "README.md").read_text() == f"# A project\n\nIt adds {n}.\n"
    assert contents(source) == before


def test_a_patch_is_what_git_would_say_and_the_same_each_time(source, tmp_path):
    worktree, folder = Worktree(source), tmp_path / "trial"
    worktree.prepare(folder)
    assert worktree.patch(folder) == ""
    (folder / "src" / "add.py").write_text("def add(a, b):\n    return b + a\n")
    patch = worktree.patch(folder)
    assert patch == worktree.patch(folder)
    assert patch.splitlines()[0] == "diff --git a/src/add.py b/src/add.py"
    assert patch.splitlines()[-4:] == [
        "@@ -1,2 +1,2 @@",
        " def add(a, b):",
        "-    return a + b",
        "+    return b + a",
    ]
    shutil.copytree(source, tmp_path / "checked")
    subprocess.run(["git", "apply"], input=patch, text=True, cwd=tmp_path / "checked", check=True)
    assert (tmp_path / "checked" / "src" / "add.py").read_text() == "def add(a, b):\n    return b + a\n"


names = st.sampled_from(
    ["a", "b.txt", "sp ace", "ü✓", 'quo"te', "tab\t", "[x]*", "back\\slash", "new\nline", "-dash", "git~1"]
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
datas = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.sampled_from([b"", b"no end of line", b"crlf\r\nlines\r\n", b"\xff\xfe\n", b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n"]),
)
edits = st.dictionaries(
    paths, st.one_of(st.none(), st.tuples(st.sampled_from([0o644, 0o755, None]), datas)), max_size=6
)


def edit(folder: Path, changes) -> None:
    """Do *changes*: path → deleted, or its mode (no mode: a link) and data; those that cannot be are left out."""
    for path, change in changes.items():
        target = folder / path
        if change is None or target.is_dir() or any(p.is_symlink() or p.is_file() for p in target.parents):
            if target.is_file() or target.is_symlink():
                target.unlink()
            continue
        mode, data = change
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if mode is None:
            target.symlink_to(data.decode(errors="ignore").replace("\0", "") or "x")
        else:
            target.write_bytes(data)
            target.chmod(mode)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=edits, after=edits)
def test_a_patch_brings_back_any_edit(tmp_path_factory, before, after):
    root = tmp_path_factory.mktemp("any")
    (root / "project").mkdir()
    edit(root / "project", {path: change for path, change in before.items() if change and change[0]})
    worktree = Worktree(root / "project")
    worktree.prepare(root / "trial")
    edit(root / "trial", after)
    patch = worktree.patch(root / "trial")
    patch.encode()
    worktree.apply(patch, root / "again")
    assert contents(root / "again") == contents(root / "trial")


def a_new_file(path: str, mode: str = "100644", line: str = "x") -> str:
    return f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{line}\n"


REFUSED = {
    "no patch": "hello",
    "no such file": "diff --git a/nowhere b/nowhere\n--- a/nowhere\n+++ b/nowhere\n@@ -1 +1 @@\n-x\n+y\n",
    "above": a_new_file("../out"),
    "absolute": a_new_file("/tmp/out"),
    "through a link": a_new_file("docs/x"),
    "git": a_new_file(".git/hooks/x", "100755"),
    "submodule": a_new_file("sub", "160000", "Subproject commit " + 40 * "1"),
    "surrogate": a_new_file("x", line="a\ud800b"),
}


@pytest.mark.parametrize("patch", REFUSED.values(), ids=REFUSED)
def test_a_patch_that_does_not_apply_or_leads_out_is_refused(source, tmp_path, patch):
    with pytest.raises(ValueError):  # noqa: PT011
        Worktree(source).apply(patch, tmp_path / "trial")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]


def test_nothing_that_a_trial_leaves_behind_makes_git_run_it_or_look_outside(source, tmp_path):
    worktree, folder, marker = Worktree(source), tmp_path / "trial", tmp_path / "ran"
    (tmp_path / "secret").write_text("hunter2")
    worktree.prepare(folder)
    program = folder / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    with (folder / ".git" / "config").open("a") as config:
        for key in ("diff.external", "core.fsmonitor", "core.hooksPath", "core.pager"):
            section, _, name = key.partition(".")
            config.write(f"[{section}]\n\t{name} = {program}\n")
        config.write(
            f'[diff "evil"]\n\ttextconv = {program}\n\tcommand = {program}\n[filter "evil"]\n\tclean = {program}\n'
        )
    (folder / ".gitattributes").write_text("* diff=evil filter=evil text eol=crlf\n")
    (folder / ".gitconfig").write_text(f"[diff]\n\texternal = {program}\n")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "outer").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "README.md").write_bytes(b"# crlf\r\nand lf\n")
    patch = worktree.patch(folder)
    worktree.apply(patch, tmp_path / "again")
    assert not marker.exists()
    assert "hunter2" not in patch
    assert "diff.external" not in patch
    assert (tmp_path / "again" / "README.md").read_bytes() == b"# crlf\r\nand lf\n"
    assert (tmp_path / "again" / "out").readlink() == tmp_path / "secret"
    assert not (tmp_path / "again" / ".git").exists()


def test_the_state_is_that_of_the_contents_alone(source, tmp_path):
    worktree, folder = Worktree(source), tmp_path / "trial"
    worktree.prepare(folder)
    first = worktree.state(folder)
    text = (folder / "README.md").read_text()
    (folder / "README.md").write_text("changed")
    changed = worktree.state(folder)
    (folder / "README.md").write_text(text)
    os.mkfifo(folder / "pipe")
    (folder / "__pycache__").mkdir()
    assert worktree.state(folder) == first != changed
    (folder / "run.sh").chmod(0o644)
    assert worktree.state(folder) != first
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert worktree.state(folder) != first
    shutil.rmtree(folder)
    worktree.state(folder)


def test_what_is_too_much_for_a_worktree_is_said(source, tmp_path):
    worktree, folder = Worktree(source), tmp_path / "trial"
    worktree.prepare(folder)
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="1,099,511,627,776 bytes"):
        worktree.patch(folder)
    (folder / "sparse").unlink()
    deep = folder
    for _ in range(70):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(ValueError, match="64 folders"):
        worktree.patch(folder)
    with pytest.raises(UserError, match="smaller folder"):
        Worktree(folder)


def test_a_source_that_is_none_is_refused(source, tmp_path):
    with pytest.raises(UserError, match="no folder"):
        Worktree(tmp_path / "nowhere")
    (source / "out").symlink_to("../secret")
    with pytest.raises(UserError, match="points out"):
        Worktree(source)
