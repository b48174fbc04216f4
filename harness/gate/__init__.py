"""How a change earns its place: a paired test that peeking cannot cheat, and the error budget it spends from."""

from harness.gate.eprocess import DeadlineE, decide
from harness.gate.metric import MetricGate
from harness.gate.paired import PairedGate
from traces.records import GateSpec

__all__ = ["DeadlineE", "GateSpec", "MetricGate", "PairedGate", "decide"]
