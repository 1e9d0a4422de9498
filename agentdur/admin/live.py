"""One invocation while it goes on, as server-sent events: what a page shows, kept up to date.

Rules of this file:
1. Who comes back with the id of the last event goes on behind it: journal entries are sent once each.
2. Every event says what is committed, but `chunk` and `void`: those are what a step streams while it runs.
3. Payloads are previews; one entry as a whole is another route.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from agentdur.admin.ids import InvocationPath, parsed_id
from agentdur.core.errors import (
    BadRequest,
    JournalGone,
    NotRunning,
    Overloaded,
    StoreError,
    UnknownInvocation,
)
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Engine, Stream, StreamEvent, Watch
from agentdur.observe.redaction import hidden, marker

INDEX_MAX = 2**31
DIGITS_MAX = 10
"""What an entry's index can be."""
PAGE_ROWS = 500
"""Entries of one `rows` event."""
PREVIEW_BYTES = 4096
"""Bytes of a payload that are sent whole."""
HEARTBEAT_SECONDS = 10.0
SETTLE_SECONDS = 0.05
"""Commits that follow each other this closely are told together."""
RETRY_MS = 1000
"""How long a browser waits before it comes back."""
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_encode = msgspec.json.Encoder().encode


def live_routes(engine: Engine) -> APIRouter:
    """`/invocations/{id}/live`."""
    routes = APIRouter(tags=["invocations"])

    @routes.get("/invocations/{id}/live")
    async def live(
        id: InvocationPath,
        after: Annotated[int, Query(ge=-1, le=INDEX_MAX, description="the last entry that is known")] = -1,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        """Server-sent events: `run` (the invocation, whenever it changed), `rows` (journal entries),
        `chunk` and `void` (what a step streams), `end` (it has ended, and all was told)."""
        invocation = parsed_id(id)
        if last_event_id is not None and last_event_id.isdecimal() and len(last_event_id) < DIGITS_MAX:
            after = max(after, int(last_event_id))
        watch = engine.watch(invocation)
        try:
            if await watch.summary() is None:
                raise UnknownInvocation(id)
        except BaseException:
            watch.close()
            raise
        told = _Told(engine, watch, invocation, after)
        return StreamingResponse(told.events(), media_type="text/event-stream", headers=_HEADERS)

    @routes.get("/invocations/{id}/rows")
    async def rows(
        id: InvocationPath,
        after: Annotated[int, Query(ge=-1, le=INDEX_MAX, description="the last entry that is known")] = -1,
        limit: Annotated[int, Query(ge=1, le=PAGE_ROWS)] = PAGE_ROWS,
    ) -> dict[str, Any]:
        """The same for who asks again: the invocation, and its journal entries behind `after`."""
        watch = engine.watch(parsed_id(id))
        try:
            summary = await watch.summary()
            if summary is None:
                raise UnknownInvocation(id)
            return {
                "run": await _shown(summary, watch),
                "rows": await watch.rows(after, limit, PREVIEW_BYTES),
            }
        finally:
            watch.close()

    @routes.get("/invocations/{id}/attempts")
    async def attempts(id: InvocationPath) -> dict[str, Any]:
        """The attempts that failed, oldest first. `failed`: how many did; of many, the newest are kept."""
        watch = engine.watch(parsed_id(id))
        try:
            if await watch.summary() is None:
                raise UnknownInvocation(id)
            kept = await watch.failed_attempts()
        finally:
            watch.close()
        return {"failed": kept[-1]["number"] if kept else 0, "attempts": kept}

    return routes


async def _shown(summary: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Without the output, which is the journal's last entry; with the attempts that failed."""
    shown = {name: value for name, value in summary.items() if name != "output"}
    failed = await watch.failed_attempts() if "last_failure" in summary else []
    return {**shown, "failed_attempts": failed} if failed else shown


def event(kind: str, data: Any, id: int | None = None) -> bytes:
    """One event as its lines."""
    lines = b"" if id is None or id < 0 else b"id: %d\n" % id
    return lines + b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode(data))


class _Told:
    """One reader, and what it knows already."""

    def __init__(self, engine: Engine, watch: Watch, invocation: InvocationId, after: int) -> None:
        self._engine, self._watch, self._id, self._after = engine, watch, invocation, after
        self._summary: dict[str, Any] | None = None
        self._stream: Stream | None = None
        self._chunk: asyncio.Future[list[StreamEvent]] | None = None

    async def events(self) -> AsyncIterator[bytes]:
        """Until it has ended, the reader leaves, or the engine stops: then the reader comes back."""
        yield b"retry: %d\n\n" % RETRY_MS
        try:
            while True:
                async for piece in self._news():
                    yield piece
                if self._summary is None or self._summary["status"] == "completed":
                    yield event("end", {})
                    return
                async for piece in self._wait():
                    yield piece
        except (NotRunning, StoreError):
            return
        finally:
            self._watch.close()
            self._drop_stream()

    async def _news(self) -> AsyncIterator[bytes]:
        """What was committed since. The end is looked for first, so that no entry before it is missed."""
        summary = await self._watch.summary()
        while rows := await self._watch.rows(self._after, PAGE_ROWS, PREVIEW_BYTES):
            self._after = rows[-1]["index"]
            yield event("rows", rows, self._after)
            if len(rows) < PAGE_ROWS:
                break
        if summary != self._summary:
            self._summary = summary
            if summary is not None:
                yield event("run", await _shown(summary, self._watch))

    async def _wait(self) -> AsyncIterator[bytes]:
        """Until there is something new, with what steps stream meanwhile."""
        changed = asyncio.ensure_future(self._watch.changed(HEARTBEAT_SECONDS))
        try:
            while not changed.done():
                self._listen()
                waiting: set[asyncio.Future[Any]] = {changed}
                if self._chunk is not None:
                    waiting.add(self._chunk)
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                async for piece in self._chunks():
                    yield piece
            if not changed.result():
                yield b": still here\n\n"
            else:
                await asyncio.sleep(SETTLE_SECONDS)
        finally:
            changed.cancel()

    def _listen(self) -> None:
        """Read the stream behind what is known, unless it is read. Without one there are still rows."""
        if self._chunk is not None:
            return
        if self._stream is None:
            try:
                self._stream = self._engine.stream(self._id, f"{max(self._after, 0)}.0")
            except (UnknownInvocation, JournalGone, Overloaded, BadRequest):
                return
        self._chunk = asyncio.ensure_future(_next(self._stream))

    async def _chunks(self) -> AsyncIterator[bytes]:
        if self._chunk is None or not self._chunk.done():
            return
        done, self._chunk = self._chunk, None
        for one in done.result():
            if one.kind == "chunk" and one.attempt:
                data = marker(_encode(one.data)) if hidden() else one.data
                yield event("chunk", {"run": one.run, "attempt": one.attempt, "data": data})
            elif one.kind == "void":
                yield event("void", {"run": one.run})
        if not done.result():  # it is over; the end of the invocation is told by its record
            self._chunk = asyncio.get_running_loop().create_future()

    def _drop_stream(self) -> None:
        if self._chunk is not None:
            self._chunk.cancel()
        if self._stream is not None:
            self._stream.close()


async def _next(stream: Stream) -> list[StreamEvent]:
    """What there is, at least one; nothing when the stream is over."""
    try:
        return [await anext(stream), *stream.ready()]
    except StopAsyncIteration:
        return []
