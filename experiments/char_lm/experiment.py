"""A small character language model in numpy: which constants of ``train.py`` foretell text better?

The number is made outside of the candidate's process, of what it foretold, against characters that its sandbox does not
hold. See the README.
"""

from pathlib import Path

from analysis.proposers import Combining, MutationProposer, Pruning
from experiments.char_lm.evaluation import bits_per_character
from harness.candidacy import GUARDED
from harness.experiment import Budget, Contract, Experiment
from harness.gate.metric import MetricGate
from harness.graders.metric import MetricGrader
from harness.runners.command import MIB, CommandRunner
from harness.runners.metrics import Computed
from traces.records import Task

HERE = Path(__file__).parent
METRIC = "val_bpb"
FIXED = (*GUARDED, "prepare.batch", "prepare.spent", "prepare.charged")
"""What a candidate uses as it is used. What it answers, and of what, is checked and need not be guarded."""

experiment = Experiment(
    name="char_lm",
    subject="experiments/char_lm/code",  # what proposals may edit: train.py
    tasks=[Task(id="run", input="", split="train")],
    runner=CommandRunner(
        "python train.py",
        metric=Computed(METRIC, bits_per_character(HERE)),
        fixed={
            "prepare.py": HERE / "prepare.py",
            "data/train.txt": HERE / "data/train.txt",
            "data/contexts.txt": HERE / "data/contexts.txt",
        },
        seconds=40,  # of a busy machine
        cpu=8,  # it takes 3 to 4
        memory=1024 * MIB,
        guarded=FIXED,
    ),
    grader=MetricGrader(METRIC),
    proposer=Combining(Pruning(MutationProposer(guarded=FIXED))),
    gate=MetricGate(METRIC, better="lower"),
    budget=Budget(hours=1),
    contract=Contract(
        owner="whoever runs it",
        stops="an hour ends the night, 40 seconds (8 of CPU time), 1 GiB or 64 MiB of output a trial; and: ratchet "
        "stop char_lm",
        proves="bits per character, computed in Ratchet's own process against characters that lie outside of the "
        "sandbox; then 5 fresh seeds against 5",
        repeats="all of it: a trial writes to its own temporary folder and nowhere else",
        person="promoting is always a person's",
    ),
)
