"""Which number a command reports, and what its name says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.figures import direction, figures, is_timing, source_of
from experiments.scaffold import quoted
from harness.protocols import Finished
from harness.runners.metrics import InFile, Printed


def seen(tmp_path, *lines: str):
    finished = Finished(0, "\n".join(lines))
    found = figures(finished, tmp_path)
    for figure in found:
        if figure.times == 1:
            assert figure.metric.read(finished, tmp_path) == figure.value  # Ratchet reads what was seen here
    return {figure.name: (figure.value, figure.times) for figure in found}


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("loss: 0.531", "loss", 0.531),
        ("  val_bpb:          0.997900 ", "val_bpb", 0.9979),
        ("mean squared error = 1e-3", "mean squared error", 0.001),
        ("time: 1.5 s", "time", 1.5),
        ("accuracy: 93.5%", "accuracy", 93.5),
        ("F1 0.5", "F1", 0.5),
        ('{"loss": 2, "name": "x", "ok": true}', "loss", 2.0),
        ("top-1/acc: -.5", "top-1/acc", -0.5),
        ("精度: 0.93", "精度", 0.93),
        ("α = 0.1", "α", 0.1),
        ("सटीकता 0.5", "सटीकता", 0.5),
        ("temps écoulé: 2 ms", "temps écoulé", 2.0),
    ],
)
def test_a_line_that_reports_a_number_is_read_as_ratchet_will_read_it(tmp_path, line, name, value):
    assert seen(tmp_path, "starting …", line, "done") == {name: (value, 1)}


@pytest.mark.parametrize(
    "line",
    ["", "all well", "see https://example.org:80", "12:30:05", "loss: nan", "step 3 of 10", "x: 1 2", "{", "[1]", "{}",
     "→ loss: 1", "“精度”: 1", "精度: ٣", "loss\u202e: 1"],
)  # fmt: skip
def test_other_lines_are_none(tmp_path, line):
    assert seen(tmp_path, line) == {}


def test_what_is_printed_more_than_once_is_counted(tmp_path):
    assert seen(tmp_path, "loss: 3", "loss: 2", "loss: 1", "final: 1") == {"loss": (1.0, 3), "final": (1.0, 1)}


def test_files_that_it_wrote_are_looked_at_and_those_that_were_there_are_not(tmp_path):
    (tmp_path / "metrics.json").write_text('{"loss": 1.5, "run": {"seconds": 3}}')
    (tmp_path / "settings.json").write_text('{"width": 8}')
    (tmp_path / "torn.json").write_text('{"x": ')
    found = figures(Finished(0, "loss: 1.5"), tmp_path, {"settings.json"})
    assert [(f.name, f.value, f.metric) for f in found] == [
        ("loss", 1.5, InFile("loss", "metrics.json")),
        ("seconds", 3.0, InFile("seconds", "metrics.json", "run.seconds")),
    ]


@pytest.mark.parametrize(
    ("better", "names"),
    [
        ("lower", ["loss", "val_bpb", "testError", "time_ms", "seconds per token", "wall-time", "RMSE"]),
        ("higher", ["accuracy", "val_acc", "f1", "tokens_per_second", "reward/mean", "qps"]),
        (None, ["widgets", "", "7", "error_score", "per", "depth", "résec", "re\u0301sec"]),
    ],
)
def test_which_is_better_is_told_by_clear_names_alone(better, names):
    assert [direction(name) for name in names] == [better] * len(names)


def test_what_smells_of_time_is_timing():
    assert all(map(is_timing, ["seconds", "latencyMs", "p99_ms", "throughput", "tokens/s per second", "wall time"]))
    assert all(map(is_timing, ["took_s", "tokens/s"]))
    assert not any(map(is_timing, ["loss", "s", "timeless", "accuracy", "steps", "milliseconds_"]))


def test_a_unit_of_time_says_timing_whatever_the_name_is(tmp_path):
    lines = ["took: 0.024s", "step: 3 ms", "lap = 2.5 µs", "tokens: 310 tok/s", "cost: 2 s/step", "size: 3 MB", "x: 1"]
    found = figures(Finished(0, "\n".join(lines)), tmp_path)
    assert [figure.name for figure in found if figure.is_timing] == ["took", "step", "lap", "tokens", "cost"]
    assert [figure.unit for figure in found] == ["s", "ms", "µs", "tok/s", "s/step", "MB", ""]


@given(st.text(min_size=1).filter(lambda t: t == t.strip() and "\n" not in t), st.text())
def test_the_source_of_a_metric_is_the_metric(name, path):
    for metric in (Printed(name), InFile(name), InFile(name, path or "x", path)):
        assert eval(source_of(metric)) == metric
    assert eval(quoted(path)) == path
