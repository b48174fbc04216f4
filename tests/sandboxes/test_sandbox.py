import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.attack import snoop
from harness.errors import BudgetSpent, TrialError, UserError
from harness.meter import Unmetered, metered
from harness.protocols import Box, Sandbox
from harness.sandboxes import Bubblewrap, Namespaces, best_sandbox
from harness.sandboxes.isolation import gpus, keeps_namespaces
from traces.records import Task

MIB = 1 << 20


PROBES = {
    Bubblewrap: "bwrap --unshare-user --unshare-pid --unshare-net --ro-bind / / --proc /proc true",
    Namespaces: "unshare --user --map-root-user --mount --pid --net --fork --mount-proc true",
}


@functools.cache
def why_not(kind) -> str:
    """This machine does not let *kind* work, whatever we do: why."""
    try:
        done = subprocess.run(PROBES[kind].split(), capture_output=True, text=True, timeout=20)
    except FileNotFoundError as e:
        return str(e)
    return done.stderr or "it fails" if done.returncode else ""


@pytest.fixture(params=PROBES, ids=["bubblewrap", "unshare"], scope="session")
def kind(request):
    if why_not(request.param):
        pytest.skip(f"{request.param.name} does not work here: {why_not(request.param)}")
    return request.param


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "trial"
    made.mkdir()
    return made


def python(source: str) -> list[str]:
    return ["python3", "-I", "-S", "-c", textwrap.dedent(source)]


