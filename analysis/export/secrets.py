"""No secret leaves with an export."""

import os
import re
from collections.abc import Mapping

from harness.redact import redacted

ESCAPE = re.compile(r"\\(?:[bfnrt]|u[0-9a-fA-F]{4})")
"""Of JSON, where it ends in a letter or a digit: what follows does not look like the beginning of a word."""
GAP = "\0"


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """*text* as ``redacted`` leaves it, also where it is JSON, or holds some."""
    if "\\" not in text:
        return redacted(text, environment)
    apart = ESCAPE.sub(lambda escape: escape[0] + GAP, text)
    return redacted(redacted(apart, environment).replace(GAP, ""), environment)
