"""What a machine's observer is told: transitions as they are made, passed on when they are committed."""

from __future__ import annotations

from functools import partial

from agentdur.core.effects import Effect
from agentdur.core.ports import Store
from agentdur.core.state import Accepted, Invocation, Status
from agentdur.core.trace import is_sampled
from agentdur.observe.observer import EngineObserver, Found, Left, Moved, Said
from agentdur.runtime.slots import Slot, Slots
from agentdur.runtime.writer import Writer
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.traced import Traced


class Observed:
    """Keeps what was said since the last commit."""

    def __init__(self, observer: EngineObserver, store: Store) -> None:
        self.observer, self._store = observer, store
        self._said: list[Said] = []

    def say(
        self,
        slot: Slot,
        before: Invocation | None,
        after: Invocation | None,
        effects: tuple[Effect, ...],
        at: int,
    ) -> None:
        """A transition, made at `at` (ms since the epoch)."""
        if not slot.followed:
            slot.followed = True
            if before is not None:
                self._find(slot, before)
        self._said.append(Moved(slot.seq, before, after, effects, at))

    def _find(self, slot: Slot, before: Invocation) -> None:
        """The observer has not heard of it, or has forgotten it while it was out of memory: all of it is
        stored, what comes now is the first that this memory adds."""
        if before.head.status is Status.COMPLETED or not is_sampled(before.spec.traceparent):
            return
        entries = self._store.journal(slot.seq) if slot.entries is None else slot.entries
        self._said.append(Found(slot.seq, before, tuple(entries), dict(self._store.times(slot.seq))))

    def carry(self, attempt: Attempt, spec: Accepted) -> None:
        """An attempt begins in this process: what it calls outside goes on with its trace."""
        attempt.traced = Traced(spec.traceparent, self.observer.carry)

    def collect(self, slots: Slots, writer: Writer) -> None:
        """A commit begins: when it is made, the observer hears of it."""
        said, self._said = self._said, []
        if slots.left:
            said.insert(0, Left(slots.left))
            slots.left = []
        if said:
            writer.after_this(partial(self.observer.committed, said))

    def forget(self, writer: Writer) -> None:
        """Memory is gone, and `writer` is the one that begins anew."""
        self._said = []
        writer.committed_in = self.observer.commit
        self.observer.forget()