def marked(mark: str) -> list[int]:
    """The processes of this machine that have *mark* on their command line, this one apart."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def gone(mark: str, within: float = 5.0) -> bool:
    until = time.monotonic() + within
    while marked(mark) and time.monotonic() < until:
        time.sleep(0.02)
    return not marked(mark)


# ── what works ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_works_in_the_folder_and_what_it_writes_stays(kind, folder):
    (folder / "in.txt").write_text("5")
    assert isinstance(kind(), Sandbox)
    with kind().open(folder) as box:
        opened: Box = box
        done = opened.run(["sh", "-c", "cat in.txt; echo; pwd; echo out > out.txt; echo err >&2; exit 3"])
        assert (done.exit_code, done.ended) == (3, "exit")
        assert done.output == "5\n/worktree\nerr\n"
        assert box.read("out.txt") == "out\n"
        assert box.folder == folder
    assert (folder / "out.txt").read_text() == "out\n"


def test_without_a_folder_it_opens_on_one_that_goes_away(kind):
    with kind().open() as box:
        box.write("a/b.txt", "ü")
        assert box.run(["cat", "a/b.txt"]).output == "ü"
        there = box.folder
        assert there.is_dir()
    assert not there.exists()


def test_the_python_that_runs_us_runs_inside(kind):
    with kind().open() as box:
        done = box.run(["python3", "-c", "import sys, ssl, sqlite3; print(sys.version)"])
    assert done.output.strip() == sys.version


def test_a_program_that_is_not_there_is_told_from_one_that_failed(kind, folder):
    (folder / "plain.txt").write_text("no program")
    with kind().open(folder) as box:
        with pytest.raises(FileNotFoundError):
            box.run(["no-such-program-here"])
        with pytest.raises(ValueError, match="no command"):
            box.run([])
        refused = box.run(["./plain.txt"])
        assert (refused.exit_code, refused.ended) == (126, "exit")
        assert "Permission denied" in refused.output
        assert box.run(["sh", "-c", "kill -TERM $$"]).exit_code == -signal.SIGTERM


def test_a_sandbox_that_does_not_open_is_an_error_of_the_sandbox_and_no_end_of_the_command(tmp_path, kind):
    with pytest.raises(FileNotFoundError), kind().open(tmp_path / "nowhere"):
        pass
    with kind().open() as box:
        box.folder.rmdir()
        with pytest.raises(TrialError) as failed:
            box.run(["true"])
        assert failed.value.boundary == "sandbox"
        box.folder.mkdir()


def test_the_best_sandbox_is_one_that_works_here(kind):
    best = best_sandbox(seconds=5.0)
    assert best.seconds == 5.0
    assert best.conditions() == {"sandbox": best.name}
    with best.open() as box:
        assert box.run(["echo", "hello"]).output == "hello\n"


def test_without_any_program_for_it_the_user_is_told_what_to_install():
    code = "from harness.sandboxes import best_sandbox; best_sandbox()"
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": "/nowhere"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "UserError" in done.stderr
    assert "apt install bubblewrap" in done.stderr


def test_with_unshare_alone_it_is_used_and_one_line_says_so(tmp_path):
    if why_not(Namespaces):
        pytest.skip(f"unshare does not work here: {why_not(Namespaces)}")
    (tmp_path / "unshare").symlink_to(shutil.which("unshare"))
    code = "from harness.sandboxes import best_sandbox; print(best_sandbox().name)"
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout == "unshare\n"
    assert done.stderr.count("SANDBOX") == 1
    assert "install bubblewrap" in done.stderr


def test_many_commands_at_once_in_many_threads_end_each_for_itself(kind):
    with kind().open() as box, ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: box.run(["sh", "-c", f"sleep 0.05; echo {n}; exit {n}"]), range(16)))
    assert [(d.exit_code, d.output) for d in done] == [(n, f"{n}\n") for n in range(16)]


# ── what cannot be seen ────────────────────────────────────────────────────────────────────────────────────────


def test_no_file_outside_of_the_folder_can_be_read_or_written(kind, folder):
    secret = folder.parent / "shadow"
    secret.write_text("hunter2")
    repository = Path(__file__).parents[2]
    with kind().open(folder) as box:
        seen = box.run(
            [
                "sh",
                "-c",
                f"cat {secret} ../trial/../shadow /etc/shadow /root/.ssh/* /home/*; ls {repository}; ls -a /tmp",
            ]
        )
        assert "hunter2" not in seen.output
        assert "pyproject.toml" not in seen.output
        assert box.run(["ls", "/tmp"]).output == "home\n"
        for place in ("/", "/usr", "/etc", "/dev", "/usr/bin", "/proc/sys/kernel/core_pattern", sys.base_prefix):
            tried = box.run(["sh", "-c", f"echo x > {place}/x || echo x > {place}"])
            assert tried.exit_code != 0, place
    assert secret.read_text() == "hunter2"


def test_nothing_can_be_mounted_or_made_writable_again(kind):
    tries = (
        "mount -o remount,rw,bind /usr",
        "umount /proc",
        "mount -t tmpfs none /usr",
        "chroot / true",
        "mknod x b 8 0",
    )
    with kind().open() as box:
        for trial in tries:
            assert box.run(["sh", "-c", f"PATH=$PATH:/usr/sbin; {trial}"]).exit_code != 0, trial
        status = box.run(["cat", "/proc/self/status"]).output
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_nobody_makes_namespaces_of_his_own_to_mount_memory_in(kind):
    if kind is Bubblewrap and not keeps_namespaces():
        pytest.skip("this bubblewrap cannot")
    tried = "import ctypes; raise SystemExit(40 - ctypes.CDLL(None).unshare(0x10020000))"
    with kind().open() as box:
        assert box.run(python(tried)).exit_code == 41
        assert box.run(["sh", "-c", "echo 9 > /proc/sys/user/max_user_namespaces"]).exit_code != 0


def test_the_environment_is_built_from_nothing(kind):
    with kind().open() as box:
        seen = box.run(["sh", "-c", "env; cat /proc/[0-9]*/environ"], environment={"GIVEN": "yes"}).output
    named = {line.partition("=")[0] for line in seen.replace("\0", "\n").splitlines() if "=" in line}
    assert {"HOME", "LANG", "PATH", "GIVEN"} <= named
    assert named <= {"HOME", "LANG", "PATH", "GIVEN", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "LC_CTYPE"}
    assert not named & set(os.environ) - {"HOME", "LANG", "PATH", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "LC_CTYPE"}


def test_a_variable_for_the_command_does_nothing_outside_of_it(kind, folder):
    marker = folder.parent / "ran-outside"
    (folder / "sitecustomize.py").write_text(f"open({str(marker)!r}, 'w')")
    hostile = {
        "PYTHONPATH": str(folder),
        "PYTHONSTARTUP": str(folder),
        "LD_PRELOAD": str(folder / "x.so"),
        "PATH": "/usr/bin",
    }
    with kind().open(folder) as box:
        assert "PATH=/usr/bin" in box.run(["env"], environment=hostile).output
    assert not marker.exists()


def test_the_network_is_off_by_default_and_can_be_allowed(kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('connected')"
        with kind().open() as box:
            alone = box.run(["python3", "-c", code])
        with kind(network=True).open() as box:
            allowed = box.run(["python3", "-c", code])
    assert "ConnectionRefusedError" in alone.output
    assert allowed.output == "connected\n"


def test_a_command_can_talk_to_itself(kind):
    code = """
        import socket
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), 2)
            print("connected")
    """
    with kind().open() as box:
        assert box.run(["python3", "-c", textwrap.dedent(code)]).output == "connected\n"


def test_no_other_process_can_be_seen_or_signalled(kind):
    with kind().open() as box:
        pids = box.run(["sh", "-c", "ls /proc | grep -E '^[0-9]+$'"]).output.split()
        assert len(pids) <= 4
        assert str(os.getpid()) not in pids
        assert box.run(["sh", "-c", "kill -9 1; kill -2 1; kill -9 0; true"]).ended == "exit"
        assert box.run(["sh", "-c", "kill -9 -1; sleep 0.1; echo still here"]).ended == "exit"
        assert box.run(["sh", "-c", "cat /proc/1/mem /proc/1/fd/0 /proc/1/environ"]).exit_code != 0


def test_hidden_folders_stay_hidden_in_what_may_be_read(kind, tmp_path):
    data = tmp_path / "data"
    (data / "answers" / "public").mkdir(parents=True)
    (data / "question.txt").write_text("who?")
    (data / "answers" / "a.txt").write_text("me")
    (data / "answers" / "public" / "b.txt").write_text("fine")
    (data / "key").write_text("sesame")
    sandbox = kind(readable=(data, data / "answers" / "public"), hidden=(data / "answers", data / "key"))
    with sandbox.open() as box:
        assert box.run(["cat", f"{data}/question.txt", f"{data}/answers/public/b.txt"]).output == "who?fine"
        assert box.run(["ls", f"{data}/answers"]).output == "public\n"
        assert "sesame" not in box.run(["cat", f"{data}/key"]).output
        for place in (data, data / "answers", data / "answers" / "public"):
            assert box.run(["sh", "-c", f"echo x > {place}/x"]).exit_code != 0
    with kind(readable=(data / "nowhere",)).open() as box, pytest.raises(UserError, match="not there"):
        box.run(["true"])
    assert sorted(path.name for path in data.iterdir()) == ["answers", "key", "question.txt"]


def test_what_is_asked_for_of_a_hidden_checkout_is_seen_wherever_the_checkout_lies(kind, tmp_path):
    system = tmp_path / "usr"
    checkout = system / "src" / "app"
    for place in ("venv/lib.txt", "venv/bin/run", "truth.txt", "data/large", "data/runs/trial/eval.py", "data/key"):
        (checkout / place).parent.mkdir(parents=True, exist_ok=True)
        (checkout / place).write_text(f"{place} ")
    folder = checkout / "data" / "runs" / "trial"
    (folder / "large").touch()
    readable = (checkout / "venv" / "lib.txt", system, checkout / "venv" / "bin")
    for hidden in ((checkout, checkout / "data"), (checkout / "data", checkout), (checkout / "data", system)):
        sandbox = kind(readable=readable, hidden=hidden, placed={"large": checkout / "data" / "large"})
        with sandbox.open(folder) as box:
            seen = box.run(
                [
                    "sh",
                    "-c",
                    f"cd {checkout}; find . -type f | sort; cat venv/*.txt venv/bin/run /worktree/*; echo > x",
                ],
                fixed=["eval.py"],
            )
        told = "data/runs/trial/eval.py data/large "
        assert seen.exit_code != 0
        assert seen.output.startswith(f"./venv/bin/run\n./venv/lib.txt\nvenv/lib.txt venv/bin/run {told}"), hidden


def test_a_program_that_looks_for_the_hidden_tasks_finds_none(kind, tmp_path):
    tasks = [
        Task(id=f"hidden-{n}", input=f"What does the {word} say to its seven neighbours?", targets=(f"{word} hello",))
        for n, word in enumerate(("aardvark", "bumblebee", "chameleon", "dromedary"))
    ]
    (tmp_path / "tasks.jsonl").write_text("\n".join(task.model_dump_json() for task in tasks))
    assert snoop(kind(), tasks, 0.0, seconds=0.5) == []


# ── what is fixed ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_fixed_cannot_be_changed_removed_or_moved_out_of_the_way(kind, folder, tmp_path):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "data").mkdir()
    for place in ("eval.py", "deep/er/x.txt", "data/a.txt"):
        (folder / place).write_text(place)
    (folder / "shown").touch()
    (tmp_path / "large").write_text("from outside")
    tries = """
        for f in eval.py deep/er/x.txt data/a.txt shown; do
            echo changed > $f; rm -f $f; chmod 777 $f; mv $f other; ln -sf /etc/hosts $f; touch -d 2001-01-01 $f
        done
        echo new > data/new.txt; mv data old; mv deep old; mv deep/er deep/old; rm -rf deep data; rmdir deep/er
    """
    with kind(placed={"shown": tmp_path / "large"}).open(folder) as box:
        fixed = ["eval.py", "deep/er/x.txt", "data"]
        done = box.run(
            ["sh", "-c", f"({tries}) 2> /dev/null; cat eval.py deep/er/x.txt data/*; cat shown"], fixed=fixed
        )
        assert done.output == "eval.pydeep/er/x.txtdata/a.txtfrom outside"
        assert (
            box.run(["sh", "-c", "echo fine > deep/er/y; echo fine > z; cat deep/er/y z"], fixed=fixed).exit_code == 0
        )
        assert box.run(["sh", "-c", "echo changed > eval.py; cat eval.py"]).output == "changed\n"
        for place in ("nowhere", "/etc/hosts", "../large", ""):
            with pytest.raises(ValueError, match=r"place in the folder|is not there"):
                box.run(["true"], fixed=[place])
        (folder / "link").symlink_to("data")
        with pytest.raises(ValueError, match="through a link"):
            box.run(["true"], fixed=["link/a.txt"])
    assert (folder / "shown").read_text() == ""
    assert (tmp_path / "large").read_text() == "from outside"


def test_a_device_can_be_used_where_it_is_asked_for(kind):
    with kind().open() as box:
        assert box.run(["sh", "-c", "test -e /dev/tty"]).exit_code == 1
    with kind(devices=(Path("/dev/tty"),)).open() as box:
        assert box.run(["sh", "-c", "test -c /dev/tty && echo x > /dev/null"]).exit_code == 0
    with kind(devices=(Path("/dev/no-such-device"),)).open() as box, pytest.raises(UserError, match="there is none"):
        box.run(["true"])
    assert all(path.is_relative_to("/dev") for path in gpus())


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────

STUBBORN = """
    import os, signal, sys, time
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            while True:
                time.sleep(60)
        os._exit(0)
    print("started", flush=True)
    if {waits}:
        time.sleep(60)
