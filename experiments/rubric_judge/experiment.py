"""A rubric is the subject: does a judge that goes by it say what people say?

Offline the judge is a script that reads the rubric and errs as models do. To see a real one, with a key::

    RATCHET_MODEL=anthropic:MODEL ratchet run rubric_judge
"""

import os
from pathlib import Path

from analysis.proposers import Ideas
from experiments.rubric_judge.scripted import ScriptedJudge
from harness.experiment import Budget, Contract, Experiment
from harness.gate import PairedGate
from harness.graders.agreement import AgreementGrader
from harness.labels import FILE, load_labels, tasks_from_labels
from harness.models import model
from harness.runners.judging import JudgingRunner

HERE = Path(__file__).parent
NAME = os.environ.get("RATCHET_MODEL", "")
CRITERIA = ("next-step", "on-topic", "no-promise")

tasks = tasks_from_labels(load_labels(HERE / FILE), CRITERIA, seed=0)

experiment = Experiment(
    name="rubric_judge",
    subject="experiments/rubric_judge/harness",  # what proposals may edit: the rubric
    tasks=tasks,
    runner=JudgingRunner(model(NAME, max_tokens=2000) if NAME else ScriptedJudge(), CRITERIA),
    grader=AgreementGrader.of(tasks),
    proposer=Ideas(HERE / "ideas"),
    gate=PairedGate(repeats=1, floor=0.75),  # whoever says the same of everything scores about a half
    budget=Budget(rounds=6, hours=1, dollars=5),
    contract=Contract(
        owner="the support desk",
        stops="two answers without a usable verdict end a trial; 6 rounds, an hour or 5 dollars end the night",
        proves="what people have marked on the same outputs: the scores that a rubric hands out count for nothing",
        repeats="all of it: a judge reads, and changes nothing",
        person="promoting is always a person's, and so is every label",
    ),
)
