"""A deployment without a network: what the driver says is read as words, what it hears is scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from agentdur.core.catalog import EMPTY
from agentdur.core.ports import Store
from agentdur.runtime.owner import Engine, Knobs
from agentdur.runtime.remote.deployments import Record
from agentdur.runtime.remote.transport import Headers, Receiver
from agentdur.stores.memory import MemoryStore
from agentdur.wire.codec import decode, encode
from agentdur.wire.frames import Frame, FrameReader
from agentdur.wire.messages import Word
from tests.support.stage import InlineCommitter

DEPLOYMENT = "dp_10000000000000000000000001"


class Gate(InlineCommitter):
    """Commits are made while it is open; while it is shut they wait."""

    def __init__(self) -> None:
        super().__init__()
        self.shut = False
        self.held: list[Any] = []

    def submit(self, prepared: Any) -> None:
        if self.shut:
            self.held.append(prepared)
        else:
            super().submit(prepared)

    def open(self) -> None:
        self.shut = False
        held, self.held = self.held, []
        for prepared in held:
            super().submit(prepared)


class Exchange:
    """One attempt, seen from the handler."""

    def __init__(self, path: str, headers: Headers, receiver: Receiver) -> None:
        self.path, self.headers, self.receiver = path, dict(headers), receiver
        self.version = int(self.headers["content-type"].rpartition(".v")[2])
        self.reader = FrameReader()
        self.frames: list[Frame] = []
        self.half_closed = self.aborted = self._answered = False
        self.room = 0
        """Bytes said and not yet taken from us."""

    # -- transport.Exchange

    def write(self, data: bytes) -> None:
        assert not self.half_closed
        self.frames += self.reader.feed(data)

    def end(self) -> None:
        self.half_closed = True

    def consumed(self, size: int) -> None:
        self.room -= size
        assert self.room >= 0

    def abort(self) -> None:
        self.aborted = True

    # -- the handler

    def say(self, *words: Word | bytes, flags: int = 0) -> None:
        """Frames in one piece."""
        if not self._answered:
            self._answered = True
            self.receiver.response(200, {"content-type": self.headers["content-type"]})
        data = b"".join(w if isinstance(w, bytes) else encode(w, self.version, flags) for w in words)
        self.room += len(data)
        self.receiver.data(data)

    def heard(self) -> list[Word]:
        """Everything the driver has said, the journal included."""
        return [decode(frame, self.version) for frame in self.frames]

    async def hears(self, word: Word) -> None:
        await until(lambda: word in self.heard())


class Wire:
    """The transport (`runtime.remote.transport.Transport`)."""

    bidirectional = True

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._met = 0

    def open(self, method: str, path: str, headers: Headers, receiver: Receiver) -> Exchange:
        exchange = Exchange(path, headers, receiver)
        self.exchanges.append(exchange)
        return exchange

    async def close(self) -> None:
        """Nothing to close."""

    async def next(self) -> Exchange:
        """The next attempt."""
        self._met += 1
        await until(lambda: len(self.exchanges) >= self._met)
        return self.exchanges[self._met - 1]


class Peer:
    """The engine, its one deployment, and the gate before its store."""

    def __init__(self, engine: Engine, wire: Wire, gate: Gate) -> None:
        self.engine, self.wire, self.gate = engine, wire, gate

    async def next(self) -> Exchange:
        return await self.wire.next()


def manifest(versions: tuple[int, int] = (5, 7), mode: str = "BIDI_STREAM", **options: Any) -> str:
    """A plain service and an object, with these options."""
    services = [
        {"name": "Peer", "ty": "SERVICE", "handlers": [{"name": "run"}], **options},
        {"name": "Keyed", "ty": "VIRTUAL_OBJECT", "handlers": [{"name": "edit"}], **options},
    ]
    return json.dumps(
        {
            "protocolMode": mode, "minProtocolVersion": versions[0], "maxProtocolVersion": versions[1],
            "services": services,
        }
    )  # fmt: skip


@asynccontextmanager
async def peer(said: str | None = None, store: Store | None = None, **knobs: Any) -> AsyncIterator[Peer]:
    """An engine with a scripted deployment."""
    gate, wire = Gate(), Wire()
    engine = Engine(
        store or MemoryStore(), {}, EMPTY, knobs=Knobs(shutdown_seconds=0.0, **knobs), committer=lambda: gate
    )
    await engine.start()
    record = Record(
        id=DEPLOYMENT, uri="http://peer/", content_type="application/vnd.restate.endpointmanifest.v4+json",
        manifest=said or manifest(), created_at=0, revisions={"Peer": 1, "Keyed": 1},
    )  # fmt: skip
    engine.deployments.load([msgspec.json.encode(record)])
    engine.deployments.connections.open[engine.deployments.get(DEPLOYMENT).address] = wire
    try:
        yield Peer(engine, wire, gate)
    finally:
        gate.open()
        await engine.stop()


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def settled() -> None:
    """As many turns of the loop as a commit and what follows from it take."""
    for _ in range(12):
        await asyncio.sleep(0)
