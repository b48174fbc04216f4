import fcntl
import os
import stat
import subprocess
from array import array
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.meter import Unmetered, metered
from harness.runners.folders import filled_folder, version_files
from harness.worktrees import File

FILES = {
    "train.py": File("100644", b"print(1)\n"),
    "run.sh": File("100755", b"#!/bin/sh\n"),
    "lib/model.py": File("100644", b"MODEL = 1\n"),
    "lib/deep/er.txt": File("100644", b""),
    "link": File("120000", b"train.py"),
}
OTHERS = {**FILES, "train.py": File("100755", b"print(2)\n"), "lib/new.py": File("100644", b"NEW\n")}
FOLDERS = frozenset({"data", "lib/empty"})
NAMES = [*FILES, *FOLDERS, "lib", "lib/deep", "new", "lib/new", "data/new"]


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that one can tell of what is in *folder*, but for when, and the places on the disk."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        about = path.lstat()
        kind = stat.S_IFMT(about.st_mode)
        data = path.read_bytes() if kind == stat.S_IFREG else path.readlink() if kind == stat.S_IFLNK else None
        more = about.st_nlink, about.st_size, about.st_blocks, about.st_uid, about.st_gid, flags(path)
        found[str(path.relative_to(folder))] = (about.st_mode, data, os.listxattr(path, follow_symlinks=False), *more)
    return found


def flags(path: Path, also: int = 0) -> int:
    """Of the inode, as ``chattr`` sets them; *also* is added. 0: the disk has none, or it is no file or folder."""
    if stat.S_IFMT(path.lstat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        return 0
    file = os.open(path, os.O_RDONLY)
    said = array("l", [0])
    try:
        fcntl.ioctl(file, 0x80086601, said)
        if also:
            fcntl.ioctl(file, 0x40086602, array("l", [said[0] | also]))
    except OSError:
        return 0
    finally:
        os.close(file)
    return said[0]


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
            case "reserve":
                subprocess.run(["fallocate", "-n", "-o", "8192", "-l", "1M", path], check=False, capture_output=True)
            case "delete":
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            case "rename":
                path.rename(second)
            case "crowd":
                made = [path / f"{'long' * 20} {n}" for n in range(200)]
                for one in made:
                    one.touch()
                for one in made:
                    one.unlink()
            case "link":
                path.unlink()
                path.symlink_to(second)
            case "second name":
                os.link(path, second)
            case "rights":
                path.chmod(0o000 if path.is_dir() else 0o4777)
            case "attribute":
                os.setxattr(path, "user.answer", b"42")
            case "flag":
                flags(path, also=0x8)
            case "pipe":
                path.unlink()
                os.mkfifo(path)
            case "time":
                os.utime(path, (42, 42))


DEEDS = ("write", "reserve", "delete", "rename", "crowd", "link", "second name", "rights", "attribute", "flag")
DEEDS += ("pipe", "time")


class Book(Unmetered):
    def __init__(self, work: Path) -> None:
        super().__init__()
        self.folder, self.spare = work / "trial", work / "spare"


@given(
    st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=4),
    st.permutations([FILES, OTHERS, FILES]),
)
def test_whatever_a_trial_does_to_its_folder_the_next_one_finds_what_a_new_folder_holds(
    tmp_path_factory, deeds, versions
):
    root = tmp_path_factory.mktemp("folders")
    outside = root / "outside"
    outside.write_text("of nobody's business")
    with metered(Book(root)):
        for files in versions:
            with filled_folder("trial-", files, FOLDERS) as folder:
                found, times = seen(folder), {path.lstat().st_mtime_ns for path in folder.rglob("*")}
                times |= {path.lstat().st_atime_ns for path in folder.rglob("*") if path.is_file()}
                with metered(Unmetered()), filled_folder("trial-", files, FOLDERS) as new:
                    assert found == seen(new)
                assert min(times) > 10**18
                (folder / "way out").symlink_to(outside)
                for deed in deeds:
                    mess(folder, *deed)
    assert outside.read_text() == "of nobody's business"


def test_a_trial_takes_over_what_one_before_has_left_and_finds_nothing_of_it(tmp_path):
    with metered(Book(tmp_path)):
        with filled_folder("trial-", FILES) as first:
            kept, top = (first / "lib/model.py").stat().st_ino, first.stat().st_ino
            assert (first / "lib").stat().st_size
            (first / "answers").mkdir()
            (first / "answers" / "1").write_text("42")
            (first / "lib" / "cache").write_text("42")
        [left] = (tmp_path / "spare").iterdir()
        assert not (left / "answers").exists(), "what a trial leaves takes room until the next one begins"
        with filled_folder("trial-", OTHERS, FOLDERS) as second:
            assert (second / "lib/model.py").stat().st_ino == kept
            assert second.stat().st_ino != top
            assert (second / "train.py").read_text() == "print(2)\n"
            assert sorted(path.name for path in (second / "lib").iterdir()) == ["deep", "empty", "model.py", "new.py"]
            assert list((tmp_path / "spare").iterdir()) == []
            (second / "lib/model.py").chmod(0o600)
            (second / "lib/model.py").chmod(0o644)
        assert list((tmp_path / "spare").iterdir()) == [], "a file was touched that was given"


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


def test_a_folder_that_somebody_deleted_in_part_is_made_anew(tmp_path):
    with metered(Book(tmp_path)):
        with filled_folder("trial-", FILES):
            pass
        [left] = (tmp_path / "spare").iterdir()
        (left / "train.py").unlink()
        with filled_folder("trial-", FILES) as folder, filled_folder("trial-", FILES) as new:
            assert seen(folder) == seen(new)


def test_outside_of_a_run_a_folder_goes_with_its_trial():
    with filled_folder("trial-", version_files({"run.sh": "#!/bin/sh\n", "a/b.py": "1"})) as folder:
        assert seen(folder).keys() == {".", "run.sh", "a", "a/b.py"}
        assert os.access(folder / "run.sh", os.X_OK)
        assert not os.access(folder / "a/b.py", os.X_OK)
    assert not folder.exists()
