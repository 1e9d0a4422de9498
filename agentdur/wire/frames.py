"""Frames: 16 bits of type, 16 of flags, 32 of length, big-endian, then the body."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from agentdur.core.errors import MessageTooLarge, ProtocolViolation

BODY_BYTES_MAX = 32 * 1024 * 1024
REQUESTED_ACK = 0x8000
_HEADER = Struct(">HHI")
HEADER_BYTES = _HEADER.size
_read_header, _write_header = _HEADER.unpack_from, _HEADER.pack


class Frame(NamedTuple):
    """One message as it travels."""

    type: int
    body: bytes
    flags: int = 0


def pack(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A whole frame."""
    return _write_header(kind, flags, len(body)) + body


class FrameReader:
    """Cuts a stream of bytes into frames; they may arrive split or merged anywhere."""

    __slots__ = ("_buffer", "_max", "_wanted")

    def __init__(self, body_max: int = BODY_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._wanted = 0
        self._max = body_max

    def feed(self, data: bytes) -> list[Frame]:
        """All frames that are whole now. MessageTooLarge before such a body is waited for."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return []  # a large body is joined once, not with every piece
            data = bytes(self._buffer)
        frames: list[Frame] = []
        at, end = 0, len(data)
        self._wanted = _HEADER.size
        while end - at >= _HEADER.size:
            kind, flags, size = _read_header(data, at)
            if size > self._max:
                raise MessageTooLarge(f"a message of {size} bytes, the limit is {self._max}")
            body = at + _HEADER.size
            if end - body < size:
                self._wanted += size
                break
            at = body + size
            frames.append(Frame(kind, data[body:at], flags))
        self._buffer = bytearray(data[at:])
        return frames

    def done(self) -> None:
        """The stream is over: nothing may be left."""
        if self._buffer:
            raise ProtocolViolation("the stream ends within a message")
