"""Does it get anywhere? What tells one failure from the same failure again."""

import hashlib
import re

TIMES = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?|\d\d?:\d\d:\d\d(?:[.,]\d+)?"
)
PATHS = re.compile(r"(?:[A-Za-z]:)?[\w.~-]*(?:[/\\][\w.~-]+)+")
IDS = re.compile(
    r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b(?=[a-f]*\d)[0-9a-f]{7,64}\b|0x[0-9a-fA-F]+"
)
NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*")


def general(text: str) -> str:
    """*text* without what differs from one occurrence to the next: times, paths, ids and numbers."""
    for pattern, mark in ((TIMES, "@"), (PATHS, "…"), (IDS, "#"), (NUMBERS, "#")):
        text = pattern.sub(mark, text)
    return " ".join(text.split())


def fingerprint(text: str) -> str:
    """The same for the same failure, whenever and wherever it happened."""
    return hashlib.sha256(general(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]
