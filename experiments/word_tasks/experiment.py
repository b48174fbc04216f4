"""Seven kinds of short word task, asked of a small model that comes with the project: the first run, without a key."""

from pathlib import Path

from analysis.proposers import ExampleProposer
from harness.experiment import Budget, Experiment, load_tasks
from harness.gate import PairedGate
from harness.graders import ExactGrader
from harness.runners import AgentRunner

experiment = Experiment(
    name="word_tasks",
    subject="experiments/word_tasks/harness",
    tasks=load_tasks(Path(__file__).with_name("tasks.jsonl")),
    runner=AgentRunner(model="local:smollm2-135m"),
    grader=ExactGrader(),
    proposer=ExampleProposer(),
    gate=PairedGate(repeats=1),  # 1: the embedded model always answers the same
    budget=Budget(rounds=12, hours=8, dollars=25),
)
