"""26 circles in the unit square, the sum of their radii as large as can be: which constants of ``pack.py`` pack better?

The circles are checked in exact arithmetic, outside of the candidate's process. See the README.
"""

from pathlib import Path

from analysis.proposers import Combining, MutationProposer, Pruning
from experiments.circle_packing.checker import SumOfRadii
from harness.candidacy import GUARDED
from harness.experiment import Budget, Contract, Experiment
from harness.gate.metric import MetricGate
from harness.graders.metric import MetricGrader
from harness.runners.command import MIB, CommandRunner
from harness.runners.metrics import Computed
from traces.records import Task

HERE = Path(__file__).parent
METRIC = "sum_of_radii"
FIXED = (*GUARDED, "prepare.step", "prepare.left", "prepare.answer")
"""What a candidate uses as it is used."""

experiment = Experiment(
    name="circle_packing",
    subject="experiments/circle_packing/code",  # what proposals may edit: pack.py
    tasks=[Task(id="run", input="", split="train")],
    runner=CommandRunner(
        "python pack.py",
        metric=Computed(METRIC, SumOfRadii()),
        fixed={"prepare.py": HERE / "prepare.py"},
        seconds=30,  # of a busy machine
        cpu=8,  # it takes 3
        memory=1024 * MIB,
        guarded=FIXED,
    ),
    grader=MetricGrader(METRIC),
    proposer=Combining(Pruning(MutationProposer(guarded=FIXED))),
    gate=MetricGate(METRIC, better="higher"),
    budget=Budget(hours=1),
    contract=Contract(
        owner="whoever runs it",
        stops="an hour ends the night, 30 seconds (8 of CPU time) or 1 GiB a trial; and: ratchet stop circle_packing",
        proves="every pair of circles is checked in exact arithmetic in Ratchet's own process; then 5 fresh seeds "
        "against 5",
        repeats="all of it: a trial writes to its own temporary folder and nowhere else",
        person="promoting is always a person's",
    ),
)
