"""Sandboxes: where a version's commands run, and what they cannot reach."""

from harness.sandboxes.folder import INSIDE
from harness.sandboxes.isolation import Bubblewrap, Namespaces, best_sandbox
from harness.sandboxes.none import NoSandbox

__all__ = ["INSIDE", "Bubblewrap", "Namespaces", "NoSandbox", "best_sandbox"]
