"""A turn as it is told while it happens: one vocabulary for all dialects, made from the durable stream.

Rules of this file:
1. What the session's own agent says is told; what agents inside its tools say is theirs, and is not. Tool
   results and approvals are told wherever they come from.
2. A message that was put into a running turn is told by that turn; if it came too late, by its own.
3. The last item is the end, with the reply or the failure: also when the journal is no longer there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Literal, TypeAlias

import msgspec

from agentdur.core.errors import JournalGone, UnknownInvocation
from agentdur.core.ports import StreamEvent
from agentdur.sdk.client import EngineClient
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.segment import STREAM
from agentdur.sessions.words import Posted, Reply

Kind: TypeAlias = Literal[
    "text", "reasoning", "tool_call", "tool_result", "approval", "status", "agent", "data", "void", "commit",
    "end",
]  # fmt: skip
_OWN = frozenset({"text", "reasoning", "tool_call", "agent"})
_KNOWN = _OWN | {"tool_result", "approval", "status"}
_UNSAID = frozenset({"finish", "truncated"})


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is told. `run`: which step said it (0: the handler itself); `void` takes back what that
    step said, `commit` makes it final. `data`: the chunk; of the end the reply, or the failure as
    TerminalError."""

    kind: Kind
    run: int = 0
    data: Any = None


async def narrate(client: EngineClient, posted: Posted) -> AsyncGenerator[Item, None]:
    """The turn that answers a message, from its beginning to its end."""
    if posted.into:
        last = None
        async for item in _told(client, posted.into):
            if item.kind == "end":
                last = item
            else:
                yield item
        own = await _outcome(client, posted.invocation)
        if isinstance(own.data, Reply) and own.data.status == "steered":
            yield own if last is None or not isinstance(last.data, Reply) else last
            return
    async for item in _told(client, posted.invocation):
        yield item


async def _told(client: EngineClient, invocation: str) -> AsyncIterator[Item]:
    try:
        stream = client.stream(invocation)
    except (JournalGone, UnknownInvocation):
        yield await _outcome(client, invocation)
        return
    try:
        async for event in stream:
            item = item_of(event)
            if item is not None:
                yield item
    finally:
        stream.close()


def item_of(event: StreamEvent) -> Item | None:
    """What an event of the stream tells; None for what is not told."""
    if event.kind == "end":
        return Item(kind="end", data=_ended(event.data))
    if event.kind != "chunk":
        return Item(kind=event.kind, run=event.run)
    chunk, run = event.data, 0 if event.step == STREAM else event.run
    kind = chunk.get("type") if isinstance(chunk, dict) else None
    if (kind in _OWN and event.branch != "") or (kind == "tool_result" and "/" in event.branch):
        return None
    if kind == "approval":  # the call of the session's own agent within which somebody is asked
        outermost = event.branch.partition("/")[0]
        chunk = {**chunk, "call": outermost.removeprefix("tool:") if outermost.startswith("tool:") else ""}
    if kind in _KNOWN:
        return Item(kind=kind, run=run, data=chunk)
    if kind in _UNSAID:
        return None
    return Item(kind="data", run=run, data=chunk)


def _ended(data: dict[str, Any]) -> Reply | TerminalError:
    if data["status"] == "success":
        return msgspec.convert(data["value"], Reply)
    failure = data["failure"]
    return TerminalError(failure["message"], failure["code"], failure.get("metadata"))


async def _outcome(client: EngineClient, invocation: str) -> Item:
    try:
        reply: object = await client.attach(invocation)
    except TerminalError as error:
        return Item(kind="end", data=error)
    return Item(kind="end", data=msgspec.convert(reply, Reply))
