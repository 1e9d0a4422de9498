"""`agentdur.Approval`: a virtual object whose key is one approval. Its exclusive handlers are the only judge.

Rules of this file:
1. The first decision that was in time and names the right digest counts; every other changes nothing and is
   told so: 404 unknown, 403 another digest, 409 decided before, with what, by whom and when.
2. The deadline is a delayed message of the object to itself: it waits its turn like every decision. A
   decision that comes after the deadline but before that message is late, too.
3. When the asker ends without an answer, however it ends, its question is withdrawn.
4. What was decided is kept for a time, then cleared.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from typing import Any

import msgspec
from msgspec.structs import replace

from agentdur.approvals.links import KEEPER, LINK_SECRET, make_key
from agentdur.approvals.settings import ApprovalSettings
from agentdur.core.errors import ApprovalForged, UnknownApproval
from agentdur.sdk.approval import (
    DECIDED,
    PENDING,
    SERVICE,
    ApprovalRecord,
    Decision,
    Question,
    Verdict,
)
from agentdur.sdk.approval_calls import decided_before, refusal
from agentdur.sdk.context import ObjectContext, ObjectSharedContext
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.service import InternalObject
from agentdur.sdk.steps import RunOptions

DELIVERY = RunOptions[Any](
    initial_retry_interval=timedelta(seconds=1),
    max_retry_interval=timedelta(minutes=5),
    max_duration=timedelta(days=1),
)
"""How long and how often a webhook that cannot be reached is tried."""
_NOTHING_KEPT = timedelta(0)


def approval_object(settings: ApprovalSettings) -> InternalObject:
    """The object; what `settings` says at the time of each decision holds."""
    judge = InternalObject(SERVICE, "Approvals: one key each.", journal_retention=_NOTHING_KEPT)

    @judge.handler("open", ingress_private=True)
    async def opens(ctx: ObjectContext, asked: Question) -> None:
        """The asker asks."""
        await _open(ctx, settings, asked)

    @judge.handler()
    async def decide(ctx: ObjectContext, decision: Decision) -> ApprovalRecord:
        """A person decides."""
        return await _decide(ctx, settings, decision)

    @judge.handler(ingress_private=True)
    async def expire(ctx: ObjectContext) -> None:
        """The deadline has come."""
        asked = await ctx.get(PENDING, type_hint=Question)
        if asked is not None:
            now = await _now(ctx)
            _settle(ctx, settings, asked, Verdict(approved=asked.default, at=now, timed_out=True))

    @judge.handler(ingress_private=True)
    async def withdraw(ctx: ObjectContext) -> None:
        """The asker is cancelled, or has ended."""
        asked = await ctx.get(PENDING, type_hint=Question)
        if asked is not None:
            _settle(ctx, settings, asked, None, at=await _now(ctx))

    @judge.handler(ingress_private=True)
    async def forget(ctx: ObjectContext) -> None:
        """Its retention is over."""
        ctx.clear_all()

    @judge.handler(kind="shared")
    async def show(ctx: ObjectSharedContext) -> ApprovalRecord:
        """What is known of it; a terminal 404 when nothing is."""
        return await _known(ctx)

    @judge.handler(kind="shared", ingress_private=True)
    async def watch(ctx: ObjectSharedContext, asker: str) -> None:
        """Wait until the asker ends."""
        with suppress(TerminalError):  # it failed, or is forgotten; or this is cancelled: it is decided
            await ctx.attach_invocation(asker, type_hint=bytes)
        ctx.generic_send(SERVICE, "withdraw", b"", ctx.key())

    @judge.handler(kind="shared", ingress_private=True)
    async def notify(ctx: ObjectSharedContext, url: str) -> None:
        """Tell a webhook of the question."""
        await _notify(ctx, settings, url)

    return judge


def secrets_object() -> InternalObject:
    """Secrets that are made once and kept: the key of links, when no setting gives one."""
    keeper = InternalObject(
        KEEPER, "Generated secrets.", journal_retention=_NOTHING_KEPT, ingress_private=True
    )

    @keeper.handler("get")
    async def get(ctx: ObjectContext) -> str:
        """The secret of this key."""
        known = await ctx.get("secret", type_hint=str)
        if known is None:
            known = await ctx.run("make", make_key)
            ctx.set("secret", known)
        return str(known)

    return keeper


async def _open(ctx: ObjectContext, settings: ApprovalSettings, asked: Question) -> None:
    if await ctx.state_keys():
        return
    key = ctx.key()
    helpers = [await ctx.generic_send(SERVICE, "watch", _json(asked.invocation), key).invocation_id()]
    if asked.deadline is not None:
        wait = asked.deadline - await _now(ctx)
        alarm = ctx.generic_send(SERVICE, "expire", b"", key, max(wait, timedelta(0)))
        helpers.append(await alarm.invocation_id())
    ctx.set(PENDING, replace(asked, helpers=tuple(helpers)))
    for url in settings.webhooks if asked.notify is None else asked.notify:
        ctx.generic_send(SERVICE, "notify", _json(url), key)


async def _decide(ctx: ObjectContext, settings: ApprovalSettings, decision: Decision) -> ApprovalRecord:
    asked = await ctx.get(PENDING, type_hint=Question)
    if asked is None:
        raise refusal(decided_before(await _known(ctx)))
    if decision.digest != asked.digest:
        raise refusal(ApprovalForged(f"{asked.id}: the decision is about {decision.digest!r}"))
    now = await _now(ctx)
    if asked.deadline is not None and now >= asked.deadline:
        late = _settle(ctx, settings, asked, Verdict(approved=asked.default, at=now, timed_out=True))
        raise refusal(decided_before(late))
    edited = decision.approved and decision.edited
    verdict = Verdict(
        approved=decision.approved, at=now, by=decision.by, reason=decision.reason, edited=edited,
        payload=decision.payload if edited else None,
    )  # fmt: skip
    return _settle(ctx, settings, asked, verdict)


def _settle(
    ctx: ObjectContext,
    settings: ApprovalSettings,
    asked: Question,
    verdict: Verdict | None,
    at: datetime | None = None,
) -> ApprovalRecord:
    """Write the end down, tell the asker, stop the helpers. Without a verdict it is withdrawn."""
    record = settled(asked, verdict, at)
    ctx.set(DECIDED, record)
    ctx.clear(PENDING)
    if verdict is not None:
        ctx.resolve_signal(asked.invocation, asked.signal, verdict)
    for helper in asked.helpers:
        if helper != ctx.invocation_id:
            ctx.cancel_invocation(helper)
    ctx.generic_send(SERVICE, "forget", b"", ctx.key(), settings.retention)
    return record


def settled(asked: Question, verdict: Verdict | None, at: datetime | None) -> ApprovalRecord:
    """The same with its end."""
    if verdict is None:
        return replace(asked.record(), status="withdrawn", decided_at=at)
    return replace(
        asked.record(), status="approved" if verdict.approved else "rejected", approved=verdict.approved,
        by=verdict.by, reason=verdict.reason, decided_at=verdict.at, timed_out=verdict.timed_out,
        edited=verdict.edited, edited_payload=verdict.payload,
    )  # fmt: skip


async def _known(ctx: ObjectContext | ObjectSharedContext) -> ApprovalRecord:
    asked = await ctx.get(PENDING, type_hint=Question)
    if asked is not None:
        return asked.record()
    record = await ctx.get(DECIDED, type_hint=ApprovalRecord)
    if record is None:
        raise refusal(UnknownApproval(ctx.key()))
    return record


async def _notify(ctx: ObjectSharedContext, settings: ApprovalSettings, url: str) -> None:
    asked = await ctx.get(PENDING, type_hint=Question)
    if asked is None:
        return
    key = settings.link_key or msgspec.json.decode(await ctx.generic_call(KEEPER, "get", b"", LINK_SECRET))
    deliver = import_module("agentdur.approvals.webhook").deliver  # httpx: not before it is needed
    record = asked.record()
    try:
        await ctx.run_typed("webhook", partial(deliver, url, record, settings, key), DELIVERY)
    except TerminalError:
        return  # refused for good, or for a day: the question stays where it can be seen


async def _now(ctx: ObjectContext) -> datetime:
    return datetime.fromtimestamp(await ctx.time(), UTC)


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
