"""Who is signed in.

Rules of this file:
1. A session is worth what its token is worth now: when that is taken away, it is over.
2. Sessions are in memory; after a restart everybody signs in again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from hashlib import sha256

SESSION_SECONDS = 12 * 3600
SESSIONS_MAX = 1000
"""At a time; the oldest is over first."""


class Sessions:
    """Who is signed in, by the hash of the session's id."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[bytes, tuple[bytes, float]] = {}

    def begin(self, token: bytes) -> str:
        """The id of a new session of the token with this hash."""
        while len(self._known) >= SESSIONS_MAX:
            del self._known[next(iter(self._known))]
        made = secrets.token_urlsafe(32)
        self._known[_hash(made)] = (token, self._clock() + SESSION_SECONDS)
        return made

    def token_of(self, session: str) -> bytes | None:
        """The hash of its token; None when it is over."""
        token, until = self._known.get(_hash(session), (None, 0.0))
        if token is not None and self._clock() >= until:
            self.end(session)
            return None
        return token

    def end(self, session: str) -> None:
        """It is over."""
        self._known.pop(_hash(session), None)


def _hash(session: str) -> bytes:
    return sha256(session.encode("utf-8", "replace")).digest()
