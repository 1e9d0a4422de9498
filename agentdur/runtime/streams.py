"""Streams: what invocations stream, for those who read it now.

Rules of this file:
1. There are two truths only: the committed journal, and the open segments of steps that run. An event's id
   says how far its reader has come in the journal, and which steps it holds chunks of that are not in there.
2. Nothing is queued for a reader: it takes what is new behind its own cursors when it comes, so that a slow
   one costs nothing, holds up nobody, and is given more at a time.
3. Who comes back is told to drop what was open, and gets that again: from the journal, or live from the
   start of the step. So a reader ends with the journaled text, whatever happened in between.
4. Without readers a commit costs one look at an empty dict.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import WeakSet

from msgspec import Struct

from agentdur.core import journal as j
from agentdur.core.errors import AgentdurError, BadRequest, Overloaded
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Store
from agentdur.runtime.reader import Reader, Subject
from agentdur.sdk.segment import Segment, State

RECENT_ENTRIES_MAX = 256
RECENT_BYTES_MAX = 1024 * 1024
"""Committed entries kept for the readers of one invocation; who is further behind reads the store."""


class StreamLimits(Struct, frozen=True, kw_only=True):
    """`step_bytes`: of the chunks of one step. `readers`: at once in this process, `readers_of_one`: of one
    invocation."""

    step_bytes: int = 4 * 1024 * 1024
    readers: int = 10_000
    readers_of_one: int = 1000


class Position(NamedTuple):
    """How far a reader has come: the journal index it has seen, and the steps (by completion id) it holds
    chunks of. `open` None: any step that had no result there. `part`: so many chunks of the entry behind
    `after`, from the journal. `ended`: it has seen the end."""

    after: int = -1
    open: frozenset[int] | None = frozenset()
    part: int = 0
    ended: bool = False


_POSITION = re.compile(
    r"(\d{1,9})\.(?:(end)|\d{1,12}(?:(\.\*)|((?:\.\d{1,9}){0,64}))(?:-(\d{1,9}))?)", re.ASCII
)


def read_position(text: str | None) -> Position:
    """The position that an event's id says; BadRequest when it is none. None is the beginning."""
    if text is None:
        return Position()
    match = _POSITION.fullmatch(text)
    if match is None:
        raise BadRequest(f"bad position {text[:100]!r}: expected the id of an event of this stream")
    after, end, unlisted, listed, part = match.groups()
    if end:
        return Position(int(after), ended=True)
    steps = None if unlisted else frozenset(map(int, (listed or "").split(".")[1:]))
    return Position(int(after), steps, int(part or 0))


class Writer(Protocol):
    """What streams need of the writer."""

    def durable(self, number: int) -> asyncio.Future[None] | None:
        """Until commit `number` is done."""

    def after(self, action: Callable[[], None]) -> None:
        """Call this when what is collected now is durable."""


class Owner(Protocol):
    """What streams need of the engine."""

    store: Store

    @property
    def writer(self) -> Writer:
        """The one writer."""


class Channel:
    """The readers of one invocation that has not ended, and what was committed of it lately."""

    def __init__(self, seq: int, length: int) -> None:
        self.seq = seq
        self.length = length
        """Entries with a smaller index are committed, for those who have waited for what was there before."""
        self.covered = length
        """From this index on all that matters is in `recent`."""
        self.recent: deque[tuple[int, j.Run | j.Completion]] = deque()
        self.recent_bytes = 0
        self.result: j.Result | None = None
        self.readers: WeakSet[Reader] = WeakSet()

    def committed(self, index: int, entry: j.Entry) -> None:
        """This is in the journal now."""
        self.length = index + 1
        if isinstance(entry, j.Run) or (isinstance(entry, j.Completion) and entry.of == "Run"):
            self.recent.append((index, entry))
            self.recent_bytes += _weight(entry)
            while len(self.recent) > 1 and (
                len(self.recent) > RECENT_ENTRIES_MAX or self.recent_bytes > RECENT_BYTES_MAX
            ):
                dropped, old = self.recent.popleft()
                self.recent_bytes -= _weight(old)
                self.covered = dropped + 1

    def wake(self) -> None:
        """There is something new."""
        for reader in self.readers:
            reader.wake()


