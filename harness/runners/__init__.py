"""Runners: how a task is attempted with the text of a version."""

from harness.agent.runner import AgentRunner
from harness.runners.judging import JudgingRunner

__all__ = ["AgentRunner", "JudgingRunner"]
