"""A journal with other values in it: what a fork begins with.

Rules of this file:
1. Only what came from outside can be another: the input, and results. What the handler did is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from agentdur.core import journal as j
from agentdur.core.errors import BadRequest

EDITED = "edited"
"""Noted beside a step's result that a person has put there."""


def edited(
    entries: list[tuple[int, j.Entry]], edits: Mapping[int, bytes], last: int
) -> list[tuple[int, j.Entry]]:
    """The entries with these values, by index; BadRequest for an index behind `last`, or without a value."""
    known = dict(entries)
    for index in edits:
        if index > last or index not in known:
            raise BadRequest(f"edits: {index} is no entry up to {last}")
    return [(index, _with(index, entry, edits)) for index, entry in entries]


def _with(index: int, entry: j.Entry, edits: Mapping[int, bytes]) -> j.Entry:
    if index not in edits:
        return entry
    value = edits[index]
    match entry:
        case j.Input():
            return replace(entry, value=value)
        case j.Completion(outcome=j.Success() | j.Failure(), of="Run"):
            return replace(entry, outcome=j.Success(value), meta=_noted(entry.meta))
        case j.Completion(outcome=j.Success() | j.Failure()):
            return replace(entry, outcome=j.Success(value))
        case j.Signal(outcome=j.Success() | j.Failure()):
            return replace(entry, outcome=j.Success(value))
        case _:
            raise BadRequest(f"edits: entry {index} is neither the input nor a result")


def _noted(meta: str) -> str:
    """The step's note, which says that this is not what the step answered."""
    facts: dict[str, Any] = msgspec.json.decode(meta) if meta else {}
    facts[EDITED] = True
    return msgspec.json.encode(facts).decode()
