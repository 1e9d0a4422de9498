"""Retention: what is past its time leaves the store, a little at a time (semantics §11)."""

from __future__ import annotations

import asyncio

from agentdur.core import commands as c
from agentdur.core.errors import CallerError, StoreError
from agentdur.runtime.engine import Machine

PER_TURN_MAX = 500
"""Records removed in one turn of the loop."""
_FIRST_SHARE = 0.2


class Sweeper:
    """Runs every `seconds`; until swept, an expired record still answers."""

    def __init__(self, machine: Machine, seconds: float, message_seconds: float) -> None:
        self._machine, self._seconds, self._message_ms = machine, seconds, int(message_seconds * 1000)
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The first sweep comes early (20 to 40 % of the interval)."""
        share = _FIRST_SHARE * (1 + self._machine.world.chance())
        self._handle = self._machine.loop.call_later(self._seconds * share, self._sweep)

    def stop(self) -> None:
        """No more sweeps."""
        if self._handle is not None:
            self._handle.cancel()

    def _sweep(self) -> None:
        delay = self._seconds
        try:
            if self.sweep_some():
                delay = 0.05
        except StoreError:
            delay = min(delay, 10.0)
        self._handle = self._machine.loop.call_later(delay, self._sweep)

    def sweep_some(self) -> bool:
        """Remove up to PER_TURN_MAX; True when there may be more."""
        machine = self._machine
        if machine.error is not None or machine.stopping:
            return False
        records, journals = machine.store.expired(machine.world.now(), PER_TURN_MAX)
        for row in records:
            self._purge(c.Purge(row.spec.id))
        for row in journals:
            self._purge(c.Purge(row.spec.id, journal_only=True))
        more = self._sweep_messages()
        return more or len(records) >= PER_TURN_MAX or len(journals) >= PER_TURN_MAX

    def _sweep_messages(self) -> bool:
        """Remove the ends of conversations that nobody uses; what was before them is an end next time."""
        machine = self._machine
        before = machine.world.now() - self._message_ms
        unused = machine.store.unused_messages(before, PER_TURN_MAX)
        if not unused or not machine.messages.drop(unused, machine.writer.writes, before):
            return False
        machine.writer.touch()
        return True

    def _purge(self, message: c.Purge) -> None:
        try:
            self._machine.dispatch(message)
        except CallerError:
            return  # it was purged by hand, and its id may be in use again
