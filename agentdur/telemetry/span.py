"""A span as it leaves: finished, with ids that were computed."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Value: TypeAlias = str | int | float | bool | tuple[str, ...]
Attributes: TypeAlias = tuple[tuple[str, Value], ...]

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
"""Kinds, numbered as OTLP does."""


class Event(Struct, frozen=True, gc=False):
    """Something that happened within a span, at `at` ms since the epoch."""

    at: int
    name: str
    attributes: Attributes = ()


class Link(Struct, frozen=True, gc=False):
    """Another span that has to do with this one. Ids in hexadecimal digits."""

    trace_id: str
    span_id: str
    attributes: Attributes = ()


class Span(Struct, frozen=True, kw_only=True, gc=False):
    """Ids in hexadecimal digits (`parent_id` empty: none), times in ms since the epoch. `error`: None when
    all went well, else what is said about it, which may be nothing."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    began: int
    ended: int
    attributes: Attributes = ()
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    error: str | None = None
    trace_state: str = ""
