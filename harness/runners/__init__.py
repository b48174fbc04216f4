"""Runners: how a task is attempted with the text of a version."""

from harness.runners.agent import AgentRunner

__all__ = ["AgentRunner"]
