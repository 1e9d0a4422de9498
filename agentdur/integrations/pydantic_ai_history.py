"""A conversation's messages in a virtual object's state: each turn writes what is new, and no more.

Rules of this file:
1. A turn's new messages are one state value that is never changed; a count says how many there are.
2. Only the count is journaled when the conversation is read: a journal does not repeat the conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter

from agentdur.sdk.context import ObjectContext, ObjectSharedContext
from agentdur.sdk.kept import read_kept
from agentdur.sdk.serde import BytesSerde

NAME = "messages"
_RAW = BytesSerde()


async def load_messages(ctx: ObjectContext | ObjectSharedContext, name: str = NAME) -> list[ModelMessage]:
    """All messages of this key, for `message_history=`."""
    turns = await ctx.get(name, type_hint=int) or 0
    messages: list[ModelMessage] = []
    for data in await read_kept(ctx, [_turn(name, number) for number in range(turns)]):
        messages += ModelMessagesTypeAdapter.validate_json(data or b"[]")
    return messages


async def append_messages(ctx: ObjectContext, new: Sequence[ModelMessage], name: str = NAME) -> None:
    """Keep a turn: `await append_messages(ctx, result.new_messages())`."""
    turns = await ctx.get(name, type_hint=int) or 0
    messages: Any = list(new)
    ctx.set(_turn(name, turns), ModelMessagesTypeAdapter.dump_json(messages), serde=_RAW)
    ctx.set(name, turns + 1)


def _turn(name: str, number: int) -> str:
    return f"{name}/{number:06}"
