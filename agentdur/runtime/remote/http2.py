"""HTTP/2 to a deployment, on the library h2: prior knowledge for http://, ALPN for https://.

Rules of this file:
1. Many exchanges share few connections: a connection takes as many streams as the peer allows, and no more
   than STREAMS_MAX; then another one is opened.
2. Flow control is by bytes: what the peer may not send yet waits there, what it has no room for waits here.
3. A turn of the loop writes once per connection, whatever happened in it.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from agentdur.runtime.remote.transport import Address, Headers, Receiver, TransportFailed

STREAMS_MAX = 256
CONNECT_SECONDS_MAX = 10.0
IDLE_SECONDS_MAX = 60.0
PING_SECONDS = 20.0
"""A connection with streams on which nothing arrives for so long is asked whether anybody is there; after as
long again it is given up."""
WINDOW_BYTES = 1024 * 1024
_PING = b"agentdur"


class Stream:
    """One exchange (`transport.Exchange`)."""

    __slots__ = ("_connection", "_waiting", "ending", "id", "over", "receiver", "request")

    def __init__(self, request: Headers, receiver: Receiver) -> None:
        self.request, self.receiver = request, receiver
        self.id = 0
        self.ending = self.over = False
        self._waiting = bytearray()
        self._connection: Connection | None = None

    def write(self, data: bytes) -> None:
        """Send, as far as the peer has room."""
        if not self.over:
            self._waiting += data
            self._send()

    def end(self) -> None:
        """The request is complete."""
        if not self.over and not self.ending:
            self.ending = True
            self._send()

    def consumed(self, size: int) -> None:
        """Give the peer room."""
        connection = self._connection
        if connection is not None and self.id and size:
            connection.consumed(self, size)

    def abort(self) -> None:
        """Drop it."""
        if self.over:
            return
        self.over = True
        if self._connection is not None and self.id:
            self._connection.reset(self)

    def _send(self) -> None:
        if self._connection is not None and self.id:
            self._connection.wanted(self)

    # -- for the connection

    def opened(self, connection: Connection, number: int) -> None:
        """It has its stream."""
        self._connection, self.id = connection, number

    def take(self, size: int) -> bytes:
        """Up to `size` bytes that wait."""
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        return data

    @property
    def waiting(self) -> int:
        """Bytes that wait for the peer."""
        return len(self._waiting)

    def lost(self, kind: Any, detail: str) -> None:
        """Tell the receiver, once."""
        if not self.over:
            self.over = True
            self.receiver.lost(TransportFailed(kind, detail))


class Connection(asyncio.Protocol):
    """One connection and its streams."""

    def __init__(self, pool: Http2) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        settings = H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )  # fmt: skip
        self._h2 = H2Connection(settings)
        ours = {SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES, SettingCodes.ENABLE_PUSH: 0}
        self._h2.local_settings = Settings(client=True, initial_values=ours)
        self._transport: asyncio.Transport | None = None
        self.streams: dict[int, Stream] = {}
        self.settled: asyncio.Future[None] = self._loop.create_future()
        """The peer has said how much it takes; before that nothing is begun."""
        self._flushing = False
        self.closing = False
        self._heard = self._loop.time()
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None

    # -- asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        """Say who we are."""
        self._transport = transport
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(16 * WINDOW_BYTES)
        self._flush()
        self._timer = self._loop.call_later(PING_SECONDS, self._look)

    def data_received(self, data: bytes) -> None:
        """Pass on what arrived."""
        self._heard, self._asked = self._loop.time(), False
        try:
            events = self._h2.receive_data(data)
        except H2Error as error:
            self._flush_now()
            self._give_up("protocol", f"the peer broke HTTP/2: {error}")
            return
        for event in events:
            self._hear(event)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """All its streams are lost."""
        self._give_up("reset", f"the connection was lost: {error or 'closed by the peer'}")

    def resume_writing(self) -> None:
        """The socket has room."""
        for stream in list(self.streams.values()):
            self.wanted(stream)

    # -- streams

    @property
    def room(self) -> bool:
        """May another stream begin?"""
        most = min(self._h2.remote_settings.max_concurrent_streams, STREAMS_MAX)
        return not self.closing and len(self.streams) < most

    def begin(self, stream: Stream) -> None:
        """Send its head, and what waits."""
        number = self._h2.get_next_available_stream_id()
        self.streams[number] = stream
        stream.opened(self, number)
        self._h2.send_headers(number, stream.request)
        self.wanted(stream)

    def wanted(self, stream: Stream) -> None:
        """Send what the peer has room for."""
        try:
            while stream.waiting:
                size = min(self._h2.local_flow_control_window(stream.id), self._h2.max_outbound_frame_size)
                if size <= 0:
                    break
                self._h2.send_data(stream.id, stream.take(size))
            if stream.ending and not stream.waiting:
                self._h2.end_stream(stream.id)
                stream.ending = False
        except H2Error:  # the peer has closed it; what it said about that is on its way to us
            stream.take(stream.waiting)
        self._flush()

    def consumed(self, stream: Stream, size: int) -> None:
        """Give room for what was worked on."""
        if not self.closing:
            try:
                self._h2.acknowledge_received_data(size, stream.id)
            except (H2Error, KeyError, ValueError):
                return  # the stream is gone
            self._flush()

    def reset(self, stream: Stream) -> None:
        """The receiver wants no more of it."""
        with suppress(H2Error):  # it may be over anyway
            self._h2.reset_stream(stream.id, ErrorCodes.CANCEL)
        self._done(stream)
        self._flush()

    def _hear(self, event: Event) -> None:
        number = getattr(event, "stream_id", None)
        stream = self.streams.get(number) if number else None
        if isinstance(event, DataReceived):
            if stream is None or stream.over:
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                return
            padding = event.flow_controlled_length - len(event.data)
            if padding:
                self._h2.acknowledge_received_data(padding, event.stream_id)
            stream.receiver.data(event.data)
        elif isinstance(event, ResponseReceived):
            if stream is not None and not stream.over:
                headers = {str(name): str(value) for name, value in event.headers}
                stream.receiver.response(int(headers.get(":status", "0")), headers)
        elif isinstance(event, StreamEnded):
            if stream is not None:
                self._ended(stream)
        elif isinstance(event, StreamReset):
            if stream is not None:
                stream.lost("reset", f"the peer reset the stream (code {event.error_code})")
                self._done(stream)
        elif isinstance(event, WindowUpdated):
            for waiting in [stream] if stream is not None else list(self.streams.values()):
                if waiting.waiting:
                    self.wanted(waiting)
        elif isinstance(event, RemoteSettingsChanged):
            if not self.settled.done():
                self.settled.set_result(None)
        elif isinstance(event, ConnectionTerminated):
            self.closing = True
            self._settle_not("refused", "the peer is going away")
            for later in [s for n, s in self.streams.items() if n > (event.last_stream_id or 0)]:
                later.lost("refused", "the peer is going away")
                self._done(later)

    def _ended(self, stream: Stream) -> None:
        if not stream.over:
            stream.over = True
            stream.receiver.ended()
        if self._h2.streams.get(stream.id) is not None and not self._h2.streams[stream.id].closed:
            self.reset(stream)  # it answered before the request was complete, and needs no more of it
        else:
            self._done(stream)

    def _done(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        if self.closing and not self.streams:
            self.close()
        else:
            self._pool.has_room()

    # -- the connection

    def _flush(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _look(self) -> None:
        """Is anybody there? Does anybody need us?"""
        self._timer = None
        if self.closing:
            return
        quiet = self._loop.time() - self._heard
        if self.streams and quiet >= PING_SECONDS:
            if self._asked and quiet >= 2 * PING_SECONDS:
                self._give_up("timeout", f"nothing was heard for {quiet:.0f} s")
                return
            self._asked = True
            self._h2.ping(_PING)
            self._flush()
        elif not self.streams and quiet >= IDLE_SECONDS_MAX:
            self.close()
            return
        self._timer = self._loop.call_later(PING_SECONDS, self._look)

    def _settle_not(self, kind: Any, detail: str) -> None:
        if not self.settled.done():
            self.settled.set_exception(TransportFailed(kind, detail))
            self.settled.exception()  # nobody may be waiting any more

    def _give_up(self, kind: Any, detail: str) -> None:
        self.closing = True
        self._settle_not(kind, detail)
        streams, self.streams = list(self.streams.values()), {}
        self.close()
        for stream in streams:
            stream.lost(kind, detail)

    def close(self) -> None:
        """No more."""
        self.closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
        self._pool.gone(self)


class Http2:
    """The connections to one deployment (`transport.Transport`)."""

    bidirectional = True

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        if tls is None and address.scheme == "https":
            self._tls = ssl.create_default_context()
        if self._tls is not None:
            self._tls.set_alpn_protocols(["h2"])
        self._connections: list[Connection] = []
        self._waiting: list[Stream] = []
        self._connecting: asyncio.Task[None] | None = None

    def open(self, method: str, path: str, headers: Headers, receiver: Receiver) -> Stream:
        """Begin an exchange, on a connection with room or on a new one."""
        head = [
            (":method", method), (":scheme", self._address.scheme), (":authority", self._address.authority),
            (":path", self._address.path_to(path)), *headers,
        ]  # fmt: skip
        stream = Stream(head, receiver)
        for connection in self._connections:
            if connection.room:
                connection.begin(stream)
                return stream
        self._waiting.append(stream)
        self._connect()
        return stream

    def _connect(self) -> None:
        if self._connecting is None and self._waiting:
            self._connecting = self._loop.create_task(self._connect_once())

    async def _connect_once(self) -> None:
        address = self._address
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self), address.host, address.port, ssl=self._tls
                )
                await connection.settled
        except (OSError, TimeoutError, TransportFailed) as error:
            self._connecting = None
            waiting, self._waiting = self._waiting, []
            kind = error.kind if isinstance(error, TransportFailed) else "connect"
            detail = str(error) or type(error).__name__
            if connection is not None:
                connection.close()
            for stream in waiting:
                stream.lost(kind, f"no connection to {address.authority}: {detail}")
            return
        self._connecting = None
        self._connections.append(connection)
        self.has_room()
        self._connect()

    def has_room(self) -> None:
        """Let those begin that wait."""
        for connection in self._connections:
            while self._waiting and connection.room:
                stream = self._waiting.pop(0)
                if not stream.over:
                    connection.begin(stream)

    def gone(self, connection: Connection) -> None:
        """It is closed."""
        if connection in self._connections:
            self._connections.remove(connection)
        self._connect()

    async def close(self) -> None:
        """Drop all connections."""
        if self._connecting is not None:
            self._connecting.cancel()
        for connection in list(self._connections):
            connection.close()
