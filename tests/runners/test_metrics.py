import json
import math
import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import TrialError, UserError
from harness.experiment import describe
from harness.protocols import Finished
from harness.runners import CommandRunner, Computed, Evaluated, InFile, NoMetric, Printed
from harness.sandboxes import NoSandbox
from harness.sandboxes.folder import LARGEST, Folder
from harness.sandboxes.isolation import kind_that_works
from traces.records import Task

NOWHERE = Path("/nowhere")
LOSS = Printed("loss")
IN_TMP_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def printed(output: str, **settings) -> float:
    return Printed("loss", **settings).read(Finished(0, output), NOWHERE)


def no_metric(read, *arguments) -> str:
    with pytest.raises(NoMetric) as refused:
        read(*arguments)
    return str(refused.value)


# ── printed ────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.floats(allow_nan=False))
def test_a_number_that_is_printed_once_is_read_as_it_is(value):
    assert printed(f"step 1\nloss: {value!r}\ndone") == value
    assert printed(f"  loss={value!r}  \r\n") == value
    assert printed(f"== {value!r} ==", pattern=r"^== (\S+) ==$") == value


@given(st.text(), st.text())
def test_no_output_breaks_the_reader(before, after):
    try:
        value = printed(f"{before}loss: 1{after}")
    except NoMetric:
        return
    assert isinstance(value, float)


def test_a_number_that_is_not_there_or_twice_or_none_is_no_metric():
    assert "no line `loss: NUMBER`" in no_metric(printed, "the loss: 1\nlosses: 2\nloss 3\n")
    assert "reported 2 times (1, 1" in no_metric(printed, "loss: 1\nloss: 1")
    assert "reported 3 times (nan, 2, one" in no_metric(printed, "loss: nan\nloss=2\nloss: one")
    assert "reported 2 times" in no_metric(printed, 'loss: 1\n{"loss": 1}')
    for said in ("one", "1 or 2", "1,5", "0x10", "1_000", "", "١"):
        assert "is no number" in no_metric(printed, f"loss: {said}")
    with pytest.raises(NoMetric, match="no match of"):
        printed("loss: 1", pattern=r"^== (\S+) ==$")
    with pytest.raises(NoMetric, match="is no number"):
        printed("", pattern="(x)?")


def test_where_output_was_left_out_no_line_is_believed():
    finished = Finished(0, "loss: 0.001", left_out=1)
    for metric in (LOSS, Printed("loss", r"^loss: (.*)$")):
        assert "1 bytes were left out" in no_metric(metric.read, finished, NOWHERE)


def test_a_long_log_is_looked_through_whole_and_a_flood_hides_no_line(kind):
    def run(script: str) -> tuple[str, str]:
        try:
            runner = CommandRunner(["sh", "-c", script], LOSS, sandbox=kind)
            return "", runner.run(Task(id="run", input="x"), {}, 0).output.splitlines()[-2]
        except TrialError as e:
            return e.error_class, str(e)

    log = "yes step | head -c 100000"
    assert run(f"echo start; {log}; echo loss: 5.0; {log}; echo end") == ("", "end")
    assert "reported 2 times" in run(f"{log}; echo loss: 5.0; {log}; echo loss: 0.001")[1]
    flood = "yes step | head -c 1000000"
    error_class, why = run(f"{flood}; echo loss: 5.0; {flood}; echo loss: 0.001")
    assert error_class == "no_metric"
    assert "write the number to a file" in why


@pytest.mark.parametrize("said", ["nan", "NaN", "-nan", "inf", "-Infinity", "1e999"])
def test_what_is_not_finite_is_read_as_that(said):
    assert not math.isfinite(printed(f"loss: {said}"))
    assert not math.isfinite(printed(f"loss: {said}", pattern="loss: (.*)"))


@pytest.mark.parametrize("pattern", ["(", "loss", "(loss) (.*)"])
def test_a_pattern_without_exactly_one_group_is_refused(pattern):
    with pytest.raises(UserError, match="loss"):
        Printed("loss", pattern)


@pytest.mark.parametrize("name", ["", " loss", "a\nb"])
def test_a_name_that_no_line_can_start_with_is_refused(name):
    for make in (Printed, InFile, lambda name: Computed(name, lambda folder: 1.0), lambda n: Evaluated(n, "x", {}, ())):
        with pytest.raises(UserError, match="cannot name a metric"):
            make(name)


