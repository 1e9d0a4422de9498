"""Payloads for who may not see them: a marker with the size and a hash in their place.

Rules of this file:
1. Whether they are hidden is said once for a request, by the door; what shows payloads asks here.
2. The hash tells equal values from others while this process lives. It has a key, so that a short value
   cannot be guessed from it.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

HASH_DIGITS = 16
_KEY = os.urandom(32)
_hidden: ContextVar[bool] = ContextVar("payloads_hidden", default=False)


def hidden() -> bool:
    """Whether who asks may not see payloads."""
    return _hidden.get()


@contextmanager
def hiding() -> Iterator[None]:
    """What is shown within shows markers."""
    before = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(before)


def marker(value: bytes) -> dict[str, Any]:
    """In place of a payload."""
    return {
        "redacted": True,
        "bytes": len(value),
        "hash": hmac.digest(_KEY, value, "sha256").hex()[:HASH_DIGITS],
    }
