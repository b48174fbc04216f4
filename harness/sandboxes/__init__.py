"""Sandboxes: where a version's commands run, and what they cannot reach."""
