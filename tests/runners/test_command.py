import errno
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from harness.errors import BudgetSpent, TrialError, UserError
from harness.experiment import describe
from harness.graders.metric import MetricGrader
from harness.meter import Unmetered, metered
from harness.protocols import Checks, Conditions, Finished, Referee
from harness.runners import CommandRunner, Printed, command
from harness.runners.command import EXCLUSIVE, LIMITS, alone, compiled, printed_peak
from harness.runners.fixed import COPIED
from harness.runners.metrics import Computed, python_environment
from harness.sandboxes import Bubblewrap, Namespaces, NoSandbox
from harness.sandboxes.isolation import kind_that_works
from harness.testing import FakeSandbox
from harness.text import InvalidText
from tests.sandboxes.test_sandbox import gone, why_not
from traces import otel
from traces.records import Span, Task, Text

MIB = 1 << 20
TASK = Task(id="run", input="the input", split="train")
LOSS = Printed("loss")


@pytest.fixture(params=[Bubblewrap, Namespaces, NoSandbox], ids=["bubblewrap", "unshare", "none"], scope="module")
def kind(request):
    if request.param is not NoSandbox and why_not(request.param):
        pytest.skip(f"{request.param.name} does not work here: {why_not(request.param)}")
    return request.param


@pytest.fixture(scope="module")
def best():
    return kind_that_works()


@pytest.fixture
def source(tmp_path) -> Path:
    """An evaluator and data, as an experiment declares them."""
    folder = tmp_path / "source"
    (folder / "data").mkdir(parents=True)
    (folder / "prepare.py").write_text("GOAL = 3\n")
    (folder / "data" / "train.txt").write_text("a b c\n")
    return folder


@dataclass
class Book(Unmetered):
    """A meter that keeps the spans and texts, in a folder of its own."""

    folder: Path | None
    spans: list[Span] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    is_stopped: bool = False

    def end(self, span, texts: tuple[Text, ...] = ()) -> None:
        self.spans.append(span)
        self.texts |= {text.hash: text.text for text in texts}

    def check_clock(self) -> None:
        if self.is_stopped:
            raise BudgetSpent("stopped", "a person stopped it")


def shell(kind, script: str = "", **settings) -> CommandRunner:
    return CommandRunner(["sh", "-c", script] if script else "sh run.sh", LOSS, sandbox=kind, **settings)


def failure(runner: CommandRunner, text=None, seed: int = 0) -> tuple[str, str]:
    with pytest.raises(TrialError) as failed:
        runner.run(TASK, text or {}, seed)
    assert failed.value.boundary == "runner"
    return failed.value.error_class, str(failed.value)


# ── what works ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_runs_on_the_files_of_a_version_and_its_number_is_the_last_line(kind, source, tmp_path):
    version = {"train.py": "import lib.model\nlib.model.main()", "lib/model.py": MODEL}
    runner = CommandRunner(
        "python train.py",
        LOSS,
        fixed={"prepare.py": source / "prepare.py", "data": source / "data"},
        environment={"EXTRA": "given"},
        sandbox=kind,
    )
    book = Book(tmp_path / "work" / "trial")
    with metered(book):
        outcome = runner.run(TASK, version, 7)

    said = outcome.output.splitlines()
    assert said[0] == "seed 7 hash 7 task the input extra given threads 1 prepare 3 data a b c"
    found = json.loads(said[-1])
    assert (found["loss"], set(found)) == (0.25, {"loss", "seconds", "peak_memory_mb"})
    assert 0 < found["seconds"] < 30
    assert MetricGrader("loss").grade(TASK, outcome.output).value == 0.25
    [span] = book.spans
    assert (span.operation, span.name, span.status) == ("run", "python train.py", "ok")
    assert (span.attributes[otel.EXIT_CODE], span.attributes[otel.ENDED]) == (0, "exit")
    assert span.attributes[otel.PEAK_MEMORY] > 0
    assert book.texts[span.output_hash].startswith("seed 7")
    assert list((tmp_path / "work" / "trial").iterdir()) == []


