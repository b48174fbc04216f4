import os
import random
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import nbformat
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from analysis import frames
from harness.gate import MetricGate, PairedGate
from harness.graders.metric import MetricGrader
from tests.conftest import a_checkout
from tests.world import PROMPT, KnowingRunner, ListProposer, an_experiment, play, some_tasks
from traces import data_directory
from traces.merge import Merger, merge
from traces.records import Task

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_of(path: Path) -> list[NotebookNode]:
    """The cells to run, about the experiment of ``tests.world``."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    cells[0].source = cells[0].source.replace('"word_tasks"', '"example"')
    return cells


class Shell(InteractiveShell):
    """One without a terminal, and without a kernel."""

    def enable_gui(self, gui=None):
        pass


def shown_by(path: Path, checkout: Path, only: Sequence[str] = ()) -> str:
    """What the notebook shows, in this process: starting a kernel takes as long as all of the cells. *only*: the ids of
    some cells."""
    quiet = Config({"HistoryManager": {"enabled": False}})
    shell = Shell(config=quiet, ipython_dir=str(checkout / ".ipython"))
    shown: list[str] = []
    with chdir(checkout):
        for cell in (cell for cell in code_of(path) if not only or cell.id in only):
            result = shell.run_cell(cell.source)
            result.raise_error()
            shown.append(str(shell.display_formatter.format(result.result)[0]))
    return "".join(shown)


@dataclass(frozen=True)
class Brake:
    """As ``KnowingRunner``; but a trial of the second change takes three seconds, until it is let go."""

    pulled: threading.Event = field(default_factory=threading.Event, repr=False)
    released: threading.Event = field(default_factory=threading.Event, repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        if "colour" in text[PROMPT]:
            self.pulled.set()
            self.released.wait(3)
        return KnowingRunner().run(task, text, seed)


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """The checkout of an experiment whose night has ended."""
    checkout = a_checkout(tmp_path_factory.mktemp("night") / "repository")
    play(an_experiment(tasks=some_tasks(40)), checkout, data_directory(checkout))
    merge(data_directory(checkout))
    return checkout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_committed_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("01_last_night", ["Mind the plural.", "accept", "plural", "ExactGrader"]),
        ("02_recurring_failures", ["another answer than the accepted ones", "something else", "open"]),
        ("03_ab_comparison", ["promotion test", "latency", "twice as many", "plural"]),
    ],
)
def test_a_notebook_shows_a_night_that_has_ended(name: str, words: Sequence[str], night):
    shown = shown_by(ROOT / "notebooks" / f"{name}.ipynb", night)
    assert [word for word in words if word not in shown] == []


@dataclass(frozen=True)
class Losing:
    """Loses less, by the lines of its prompt, and by chance."""

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        return f"loss: {309 - 125 * text[PROMPT].count('Better.') + random.Random(seed).random()}"


@pytest.fixture(scope="module")
def night_of_a_metric(tmp_path_factory) -> Path:
    checkout = a_checkout(tmp_path_factory.mktemp("metric") / "repository")
    experiment = an_experiment(
        tasks=[Task(id="run", input="", split="train")],
        runner=Losing(),
        grader=MetricGrader("loss"),
        gate=MetricGate("loss", better="lower"),
        proposer=ListProposer(("Better.", "Worse.")),
    )
    play(experiment, checkout, data_directory(checkout))
    merge(data_directory(checkout))
    return checkout


def test_a_comparison_of_a_metric_says_what_there_is_instead_of_an_empty_box(night_of_a_metric, capsys):
    shown = shown_by(ROOT / "notebooks" / "03_ab_comparison.ipynb", night_of_a_metric)
    instead = "Not for loss: it is tested by fresh runs of both sides, all at once. They are drawn above."
    assert capsys.readouterr().out.count(instead) == 3
    assert "Nothing has been compared yet." not in shown
    assert "four times as many" in shown


def test_the_kinds_of_task_of_a_metric_are_no_shares(night_of_a_metric):
    shown = shown_by(ROOT / "notebooks" / "01_last_night.ipynb", night_of_a_metric, ("setup", "kinds", "proven"))
    assert "accept" in shown
    assert "background-color" not in shown


def test_the_runs_of_every_comparison_of_a_metric_come_to_the_means_that_were_decided_on(night_of_a_metric):
    directory = data_directory(night_of_a_metric)
    run = frames.last_run("example", directory=directory)
    made = frames.comparisons(run, directory=directory)
    assert list(made.what) == ["round"] * 2 + ["promotion test", "measurement"]
    assert made.e_value.isna().all()
    for row in made.itertuples():
        sides = frames.runs(run, row.id, directory=directory).groupby("side").value
        by_side = {side: list(values) for side, values in sides}
        counted = by_side["candidate"][1 if row.what == "round" and len(by_side["candidate"]) > 1 else 0 :]
        assert len(counted) == row.tasks
        assert fmean(counted) == pytest.approx(row.candidate_score)
        assert fmean(by_side["incumbent"]) == pytest.approx(row.incumbent_score)
    [test] = made[made.what == "promotion test"].itertuples()
    power = frames.power(test.id, directory=directory)
    assert list(power.runs) == [5, 10, 20]
    assert power.provable.is_monotonic_decreasing


def test_the_notebooks_show_a_night_that_has_only_its_baseline(checkout):
    tasks = some_tasks(kinds=("plural", "$\\frac$<b>"))  # which is neither mathematics nor HTML
    play(
        an_experiment(tasks=tasks, gate=PairedGate(min_clusters=10), proposer=ListProposer(())),
        checkout,
        data_directory(checkout),
    )
    merge(data_directory(checkout))
    for path in NOTEBOOKS:
        shown = shown_by(path, checkout)
        assert "Nothing here yet." in shown
        assert "<b>" not in shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::RuntimeWarning")
def test_a_notebook_runs_in_a_kernel_while_a_night_is_being_played(checkout):
    directory, brake = data_directory(checkout), Brake()
    slowly = ListProposer(("Mind the plural.", "Name the colour."))
    experiment = an_experiment(tasks=some_tasks(40), runner=brake, proposer=slowly)
    with Merger(directory), ThreadPoolExecutor(1) as executor:
        playing = executor.submit(play, experiment, checkout, directory)
        try:
            while not brake.pulled.wait(0.1):
                assert playing.running()
            notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
            notebook.cells = code_of(NOTEBOOKS[0])
            kernel = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(checkout)}})
            done = kernel.execute(
                env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "JUPYTER_PLATFORM_DIRS": "1"}
            )
            assert playing.running()
        finally:
            brake.released.set()
    shown = "".join(str(output) for cell in done.cells for output in cell.get("outputs", []))
    assert "Mind the plural." in shown
    assert "image/png" in shown


def test_the_frames_of_every_comparison_of_a_night_come_to_the_numbers_that_were_decided_on(night):
    directory = data_directory(night)
    made = frames.comparisons(frames.last_run("example", directory=directory), directory=directory)
    assert set(made.what) == {"round", "promotion test", "measurement"}
    for row in made.itertuples():
        slices = frames.slices(row.id, directory=directory)
        assert slices.clusters.sum() == row.tasks
        assert (slices.gain * slices.clusters).sum() / row.tasks == pytest.approx(row.gain)
        assert frames.differences(row.id, directory=directory)["mean"].iloc[-1] == pytest.approx(row.gain)
        path = frames.e_values(row.id, directory=directory)
        if row.what == "measurement":
            assert path.empty
        else:
            last = path.iloc[-1]
            assert (last.n, last.e_value, last.low, last.high) == (row.tasks, row.e_value, row.low, row.high)
    assert made.id[made.what == "promotion test"].iloc[-1] == frames.default_comparison(made)
    assert frames.default_comparison(made[made.what == "round"]) == made.id[made.what == "round"].iloc[-1]
    assert frames.default_comparison(made[:0]) == ""
    assert not pd.isna(made.gain).any()
