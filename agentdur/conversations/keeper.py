"""`agentdur.Conversation`: what models were told, where a Restate server keeps everything else. A key is an
invocation, or `Service/key` for the handlers that hold the lock of a user's object.

Rules of this file:
1. A message is a state value of its own, written once: `message:PLACE:HASH:PARENT`. Its hash names it and all
   before it, so the order in which messages arrive does not matter, and nothing has to be read to keep one.
2. Each model call is a value, too (`call:TIME:INVOCATION:NUMBER`): what was noted of it, and the end of the
   conversation that it was told.
3. All of it goes together, when nothing was added for as long as `message-retention` said when it was sent.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from agentdur.sdk.context import ObjectContext, ObjectSharedContext
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.kept import read_kept
from agentdur.sdk.serde import BytesSerde, MsgspecJsonSerde
from agentdur.sdk.service import InternalObject
from agentdur.sdk.told import CONVERSATION, Forget, Keep

_MESSAGE, _CALL = "message:", "call:"
_SINCE, _UNTIL = "since", "until"
_RAW = BytesSerde()

_object = InternalObject(
    CONVERSATION, "Conversations: what the models of one run or session were told.",
    journal_retention=timedelta(0), enable_lazy_state=True, ingress_private=True,
)  # fmt: skip


class Asked(Struct, frozen=True, omit_defaults=True):
    """Which conversation: `end` is the hash of its last message, by default what the last call was told."""

    end: str = ""


class Conversation(Struct, frozen=True):
    """The messages up to an end, oldest first, and the facts of all model calls of the run or session.
    `whole`: nothing is missing at its beginning."""

    end: str
    messages: list[Any]
    calls: list[dict[str, Any]]
    whole: bool


@_object.handler(input_serde=MsgspecJsonSerde(Keep))  # a message stays the bytes it is
async def keep(ctx: ObjectContext, new: Keep) -> None:
    """What a model was told and is new."""
    for message in new.messages:
        name = f"{_MESSAGE}{message.place:05}:{message.hash}:{message.parent}"
        ctx.set(name, bytes(message.value), serde=_RAW)
    if new.call:
        ctx.set(f"{_CALL}{new.at:013}:{new.call}", bytes(new.about), serde=_RAW)
    if new.first:
        ctx.set(_SINCE, new.at)
        after = timedelta(milliseconds=new.until - new.at)
        ctx.object_send(forget, ctx.key(), Forget(new.at, new.until), send_delay=after)
    ctx.set(_UNTIL, new.until)


@_object.handler()
async def forget(ctx: ObjectContext, what: Forget) -> None:
    """Its time may be over, or its session was cleared."""
    if what.since:
        since = await ctx.get(_SINCE, type_hint=int)
        if since != what.since:
            return  # forgotten, and perhaps begun anew
        until = await ctx.get(_UNTIL, type_hint=int)
        if until is not None and until > what.until:
            later = timedelta(milliseconds=until - what.until)
            ctx.object_send(forget, ctx.key(), Forget(what.since, until), send_delay=later)
            return
    ctx.clear_all()


@_object.handler(kind="shared", enable_lazy_state=False)
async def read(ctx: ObjectSharedContext, asked: Asked = Asked()) -> Conversation:  # noqa: B008  # frozen
    """A conversation of this run or session. A terminal 404 when none is kept, or none that ends so."""
    names = await ctx.state_keys()
    called = sorted(name for name in names if name.startswith(_CALL))
    facts = zip(called, await read_kept(ctx, called), strict=True)
    calls = [_call(name, value) for name, value in facts if value is not None]
    told = (str(call["conversation"]) for call in reversed(calls) if call.get("conversation"))
    end = asked.end or next(told, "")
    chain, whole = _chain(names, end)
    if not chain:
        raise TerminalError("no conversation with this end is kept here", 404)
    values = await read_kept(ctx, chain)
    messages = [msgspec.json.decode(value) for value in values if value is not None]
    return Conversation(end, messages, calls, whole)


def _call(name: str, value: bytes) -> dict[str, Any]:
    """What is known of a model call."""
    _, at, invocation, _ = name.split(":")
    return {"at": int(at), "invocation": invocation, **msgspec.json.decode(value)}


def _chain(names: list[str], end: str) -> tuple[list[str], bool]:
    """The names of the messages up to an end, and whether the first of them is there."""
    by_hash = {}
    for name in names:
        if name.startswith(_MESSAGE):
            _, _, hash, parent = name.split(":")
            by_hash[hash] = (name, parent)
    found = []
    while end in by_hash:
        name, end = by_hash[end]
        found.append(name)
    return found[::-1], not end


def conversation_object() -> InternalObject:
    """The service, for an endpoint to serve."""
    return _object
