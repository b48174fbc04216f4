"""Proposers: who decides what to try next."""

from analysis.proposers.examples import BlindProposer, ExampleProposer

__all__ = ["BlindProposer", "ExampleProposer"]