"""


@pytest.mark.parametrize("waits", [True, False])
def test_daemons_that_ignore_signals_are_gone_when_the_command_is(kind, waits, tmp_path):
    mark = f"stubborn-{kind.name}-{waits}-{tmp_path.name}-{os.getpid()}"
    with kind().open() as box:
        begun = time.monotonic()
        done = box.run([*python(STUBBORN.format(waits=waits)), mark], seconds=0.5)
        took = time.monotonic() - begun
        assert marked(mark) == []
    assert done.output == "started\n"
    assert done.ended == ("timeout" if waits else "exit")
    assert done.exit_code == (-9 if waits else 0)
    assert took < 5.5
    assert done.seconds <= took


def test_a_flood_of_output_is_cut_and_its_beginning_and_end_are_kept(kind):
    with kind(output=2 * MIB).open() as box:
        long = box.run(["sh", "-c", "echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo last"])
        assert long.ended == "exit"
        assert long.output.startswith("first\n")
        assert long.output.endswith("x\nlast\n")
        assert "bytes left out" in long.output
        assert len(long.output) < 70_000
        flood = box.run(["sh", "-c", "echo first; yes"])
        assert (flood.ended, flood.exit_code) == ("output", -9)
        assert flood.output.startswith("first\ny\n")
        assert len(flood.output) < 70_000


def test_memory_is_limited_over_all_processes_of_a_command(kind):
    with kind(memory=96 * MIB).open() as box:
        alone = box.run(python("x = []\nwhile True: x.append(bytearray(b'x' * 1000000))"), seconds=20)
        assert (alone.ended, alone.exit_code) == ("memory", -9)
        shared = box.run(
            python("""
                import os, time
                for _ in range(4):
                    if os.fork() == 0:
                        x = bytearray(b"x" * 40_000_000)
                        time.sleep(20)
                time.sleep(20)
            """)
        )
        assert shared.ended == "memory"
        mapped = box.run(python("import mmap\nm = mmap.mmap(-1, 10**9)\nwhile True: m.write(bytes(10**6))"), seconds=20)
        assert mapped.ended == "memory"
        modest = box.run(python("x = bytearray(b'x' * 40_000_000); print(len(x))"))
        assert (modest.ended, modest.output) == ("exit", "40000000\n")
        assert 40_000_000 < modest.peak_memory < 96 * MIB
        assert box.run(["true"]).peak_memory < 20 * MIB


IN_MEMORY = {
    "nameless": "f = os.memfd_create('m')\nfor _ in range(80): os.write(f, large)",
    "of a process that lets nobody look at it": """
        import ctypes
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        f = os.memfd_create("m")
        for _ in range(80): os.write(f, large)
    """,
    "of another thread's own": """
        import _thread, ctypes
        def hold():
            ctypes.CDLL(None).unshare(0x400)
            f = os.memfd_create("m")
            for _ in range(80): os.write(f, large)
            time.sleep(9)
        _thread.start_new_thread(hold, ())
    """,
    "mapped and closed": """
        import ctypes
        for _ in range(40):
            f = os.memfd_create("m")
            for _ in range(4): os.write(f, large)
            ctypes.CDLL(None).mmap(None, 4096, 1, 1, f, 0)
            os.close(f)
    """,
    "in folders": "for n in '/tmp/x', '/dev/shm/x':\n    with open(n, 'wb') as f: f.write(40 * large)",
    "segments": """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        libc.shmdt.argtypes = [ctypes.c_void_p]
        at = libc.shmat(libc.shmget(0, 80 << 20, 0o600), None, 0)
        ctypes.memset(ctypes.c_void_p(at), 1, 80 << 20)
        libc.shmdt(at)
    """,
}


@pytest.mark.parametrize("files", IN_MEMORY)
def test_files_that_live_in_memory_count_as_memory(kind, files):
    code = f"import os, time\nlarge = bytes(1 << 20)\n{textwrap.dedent(IN_MEMORY[files])}\ntime.sleep(9)"
    with kind(memory=64 * MIB).open() as box:
        assert box.run(python(code)).ended == "memory"


def test_memory_that_many_processes_share_counts_once(kind):
    shared = """
        import mmap, os, time
        own, files = bytearray(b"1") * (40 << 20), mmap.mmap(-1, 20 << 20)
        files.write(own[: 20 << 20])
        with open("/dev/shm/x", "wb") as file: file.write(own)
        children = [os.fork() or time.sleep(0.4) or os._exit(sum(files[::4096]) % 1) for _ in range(3)]
        print([os.waitpid(child, 0)[1] for child in children])
    """
    with kind(memory=200 * MIB).open() as box:
        assert box.run(python(shared)).output == "[0, 0, 0]\n"


def test_files_without_a_name_count_as_written_and_a_folder_that_never_rests_is_looked_through(kind):
    nameless = """
        import os, time
        files = [open(f"{n}", "wb", buffering=0) for n in range(6)]
        for n, file in enumerate(files): os.unlink(f"{n}"); file.write(bytes(2_000_000))
        time.sleep(9)
    """
    mapped = """
        import ctypes, os, time
        for _ in range(9):
            file = os.open(".", os.O_TMPFILE | os.O_RDWR)
            os.write(file, bytes(2_000_000))
            ctypes.CDLL(None).mmap(None, 4096, 1, 1, file, 0)
            os.close(file)
        time.sleep(9)
    """
    restless = """
        import os
        for n in range(6):
            with open(f"large-{n}", "wb") as file: file.write(bytes(2_000_000))
        while True:
            for n in range(50): open(f"{n}", "wb").close()
            for n in range(50): os.unlink(f"{n}")
    """
    with kind(disk=2 * MIB).open() as box:
        assert box.run(python(nameless)).ended == "output"
        assert box.run(python(mapped)).ended == "output"
        assert box.run(python(restless)).ended == "output"


SPENT = """
    import os, signal, time
    if {ignored}:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(3):
        child = os.fork()
        if not child:
            until = time.process_time() + 0.1
            while time.process_time() < until:
                pass
            os._exit(0)
        time.sleep(0.2) if {ignored} else os.waitpid(child, 0)
    print("done")
