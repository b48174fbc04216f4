"""Runners: how a task is attempted with the text of a version."""

from harness.agent.runner import AgentRunner
from harness.runners.command import CommandRunner
from harness.runners.judging import JudgingRunner
from harness.runners.metrics import Computed, Evaluated, InFile, NoMetric, Printed

__all__ = ["AgentRunner", "CommandRunner", "Computed", "Evaluated", "InFile", "JudgingRunner", "NoMetric", "Printed"]
