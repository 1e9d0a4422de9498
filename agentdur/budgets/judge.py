"""`agentdur.Budget`: accounts that several invocations spend from. An object's key is one account.

Rules of this file:
1. Who wants to make a call asks first and settles afterwards; what the call may cost is held in between,
   or until it could not run any more.
2. An account that belongs to a block of code is forgotten KEPT after its first use; one with a name of its
   own stays.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import msgspec

from agentdur.core.book import ACCOUNTS, BOOK, NOTHING, Amounts, Book, Hold, Limits, Reached
from agentdur.sdk.context import ObjectContext, ObjectSharedContext
from agentdur.sdk.service import InternalObject

KEPT = timedelta(days=30)


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call that wants to be made."""

    id: str
    limits: Limits
    amounts: Amounts
    lasts_ms: int
    named: bool = False


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """`go`, with another model perhaps; `wait` for calls that run; or the limit that is reached."""

    say: Literal["go", "wait", "reached"]
    model: str = ""
    reached: Reached | None = None
    raises: int = 0


class Settled(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a call cost in the end."""

    id: str
    amounts: Amounts


class More(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person granted more, having seen the account after so many raises."""

    by: dict[str, float]
    raises: int


_object = InternalObject(ACCOUNTS, "Budgets: one account each.", journal_retention=timedelta(0))


@_object.handler(ingress_private=True)
async def reserve(ctx: ObjectContext, wanted: Wanted) -> Verdict:
    """May this call be made now?"""
    now = int(await ctx.time() * 1000)
    book = await ctx.get(BOOK, type_hint=Book)
    if book is None:
        book = Book(wanted.limits, now)
        if not wanted.named:
            ctx.object_send(forget, ctx.key(), send_delay=KEPT)
    book.limits = wanted.limits
    book.expire(now)
    reached = book.reached(now)
    if reached is not None and book.limits.model is None:
        verdict = Verdict("reached", reached=reached, raises=book.raises)
    elif reached is None and book.full():
        verdict = Verdict("wait")
    else:
        book.holds = {**book.holds, wanted.id: Hold(wanted.amounts, now + wanted.lasts_ms)}
        verdict = Verdict("go", (reached and book.limits.model) or "")
    ctx.set(BOOK, book)
    return verdict


@_object.handler(ingress_private=True)
async def settle(ctx: ObjectContext, settled: Settled) -> None:
    """A call has its answer, or has ended without one."""
    book = await ctx.get(BOOK, type_hint=Book)
    if book is not None:
        book.holds = {name: hold for name, hold in book.holds.items() if name != settled.id}
        book.spent = book.spent.plus(settled.amounts)
        ctx.set(BOOK, book)


@_object.handler(ingress_private=True)
async def grow(ctx: ObjectContext, more: More) -> None:
    """Raise the limits, once for each time that they were reached."""
    book = await ctx.get(BOOK, type_hint=Book)
    if book is not None and book.raises == more.raises:
        book.grow(more.by)
        ctx.set(BOOK, book)


@_object.handler(ingress_private=True)
async def forget(ctx: ObjectContext) -> None:
    """The block is long over."""
    ctx.clear_all()


@_object.handler(kind="shared", ingress_private=True)
async def look(ctx: ObjectSharedContext) -> Amounts:
    """What was spent so far."""
    book = await ctx.get(BOOK, type_hint=Book)
    return NOTHING if book is None else book.spent


def budget_object() -> InternalObject:
    """The service, for an App to serve."""
    return _object