class Hub:
    """All open segments and all readers of one engine. `sdk.segment.Holder`."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.limits = StreamLimits()
        self.channels: dict[InvocationId, Channel] = {}
        self.live: dict[InvocationId, dict[int, Segment]] = {}
        """Segments of steps that run, and, for readers, those whose result is not committed yet."""
        self.readers: WeakSet[Reader] = WeakSet()

    # -- what attempts say

    def segment(self, invocation: InvocationId, attempt: int, step: Any) -> Segment:
        """A step begins to stream. `step`: its RunFuture."""
        segment = Segment(self, invocation, attempt, step.completion, self.limits.step_bytes)
        segment.step, segment.branch = step.name, step.branch.name
        segment.read = invocation in self.channels
        self.live.setdefault(invocation, {})[step.completion] = segment
        return segment

    def grown(self, segment: Segment) -> None:
        """There is more to read."""
        channel = self.channels.get(segment.id)
        if channel is not None:
            channel.wake()

    def left(self, segment: Segment) -> None:
        """It is sealed or void. A sealed one that is read stays until its result is committed."""
        if segment.state is State.VOID or not segment.read:
            self._drop(segment)
        if segment.read:
            self.grown(segment)

    def attempt_over(self, invocation: InvocationId, attempt: int) -> None:
        """It says nothing any more: what it streamed and did not bring into the journal is void."""
        for segment in list(self.live.get(invocation, {}).values()):
            if segment.attempt == attempt and segment.state in (State.OPEN, State.SEALED):
                segment.void()

    def _drop(self, segment: Segment) -> None:
        segments = self.live.get(segment.id)
        if segments is not None and segments.get(segment.completion) is segment:
            del segments[segment.completion]
            if not segments:
                del self.live[segment.id]

    # -- what the engine says, of invocations that are read

    def appended(self, invocation: InvocationId, seq: int, index: int, entry: j.Entry) -> None:
        """An entry is in the commit that is being collected."""
        channel = self.channels[invocation]
        if channel.seq != seq:
            return  # an earlier one of that id
        segment = None
        if type(entry) is j.Completion and entry.of == "Run":
            segment = self.live.get(invocation, {}).get(entry.id)
            if segment is not None and segment.state is State.SEALED:
                segment.state = State.STORED
        self.owner.writer.after(partial(self._committed, channel, segment, index, entry))

    def _committed(self, channel: Channel, segment: Segment | None, index: int, entry: j.Entry) -> None:
        if segment is not None and segment.state is State.STORED:
            self._drop(segment)
        channel.committed(index, entry)
        channel.wake()

    def finished(self, invocation: InvocationId, seq: int, result: j.Result) -> None:
        """Its end is in the commit that is being collected."""
        channel = self.channels[invocation]
        if channel.seq == seq:
            self.owner.writer.after(partial(self._ended, channel, result))

    def _ended(self, channel: Channel, result: j.Result) -> None:
        channel.result = result
        channel.wake()

    # -- readers

    def read(self, what: Subject, length: int | None, position: Position) -> Reader:
        """A reader of an invocation that has not ended; `length`: of its journal. None: it has."""
        invocation, seq = what.id, what.seq
        if len(self.readers) >= self.limits.readers:
            raise Overloaded(f"{self.limits.readers} streams are read (stream-readers-limit)")
        channel = None
        if length is not None:
            if position.after >= length:
                raise BadRequest(f"bad position: {invocation} has not come to entry {position.after} yet")
            channel = self._channel(invocation, seq, length)
            if len(channel.readers) >= self.limits.readers_of_one:
                most = self.limits.readers_of_one
                raise Overloaded(f"{invocation} has {most} readers (stream-readers-per-invocation-limit)")
        reader = Reader(self, what, channel, position)
        self.readers.add(reader)
        if channel is not None:
            channel.readers.add(reader)
        return reader

    def _channel(self, invocation: InvocationId, seq: int, length: int) -> Channel:
        channel = self.channels.get(invocation)
        if channel is None or channel.seq != seq:
            channel = self.channels[invocation] = Channel(seq, length)
            for segment in self.live.get(invocation, {}).values():
                segment.read = True
        return channel

    def gone(self, reader: Reader) -> None:
        """It reads no more."""
        self.readers.discard(reader)
        channel = reader.channel
        if channel is None:
            return
        channel.readers.discard(reader)
        if not channel.readers and self.channels.get(reader.id) is channel:
            del self.channels[reader.id]
            for segment in list(self.live.get(reader.id, {}).values()):
                segment.read = False
                if segment.state is not State.OPEN:
                    self._drop(segment)

    def fail(self, error: AgentdurError) -> None:
        """Memory is worth nothing, or goes: who reads comes back later."""
        self.live.clear()
        for reader in list(self.readers):
            reader.fail(error)
        self.channels.clear()


def _weight(entry: j.Run | j.Completion) -> int:
    if isinstance(entry, j.Run):
        return len(entry.name) + len(entry.branch)
    value = entry.outcome.value if isinstance(entry.outcome, j.Success) else b""
    return len(entry.meta) + len(value)
