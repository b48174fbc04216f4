"""Proposers: who decides what to try next."""

from analysis.proposers.analyst import AnalysisAgent
from analysis.proposers.code import CodeProposer
from analysis.proposers.coding_agent import ClaudeCode, Codex, CodingAgentProposer
from analysis.proposers.combining import Combining
from analysis.proposers.examples import BlindProposer, ExampleProposer
from analysis.proposers.ideas import Ideas
from analysis.proposers.mutation import MutationProposer
from analysis.proposers.paced import Paced
from analysis.proposers.pruning import Pruning

__all__ = [
    "AnalysisAgent",
    "BlindProposer",
    "ClaudeCode",
    "CodeProposer",
    "Codex",
    "CodingAgentProposer",
    "Combining",
    "ExampleProposer",
    "Ideas",
    "MutationProposer",
    "Paced",
    "Pruning",
]
