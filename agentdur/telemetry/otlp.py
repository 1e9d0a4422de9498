"""OTLP's bytes: spans and metrics in protobuf, as `opentelemetry/proto` describes them.

Rules of this file:
1. A span costs a few microseconds: what repeats (keys, names, attributes of the same value) is encoded once.
2. Field numbers are those of the specification; the tests read what is written with the official messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from agentdur.telemetry.span import Attributes, Event, Link, Span, Value
from agentdur.wire.proto import varint

KNOWN_MAX = 4096
"""Encoded attributes that are remembered."""

_NANOS = 1_000_000
_double = Struct("<d").pack
_fixed = Struct("<Q").pack
_times = Struct("<BQBQ").pack
SAMPLED = b"\x85\x01\x01\x00\x00\x00"
"""Field 16, fixed32: the flags of the span's context."""
_known: dict[tuple[str, str], bytes] = {}


def sized(tag: int, body: bytes) -> bytes:
    """A field of bytes; the tag is one byte (field number up to 15)."""
    size = len(body)
    if size < 128:
        return b"%c%c%b" % (tag, size, body)
    return b"%c%b%b" % (tag, varint(size), body)


def value_of(value: Value) -> bytes:
    """An AnyValue."""
    if isinstance(value, str):
        return sized(0x0A, value.encode("utf-8", "replace"))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if isinstance(value, float):
        return b"\x21" + _double(value)
    return sized(0x2A, b"".join(sized(0x0A, value_of(one)) for one in value))


def key_value(key: str, value: Value) -> bytes:
    """A KeyValue."""
    return sized(0x0A, key.encode()) + sized(0x12, value_of(value))


def attributes_of(attributes: Attributes, tag: int) -> list[bytes]:
    """Fields of attributes."""
    out = []
    for key, value in attributes:
        if type(value) is str and len(value) < 128:
            field = _known.get((key, value))
            if field is None:
                field = key_value(key, value)
                if len(_known) >= KNOWN_MAX:
                    _known.clear()
                _known[(key, value)] = field
        else:
            field = key_value(key, value)
        out.append(sized(tag, field))
    return out


def encoded(span: Span) -> bytes:
    """A Span, as a field of its ScopeSpans."""
    name = span.name.encode("utf-8", "replace")
    parts = [b"\x0a\x10", bytes.fromhex(span.trace_id), b"\x12\x08", bytes.fromhex(span.span_id)]
    if span.trace_state:
        parts.append(sized(0x1A, span.trace_state.encode("utf-8", "replace")))
    if span.parent_id:
        parts += (b"\x22\x08", bytes.fromhex(span.parent_id))
    parts += (
        sized(0x2A, name), b"\x30%c" % span.kind, b"\x39", _fixed(span.began * _NANOS),
        b"\x41", _fixed(span.ended * _NANOS), *attributes_of(span.attributes, 0x4A),
    )  # fmt: skip
    if span.events:
        parts += (sized(0x5A, _event(event)) for event in span.events)
    if span.links:
        parts += (sized(0x6A, _link(link)) for link in span.links)
    if span.error is not None:
        message = sized(0x12, span.error.encode("utf-8", "replace")) if span.error else b""
        parts.append(sized(0x7A, message + b"\x18\x02"))
    parts.append(SAMPLED)
    return sized(0x12, b"".join(parts))


def _event(event: Event) -> bytes:
    fields = attributes_of(event.attributes, 0x1A)
    return b"".join(
        (b"\x09", _fixed(event.at * _NANOS), sized(0x12, event.name.encode("utf-8", "replace")), *fields)
    )


def _link(link: Link) -> bytes:
    ids = (b"\x0a\x10", bytes.fromhex(link.trace_id), b"\x12\x08", bytes.fromhex(link.span_id))
    return b"".join((*ids, *attributes_of(link.attributes, 0x22)))


class Envelope:
    """What is around spans or metrics: the resource, and this library as their scope."""

    def __init__(self, resource: Attributes, version: str) -> None:
        self._resource = sized(0x0A, b"".join(attributes_of(resource, 0x0A)))
        self._scope = sized(0x0A, sized(0x0A, b"agentdur") + sized(0x12, version.encode()))

    def request(self, fields: Iterable[bytes]) -> bytes:
        """An ExportTraceServiceRequest or ExportMetricsServiceRequest: they differ in what is inside only."""
        inside = sized(0x12, self._scope + b"".join(fields))
        return sized(0x0A, self._resource + inside)