MODEL = """
import os, prepare
def main():
    env = os.environ
    print("seed", env["RATCHET_SEED"], "hash", env["PYTHONHASHSEED"], "task", env["RATCHET_TASK"],
          "extra", env["EXTRA"], "threads", env["OMP_NUM_THREADS"],
          "prepare", prepare.GOAL, "data", open("data/train.txt").read().strip())
    print("loss: 0.25")
"""


def test_the_virtual_environment_that_runs_us_is_the_one_inside(kind):
    if sys.prefix == sys.base_prefix:
        pytest.skip("these tests run outside of any virtual environment")
    runner = CommandRunner(
        ["python", "-c", "import sys, filelock; print(sys.prefix); print('loss: 1')"], LOSS, sandbox=kind
    )
    assert runner.run(TASK, {}, 0).output.splitlines()[0] == sys.prefix


def test_it_is_all_that_the_loop_asks_of_a_runner(source):
    runner = shell(Bubblewrap, fixed={"prepare.py": source / "prepare.py"})
    assert isinstance(runner, Checks)
    assert isinstance(runner, Referee)
    assert isinstance(runner, Conditions)
    assert runner.conditions() == {"sandbox": "bubblewrap", "python": sys.version.split()[0], "fixed": runner.digest}
    assert runner.workers == len(os.sched_getaffinity(0))
    assert replace(runner, exclusive=True).workers == replace(runner, gpu=True).workers == 1


def test_a_log_is_kept_as_a_terminal_would_show_it_and_its_end_only(best):
    script = r"printf 'step 1\rstep 2\r\033[31mred\033[0m\n'; yes | head -c 20000; echo 'loss: 2'"
    lines = shell(best, script).run(TASK, {}, 0).output.splitlines()
    assert lines[0] == "[…]"
    assert lines[-2] == "loss: 2"
    assert sum(map(len, lines)) < 10_000
    assert (
        shell(best, r"printf 'step 1\rstep 2\r\033[31mred\033[0m\n'; echo loss: 2")
        .run(TASK, {}, 0)
        .output.startswith("red\n")
    )


def test_a_peak_of_gpu_memory_that_the_command_prints_is_carried_over():
    sandbox = FakeSandbox(lambda command, files: Finished(0, "loss: 1\npeak_vram_mb: 2048.5\n"))
    runner = shell(lambda **limits: sandbox, "train")
    assert json.loads(runner.run(TASK, {}, 0).output.splitlines()[-1])["peak_vram_mb"] == 2048.5
    for said in ("peak_vram_mb: -5", "peak_vram_mb: 1e300", "peak_vram_mb: 1e308", "peak_vram_mb: 1e999"):
        assert printed_peak(said) == 0


def test_a_script_can_be_executed(best):
    script = {"tools/run.sh": "#!/bin/sh\necho loss: 1\n", "notes.txt": "#\n"}
    output = CommandRunner("tools/run.sh", LOSS, sandbox=best).run(TASK, script, 0).output
    assert output.startswith("loss: 1")


def test_nothing_of_the_checkout_is_seen_but_what_is_asked_for(best, source, tmp_path, monkeypatch):
    """Here *readable* is what ``/usr`` is to a checkout in it."""
    work, linked, data = tmp_path / "work", tmp_path / "linked", tmp_path / "work/traces/data"
    for folder in (work / ".git", work / "hidden", work / "cache", linked, data / "reports"):
        folder.mkdir(parents=True)
    for path in (work / "hidden/answers.txt", work / ".git/HEAD", work / "cache/c", linked / "a", data / "reports/r"):
        path.write_text("seen")
    (source / ".git").symlink_to(work / ".git")  # a repository as well, as far as one can tell
    (linked / ".git").write_text(f"gitdir: {work}/.git/worktrees/linked\n")
    monkeypatch.chdir(linked)
    book = Book(data / "work" / "trial")
    book.directory = data
    runner = shell(
        best,
        f"cat data/train.txt {work}/cache/c; find {tmp_path} -type f | grep -v cache; echo; echo loss: 1",
        fixed={"data": source / "data"},
        readable=(tmp_path, work / "cache"),
    )
    (tmp_path / "beside.txt").touch()
    with metered(book):
        assert runner.run(TASK, {}, 0).output.splitlines()[:3] == ["a b c", f"seen{tmp_path}/beside.txt", ""]


