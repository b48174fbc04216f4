"""Server-sent events, read from the bytes of a whole response."""

import re
from collections.abc import Iterator

LINE = re.compile(r"\r\n|\n|\r")
"""And nothing else: JSON may hold other characters that Python takes for the end of a line."""


def events(content: bytes) -> Iterator[str]:
    """The data of each event, without comments and without what was cut before its end."""
    data: list[str] = []
    *lines, _unfinished = LINE.split(content.decode(errors="replace").removeprefix("\ufeff"))
    for line in lines:
        name, _, value = line.partition(":")
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))


def is_stream(content: bytes) -> bool:
    """Not JSON at once, as servers answer that cannot stream."""
    return not content.lstrip().startswith((b"{", b"["))
