"""Ratchet climbs on its own text: the prompts of its analysis agent, scored by what the agent's proposals bring.

Offline a scripted analyst plays the model, and a person's ideas are what is tried. With a key the real model proposes,
and the same agent proposes how to improve itself::

    RATCHET_MODEL=anthropic:MODEL ratchet run self_improve
"""

import os
from pathlib import Path

from analysis.proposers import Ideas
from analysis.proposers.analyst import ANSWER, AnalysisAgent
from experiments.self_improve.runner import GainGrader, ProposingRunner
from experiments.self_improve.scripted import analyst
from harness.experiment import Budget, Contract, Experiment, load_tasks
from harness.gate import PairedGate
from harness.models import model

HERE = Path(__file__).parent
NAME = os.environ.get("RATCHET_MODEL", "")
asked = model(NAME, max_tokens=ANSWER) if NAME else analyst()

experiment = Experiment(
    name="self_improve",
    subject="harness/text/analyst",  # what proposals may edit: what the analysis agent is told
    tasks=load_tasks(HERE / "tasks.jsonl", seed=0),
    runner=ProposingRunner(asked),
    grader=GainGrader(),
    proposer=AnalysisAgent(asked) if NAME else Ideas(HERE / "ideas"),
    gate=PairedGate(),
    budget=Budget(rounds=6, hours=1, dollars=10),
    contract=Contract(
        owner="the maintainers of Ratchet",
        stops="6 rounds, an hour or 10 dollars end the night",
        proves="the clerk of a workshop, who is no model, works by the changed text on tasks that no proposal has seen",
        repeats="all of it: a trial writes nothing",
        person="promoting is always a person's",
    ),
)
