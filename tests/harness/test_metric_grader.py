import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.graders import MetricGrader
from traces.records import Task

TASK = Task(id="t", input="train for five minutes")
GRADER = MetricGrader("val_bpb")


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("val_bpb: 0.9979", 0.9979),
        ("val_bpb=0.9979", 0.9979),
        ("---\nval_bpb:          0.997900\npeak_vram_mb:     45060.2\n", 0.9979),
        ("  val_bpb = -1.5e-3  ", -0.0015),
        ("val_bpb: .5", 0.5),
        ("val_bpb: +2.", 2),
        ("val_bpb: 1E2", 100),
        ('{"step": 9, "val_bpb": 0.99}', 0.99),
        ('{"val_bpb": 1}', 1),
        ("step 1\rval_bpb: 3\rval_bpb: 2\r", 2),
    ],
)
def test_a_line_that_reports_the_metric_is_read(output, value):
    grade = GRADER.grade(TASK, output)
    assert (grade.score, grade.value) == (1, value)


def test_the_last_report_counts_in_whatever_form_it_is():
    assert GRADER.grade(TASK, 'val_bpb: 3\n{"val_bpb": 2}\nval_bpb=1\ndone').value == 1
    assert GRADER.grade(TASK, 'val_bpb: 3\nval_bpb=2\n{"val_bpb": 1}\n{"loss": 9}').value == 1


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "no line `val_bpb: NUMBER` in 0 characters of output"),
        ("Traceback: out of memory", "no line `val_bpb: NUMBER` in 24 characters of output"),
        ("val_bpb: 0.9\nval_bpb: nan", "val_bpb is 'nan', which is no number"),
        ("val_bpb: 0.9\nval_bpb: -inf", "val_bpb is '-inf', which is no number"),
        ("val_bpb: 1e999", "val_bpb is '1e999', which is no number"),
        ("val_bpb:", "val_bpb is '', which is no number"),
        ("val_bpb: 0.9979 (was 0.9)", "val_bpb is '0.9979 (was 0.9)', which is no number"),
        ("val_bpb: 1_000", "val_bpb is '1_000', which is no number"),
        ("val_bpb: ١", "val_bpb is '١', which is no number"),
        ('{"val_bpb": NaN}', "val_bpb is 'NaN', which is no number"),
        ('{"val_bpb": "0.9"}', "val_bpb is '\"0.9\"', which is no number"),
        ('{"val_bpb": true}', "val_bpb is 'true', which is no number"),
        ('{"val_bpb": null}', "val_bpb is 'null', which is no number"),
    ],
)
def test_a_run_without_a_number_failed_and_the_reason_says_what_was_seen(output, reason):
    grade = GRADER.grade(TASK, output)
    assert (grade.score, grade.value, grade.reason) == (0, None, reason)


@pytest.mark.parametrize(
    "line",
    [
        "val_bpb_ema: 0.1",
        "best_val_bpb: 0.1",
        "the goal is val_bpb: 0.1",
        "val_bpb 0.1",
        "val_bpb is: 0.1",
        '{"best": {"val_bpb": 0.1}}',
        '{"val_bpb": 0.1',
        '{"a":' * 50_000,
    ],
)
def test_what_only_resembles_a_report_is_passed_over(line):
    assert GRADER.grade(TASK, f"val_bpb: 0.9\n{line}").value == 0.9
    assert GRADER.grade(TASK, line).value is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["val_bpb: {!r}", 'x\n{{"val_bpb": {!r}}}\n']))
def test_every_number_survives_being_printed(number, form):
    assert GRADER.grade(TASK, form.format(number)).value == number


@given(st.text() | st.text(alphabet='val_bpb:={} "0.1e9-+naif\n'))
def test_any_output_can_be_graded(output):
    grade = GRADER.grade(TASK, output)
    assert (grade.score == 1) == (grade.value is not None and math.isfinite(grade.value))
    assert grade.score == 1 or len(grade.reason) < 300


def test_a_line_of_a_million_digits_takes_no_time_to_refuse():
    assert GRADER.grade(TASK, "val_bpb: " + "1" * 1_000_000 + "x").value is None


def test_a_metric_without_a_name_is_refused():
    for name in ("", " val_bpb"):
        with pytest.raises(ValueError, match="cannot name a metric"):
            MetricGrader(name)
