"""Text that users bring along: names, keys and messages are stored as UTF-8, and not every str can be.

Rules of this file:
1. A name or key decides what is addressed, so that one that cannot be written is refused (`require_text`).
2. A message is for people: what cannot be written of it is spelled out (`writable`).
"""

from __future__ import annotations

from enum import Enum

from agentdur.core.errors import BadRequest


def writable(text: str) -> str:
    r"""`text`, with lone surrogates spelled out as `\udc80`."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def require_text(what: str, text: object) -> None:
    """BadRequest that names `what`, unless `text` is a str that UTF-8 can write."""
    if type(text) is not str and not (isinstance(text, str) and isinstance(text, Enum)):
        raise BadRequest(f"{what}: expected a string, got {type(text).__name__} {str(text)[:80]!r}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        at = f"U+{ord(text[error.start]):04X} at position {error.start}"
        raise BadRequest(f"{what}: expected text that UTF-8 can write, got the lone surrogate {at}") from None
