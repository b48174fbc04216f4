"""How a change earns its place: a paired test that peeking cannot cheat, and the error budget it spends from."""

from harness.gate.eprocess import DeadlineE, GateSpec, decide

__all__ = ["DeadlineE", "GateSpec", "decide"]
