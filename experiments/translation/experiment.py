"""Korean to English: plan, translate, be criticised, repair; and a score by references that none of them has seen.

Offline it is played by two scripted models that go wrong as real ones do, one of them a critic whom no idiom ever
satisfies. To see real ones work, with a key::

    RATCHET_MODEL=anthropic:MODEL RATCHET_JUDGE=openai:MODEL ratchet run translation
"""

import os
from pathlib import Path

from analysis.proposers import Ideas
from experiments.translation.checks import deterministic
from experiments.translation.grader import ReferenceGrader
from experiments.translation.memory import tools
from experiments.translation.scripted import ScriptedCritic, ScriptedTranslator
from harness.agent.limits import Limits
from harness.agent.runner import AgentRunner
from harness.experiment import Budget, Contract, Experiment, load_tasks
from harness.gate import PairedGate
from harness.graders.checks import Lacks
from harness.graders.judge import Judge
from harness.graders.rubric import RubricVerifier
from harness.models import model
from harness.models.routing import Routes

HERE = Path(__file__).parent
MAKER = os.environ.get("RATCHET_MODEL", "")
JUDGE = os.environ.get("RATCHET_JUDGE", "") or MAKER

models = Routes(
    model(MAKER, max_tokens=1000) if MAKER else ScriptedTranslator(),
    judge=model(JUDGE, max_tokens=2000) if JUDGE else ScriptedCritic(),
)

experiment = Experiment(
    name="translation",
    subject="experiments/translation/harness",  # what proposals may edit: the prompt and the skill
    tasks=load_tasks(HERE / "tasks.jsonl", seed=0),
    runner=AgentRunner(
        model=models,
        tools=tools(),
        limits=Limits(steps=16, calls=30, seconds=300, tokens=200_000),
        verifier=RubricVerifier(
            checks=(Lacks("hangul", "[가-힣]+", "some of it is still Korean"), *deterministic()),
            judge=Judge(models.of("judge"), HERE / "rubric.toml"),
            attempts=3,
        ),
    ),
    grader=ReferenceGrader(),
    proposer=Ideas(HERE / "ideas"),
    gate=PairedGate(),
    budget=Budget(rounds=5, hours=1, tokens=20_000_000),
    contract=Contract(
        owner="the translation desk",
        stops="3 attempts, 16 turns or 300 seconds end a trial; 5 rounds, an hour or 20 million tokens end the night",
        proves="the score by references and by the numbers, names and negations that have to be there; the critic's "
        "verdict decides who mends, and is no part of it",
        repeats="all of it: a trial writes one file, its memory, which goes when it ends",
        person="a critic that is still not satisfied after 3 attempts leaves a notice in the inbox that names the "
        "criterion; promoting is always a person's",
    ),
)
