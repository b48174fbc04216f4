"""An agent keeps the documentation of a small library true to its code.

Offline it is played by a scripted model, which goes wrong as real ones do. To see a real one work, with a key::

    RATCHET_MODEL=anthropic:MODEL ratchet run docs_agent
"""

import os
from pathlib import Path

from analysis.proposers import Ideas
from experiments.docs_agent.grader import DocsGrader, LinksLead, OneSection
from experiments.docs_agent.scripted import ScriptedWriter
from harness.agent.files import file_tools
from harness.agent.limits import Limits
from harness.agent.policy import Policy, allow, standard_policy
from harness.agent.runner import AgentRunner
from harness.experiment import Budget, Contract, Experiment, load_tasks
from harness.gate import PairedGate
from harness.graders.patches import DiffInScope
from harness.graders.rubric import RubricVerifier
from harness.models import model
from harness.sandboxes import best_sandbox
from harness.worktrees import Worktree

HERE = Path(__file__).parent
PROJECT = HERE / "project"
NAME = os.environ.get("RATCHET_MODEL", "")

looks = (allow(tool) for tool in ("skill", "read_file", "list_files", "search_files", "run_command"))
changes = (allow(tool, path="docs/*") for tool in ("write_file", "edit_file"))

experiment = Experiment(
    name="docs_agent",
    subject="experiments/docs_agent/harness",  # what proposals may edit: the prompt and the skill
    tasks=load_tasks(HERE / "tasks.jsonl", seed=0),
    runner=AgentRunner(
        model=model(NAME, max_tokens=4096) if NAME else ScriptedWriter(),
        tools=file_tools(),
        policy=standard_policy().narrowed(Policy((*looks, *changes))),
        limits=Limits(steps=20, calls=30, seconds=300, tokens=400_000),
        verifier=RubricVerifier(
            checks=(DiffInScope(allowed=["docs/api/*.md"], files=1), OneSection(PROJECT), LinksLead(PROJECT)),
            attempts=2,
        ),
        sandbox=best_sandbox(),
        worktree=Worktree(PROJECT),
    ),
    grader=DocsGrader(PROJECT, best_sandbox()),
    proposer=Ideas(HERE / "ideas"),
    gate=PairedGate(repeats=2),
    budget=Budget(rounds=6, hours=1, dollars=5),
    contract=Contract(
        owner="the maintainers of pocket",
        stops="20 turns, 30 tool calls or 300 seconds end a trial; 6 rounds, an hour or 5 dollars end the night",
        proves="git reads which files a patch changes; the section is compared with the syntax tree of the code; its "
        "example is run in a sandbox",
        repeats="a trial works on a copy of the project, and has no network: all of it can be repeated",
        person="promoting is always a person's; a trial that is refused the same twice ends with a notice in the inbox",
    ),
)
