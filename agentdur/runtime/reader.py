"""One reader of a stream: the committed journal as events, then the steps that run.

Rules of this file:
1. What has happened is taken in this order: what became void, what was committed, what is live, the end.
2. A chunk is live or final. A final one comes from the journal, and its step's `commit` follows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Literal, NamedTuple, Protocol, Self

import msgspec

from agentdur.core import journal as j
from agentdur.core.errors import AgentdurError, JournalGone
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Store, StreamEvent
from agentdur.sdk.segment import START, STREAM, Cursor, Segment, State

PAGE_ENTRIES = 256
"""Entries of a stored journal that are read at once."""
OPEN_LISTED_MAX = 16
"""Steps that an event's id names; with more it says that there were some."""
Kind = Literal["chunk", "commit", "void", "end"]


class Writer(Protocol):
    """What a reader needs of the writer."""

    def durable(self, number: int) -> asyncio.Future[None] | None:
        """Until commit `number` is done."""


class Owner(Protocol):
    """What a reader needs of the engine."""

    store: Store

    @property
    def writer(self) -> Writer:
        """The one writer."""


class Hub(Protocol):
    """What a reader needs of the hub."""

    live: dict[InvocationId, dict[int, Segment]]

    @property
    def owner(self) -> Owner:
        """The engine."""

    def gone(self, reader: Any) -> None:
        """It reads no more."""


class Channel(Protocol):
    """What a reader needs of its channel."""

    length: int
    covered: int
    recent: deque[tuple[int, j.Run | j.Completion]]
    result: j.Result | None


class Position(Protocol):
    """Where it begins."""

    @property
    def after(self) -> int:
        """The journal index it has seen."""

    @property
    def open(self) -> frozenset[int] | None:
        """The steps it holds chunks of; None: any."""

    @property
    def part(self) -> int:
        """The chunks it has seen of the first step that has its result later."""


class Subject(NamedTuple):
    """What is read. `touched`: the commit that makes what is known of it durable."""

    id: InvocationId
    seq: int
    touched: int


class _Open(NamedTuple):
    segment: Segment
    cursor: Cursor