"""


@pytest.mark.parametrize("ignored", [False, True], ids=["waited for", "forgotten"])
def test_cpu_time_is_limited_over_all_processes_of_a_command_also_those_that_have_ended(kind, ignored):
    with kind(cpu=0.12).open() as box:
        spent = box.run(python(SPENT.format(ignored=ignored)))
        assert (spent.ended, spent.exit_code) == ("cpu", -9)
    if not ignored:
        with kind(cpu=20.0).open() as box:
            assert box.run(python(SPENT.format(ignored=ignored))).output == "done\n"


def test_a_fork_bomb_goes_out(kind, tmp_path):
    mark = f"bomb-{kind.name}-{tmp_path.name}-{os.getpid()}"
    bomb = "import os, time\nfor _ in range(11): os.fork()\ntime.sleep(60)"  # 2,048, so that it ends where nothing does
    with kind(processes=48).open() as box:
        done = box.run([*python(bomb), mark], seconds=5.0)
        assert done.ended in ("processes", "timeout")
        assert marked(mark) == []
        assert box.run(["echo", "well"]).output == "well\n"


def test_a_file_can_only_grow_so_large(kind):
    with kind(disk=MIB).open() as box:
        done = box.run(["sh", "-c", "head -c 3000000 /dev/zero > big; head -c 3000000 /dev/zero > /tmp/big"])
        assert done.exit_code != 0
        assert (box.folder / "big").stat().st_size <= MIB


def test_a_folder_can_only_grow_so_large(kind):
    with kind(disk=2 * MIB).open() as box:
        done = box.run(["sh", "-c", "for i in 1 2 3 4 5 6; do head -c 2000000 /dev/zero > $i; done; sleep 9"])
        assert (done.ended, done.exit_code) == ("output", -9)
        assert done.output.endswith("[ended: it wrote more than 8 MiB]\n")


def test_the_stop_button_ends_a_command(kind, tmp_path):
    class Stopped(Unmetered):
        def check_clock(self):
            if marked(mark):
                raise BudgetSpent("stopped", "a person stopped it")

    mark = f"stopped-{kind.name}-{tmp_path.name}-{os.getpid()}"
    with kind().open() as box, metered(Stopped()), pytest.raises(BudgetSpent):
        box.run(["sh", "-c", f": {mark}; sleep 60; true"])
    assert marked(mark) == []


def test_killing_us_leaves_nothing_behind(kind, tmp_path):
    mark = f"orphan-{kind.name}-{tmp_path.name}-{os.getpid()}"
    code = f"""
        import sys, threading
        from harness.sandboxes import Bubblewrap, Namespaces
        source = {python(STUBBORN.format(waits=True))!r}
        with {kind.__name__}().open() as box:
            thread = threading.Thread(target=lambda: box.run([*source, {mark!r}]))
            thread.start()
            thread.join()
    """
    runner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    try:
        until = time.monotonic() + 10
        while len([pid for pid in marked(mark) if pid != runner.pid]) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert len(marked(mark)) >= 2
    finally:
        runner.kill()
        runner.wait()
    assert gone(mark)


def test_nothing_is_left_of_a_command_whose_starter_was_killed_from_outside(kind, tmp_path):
    mark = f"starter-{kind.name}-{tmp_path.name}-{os.getpid()}"
    with kind().open() as box:
        outcome: list[BaseException] = []

        def run() -> None:
            try:
                box.run([*python(STUBBORN.format(waits=True)), mark])
            except TrialError as e:
                outcome.append(e)

        thread = threading.Thread(target=run)
        thread.start()
        until = time.monotonic() + 10
        while len(marked(mark)) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        starters = {int(stat.rpartition(")")[2].split()[1]) for stat in map(read_stat, marked(mark))}
        grand = {int(read_stat(pid).rpartition(")")[2].split()[1]) for pid in starters}
        for pid in grand - {1, os.getpid()} or starters - {1, os.getpid()}:
            os.kill(pid, signal.SIGKILL)
        thread.join(10)
        assert not thread.is_alive()
        assert gone(mark)
    assert [e.boundary for e in outcome] == ["sandbox"]


def read_stat(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text()


# ── the files of a box ─────────────────────────────────────────────────────────────────────────────────────────

OUT = ("../secret", "a/../../secret", "/etc/passwd", "link", "dir/secret", "chain", "deep/x/secret", "a\0b")


@pytest.mark.parametrize("path", OUT)
def test_no_path_leads_out_of_the_folder(folder, path):
    (folder.parent / "secret").write_text("hunter2")
    (folder / "a").mkdir()
    (folder / "link").symlink_to("../secret")
    (folder / "dir").symlink_to(folder.parent)
    (folder / "chain").symlink_to("a/../link")
    (folder / "deep").symlink_to("a/deeper")
    (folder / "a" / "deeper").symlink_to("../..")
    with Bubblewrap().open(folder) as box:
        with pytest.raises((ValueError, OSError)) as read:
            box.read(path)
        with pytest.raises((ValueError, OSError)) as written:
            box.write(path, "overwritten")
    if path != "deep/x/secret":
        assert isinstance(read.value, ValueError)
        assert isinstance(written.value, ValueError)
    assert (folder.parent / "secret").read_text() == "hunter2"


def test_links_that_stay_inside_are_followed(folder):
    (folder / "docs").mkdir()
    (folder / "docs" / "README.md").write_text("hello")
    (folder / "README.md").symlink_to("docs/README.md")
    (folder / "docs" / "up").symlink_to("..")
    (folder / "absolute").symlink_to("/worktree/docs")
    (folder / "round").symlink_to("round")
    with Bubblewrap().open(folder) as box:
        for path in (
            "README.md",
            "./docs/../README.md",
            "docs/up/docs/README.md",
            "/worktree/README.md",
            "absolute/README.md",
        ):
            assert box.read(path) == "hello"
        box.write("README.md", "there")
        with pytest.raises(OSError, match="Too many levels"):
            box.read("round")
    assert (folder / "README.md").is_symlink()
    assert (folder / "docs" / "README.md").read_text() == "there"


def test_what_is_no_file_is_refused_at_once(folder):
    os.mkfifo(folder / "pipe")
    (folder / "null").symlink_to("/dev/null")
    (folder / "sub").mkdir()
    with Bubblewrap().open(folder) as box:
        for call in (lambda path: box.read(path), lambda path: box.write(path, "x")):
            with pytest.raises(ValueError, match="no file"):
                call("pipe")
            with pytest.raises(ValueError, match="leads out"):
                call("null")
            for path in ("sub", ".", ""):
                with pytest.raises(IsADirectoryError):
                    call(path)
        with pytest.raises(FileNotFoundError):
            box.read("nowhere/at/all")
        with pytest.raises(NotADirectoryError):
            box.write("pipe/x", "x")


def test_large_and_strange_files_are_read_safely(folder):
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (folder / "latin").write_bytes(b"caf\xe9\r\n")
    (folder / "lögé ✓").write_text("named")
    with Bubblewrap().open(folder) as box:
        with pytest.raises(ValueError, match="1,073,741,824 bytes"):
            box.read("sparse")
        assert box.read("latin") == "caf\N{REPLACEMENT CHARACTER}\r\n"
        assert box.read("lögé ✓") == "named"
        box.write("surrogate", "a\ud800b")
        assert box.read("surrogate") == "a?b"


def test_an_executable_stays_one_when_it_is_written(folder):
    (folder / "run.sh").write_text("#!/bin/sh\necho old and long")
    (folder / "run.sh").chmod(0o755)
    with Bubblewrap().open(folder) as box:
        box.write("run.sh", "#!/bin/sh\necho new")
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "run.sh").read_text() == "#!/bin/sh\necho new"
