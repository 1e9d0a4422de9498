"""HTTP/2 to peers that are good, slow, rude or gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes, Settings

from agentdur.runtime.remote import http2
from agentdur.runtime.remote.http2 import Http2
from agentdur.runtime.remote.transport import Address, TransportFailed

Behave = Callable[["Served", Any], None]


class Served:
    """One connection of a scripted server; `behave` is told of each event."""

    def __init__(self, writer: asyncio.StreamWriter, behave: Behave, settings: dict[int, int]) -> None:
        self.writer, self.behave = writer, behave
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = Settings(client=False, initial_values=settings)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def answer(self, stream: int, body: bytes = b"", *, end: bool = True) -> None:
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "text/plain")])
        self.h2.send_data(stream, body, end_stream=end)
        self.flush()

    async def run(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            for event in self.h2.receive_data(data):
                self.behave(self, event)
            self.flush()


class Heard:
    """What a receiver was told."""

    def __init__(self) -> None:
        self.status, self.body, self.ends = 0, b"", 0
        self.error: TransportFailed | None = None
        self.over = asyncio.Event()
        self.exchange: Any = None
        self.eager = True

    def response(self, status: int, headers: dict[str, str]) -> None:
        self.status = status

    def data(self, chunk: bytes) -> None:
        self.body += chunk
        if self.eager:
            self.exchange.consumed(len(chunk))

    def ended(self) -> None:
        self.ends += 1
        self.over.set()

    def lost(self, error: TransportFailed) -> None:
        self.ends += 1
        self.error = error
        self.over.set()


@asynccontextmanager
async def peer(behave: Behave, **settings: int) -> AsyncIterator[tuple[Http2, list[Served]]]:
    connections: list[Served] = []
    given = {SettingCodes[name.upper()]: value for name, value in settings.items()}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(Served(writer, behave, given))
        try:
            await connections[-1].run(reader)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = Http2(Address("http", "127.0.0.1", server.sockets[0].getsockname()[1]))
    try:
        yield transport, connections
    finally:
        await transport.close()
        server.close()


def ask(transport: Http2, body: bytes = b"", *, end: bool = True) -> Heard:
    heard = Heard()
    heard.exchange = transport.open("POST", "/x", [("content-type", "a/b")], heard)
    if body:
        heard.exchange.write(body)
    if end:
        heard.exchange.end()
    return heard


async def over(heard: Heard) -> Heard:
    await asyncio.wait_for(heard.over.wait(), 10)
    return heard


def echo(served: Served, event: Any) -> None:
    """Everything back, while it still comes."""
    if isinstance(event, RequestReceived):
        served.h2.send_headers(event.stream_id, [(":status", "200")])
    elif isinstance(event, DataReceived):
        served.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        served.h2.send_data(event.stream_id, event.data)
    elif isinstance(event, StreamEnded):
        served.h2.end_stream(event.stream_id)


async def test_an_answer_flows_while_the_request_is_still_open():
    async with peer(echo) as (transport, _):
        heard = ask(transport, b"one", end=False)
        while heard.body != b"one":
            await asyncio.sleep(0.001)
        heard.exchange.write(b" two")
        heard.exchange.end()
        assert (await over(heard)).body == b"one two"
        assert (heard.status, heard.error) == (200, None)


async def test_a_peer_with_little_room_gets_everything_in_pieces():
    """Its window is 100 bytes, ours waits here and goes on as it opens."""
    async with peer(echo, initial_window_size=100) as (transport, _):
        await over(ask(transport, b"first"))  # from now on its window is known
        body = bytes(range(256)) * 40
        assert (await over(ask(transport, body))).body == body


async def test_what_nobody_has_worked_on_holds_the_peer_back():
    """Flow control by bytes: no more than a window waits in memory."""
    sent = 0

    def flood(served: Served, event: Any) -> None:
        nonlocal sent
        if isinstance(event, RequestReceived):
            served.h2.send_headers(event.stream_id, [(":status", "200")])
            while (room := served.h2.local_flow_control_window(event.stream_id)) > 0:
                size = min(room, served.h2.max_outbound_frame_size)
                served.h2.send_data(event.stream_id, b"x" * size)
                sent += size
                served.flush()

    async with peer(flood) as (transport, _):
        heard = Heard()
        heard.eager = False
        heard.exchange = transport.open("GET", "/x", [], heard)
        while not sent or len(heard.body) < sent:
            await asyncio.sleep(0.01)
        assert sent <= http2.WINDOW_BYTES
        heard.exchange.abort()


async def test_many_share_few_connections_and_more_are_opened_when_they_are_full():
    """The peer takes ten streams per connection."""
    async with peer(echo, max_concurrent_streams=10) as (transport, connections):
        await over(ask(transport, b"first"))  # from now on its limit is known
        heard = [ask(transport, str(n).encode()) for n in range(200)]
        for n, one in enumerate(heard):
            assert (await over(one)).body == str(n).encode()
        assert 1 <= len(connections) <= 20
        assert all(not connection.streams for connection in transport._connections)


def refuse(served: Served, event: Any) -> None:
    if isinstance(event, RequestReceived):
        served.h2.reset_stream(event.stream_id, 8)


def hang_up(served: Served, event: Any) -> None:
    if isinstance(event, RequestReceived):
        served.writer.close()


def go_away(served: Served, event: Any) -> None:
    if isinstance(event, RequestReceived):
        served.h2.close_connection(last_stream_id=0)


def babble(served: Served, event: Any) -> None:
    if isinstance(event, RequestReceived):
        served.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200_000)  # read as one huge frame


def half(served: Served, event: Any) -> None:
    if isinstance(event, RequestReceived):
        served.answer(event.stream_id, b"half", end=False)
        served.flush()
        served.writer.close()


@pytest.mark.parametrize("behave", [refuse, hang_up, go_away, babble, half])
async def test_a_rude_peer_loses_the_exchange_once_and_the_next_one_is_served(behave: Behave):
    async with peer(behave) as (transport, _):
        heard = await over(ask(transport, b"hello"))
        assert heard.error is not None
        await asyncio.sleep(0.05)
        assert heard.ends == 1
        again = await over(ask(transport, b"hello"))
        assert again.error is not None


async def test_a_peer_that_lies_about_the_length_of_its_answer_loses_the_exchange():
    def lie(served: Served, event: Any) -> None:
        if isinstance(event, RequestReceived):
            served.h2.send_headers(event.stream_id, [(":status", "200"), ("content-length", "3")])
            served.h2.send_data(event.stream_id, b"more than three", end_stream=True)

    async with peer(lie) as (transport, _):
        assert (await over(ask(transport))).error is not None


@pytest.mark.parametrize("greets", [True, False])
async def test_a_peer_that_stalls_is_given_up(greets: bool, monkeypatch: pytest.MonkeyPatch):
    """One that never says how it speaks, and one whose other end is gone later: a ping, and as long again."""
    monkeypatch.setattr(http2, "PING_SECONDS", 0.05)
    monkeypatch.setattr(http2, "CONNECT_SECONDS_MAX", 0.2)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if greets:
            Served(writer, echo, {})
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    transport = Http2(Address("http", "127.0.0.1", server.sockets[0].getsockname()[1]))
    heard = await over(ask(transport, b"anybody?"))
    assert heard.error is not None
    assert heard.error.kind == ("timeout" if greets else "connect")
    await transport.close()
    server.close()


async def test_nobody_there_is_told_as_such():
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    heard = await over(ask(Http2(Address("http", "127.0.0.1", port))))
    assert heard.error is not None
    assert heard.error.kind == "connect"


async def test_an_aborted_exchange_hears_nothing_more_and_leaves_nothing():
    async with peer(lambda served, event: None) as (transport, connections):
        heard = ask(transport, b"hello", end=False)
        while not connections or not transport._connections or not transport._connections[0].streams:
            await asyncio.sleep(0.001)
        heard.exchange.abort()
        await asyncio.sleep(0.05)
        assert heard.ends == 0
        assert not transport._connections[0].streams
