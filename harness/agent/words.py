"""What the runtime tells a model, from ``harness/text/agent``."""

from functools import cache
from importlib.resources import files
from string import Template


@cache
def _template(name: str) -> Template:
    return Template((files("harness") / "text" / "agent" / f"{name}.md").read_text(encoding="utf-8").strip())


def say(name: str, /, **values: object) -> str:
    """The text *name*, its ``$names`` filled with *values*, which stand as they are.

    Raises:
        KeyError: a name has no value.
    """
    return _template(name).substitute({k: str(v) for k, v in values.items()})
