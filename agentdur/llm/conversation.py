"""A conversation as a chain: each message once, under a hash of itself and all before it.

A model step refers to the last message it was told, so that a conversation of N turns takes N messages and
not N times all of them. Two steps that were told the same refer to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from agentdur.core.journal import ChatMessage
from agentdur.sdk.note import keep_messages, note

_ENCODE = msgspec.json.Encoder(order="sorted").encode
_BYTES = 20


def chain(messages: Sequence[Mapping[str, Any]]) -> tuple[ChatMessage, ...]:
    """The messages, each with its place."""
    found, parent = [], ""
    for message in messages:
        value = _ENCODE(message)
        name = blake2b(value, digest_size=_BYTES, key=parent.encode()).hexdigest()
        found.append(ChatMessage(name, parent, value))
        parent = name
    return tuple(found)


def remember(messages: Sequence[Mapping[str, Any]], tools: Any) -> None:
    """Beside the step that runs: what the model is told, and which tools it has."""
    said = chain(messages)
    known = chain([{"tools": tools}]) if tools else ()
    keep_messages((*known, *said))
    facts: dict[str, Any] = {"conversation": said[-1].hash if said else "", "messages": len(said)}
    if known:
        facts["tools"] = known[0].hash
    note(**facts)
