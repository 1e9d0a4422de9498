"""Conversations of handlers that another engine drives: what its server has of them, and how it gets more.

It keeps no table for them, so the endpoint serves an object that does (`agentdur.Conversation`), and an
attempt sends it what is new. Rules of this file:
1. What the server has is known from what it said when the attempt began: from the sends in the journal, and
   for a handler that holds its object's lock from a state value beside the user's. Memory decides nothing, as
   each attempt may run in another process. An answer that has not come counts as a no.
2. What is journaled here is of the branch `~told`. No code makes it, so a replay reads it and asks for none:
   a journal that has nothing of it fits as well, and goes on with it.
3. It stands before the result of its step, so that no result lacks its messages. Only the first send of a run
   stands behind it: should the server not know the object yet, what was paid for is stored all the same.
4. What is known to be stored is forgotten before the object forgets it; then all of it is sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from agentdur.core import journal as j
from agentdur.core.target import HandlerKind, ServiceKind
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.branch import TOLD_BRANCH
from agentdur.sdk.future import DurableFuture

CONVERSATION = "agentdur.Conversation"
KEPT_ENDS = "agentdur.conversation"
"""A state value of a user's object: which of its conversations are stored. Handlers do not see it."""
ENDS_MAX = 8
"""Ends of conversations that an object knows: its agents take turns, and people go back to edit."""
SENT_BYTES_MAX = 8 * 1024 * 1024
"""In one send; a message that is larger is left out, and a word says so."""
_LATE_MS = 60_000
"""So long a send may be under way."""
_NOTHING = Raw(b"{}")


class Kept(Struct, frozen=True):
    """A message, and its place in the chain."""

    hash: str
    parent: str
    place: int
    value: Raw


class Keep(Struct, frozen=True, omit_defaults=True):
    """What is new. `until`: when it may be forgotten, unless more is sent (ms since the epoch); `first`:
    nothing is known to be there; `call`: the model call that was told it, `about`: what was noted of it."""

    at: int
    until: int
    messages: tuple[Kept, ...] = ()
    first: bool = False
    call: str = ""
    about: Raw = _NOTHING


class Forget(Struct, frozen=True, omit_defaults=True):
    """Forget what was first sent at `since`, if nothing came since that is to be kept beyond `until`; without
    them at once."""

    since: int = 0
    until: int = 0


class Ends(Struct, frozen=True):
    """Hashes that are stored, with all that is before them, until then."""

    until: int
    ends: tuple[str, ...] = ()


_KEEP, _ENDS = msgspec.json.Decoder(Keep), msgspec.json.Decoder(Ends)


