"""Runners: how a task is attempted with the text of a version."""

from harness.agent.runner import AgentRunner

__all__ = ["AgentRunner"]
