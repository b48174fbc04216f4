"""Proposers: who decides what to try next."""

from analysis.proposers.examples import BlindProposer, ExampleProposer
from analysis.proposers.ideas import Ideas
from analysis.proposers.pruning import Pruning

__all__ = ["BlindProposer", "ExampleProposer", "Ideas", "Pruning"]
