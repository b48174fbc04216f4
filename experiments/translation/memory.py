"""The tools of the maker: the glossary, and a translation memory of its own trial.

The memory is a file in the folder of the trial. It survives a kill, and goes when the trial ends: were it shared, a
trial would depend on which came before it, the arms of a comparison would help each other, and what one version found
out would count for the other.
"""

from difflib import SequenceMatcher
from typing import Final

from experiments.translation.glossary import terms
from harness.agent.memory import Memory
from harness.agent.tools import function_tool
from harness.errors import ToolError
from harness.meter import meter
from harness.protocols import Tool

NAME: Final = "memory.md"
ARROW: Final = " ⇒ "
ALIKE = 0.6
"""How much of a sentence has to be the same for what was kept of it to help."""


def memory() -> Memory | None:
    """That of the trial in progress; ``None`` outside of a run, where nothing is kept."""
    folder = meter().folder
    return Memory(folder / NAME) if folder is not None else None


def look_up(term: str) -> str:
    """What the glossary calls a Korean name, title, office or place in English. Give the term without particles."""
    found = [entry.english for entry in terms() if entry.korean == term.strip()]
    if not found:
        raise ToolError("not_found", f"the glossary has no entry {term[:40]!r}", safe_to_repeat=True)
    return "; ".join(found)


def recall(sentence: str) -> str:
    """What was kept in this work's translation memory of a Korean sentence, or of one that is much like it."""
    kept = memory()
    pairs = [item.partition(ARROW) for item in kept.read().of("done")] if kept else []
    found = [f"{korean}{ARROW}{english}" for korean, _, english in pairs if alike(korean, sentence) >= ALIKE]
    return "\n".join(found) or "Nothing like it was kept yet."


def remember(sentence: str, english: str) -> str:
    """Keep the translation of a Korean sentence in this work's translation memory, so that it is not lost."""
    kept = memory()
    if kept is None:
        return "There is no memory outside of a run: nothing was kept."
    return f"Kept, as version {kept.remember('done', f'{sentence}{ARROW}{english}').version} of the memory."


def alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


def tools() -> tuple[Tool, ...]:
    return (
        function_tool(look_up, effect="none"),
        function_tool(recall, effect="none"),
        function_tool(remember, effect="worktree"),
    )