def test_a_virtual_environment_in_the_checkout_itself_is_shown_without_the_rest_of_it(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert python_environment([]) == [tmp_path]
    assert python_environment([tmp_path]) == [tmp_path / "pyvenv.cfg", tmp_path / "lib"]


# ── how it fails ───────────────────────────────────────────────────────────────────────────────────────────────

TRACEBACK = """
def deep(n):
    return deep(n - 1) if n else {}["key"]
try:
    deep(1)
except KeyError as e:
    raise RuntimeError("the loss went away") from e
"""


def test_each_failure_has_a_class_and_a_message_with_the_end_of_the_log(best):
    for script, error_class, message in (
        ("echo step 9; exit 3", "crash", "it ended by exit code 3: step 9"),
        ("echo step 9; kill -SEGV $$", "crash", "signal 11"),
        ("echo step 9", "no_metric", "no line `loss: NUMBER` in its output. Last it said: step 9"),
        ("echo loss: 1; echo loss: 1", "no_metric", "reported 2 times"),
        ("echo loss: 1e; echo step 9", "no_metric", "'1e' is no number"),
        ("echo loss: nan", "nan", "loss is nan"),
        ("echo 'loss: -Infinity'", "nan", "loss is -inf"),
        ("echo RuntimeError: CUDA out of memory; exit 1", "oom", "CUDA out of memory"),
        ("while true; do echo step 9; done", "output", "step 9"),
    ):
        failed = failure(shell(best, script, output=200_000, seconds=20))
        assert failed[0] == error_class, script
        assert message in failed[1], script
        assert len(failed[1]) < 2000


def test_the_last_traceback_is_what_is_told_of_a_long_log(best):
    runner = CommandRunner(["python3", "-I", "-S", "train.py"], LOSS, sandbox=best)
    error_class, message = failure(runner, {"train.py": "print('line ' * 5000)\n" + TRACEBACK})
    assert error_class == "crash"
    assert "line line" not in message
    assert message.endswith("RuntimeError: the loss went away")
    error_class, message = failure(runner, {"train.py": "print('line ' * 5000)\nbytearray(10**13)"})
    assert (error_class, message.splitlines()[-1]) == ("oom", "MemoryError")


def test_what_takes_too_long_is_killed_with_all_that_it_started(kind, tmp_path):
    mark = f"ratchet-long-{kind.name}-{tmp_path.name}-{os.getpid()}"
    runner = CommandRunner(["python3", "-I", "-S", "train.py", mark], LOSS, seconds=0.7, sandbox=kind)
    error_class, message = failure(runner, {"train.py": STUBBORN})
    assert error_class == "timeout"
    assert message == "it took more than 0.7 seconds, and was killed. Last it said: started"
    assert gone(mark, within=0)


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
print("loss: 1") if len(sys.argv) > 2 else time.sleep(60)
"""


def test_a_daemon_is_gone_when_its_trial_is(kind, tmp_path):
    mark = f"ratchet-daemon-{kind.name}-{tmp_path.name}-{os.getpid()}"
    runner = CommandRunner(["python3", "-I", "-S", "train.py", mark, "soon"], LOSS, sandbox=kind)
    assert "started" in runner.run(TASK, {"train.py": STUBBORN}, 0).output
    assert gone(mark, within=0)


def test_memory_is_limited_and_what_went_over_is_told_apart(kind):
    hungry = "x = []\nwhile True: x.append(bytearray(b'x' * 4_000_000))"
    runner = CommandRunner(["python3", "-I", "-S", "train.py"], LOSS, memory=64 * MIB, seconds=20, sandbox=kind)
    assert failure(runner, {"train.py": hungry})[0] == "oom"


def test_a_disk_is_not_filled(kind, tmp_path):
    script = "for i in 1 2 3 4 5; do head -c 4000000 /dev/zero > $i; done; sleep 20"
    with metered(Book(tmp_path)):
        failed = failure(shell(kind, script, disk=4 * MIB, seconds=20))
    assert failed[0] == "output"
    assert "wrote" in failed[1]
    assert list(tmp_path.iterdir()) == []


def test_whatever_is_left_in_the_worktree_goes_with_it(kind, tmp_path):
    deep = "import os\nfor _ in range(120): os.mkdir('n' * 50); os.chdir('n' * 50)"
    script = (
        f'mkdir -p a/b; touch a/b/c; chmod 000 a/b; mkfifo p; ln -s / root; echo loss: 1; python3 -I -S -c "{deep}"'
    )
    with metered(Book(tmp_path / "work")):
        shell(kind, script).run(TASK, {}, 0)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_missing_program_is_the_users_to_mend_and_a_deleted_one_the_versions(best):
    with pytest.raises(UserError, match="no program 'no-such-program'"):
        CommandRunner("no-such-program", LOSS, sandbox=best).run(TASK, {}, 0)
    assert failure(CommandRunner("./run", LOSS, sandbox=best))[0] == "crash"


def test_a_sandbox_that_breaks_is_no_failure_of_the_version():
    def broken(command, files):
        raise TrialError("sandbox", "failed", "it broke")

    with pytest.raises(TrialError) as failed:
        shell(lambda **limits: FakeSandbox(broken), "true").run(TASK, {}, 0)
    assert failed.value.boundary == "sandbox"


def test_the_stop_button_ends_a_command(kind, tmp_path):
    mark = f"ratchet-stopped-{kind.name}-{tmp_path.name}-{os.getpid()}"
    book = Book(tmp_path / "work")
    threading.Timer(0.3, lambda: setattr(book, "is_stopped", True)).start()
    with metered(book), pytest.raises(BudgetSpent):
        shell(kind, f": {mark}; sleep 60; true").run(TASK, {}, 0)
    assert gone(mark, within=0)
    assert list((tmp_path / "work").iterdir()) == []


def test_every_limit_of_a_sandbox_has_a_class_and_its_words():
    for ended in set(get_args(get_type_hints(Finished)["ended"])) - {"exit"}:
        sandbox = FakeSandbox(lambda command, files, ended=ended: Finished(-9, "loss: 1", ended=ended))
        error_class, why = failure(shell(lambda **limits: sandbox, "true", cpu=8))  # noqa: B023
        assert error_class == LIMITS[ended]
        assert "and was killed. Last it said: loss: 1" in why
        assert ("8 CPU seconds" in why) == (ended == "cpu")


def test_what_all_processes_compute_together_is_limited(kind):
    script = "for i in 1 2 3; do while true; do :; done & done; wait"
    error_class, why = failure(shell(kind, script, cpu=0.3, seconds=20))
    assert error_class == "timeout"
    assert "it used more than 0.3 CPU seconds, all of its processes together" in why


def test_a_full_disk_ends_the_run_and_another_fault_of_the_machine_the_trial_and_no_version_is_blamed(monkeypatch):
    def broken(number: int):
        def run(command, files):
            raise OSError(number, os.strerror(number), "made.txt")

        return shell(lambda **limits: FakeSandbox(run), "true")

    with pytest.raises(UserError, match=r"No space left.*Make room there.*it carries on"):
        broken(errno.ENOSPC).run(TASK, {}, 0)
    with pytest.raises(TrialError, match=r"made\.txt") as failed:
        broken(errno.EIO).run(TASK, {}, 0)
    assert failed.value.boundary == "sandbox"
    unread = Computed("loss", lambda folder: Path("/dev/full").write_text("x"))
    with pytest.raises(UserError, match="No space left"):
        replace(shell(NoSandbox, "true"), metric=unread).run(TASK, {}, 0)
    monkeypatch.setattr(command, "LEAST_ROOM", 1 << 80)
    assert "loss" in shell(NoSandbox, "echo loss: 1").run(TASK, {}, 0).output
    with pytest.raises(UserError, match="is full, so no trial can be run: a command failed"):
        shell(NoSandbox, "exit 1").run(TASK, {}, 0)


def test_an_input_that_no_variable_can_hold_is_refused():
    with pytest.raises(UserError, match="cannot be passed on"):
        shell(Bubblewrap, "true").run(TASK.model_copy(update={"input": "x" * 200_000}), {}, 0)


# ── what is fixed ──────────────────────────────────────────────────────────────────────────────────────────────

TAMPERING = {
    "write": "echo GOAL = 4 > prepare.py",
    "append": "echo >> prepare.py",
    "delete": "rm -f prepare.py",
    "chmod": "chmod 777 prepare.py",
    "rename": "mv prepare.py other.py; cp other.py prepare.py; echo '#' >> prepare.py",
    "link": "cp prepare.py other.py; ln -sf other.py prepare.py",
    "in a folder": "echo x > data/train.txt",
    "beside, in a folder": "echo x > data/more.txt",
    "the folder": "mv data old; mkdir data; echo b > data/train.txt",
    "the folder, by a link": "mv data old && ln -s old data",
    "a folder above": "mv deep old; mkdir -p deep/er; echo x > deep/er/x.txt",
    "a folder above, by a link": "mv deep old && ln -s old deep",
}


def test_no_way_of_changing_what_is_fixed_leads_to_a_number(kind, source):
    (source / "x.txt").write_text("x\ny\n")
    fixed = {"prepare.py": source / "prepare.py", "data": source / "data", "deep/er/x.txt": source / "x.txt"}
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    seen = "cat prepare.py data/train.txt deep/er/x.txt; ls data"
    scripts = TAMPERING if kind is NoSandbox else {"all of them": "; ".join(TAMPERING.values())}
    for name, script in scripts.items():
        runner = shell(kind, f"({script}) 2> /dev/null; {seen}; echo loss: 1; exit 9", fixed=fixed)
        error_class, message = failure(runner)
        if kind is NoSandbox:
            assert error_class == "tampered", name
            assert "which is fixed" in message
        else:  # nothing was changed, and the number would be as good as any
            assert error_class == "crash", name
            assert "GOAL = 3\na b c\nx\ny\ntrain.txt\nloss: 1" in message, name
        assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_tampering_outweighs_every_other_end(source):
    fixed = {"prepare.py": source / "prepare.py"}
    for end in ("echo loss: 1", "exit 1", "sleep 60", "yes", "echo loss: nan"):
        runner = shell(NoSandbox, f"rm prepare.py; {end}", fixed=fixed, seconds=0.5, output=MIB)
        assert failure(runner)[0] == "tampered", end


def test_without_a_sandbox_a_changed_source_is_noticed_and_put_back(source):
    runner = shell(NoSandbox, fixed={"prepare.py": source / "prepare.py", "data": source / "data"})
    for script in (
        f"echo > {source}/prepare.py",
        f"rm -r {source}/data",
        f"rm {source}/prepare.py; mkdir {source}/prepare.py",
        f"echo > {source}/data/more.txt; rm {source}/data/train.txt; mkdir {source}/data/train.txt",
    ):
        error_class, message = failure(runner, {"run.sh": f"{script}; echo loss: 1"})
        assert error_class == "tampered", script
        assert "outside of its folder" in message
        assert (source / "prepare.py").read_text() == "GOAL = 3\n"
        assert [(p.name, p.read_text()) for p in (source / "data").iterdir()] == [("train.txt", "a b c\n")]
    assert "loss" in runner.run(TASK, {"run.sh": "echo loss: 1"}, 0).output


def test_a_source_that_a_person_changed_ends_the_run(kind, source):
    runner = shell(kind, "echo loss: 1", fixed={"prepare.py": source / "prepare.py"})
    (source / "prepare.py").touch()
    runner.run(TASK, {}, 0)
    (source / "prepare.py").write_text("GOAL = 4\n")
    with pytest.raises(UserError, match=r"prepare\.py has changed"):
        runner.run(TASK, {}, 0)


def test_another_evaluator_is_another_experiment_wherever_it_lies(source, tmp_path):
    runner = shell(Bubblewrap, fixed={"prepare.py": source / "prepare.py", "data": source / "data"})
    moved = tmp_path / "moved"
    source.rename(moved)
    elsewhere = shell(Bubblewrap, fixed={"prepare.py": moved / "prepare.py", "data": moved / "data"})
    assert describe(runner) == describe(elsewhere)
    (moved / "data" / "train.txt").chmod(0o755)
    assert describe(shell(Bubblewrap, fixed=elsewhere.fixed)) != describe(elsewhere)
    (moved / "data" / "train.txt").chmod(0o644)
    (moved / "data" / "new.txt").touch()
    assert describe(shell(Bubblewrap, fixed=elsewhere.fixed)) != describe(elsewhere)


def test_what_git_tracks_has_to_be_as_git_has_it(source):
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", source, "-c", "user.name=x", "-c", "user.email=x@y", *arguments], check=True)

    git("init", "-q")
    fixed = {"prepare.py": source / "prepare.py", "data": source / "data"}
    shell(NoSandbox, "echo loss: 1", fixed=fixed).run(TASK, {}, 0)
    git("add", "prepare.py")
    git("commit", "-qm", "x")
    shell(NoSandbox, "echo loss: 1", fixed=fixed).run(TASK, {}, 0)  # what git does not track is taken as it is
    (source / "prepare.py").write_text("GOAL = 4\n")
    with pytest.raises(UserError, match="as git has it"):
        shell(NoSandbox, "echo loss: 1", fixed=fixed).run(TASK, {}, 0)


def test_a_lot_of_data_is_shown_from_where_it_lies(kind, source):
    with (source / "data" / "large.bin").open("wb") as file:
        file.truncate(COPIED + 1)
    large = source / "data" / "large.bin"
    fixed = {"data/large.bin": large, "prepare.py": source / "prepare.py"}
    runner = shell(kind, fixed=fixed)
    seen = runner.run(TASK, {"run.sh": "wc -c < data/large.bin; du -k data/large.bin; echo loss: 1"}, 0).output
    assert seen.startswith(f"{COPIED + 1}\n")
    assert int(seen.split()[1]) < 64
    failed = failure(runner, {"run.sh": "(echo x > data/large.bin) 2> /dev/null; rm -f data/large.bin; exit 1"})
    assert failed[0] == ("tampered" if kind is NoSandbox else "crash")
    if kind is not NoSandbox:
        assert large.stat().st_size == COPIED + 1


@pytest.mark.parametrize("place", ["/etc/passwd", "../x", ".", "", "a/../../x"])
def test_a_place_outside_of_the_folder_is_refused(source, place):
    with pytest.raises(UserError, match="is no place in a"):
        shell(Bubblewrap, fixed={place: source / "prepare.py"})


def test_what_cannot_be_fixed_is_refused_when_the_experiment_is_loaded(source):
    for fixed, why in (
        ({"x": source / "nowhere"}, "cannot be read"),
        ({"data": source / "data", "data/x": source / "prepare.py"}, "lies within 'data'"),
        ({"null": Path("/dev/null")}, "cannot be read"),
    ):
        with pytest.raises(UserError, match=why):
            shell(Bubblewrap, fixed=fixed)
    (source / "data" / "out").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="points out of it"):
        shell(Bubblewrap, fixed={"data": source / "data"})
    for words in ("", "echo 'unclosed", []):
        with pytest.raises(UserError, match="command"):
            CommandRunner(words, LOSS)


# ── before a trial ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_version_that_cannot_work_is_told_so_before_a_trial_is_bought(source):
    runner = shell(Bubblewrap, fixed={"prepare.py": source / "prepare.py", "data/a/x.txt": source / "prepare.py"})
    runner.check({"train.py": "x = '\\d'\n", "data/b.txt": "", "notes.txt": "def"})
    with pytest.raises(InvalidText) as refused:
        runner.check(
            {
                "prepare.py": "",
                "prepare/__init__.py": "",
                "data": "",
                "data/a/x.txt/y": "",
                "lib/bad.py": "x = 1\ndef f(:\n",
                "nul.py": "\0",
            }
        )
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "data",
        "data/a/x.txt/y",
        "prepare.py",
        "prepare/__init__.py",
        "lib/bad.py",
        "nul.py",
    ]
    assert refused.value.problems[4] == "lib/bad.py: line 2: invalid syntax"


def test_a_file_is_compiled_once_and_a_broken_one_is_named_by_each_of_its_places(tmp_path):
    runner, sound = shell(Bubblewrap), f"where = {str(tmp_path)!r}\n"
    size = len(compiled)
    for number in range(3):
        runner.check({f"{number}.py": sound, "again.py": sound})
    assert len(compiled) == size + 1
    for name in ("a.py", "b.py"):
        with pytest.raises(InvalidText, match=f"{name}: line 1"):
            runner.check({name: "def", "0.py": sound})


# ── alone ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_exclusive_command_waits_for_another_and_listens_to_the_stop_button(tmp_path):
    with alone():
        with alone_elsewhere(tmp_path) as other:
            time.sleep(0.1)
            assert other.poll() is None
            other.kill()
            other.wait()
        assert EXCLUSIVE.stat().st_mode & 0o444 == 0o444
        book = Book(tmp_path, is_stopped=True)
        with metered(book), pytest.raises(BudgetSpent):
            shell(NoSandbox, "echo loss: 1", exclusive=True).run(TASK, {}, 0)
    assert "loss" in shell(NoSandbox, "echo loss: 1", exclusive=True).run(TASK, {}, 0).output


def alone_elsewhere(temporary: Path) -> subprocess.Popen[bytes]:
    code = "from harness.runners.command import alone\nwith alone(): pass"
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(temporary)})


def test_the_line_that_prints_the_metric_is_no_business_of_a_candidate_unless_nobody_reads_it():
    before, after = {"a.py": 'print(f"loss: {x}")\n'}, {"a.py": 'print(f"loss: {x / 2}")\n'}

    assert CommandRunner("python a.py", LOSS).objection(before, after).startswith("a.py:1: ")
    assert CommandRunner("python a.py", Computed("loss", lambda folder: 0.0)).objection(before, after) == ""


def test_a_new_file_cannot_take_the_place_of_what_the_evaluator_imports(source):
    (source / "prepare.py").write_text("import scores_of_mine\n")
    runner = CommandRunner("python a.py", LOSS, fixed={"prepare.py": source / "prepare.py"})
    before = {"a.py": "import prepare\n"}

    assert "scores_of_mine.py: " in runner.objection(before, {**before, "scores_of_mine.py": "def best(): return 0\n"})
    assert runner.objection(before, {**before, "layers.py": "def best(): return 0\n"}) == ""
