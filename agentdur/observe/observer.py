"""What the engine tells those who observe it. Without any it does nothing for them.

Rules of this file:
1. What is told has been committed, in the order of the commits; a replay commits nothing, so it tells
   nothing.
2. Observers are told on the engine's loop and must return at once: they keep what they are told for later.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from msgspec import Struct

from agentdur.core.effects import Effect
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Entry, Headers
from agentdur.core.state import Invocation


class Found(Struct, frozen=True):
    """An invocation comes into memory from the store: what is known of it. `entries`: (index, entry);
    `times`: by index, when an entry was appended, ms since the epoch."""

    seq: int
    state: Invocation
    entries: tuple[tuple[int, Entry], ...]
    times: dict[int, int]


class Left(Struct, frozen=True):
    """Invocations have left memory: they come back with a `Found`, if at all."""

    seqs: list[int]


class Moved(Struct, frozen=True, gc=False):
    """A transition of the invocation with this number, at `at` ms since the epoch."""

    seq: int
    before: Invocation | None
    after: Invocation | None
    effects: tuple[Effect, ...]
    at: int


Said: TypeAlias = Moved | Found | Left


class EngineObserver(Protocol):
    """Observes an engine."""

    def accepts(self, invocation: InvocationId, headers: Headers) -> str:
        """An invocation is accepted from outside: its traceparent, empty when nobody traces."""

    def carry(self) -> None:
        """Called in the task of a traced handler, before it begins."""

    def committed(self, said: list[Said]) -> None:
        """What one commit made true."""

    def commit(self, entries: int, seconds: float) -> None:
        """A commit of so many journal entries took so long."""

    def forget(self) -> None:
        """The engine lost its memory: everything comes back with a `Found`."""


class RequestObserver(Protocol):
    """Observes the ingress. `kind`: call or send."""

    def admitted(self, service: str, kind: str) -> None:
        """A submission was accepted."""

    def answered(self, service: str, kind: str, status: str, seconds: float) -> None:
        """It was answered, or its client left. `status`: completed, invocation_error, request_error (also one
        that was refused), client_gone."""
