"""Coding agents as proposers: Claude Code or Codex, each in a folder of its own."""

from analysis.proposers.coding_agent.claude import ClaudeCode
from analysis.proposers.coding_agent.codex import Codex
from analysis.proposers.coding_agent.proposer import CodingAgentProposer
from analysis.proposers.coding_agent.session import AgentReport

__all__ = ["AgentReport", "ClaudeCode", "Codex", "CodingAgentProposer"]
