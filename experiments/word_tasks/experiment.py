"""Seven kinds of short word task, asked of a small model that comes with the project: the first run, without a key."""

from pathlib import Path

from analysis.proposers import ExampleProposer
from harness.experiment import Budget, Experiment, load_tasks
from harness.gate import PairedGate
from harness.graders import ExactGrader
from harness.models import model
from harness.runners import AgentRunner

HERE = Path(__file__).parent

experiment = Experiment(
    name="word_tasks",
    subject="experiments/word_tasks/harness",  # what proposals may edit
    tasks=load_tasks(HERE / "tasks.jsonl", seed=0),
    runner=AgentRunner(model=model("local:smollm2-135m", max_tokens=8)),
    grader=ExactGrader(),
    proposer=ExampleProposer(),
    gate=PairedGate(repeats=1, min_gain=0.05),  # 1: the embedded model always answers the same
    budget=Budget(rounds=8, hours=1, dollars=25),
)