# ── in a file ──────────────────────────────────────────────────────────────────────────────────────────────────


def in_file(folder: Path, **settings) -> float:
    return InFile("loss", **settings).read(Finished(0, ""), folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("loss"), inner),
)


@IN_TMP_PATH
@given(JSON)
def test_a_number_in_a_file_is_read_and_nothing_else_is_one(tmp_path, value):
    (tmp_path / "metrics.json").write_text(json.dumps({"loss": value, "deep": {"er": value}}))
    (tmp_path / "bare.json").write_text(json.dumps(value))
    for read in ({}, {"key": "deep.er"}):
        if isinstance(value, int | float) and not isinstance(value, bool):
            found = in_file(tmp_path, **read)
            assert found == value or math.isnan(value) or math.isinf(found)
        else:
            assert "is no number" in no_metric(lambda read=read: in_file(tmp_path, **read))
    if not (isinstance(value, dict) and "loss" in value):
        assert "has no loss" in no_metric(lambda: in_file(tmp_path, path="bare.json"))


@IN_TMP_PATH
@given(st.binary())
def test_no_file_breaks_the_reader(tmp_path, data):
    (tmp_path / "metrics.json").write_bytes(data)
    no_metric(in_file, tmp_path)


def test_what_is_hostile_in_the_place_of_a_file_is_no_metric(tmp_path):
    place = tmp_path / "metrics.json"
    assert no_metric(in_file, tmp_path) == "it left no file metrics.json"
    place.symlink_to("/proc/self/status")
    assert "leads out of the folder" in no_metric(in_file, tmp_path)
    place.unlink()
    place.symlink_to("metrics.json")
    assert "Too many levels" in no_metric(in_file, tmp_path)
    place.unlink()
    os.mkfifo(place)
    assert "is no file" in no_metric(in_file, tmp_path)
    place.unlink()
    place.mkdir()
    no_metric(in_file, tmp_path)
    place.rmdir()
    place.write_text("[" * 100_000)
    assert "cannot be read as JSON" in no_metric(in_file, tmp_path)
    place.write_text('{"loss": ' + "9" * 10_000 + "}")
    no_metric(in_file, tmp_path)
    with place.open("wb") as file:
        file.truncate(LARGEST + 1)
    assert "are not read whole" in no_metric(in_file, tmp_path)
    place.write_text('{"a": 1, "b": {"loss": 2}}')
    assert no_metric(in_file, tmp_path) == "metrics.json has no loss; it has: a, b"
    place.write_text('{"loss": NaN}')
    assert math.isnan(in_file(tmp_path))
    place.write_text('{"loss": 1e999}')
    assert math.isinf(in_file(tmp_path))


# ── computed ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_number_is_computed_from_the_files_and_whose_fault_it_is_else_is_told_apart(tmp_path):
    def lines(folder: Folder) -> float:
        return float(folder.read("out.txt"))

    def read(function) -> float:
        return Computed("loss", function).read(Finished(0, ""), tmp_path)

    assert "FileNotFoundError" in no_metric(read, lines)
    (tmp_path / "out.txt").write_text("1.5")
    assert read(lines) == 1.5
    (tmp_path / "out.txt").write_text("x")
    assert "could not convert" in no_metric(read, lines)
    for data, function in (
        ("{}", lambda folder: json.loads(folder.read("out.txt"))["x"]),
        ("[]", lambda folder: json.loads(folder.read("out.txt"))[0]),
        ("null", lambda folder: json.loads(folder.read("out.txt"))),
        ("1", lambda folder: json.loads(folder.read("out.txt")).x),
        ("0", lambda folder: 1 / json.loads(folder.read("out.txt"))),
        ("{", lambda folder: json.loads(folder.read("out.txt"))),
        ("[" * 100_000, lambda folder: json.loads(folder.read("out.txt"))),
        ("x", lambda folder: struct.unpack("<d", folder.read_bytes("out.txt"))[0]),
    ):
        (tmp_path / "out.txt").write_text(data)
        assert re.match(r"\w*(Error|error): ", no_metric(read, function))

    def refused(folder: Folder) -> float:
        raise ConnectionRefusedError("a service of one's own")

    for bug in (lambda folder: no_such_name, lambda folder: __import__("no_such_module"), refused):  # noqa: F821
        with pytest.raises(TrialError) as failed:
            read(bug)
        assert failed.value.boundary == "grader"


