import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.world import an_experiment, play, some_tasks
from traces import data_directory

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_committed_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_on_the_traces_of_a_real_night(path, checkout):
    play(an_experiment(tasks=some_tasks(40)), checkout, data_directory(checkout))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = notebook.cells[1].source.replace('"word_tasks"', '"example"')
    kernel = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(checkout)}})
    done = kernel.execute(
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "JUPYTER_PLATFORM_DIRS": "1"}
    )
    shown = "".join(str(output) for cell in done.cells for output in cell.get("outputs", []))
    assert "Mind the plural." in shown
    assert "accept" in shown
