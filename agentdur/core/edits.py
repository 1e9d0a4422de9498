"""What a fork does otherwise than the run it was made from: said in its first entry, and so in its journal.

Rules of this file:
1. The header is the first one of all. An ingress puts what it says itself before a request's own headers, so
   what comes from outside under this name is never read.
2. A list only grows: a fork of a fork has the edits of both, in the order in which they were made.
3. An edited message is known by what it says and by how many equal ones were told before it, not by its
   place: so the edit holds wherever the run tells that message again, also to other agents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from agentdur.core.journal import Headers

EDITS = "x-agentdur-edits"
EDITED = "edited"
"""Noted beside a result that a person has put there (true), or that was asked for with edits (which)."""
_REPAIR = "/repair"
"""How a step is called that asks again for an answer which did not fit: part of the turn it mends."""
_READ_KEPT = 64
_said = msgspec.json.Encoder(order="sorted").encode


class ValueEdit(Struct, frozen=True, tag="value", tag_field="what"):
    """Entry `entry` has another value than it has in the journal of `of`."""

    of: str
    entry: int


class MessageEdit(Struct, frozen=True, tag="message", tag_field="what"):
    """Models are told `content` in the message `told`. `at`: its place in the turn that was edited, whose
    step is entry `entry` of `of`; `nth`: how many equal messages stood before it."""

    of: str
    entry: int
    step: str
    at: int
    nth: int
    told: dict[str, Any]
    content: Any


class ModelEdit(Struct, frozen=True, tag="model", tag_field="what"):
    """The turns of that step's name ask another model. `told`: the one of before, where it is known."""

    of: str
    entry: int
    step: str
    told: str
    model: str


Edit: TypeAlias = ValueEdit | MessageEdit | ModelEdit


class TurnEdit(Struct, frozen=True):
    """What a person wants of one turn: another model, other contents of messages by their places."""

    model: str | None = None
    messages: dict[int, Any] = {}


NO_TURNS: Mapping[int, TurnEdit] = MappingProxyType({})


def edits_of(headers: Headers) -> tuple[Edit, ...]:
    """What an invocation with these headers does otherwise; nothing when it is no such fork."""
    return _read(headers[0][1]) if headers and headers[0][0] == EDITS else ()


def with_edits(headers: Headers, edits: Sequence[Edit]) -> Headers:
    """The headers of an invocation that does so, too."""
    if not edits:
        return headers
    said = msgspec.json.encode((*edits_of(headers), *edits)).decode()
    return ((EDITS, said), *(pair for pair in headers if pair[0] != EDITS))


@lru_cache(_READ_KEPT)
def _read(said: str) -> tuple[Edit, ...]:
    try:
        return msgspec.json.decode(said, type=tuple[Edit, ...])
    except msgspec.DecodeError:  # another handler has called with a header of this name
        return ()


def nth_of(messages: Sequence[Mapping[str, Any]], at: int) -> int:
    """How many equal messages stand before that place."""
    said = _said(messages[at])
    return sum(_said(message) == said for message in messages[:at])


def retold(
    messages: list[dict[str, Any]], edits: Sequence[Edit]
) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """The messages as they are told, and which edits were used for it."""
    used = []
    for number, edit in enumerate(edits):
        if isinstance(edit, MessageEdit):
            told = _said(edit.told)
            places = [at for at, message in enumerate(messages) if _said(message) == told]
            if edit.nth < len(places):
                at = places[edit.nth]
                messages = [*messages[:at], {**messages[at], "content": edit.content}, *messages[at + 1 :]]
                used.append(number)
    return messages, tuple(used)


def switched(step: str, edits: Sequence[Edit]) -> tuple[str | None, tuple[int, ...]]:
    """The model that a step asks, if another one is wanted, and which edit says so: the last one."""
    wanted = [
        (number, edit.model)
        for number, edit in enumerate(edits)
        if isinstance(edit, ModelEdit) and edit.step in (step, step.removesuffix(_REPAIR))
    ]
    return (wanted[-1][1], tuple(number for number, _ in wanted)) if wanted else (None, ())
