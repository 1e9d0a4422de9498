"""Attempts that failed, for those who look: each with its times and its error.

Rules of this file:
1. They are written in the commit that says that the attempt is over, and read only by people: nothing here is
   needed to go on.
2. What is kept of one invocation is bounded, the oldest go first; numbers go on, so that it shows how many.
3. An invocation that never fails costs nothing: not a row, not a read.
"""

from __future__ import annotations

from agentdur.core.effects import NoteFailure
from agentdur.core.journal import Failure
from agentdur.core.ports import Store, Writes
from agentdur.core.state import FailedAttempt
from agentdur.runtime.slots import Slot

ATTEMPTS_KEPT_MAX = 50
"""Of one invocation, the newest; a setting."""
MESSAGE_CHARS_MAX = 500
_REASONS = ("agentdur_code", "restate_code")


class Failures:
    """What an engine writes of them. `node`: where it runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kept_max = ATTEMPTS_KEPT_MAX
        self.node = ""

    def note(self, slot: Slot, effect: NoteFailure, now: int, writes: Writes) -> None:
        """Add it to the commit, unless all of the invocation goes with it."""
        if slot.state is None:
            return
        number = self._count(slot, writes) + 1
        slot.failures = number
        head, error = slot.state.head, effect.error
        writes.attempts[(slot.seq, number)] = FailedAttempt(
            number=number, attempt=effect.attempt, started_at=slot.begun_at or None, ended_at=now,
            code=error.code, message=error.message[:MESSAGE_CHARS_MAX], reason=reason_of(error),
            entry=effect.place, length=slot.state.length, deployment=head.deployment, node=self.node,
            retry_at=head.retry_at,
        )  # fmt: skip
        if number > self.kept_max:
            writes.attempt_drops.append((slot.seq, number - self.kept_max))

    def _count(self, slot: Slot, writes: Writes) -> int:
        """How many there were. What was kept by a larger limit goes."""
        if slot.failures is not None:
            return slot.failures
        if slot.saved is None or slot.saved.last_failure is None:
            return 0
        stored = [one.number for one in self._store.attempts(slot.seq)]
        writes.attempt_drops += [(slot.seq, number) for number in stored[: -self.kept_max]]
        return stored[-1] if stored else 0


def reason_of(error: Failure) -> str | None:
    """The code that has a page."""
    said = dict(error.metadata)
    return next((said[name] for name in _REASONS if name in said), None)
