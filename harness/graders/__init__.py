"""Graders: how good an output is, and why."""

from harness.graders.exact import ExactGrader
from harness.graders.metric import MetricGrader

__all__ = ["ExactGrader", "MetricGrader"]
