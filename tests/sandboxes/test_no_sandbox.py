import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from harness.errors import BudgetSpent, TrialError
from harness.meter import Unmetered, metered
from harness.protocols import Sandbox
from harness.sandboxes import NoSandbox
from harness.sandboxes.folder import remove
from tests.sandboxes.test_sandbox import MIB, STUBBORN, gone, marked, python


def test_a_command_works_in_the_folder_and_what_it_writes_stays(tmp_path):
    assert isinstance(NoSandbox(), Sandbox)
    with NoSandbox().open(tmp_path) as box:
        box.write("in.txt", "5")
        done = box.run(["sh", "-c", "cat in.txt; echo; pwd; echo out > out.txt; echo err >&2; exit 3"])
        assert (done.exit_code, done.ended, done.output) == (3, "exit", f"5\n{tmp_path}\nerr\n")
        assert box.read("out.txt") == "out\n"
        with pytest.raises(ValueError, match="leads out"):
            box.read("../secret")
        with pytest.raises(FileNotFoundError):
            box.run(["no-such-program-here"])
        with pytest.raises(ValueError, match="no command"):
            box.run([])
        assert box.run(["sh", "-c", "kill -TERM $$"]).exit_code == -signal.SIGTERM
    assert NoSandbox().conditions() == {"sandbox": "none"}
    assert NoSandbox().works() == ""


def test_the_environment_is_built_from_nothing_and_home_and_temporary_files_go_away():
    with NoSandbox().open() as box:
        seen = box.run(["sh", "-c", "env; touch $HOME/x $TMPDIR/y"], environment={"GIVEN": "yes"}).output
        folder = box.folder
    told = dict(line.split("=", 1) for line in seen.splitlines())
    assert set(told) <= {"HOME", "LANG", "PATH", "GIVEN", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "RATCHET_COMMAND"}
    assert told["HOME"] != os.environ.get("HOME")
    assert not Path(told["HOME"]).exists()
    assert not folder.exists()


def test_one_loud_line_says_so_once_a_process():
    code = "from harness.sandboxes import NoSandbox\nfor _ in range(3):\n    with NoSandbox().open() as box: pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("NO SANDBOX") == 1
    assert "install bubblewrap" in done.stderr


@pytest.mark.parametrize("waits", [True, False])
def test_daemons_that_ignore_signals_are_gone_when_the_command_is(waits, tmp_path):
    mark = f"bare-stubborn-{waits}-{tmp_path.name}-{os.getpid()}"
    with NoSandbox().open() as box:
        done = box.run([*python(STUBBORN.format(waits=waits)), mark], seconds=0.5)
        assert marked(mark) == []
    assert done.output == "started\n"
    assert (done.ended, done.exit_code) == (("timeout", -9) if waits else ("exit", 0))


def test_limits_hold(tmp_path):
    mark = f"bare-bomb-{tmp_path.name}-{os.getpid()}"
    with NoSandbox(memory=96 * MIB, output=MIB, processes=20, disk=2 * MIB).open() as box:
        assert box.run(["sh", "-c", "echo first; yes"]).ended == "output"
        shared = """
            import os, time
            for _ in range(3):
                if os.fork() == 0:
                    os.setsid()
                    x = bytearray(b"x" * 40_000_000)
                    time.sleep(20)
            time.sleep(20)
        """
        assert box.run(python(shared)).ended == "memory"
        bomb = "import os, time\nfor _ in range(6): os.fork()\ntime.sleep(60)"
        assert box.run([*python(bomb), mark]).ended == "processes"
        assert marked(mark) == []
        assert box.run(["sh", "-c", "head -c 3000000 /dev/zero > big"]).exit_code != 0
        full = box.run(["sh", "-c", "for i in 1 2 3 4 5 6; do head -c 2000000 /dev/zero > $i; done; sleep 20"])
        assert full.ended == "output"
        modest = box.run(python("x = bytearray(b'x' * 40_000_000); print(len(x))"))
        assert modest.output == "40000000\n"
        assert modest.peak_memory > 40_000_000


def test_the_stop_button_ends_a_command(tmp_path):
    class Stopped(Unmetered):
        def check_clock(self) -> None:
            if marked(mark):
                raise BudgetSpent("stopped", "a person stopped it")

    mark = f"bare-stopped-{tmp_path.name}-{os.getpid()}"
    with NoSandbox().open() as box, metered(Stopped()), pytest.raises(BudgetSpent):
        box.run(["sh", "-c", f": {mark}; sleep 60; true"])
    assert marked(mark) == []


def test_killing_us_leaves_no_process_behind(tmp_path):
    mark = f"bare-orphan-{tmp_path.name}-{os.getpid()}"
    code = f"""
        from harness.sandboxes import NoSandbox
        with NoSandbox().open() as box:
            box.run([*{python(STUBBORN.format(waits=True))!r}, {mark!r}])
    """
    ours = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        until = time.monotonic() + 20
        while len([pid for pid in marked(mark) if pid != ours.pid]) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert len(marked(mark)) >= 2
    finally:
        ours.kill()
        ours.wait()
    assert gone(mark)


def test_a_command_that_kills_its_watcher_is_ended_all_the_same_and_no_end_of_the_command(tmp_path):
    mark = f"bare-killer-{tmp_path.name}-{os.getpid()}"
    killer = "import os, time\nos.fork() or os.setsid()\nos.kill(os.getppid(), 9)\ntime.sleep(60)"
    with NoSandbox().open() as box:
        with pytest.raises(TrialError) as failed:
            box.run([*python(killer), mark])
        assert failed.value.boundary == "sandbox"
        assert gone(mark, within=1.0)


def test_many_at_once_end_each_for_itself():
    ended: dict[int, int] = {}
    with NoSandbox().open() as box:

        def run(n: int) -> None:
            ended[n] = box.run(["sh", "-c", f"sleep 0.05; exit {n}"]).exit_code

        threads = [threading.Thread(target=run, args=[n]) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ended == {n: n for n in range(6)}


def test_what_is_placed_is_a_link(tmp_path):
    (tmp_path / "large").write_text("from outside")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "shown").touch()
    with NoSandbox(placed={"shown": tmp_path / "large"}).open(tmp_path / "folder") as box:
        assert box.run(["cat", "shown"]).output == "from outside"
        assert box.run(["cat", "shown"]).output == "from outside"


def test_a_folder_is_removed_however_deep_it_is_and_whatever_rights_were_taken(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "closed" / "in").mkdir(parents=True)
    (folder / "closed" / "in" / "x").touch()
    (folder / "closed" / "in").chmod(0)
    (folder / "closed").chmod(0)
    os.mkfifo(folder / "pipe")
    subprocess.run(
        ["python3", "-S", "-c", "import os\nfor _ in range(120): os.mkdir('n' * 50); os.chdir('n' * 50)"], cwd=folder
    )
    remove(folder)
    remove(folder)
    assert list(tmp_path.iterdir()) == [outside]
    assert (outside / "kept.txt").exists()
