"""Spans of what is most of all that happens: steps and invocations that went well and have nothing else to
say.

They are written from parts that were encoded before, at a fraction of the price of `otlp.encoded`, which says
the same for the same span (the tests compare them).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, TypeAlias

from xxhash import xxh3_64_digest

from agentdur.core.ids import InvocationId
from agentdur.core.trace import parent_of, trace_of
from agentdur.telemetry.otlp import SAMPLED, attributes_of, sized
from agentdur.telemetry.span import INTERNAL, Attributes
from agentdur.wire.proto import varint

PARTS_MAX = 4096
"""Encoded names of steps, or of handlers, that are remembered."""
_NANOS = 1_000_000
_times = Struct("<BQBQ").pack

Head: TypeAlias = tuple[bytes, bytes, bytes]
"""What all spans of an invocation have in common: (trace and the invocation's id, its span's id, the id of
the span above it as a field)."""


def head_of(traceparent: str, invocation: InvocationId) -> Head:
    """Encoded once for each invocation."""
    (attribute,) = attributes_of((("agentdur.invocation.id", invocation),), 0x4A)
    common = b"\x0a\x10%b%b" % (bytes.fromhex(trace_of(traceparent, invocation)), attribute)
    parent = parent_of(traceparent)
    above = b"\x22\x08" + bytes.fromhex(parent) if parent else b""
    return common, xxh3_64_digest(invocation.encode()), above


class Plain:
    """Writes them. Times in ms since the epoch."""

    def __init__(self) -> None:
        self._steps: dict[str, bytes] = {}
        self._ends: dict[tuple[Any, ...], bytes] = {}

    def step(self, head: Head, made_from: str, name: str, began: int, ended: int) -> bytes:
        """A step; `made_from`: what its id is computed from."""
        part = self._steps.get(name)
        if part is None:
            if len(self._steps) >= PARTS_MAX:
                self._steps.clear()
            part = self._steps[name] = _part(name or "run", INTERNAL, (("agentdur.step", name),))
        body = b"%b\x22\x08%b\x12\x08%b%b%b" % (
            head[0], head[1], xxh3_64_digest(made_from.encode()), part,
            _times(0x39, began * _NANOS, 0x41, ended * _NANOS),
        )  # fmt: skip
        return b"\x12%b%b" % (varint(len(body)), body)

    def end(
        self,
        head: Head,
        key: tuple[Any, ...],
        say: Callable[[], tuple[str, int, Attributes]],
        began: int,
        ended: int,
    ) -> bytes:
        """An invocation. `say`: name, kind and the other attributes, the same whenever `key` is."""
        part = self._ends.get(key)
        if part is None:
            if len(self._ends) >= PARTS_MAX:
                self._ends.clear()
            part = self._ends[key] = _part(*say())
        body = b"%b%b\x12\x08%b%b%b" % (
            head[0], head[2], head[1], part, _times(0x39, began * _NANOS, 0x41, ended * _NANOS),
        )  # fmt: skip
        return b"\x12%b%b" % (varint(len(body)), body)


def _part(name: str, kind: int, attributes: Attributes) -> bytes:
    text = sized(0x2A, name.encode("utf-8", "replace"))
    return b"".join((text, b"\x30%c" % kind, *attributes_of(attributes, 0x4A), SAMPLED))
