"""Messages that reach a running turn, and are put before its next model call.

Rules of this file:
1. They come as signals. What had come when the turn looked is journaled, if it was anything: a replay finds
   the same messages at the same place, whatever has come meanwhile.
2. A signal that comes too late is nobody's loss: the message also waits in the inbox of the key, as a turn of
   its own, which ends at once when the running turn has taken it.
"""

from __future__ import annotations

from typing import Any

from agentdur.sdk.context import ObjectContext
from agentdur.sdk.future import SignalFuture
from agentdur.sessions.journaled import noted

STEER = "steer"
"""The name of the signal, and of the entry that says what was taken."""


class Steering:
    """What other invocations say to this one while it runs."""

    __slots__ = ("_ctx", "_next")

    def __init__(self, ctx: ObjectContext) -> None:
        self._ctx = ctx
        self._next: SignalFuture[Any] | None = None

    def take(self) -> list[dict[str, Any]]:
        """What has come since the last time, oldest first."""
        before: list[dict[str, Any]] | None = self._ctx.recorded_value(STEER)
        if before is None:
            return noted(self._ctx, STEER, self._arrived) or []
        for _ in before:  # a replay: these have been taken
            self._signal()
            self._next = None
        return noted(self._ctx, STEER, lambda: before) or []

    def _signal(self) -> SignalFuture[Any]:
        if self._next is None:
            self._next = self._ctx.signal(STEER)
        return self._next

    def _arrived(self) -> list[dict[str, Any]]:
        arrived = []
        while self._signal().done:
            arrived.append(self._signal().result())
            self._next = None
        return arrived
