"""What a handler accepts: its input rule, made into one check per handler when the catalog changes.

Rules of this file:
1. Content types are compared as written, case included, after cutting parameters.
2. The body is never parsed; only whether it is empty counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from agentdur.core.catalog import InputRule

Check: TypeAlias = Callable[[bytes | None, bytes], str | None]
"""(content type, body) -> what is wrong, or None."""

_NO_TYPE = "Empty content-type"
_NO_BODY = "Empty body not allowed"


def input_check(rule: InputRule) -> Check:
    """The check for this rule."""
    if rule.void:
        return _nothing
    if rule.any or rule.content_type is None:
        return _anything
    return _typed(rule.content_type, rule.required, body_wanted=rule.json_schema is not None)


def _nothing(content_type: bytes | None, body: bytes) -> str | None:
    if content_type is None and not body:
        return None
    shown = "None" if content_type is None else content_type.decode("latin-1")
    return f"Expected body and content-type to be empty, but wasn't with content-type '{shown}'"


def _anything(content_type: bytes | None, body: bytes) -> str | None:
    return _NO_TYPE if content_type is None and body else None


def _typed(pattern: str, required: bool, *, body_wanted: bool) -> Check:
    exact = pattern.encode()
    matches = _matcher(pattern)

    def check(content_type: bytes | None, body: bytes) -> str | None:
        if content_type is None:
            return _NO_TYPE if required or body else None
        if content_type != exact and not matches(content_type):
            return f"Content-type '{content_type.decode('latin-1')}' does not match '{pattern}'"
        return _NO_BODY if body_wanted and not body else None

    return check


def _matcher(pattern: str) -> Callable[[bytes], bool]:
    wanted = pattern.encode()
    if wanted == b"*/*":
        return lambda content_type: True
    if wanted.endswith(b"/*"):
        prefix = wanted[:-1]
        return lambda content_type: content_type.lstrip().startswith(prefix)
    return lambda content_type: content_type.partition(b";")[0].strip() == wanted