class Reader:
    """`core.ports.Stream`. Without a channel: of an invocation that has ended."""

    def __init__(self, hub: Hub, what: Subject, channel: Any, position: Position) -> None:
        self.id, self.channel = what.id, channel
        self._hub, self._seq = hub, what.seq
        self._touched: int | None = what.touched
        self._after, self._seen, self._part = position.after, position.open, position.part
        self._at = 0  # the next entry to be read
        self._w = -1  # the last one that was
        self._live = 0  # live chunks since
        self._steps: dict[int, j.Run] = {}  # without a result so far, by completion
        self._open: dict[int, _Open] = {}
        self._out: deque[StreamEvent] = deque()
        self.over = False
        self._all_read = False
        self._error: AgentdurError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        while not self._out:
            if self._error is not None:
                error, self._error = self._error, None
                self.close()
                raise error.with_traceback(None)  # it is raised to many
            if self.over:
                self.close()
                raise StopAsyncIteration
            await self._more()
        return self._out.popleft()

    def ready(self) -> list[StreamEvent]:
        """Those that need no wait."""
        events, self._out = list(self._out), deque()
        return events

    def close(self) -> None:
        """Read no more; who waits is told that it is over."""
        self.over = True
        self._out.clear()
        self._hub.gone(self)
        self.wake()

    def __del__(self) -> None:
        self._hub.gone(self)

    def wake(self) -> None:
        """Look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, error: AgentdurError) -> None:
        """Nothing more comes."""
        self._error = error
        self.wake()

    # -- what is new

    async def _more(self) -> None:
        if self._touched is not None:
            waiting = self._hub.owner.writer.durable(self._touched)
            if waiting is not None:
                await self._wait(waiting)
                return  # perhaps it was woken for something else
            self._touched = None
        self._voids()
        if self._behind():
            self._read()
            if not self._out:
                await asyncio.sleep(0)
            return
        self._void_seen()
        self._take_live()
        if self._out:
            return
        if self.channel is None or self.channel.result is not None:
            self._end()
            return
        await self._wait(asyncio.get_running_loop().create_future())

    async def _wait(self, waiter: asyncio.Future[None]) -> None:
        self._waiter = waiter
        try:
            await waiter
        finally:
            self._waiter = None

    def _behind(self) -> bool:
        return not self._all_read if self.channel is None else bool(self._at < self.channel.length)

    def _read(self) -> None:
        """Some entries, from those that were committed lately or from the store."""
        channel: Channel | None = self.channel
        if channel is not None and self._at >= channel.covered:
            for index, recent in [one for one in channel.recent if one[0] >= self._at]:
                self._take(index, recent)
            self._at, self._w = channel.length, max(self._w, channel.length - 1)
            return
        store = self._hub.owner.store
        page = store.journal(self._seq, self._at, PAGE_ENTRIES)
        short = len(page) < PAGE_ENTRIES
        if channel is not None:
            short = short and (page[-1][0] if page else -1) < channel.length - 1
            page = [(index, entry) for index, entry in page if index < channel.length]
        if short:  # the whole journal was read, or it is gone
            row = store.invocation(self.id)
            if channel is not None or row is None or row.seq != self._seq or not row.journal_kept:
                raise JournalGone(self.id)
            self._all_read = True
        for index, entry in page:
            self._take(index, entry)

    def _take(self, index: int, entry: j.Entry) -> None:
        if index > self._after:
            self._void_seen()
        if isinstance(entry, j.Run):
            self._steps[entry.completion] = entry
        elif isinstance(entry, j.Completion) and entry.of == "Run":
            run = self._steps.pop(entry.id, None)
            if run is not None and index > self._after:
                self._final(index, run, entry)
        self._at = index + 1
        if self._w < index:
            self._w, self._live = index, 0

    def _final(self, index: int, run: j.Run, entry: j.Completion) -> None:
        """A step has its result: the rest of what it streamed, or all of it."""
        known = self._open.get(entry.id)
        if known is not None and known.segment.state is State.STORED:
            self._say_live(entry.id, known)
            del self._open[entry.id]
            self._arrive(index)
            self._say("commit", run, known.segment.attempt)
            return
        if known is not None:
            del self._open[entry.id]
            self._say("void", run, known.segment.attempt)
        chunks = chunks_of(entry)
        if chunks is None:
            if run.name == STREAM and isinstance(entry.outcome, j.Success):
                self._arrive(index)
                self._say("chunk", run, 0, _value(entry.outcome.value))
            return
        for number, chunk in enumerate(chunks, 1):
            if number > self._part:  # a journal does not change: what was seen of it needs not be sent again
                self._say("chunk", run, 0, chunk, part=number)
        self._part = 0
        self._arrive(index)
        self._say("commit", run, 0)

    def _arrive(self, index: int) -> None:
        self._w, self._live = index, 0

    def _voids(self) -> None:
        for completion, known in list(self._open.items()):
            if known.segment.state is State.VOID:
                del self._open[completion]
                self._say("void", _run_of(known.segment), known.segment.attempt)

    def _void_seen(self) -> None:
        """It comes back: what it holds of steps that had no result is sent again."""
        if self._seen is not None and not self._seen:
            return
        if self._seen is None:
            self._seen = frozenset(self._steps)
        for completion in sorted(self._seen & self._steps.keys()):
            self._seen -= {completion}  # who leaves here still holds the others
            self._say("void", self._steps[completion], 0)
        self._seen = frozenset()

    def _take_live(self) -> None:
        for completion, segment in self._hub.live.get(self.id, {}).items():
            if completion in self._steps:
                self._say_live(completion, self._open.get(completion) or _Open(segment, START))

    def _say_live(self, completion: int, known: _Open) -> None:
        segment = known.segment
        chunks, cursor = segment.since(known.cursor)
        if not chunks:
            return
        self._open[completion] = _Open(segment, cursor)
        run = _run_of(segment)
        for chunk in chunks:
            self._live += 1
            self._say("chunk", run, segment.attempt, chunk)

    def _end(self) -> None:
        for completion, known in list(self._open.items()):
            del self._open[completion]
            self._say("void", _run_of(known.segment), known.segment.attempt)
        result = None if self.channel is None else self.channel.result
        if result is None:
            row = self._hub.owner.store.invocation(self.id)
            if row is None or row.seq != self._seq or row.head.result is None:
                raise JournalGone(self.id)
            result = row.head.result
        self._out.append(StreamEvent(f"{max(self._w, self._after)}.end", "end", data=result_view(result)))
        self.over = True

    def _say(self, kind: Kind, run: j.Run, attempt: int, data: Any = None, part: int = 0) -> None:
        open_now = [*self._open, *(self._seen or ())]
        listed = "".join(f".{n}" for n in open_now) if len(open_now) <= OPEN_LISTED_MAX else ".*"
        seen = part or self._part
        at = f"{max(self._w, self._after)}.{self._live}{listed}{f'-{seen}' if seen else ''}"
        self._out.append(StreamEvent(at, kind, run.name, run.branch, attempt, data, run.completion))


class Nothing:
    """`core.ports.Stream` for who has seen the end."""

    over = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        raise StopAsyncIteration

    def ready(self) -> list[StreamEvent]:
        """None."""
        return []

    def close(self) -> None:
        """It is."""


def _run_of(segment: Segment) -> j.Run:
    return j.Run(completion=segment.completion, name=segment.step, branch=segment.branch)


def chunks_of(entry: j.Completion) -> list[Any] | None:
    """What a step streamed; None when it streamed nothing."""
    if STREAM not in entry.meta:
        return None
    chunks = msgspec.json.decode(entry.meta).get(STREAM)
    return chunks if isinstance(chunks, list) else None


def _value(raw: bytes) -> Any:
    """A payload as data: JSON where it is, else text."""
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return raw.decode("utf-8", "replace")


def result_view(result: j.Result) -> dict[str, Any]:
    """The end of an invocation, as data."""
    if isinstance(result, j.Success):
        return {"status": "success", "value": _value(result.value)}
    failure: dict[str, Any] = {"code": result.code, "message": result.message}
    if result.metadata:
        failure["metadata"] = dict(result.metadata)
    return {"status": "failure", "failure": failure}
