"""Failed attempts, remembered for those who look: each with its time and error.

Rules of this file:
1. This is memory only: an invocation's record holds its last failure, and nothing here is needed to go on.
2. What is kept is bounded, by attempts of one invocation and by invocations.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from msgspec import Struct

from agentdur.core.ids import InvocationId
from agentdur.core.journal import Failure
from agentdur.core.state import Invocation

ATTEMPTS_KEPT_MAX = 50
"""Of one invocation, the newest."""
INVOCATIONS_KEPT_MAX = 1000
"""Those of which an attempt failed last."""
MESSAGE_CHARS_MAX = 500


class FailedAttempt(Struct, frozen=True, gc=False):
    """`at` in ms since the epoch; `entry`: the journal index of the step that failed, if one did."""

    attempt: int
    at: int
    code: int
    message: str
    entry: int | None = None
    deployment: str | None = None


class FailedAttempts:
    """Of all invocations of one engine."""

    def __init__(self) -> None:
        self._kept: OrderedDict[InvocationId, deque[FailedAttempt]] = OrderedDict()

    def note(self, before: Invocation, after: Invocation | None, error: Failure, now: int) -> None:
        """`before` and `after` are the invocation without and with this failure."""
        kept = self._kept.setdefault(before.id, deque(maxlen=ATTEMPTS_KEPT_MAX))
        self._kept.move_to_end(before.id)
        entry = None if after is None else after.head.last_failure_entry
        message = error.message[:MESSAGE_CHARS_MAX]
        head = before.head
        kept.append(FailedAttempt(head.attempt, now, error.code, message, entry, head.deployment))
        if len(self._kept) > INVOCATIONS_KEPT_MAX:
            self._kept.popitem(last=False)

    def of(self, invocation: InvocationId) -> list[FailedAttempt]:
        """Oldest first."""
        return list(self._kept.get(invocation, ()))