class Told:
    """What one attempt knows of the conversations of its invocation, or of its object."""

    def __init__(self, attempt: Attempt, retention_ms: int, ends: bytes | None) -> None:
        target = attempt.target
        self._attempt, self._retention_ms, self._given = attempt, retention_ms, ends
        self._locked = (target.service_kind, target.handler_kind) == (
            ServiceKind.VIRTUAL_OBJECT, HandlerKind.EXCLUSIVE,
        )  # fmt: skip
        self.key = f"{target.service}/{target.key}" if self._locked else str(attempt.id)
        self._looked: DurableFuture[Any] | None = None
        self._known: set[str] | None = None
        self._ends: tuple[str, ...] = ()
        self._until = 0

    def look(self) -> None:
        """Where not all state came along, ask what is stored while the model thinks. In any thread."""
        if self._locked:
            self._attempt.loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        attempt = self._attempt
        if self._looked is not None or attempt.closed or attempt.failing is not None:
            return
        future: DurableFuture[Any] = DurableFuture(attempt, attempt.next_completion, None)
        self._looked = future
        for _, command in attempt.recorded.branches.get(TOLD_BRANCH, ()):
            if isinstance(command, j.GetLazyState):
                attempt.expect(command.completion, future)
                return
        attempt.pending[attempt.next_completion] = future
        attempt.add(j.GetLazyState(key=KEPT_ENDS, completion=attempt.next_completion, branch=TOLD_BRANCH))
        attempt.next_completion += 1
        attempt.flush()

    def sends(self, result: j.RunResult, now: int) -> tuple[bool, list[j.AnyCommand]]:
        """(whether the object is known to be there, what to journal) for what a step was told."""
        known = self._stored()
        if now >= self._until - min(_LATE_MS, self._retention_ms // 2):
            known.clear()
            self._ends = ()
        there, until = bool(known), now + self._retention_ms
        chains = list(_chains(result.messages))
        new = [message for chain in chains for message in _new(chain, known)]
        made: list[j.AnyCommand] = []
        parts = _parts(new)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            keep = Keep(
                now, until, part, first=not there and number == 0,
                call=f"{self._attempt.id}:{result.completion}" if last else "",
                about=Raw(result.meta.encode()) if last and result.meta else _NOTHING,
            )  # fmt: skip
            made.append(self._send("keep", keep))
        known.update(message.hash for message in new)
        self._until = until
        ends = tuple(chain[-1].hash for chain in chains)
        self._ends = (*ends, *(end for end in self._ends if end not in ends))[:ENDS_MAX]
        if self._locked:
            value = msgspec.json.encode(Ends(until, self._ends))
            made.append(j.SetState(key=KEPT_ENDS, value=value, branch=TOLD_BRANCH))
        return there, made

    def cleared(self) -> list[j.AnyCommand]:
        """The handler clears the state of its object: what was said there goes with it."""
        if not self._locked or not self._stored():
            return []
        self._known, self._ends, self._until = set(), (), 0
        return [self._send("forget", Forget())]

    def _send(self, handler: str, value: Keep | Forget) -> j.OneWayCall:
        attempt = self._attempt
        number = attempt.next_completion
        attempt.next_completion = number + 1
        return j.OneWayCall(
            service=CONVERSATION, handler=handler, key=self.key, parameter=msgspec.json.encode(value),
            id_completion=number, branch=TOLD_BRANCH,
        )  # fmt: skip

    def _stored(self) -> set[str]:
        """What the server has, as it was said at the start and by what this attempt has written since."""
        if self._known is None:
            self._known = set()
            if self._looked is not None and isinstance(self._looked.outcome, j.Success):
                self._given = self._looked.outcome.value
            if self._given is not None and self._locked:
                given = _ends(self._given)
                self._known, self._ends, self._until = set(given.ends), given.ends, given.until
            for _, command in reversed(self._attempt.recorded.branches.get(TOLD_BRANCH, ())):
                # what was copied from another run, to be tried again from there, is in that one's object
                if isinstance(command, j.OneWayCall) and command.key == self.key:
                    self._sent(self._known, command)
        return self._known

    def _sent(self, known: set[str], command: j.OneWayCall) -> None:
        if command.handler == "forget":
            known.clear()
            return
        keep = _KEEP.decode(command.parameter)
        if keep.first:
            known.clear()
        known.update(message.hash for message in keep.messages)
        self._until = keep.until


def _ends(value: bytes) -> Ends:
    """What stands beside the user's state; a person may have written there."""
    try:
        return _ENDS.decode(value)
    except msgspec.MsgspecError:
        return Ends(0)


def _chains(messages: Iterable[j.ChatMessage]) -> Iterator[list[Kept]]:
    """Each conversation, from its beginning."""
    chain: list[Kept] = []
    for message in messages:
        if not message.parent and chain:
            yield chain
            chain = []
        chain.append(Kept(message.hash, message.parent, len(chain), Raw(message.value)))
    if chain:
        yield chain


def _new(chain: list[Kept], known: set[str]) -> list[Kept]:
    """What comes after the last message that is stored."""
    for number in range(len(chain), 0, -1):
        if chain[number - 1].hash in known:
            return chain[number:]
    return chain


def _parts(messages: list[Kept]) -> list[tuple[Kept, ...]]:
    """What goes together; one part at least, as a call is told of also when it was told nothing new."""
    parts: list[tuple[Kept, ...]] = []
    part: list[Kept] = []
    size = 0
    for message in map(_bounded, messages):
        length = len(bytes(message.value))
        if part and size + length > SENT_BYTES_MAX:
            parts.append(tuple(part))
            part, size = [], 0
        part.append(message)
        size += length
    return [*parts, tuple(part)]


def _bounded(message: Kept) -> Kept:
    """The message, or a word in its place that says how large it was."""
    length = len(bytes(message.value))
    if length <= SENT_BYTES_MAX:
        return message
    word = msgspec.json.encode({"left_out": f"{length} bytes, the most is {SENT_BYTES_MAX}"})
    return msgspec.structs.replace(message, value=Raw(word))
