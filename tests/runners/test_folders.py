import os
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.meter import Unmetered, metered
from harness.runners.folders import filled_folder, match, version_files
from harness.worktrees import File

FILES = {
    "train.py": File("100644", b"print(1)\n"),
    "run.sh": File("100755", b"#!/bin/sh\n"),
    "lib/model.py": File("100644", b"MODEL = 1\n"),
    "lib/deep/er.txt": File("100644", b""),
    "link": File("120000", b"train.py"),
}
FOLDERS = frozenset({"data", "lib/empty"})
NAMES = [*FILES, *FOLDERS, "lib", "lib/deep", "new", "lib/new", "data/new"]


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that one can tell of what is in *folder*, but for the times."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        kind = stat.S_IFMT(about.st_mode)
        data = path.read_bytes() if kind == stat.S_IFREG else path.readlink() if kind == stat.S_IFLNK else None
        links = about.st_nlink if kind == stat.S_IFREG else 0
        attributes = os.listxattr(path, follow_symlinks=False)
        found[str(path.relative_to(folder))] = (kind, about.st_mode, data, links, about.st_uid, attributes)
    return found


def mess(top: Path, what: str, name: str, other: str) -> None:
    """One thing that a candidate may do to its folder."""
    path, second = top / name, top / other
    with suppress(OSError):
        match what:
            case "write":
                data = b"x" * path.lstat().st_size if path.exists() else b"new"
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK)  # also of a pipe
                os.write(file, data)
                os.close(file)
            case "grow":
                os.truncate(path, 1 << 20)
            case "delete":
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            case "rename":
                path.rename(second)
            case "folder":
                path.unlink()
                path.mkdir()
                (path / "inner").write_text("x")
            case "link":
                path.unlink()
                path.symlink_to(second)
            case "second name":
                os.link(path, second)
            case "rights":
                path.chmod(0o000 if path.is_dir() else 0o4777)
            case "attribute":
                os.setxattr(path, "user.answer", b"42")
            case "pipe":
                path.unlink()
                os.mkfifo(path)
            case "time":
                os.utime(path, (42, 42))


DEEDS = ["write", "grow", "delete", "rename", "folder", "link", "second name", "rights", "attribute", "pipe", "time"]


@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=8))
def test_whatever_a_trial_does_to_its_folder_the_next_one_finds_what_a_new_folder_holds(tmp_path_factory, deeds):
    root = tmp_path_factory.mktemp("folders")
    new, used, outside = root / "new", root / "used", root / "outside"
    new.mkdir()
    used.mkdir()
    outside.write_text("of nobody's business")
    match(new, FILES, FOLDERS)
    match(used, {"old.py": File("100644", b"old"), "lib": File("100644", b"a file")})
    match(used, FILES, FOLDERS)
    (used / "way out").symlink_to(outside)
    for deed in deeds:
        mess(used, *deed)
    before = time.time_ns()
    match(used, FILES, FOLDERS)
    assert seen(used) == seen(new)
    assert all(path.lstat().st_mtime_ns >= before - 10**9 for path in (used, *used.rglob("*")))
    assert outside.read_text() == "of nobody's business"


class Book(Unmetered):
    def __init__(self, work: Path) -> None:
        super().__init__()
        self.folder, self.spare = work / "trial", work / "spare"


def test_a_trial_takes_over_the_folder_that_one_before_left_and_finds_nothing_of_it(tmp_path):
    with metered(Book(tmp_path)):
        with filled_folder("trial-", FILES) as first:
            kept, changed = (first / "lib/model.py").stat().st_ino, first / "train.py"
            changed.write_text("print(2)\n")
            (first / "answers").mkdir()
            (first / "answers" / "1").write_text("42")
        [left] = (tmp_path / "spare").iterdir()
        assert not (left / "answers").exists(), "what a trial leaves takes room until the next one begins"
        with filled_folder("trial-", FILES, FOLDERS) as second:
            assert (second / "lib/model.py").stat().st_ino == kept
            assert changed != second / "train.py"
            assert (second / "train.py").read_text() == "print(1)\n"
            assert list((tmp_path / "spare").iterdir()) == []


def test_trials_at_once_have_a_folder_each_and_a_trial_that_is_broken_off_leaves_none(tmp_path):
    with metered(Book(tmp_path)):
        with filled_folder("trial-", FILES) as one, filled_folder("trial-", FILES) as two:
            assert one != two
        assert len(list((tmp_path / "spare").iterdir())) == 2
        with pytest.raises(KeyboardInterrupt), filled_folder("trial-", FILES):
            raise KeyboardInterrupt
        with filled_folder("other-", FILES):
            assert len(list((tmp_path / "spare").iterdir())) == 1
        assert len(list((tmp_path / "spare").iterdir())) == 2


def test_a_folder_that_cannot_be_brought_back_is_not_used_again(tmp_path):
    with metered(Book(tmp_path)):
        with filled_folder("trial-", FILES):
            pass
        [left] = (tmp_path / "spare").iterdir()
        (left / "deep").mkdir()
        stuck = left / "deep" / "stuck"
        stuck.write_text("")
        if subprocess.run(["chattr", "+i", stuck], check=False, capture_output=True).returncode:
            pytest.skip("only root makes a file that cannot be removed, and not on every disk")
        try:
            with filled_folder("trial-", FILES) as folder:
                found = seen(folder)
        finally:
            for path in tmp_path.rglob("stuck"):
                subprocess.run(["chattr", "-i", path], check=True)
        new = tmp_path / "new"
        new.mkdir()
        match(new, FILES)
        assert found == seen(new)


def test_outside_of_a_run_a_folder_goes_with_its_trial():
    with filled_folder("trial-", version_files({"run.sh": "#!/bin/sh\n", "a/b.py": "1"})) as folder:
        assert seen(folder).keys() == {"run.sh", "a", "a/b.py"}
        assert os.access(folder / "run.sh", os.X_OK)
        assert not os.access(folder / "a/b.py", os.X_OK)
    assert not folder.exists()
