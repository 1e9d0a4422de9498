"""A conversation in the state of an object: each message a value of its own, so that a turn writes what is
new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from agentdur.integrations.langchain.codec import message_data, message_of
from agentdur.sdk.context import ObjectContext, ObjectSharedContext

_COUNT = "messages"


async def load_messages(ctx: ObjectContext | ObjectSharedContext) -> list[BaseMessage]:
    """All messages of this key, oldest first."""
    count: int = await ctx.get(_COUNT, type_hint=int) or 0
    found: list[Any] = [await ctx.get(_name(number), type_hint=dict) for number in range(count)]
    return [message_of(data) for data in found if data is not None]


async def append_messages(ctx: ObjectContext, messages: Sequence[BaseMessage]) -> int:
    """Keep what came after `load_messages`; how many there are now."""
    count: int = await ctx.get(_COUNT, type_hint=int) or 0
    for number, message in enumerate(messages, start=count):
        ctx.set(_name(number), message_data(message))
    ctx.set(_COUNT, count + len(messages))
    return count + len(messages)


def _name(number: int) -> str:
    return f"message:{number:06}"
