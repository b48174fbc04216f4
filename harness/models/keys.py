"""Where a provider is, and the key it wants. A key is read when a client is opened and kept nowhere else."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from harness.errors import UserError
from harness.models.wire import is_loopback


def find_key(variable: str, base_url: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key in the environment *variable*; ``None`` if there is none and none is needed: a server on this machine.

    Raises:
        UserError: it is missing, or holds what no key does.
    """
    key = environment.get(variable, "").strip()
    if not key:
        if is_loopback(base_url):
            return None
        raise UserError(
            f"the environment variable {variable} is not set, and {base_url} answers nobody without a key. "
            f"Type: export {variable}=... (any word will do for a server of your own that checks none)"
        )
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"the environment variable {variable} holds characters that no key has, so no request could be sent. "
            "Copy the key again, without quotes or line breaks"
        )
    return key


def check_base_url(url: str) -> str:
    """*url*, if it can be the address of an API.

    Raises:
        UserError: it cannot, or it holds a secret, which would end up in records.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{url!r} is not the address of an API. Write it like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"the base URL for {parts.hostname} carries a user, a password or a query. It is written to the records "
            "of each run, so it must hold no secret: give the plain address, and the key as an environment variable"
        )
    return url
