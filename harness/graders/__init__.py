"""Graders: how good an output is, and why."""

from harness.graders.exact import ExactGrader

__all__ = ["ExactGrader"]
