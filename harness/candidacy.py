"""Is a change of code a candidate? Not where it does the same as before, and not where it changes what is measured."""

from collections.abc import Mapping, Sequence

GUARDED: tuple[str, ...] = ()
"""Patterns of dotted names: what calls them, or assigns to them, is about seed, evaluation, data order or timing."""


def identity(text: Mapping[str, str]) -> str:
    """A digest of what the files do: of Python the syntax tree without docstrings, of others the lines without blanks
    at their ends."""
    raise NotImplementedError


def objection(before: Mapping[str, str], after: Mapping[str, str], guarded: Sequence[str] = GUARDED) -> str:
    """Why *after* is no candidate beside *before*: names file, line and what stands there. Empty: it is one."""
    raise NotImplementedError