# ── evaluated ──────────────────────────────────────────────────────────────────────────────────────────────────

EVALUATOR = """
import os, pathlib
assert sorted(path.name for path in pathlib.Path().rglob("*")) == ["answers.txt", "evaluate.py", "out", "out.txt"]
assert not os.environ.get("RATCHET_TASK")
answers = pathlib.Path("answers.txt").read_text().split()
given = pathlib.Path("out/out.txt").read_text().split()
print("loss:", sum(a != b for a, b in zip(answers, given, strict=True)))
"""


@pytest.fixture
def evaluated(tmp_path) -> Evaluated:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "evaluate.py").write_text(EVALUATOR)
    (tmp_path / "hidden" / "answers.txt").write_text("1 2 3")
    fixed = {name: tmp_path / "hidden" / name for name in ("evaluate.py", "answers.txt")}
    return Evaluated("loss", "python3 -S evaluate.py", fixed, ["out/out.txt"], seconds=10)


@pytest.fixture(params=["best", "none"], scope="module")
def kind(request):
    return kind_that_works() if request.param == "best" else NoSandbox


def test_a_second_command_makes_the_number_where_nothing_of_the_candidate_is_but_its_artifacts(evaluated, kind):
    def run(script: str) -> tuple[str, str]:
        runner = CommandRunner(["sh", "-c", script], evaluated, sandbox=kind)
        try:
            return "", runner.run(Task(id="run", input="x"), {"evaluate.py": "print('loss: 0')"}, 0).output
        except TrialError as e:
            return e.error_class, str(e)

    output = run("ls; mkdir out; echo 1 2 4 > out/out.txt; echo 'loss: 0' > answers.txt; echo loss: 0")[1]
    assert output.startswith("evaluate.py\n")
    assert json.loads(output.splitlines()[-1])["loss"] == 1
    assert run("true") == ("no_metric", "it left no file out/out.txt, which the evaluation needs")
    error_class, message = run("mkdir out; echo 1 2 > out/out.txt")
    assert error_class == "no_metric"
    assert message.startswith("the evaluation of out/out.txt ended by exit code 1: Traceback")
    assert message.endswith("ValueError: zip() argument 2 is shorter than argument 1")


def test_an_artifact_that_is_none_is_no_metric(evaluated, tmp_path):
    (tmp_path / "left" / "out").mkdir(parents=True)
    (tmp_path / "left" / "out" / "out.txt").symlink_to(tmp_path / "hidden" / "answers.txt")
    assert "leads out" in no_metric(evaluated.read_in, NoSandbox, tmp_path / "left")


def test_an_evaluator_that_changed_ends_the_run_and_is_another_experiment(evaluated, tmp_path):
    before = describe(evaluated)
    (tmp_path / "hidden" / "answers.txt").write_text("1 2 4")
    with pytest.raises(UserError, match=r"answers\.txt has changed"):
        evaluated.read_in(NoSandbox, tmp_path)
    assert describe(Evaluated("loss", evaluated.command, evaluated.fixed, evaluated.artifacts, 10)) != before


def test_without_a_sandbox_an_evaluator_that_a_candidate_changed_is_put_back(evaluated, tmp_path):
    answers = tmp_path / "hidden" / "answers.txt"
    runner = CommandRunner(["sh", "-c", f"mkdir out; echo 9 > {answers}; cp {answers} out/out.txt"], evaluated)
    with pytest.raises(TrialError) as failed:
        CommandRunner(runner.command, evaluated, sandbox=NoSandbox).run(Task(id="run", input="x"), {}, 0)
    assert failed.value.error_class == "tampered"
    assert answers.read_text() == "1 2 3"


def test_an_artifact_in_the_place_of_the_evaluator_is_refused(tmp_path):
    (tmp_path / "evaluate.py").touch()
    for artifact in ("evaluate.py", "evaluate/__init__.py", "evaluate.py/x"):
        with pytest.raises(UserError, match="lies in the place"):
            Evaluated("loss", "python evaluate.py", {"evaluate.py": tmp_path / "evaluate.py"}, [artifact])
