"""One after another, all at once, and whoever is first."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from agentdur.patterns.doer import Doer, do, name_of
from agentdur.sdk.branch import spawn
from agentdur.sdk.context import Context


async def chain(ctx: Context, given: Any, *doers: Doer) -> Any:
    """Each is given what the one before it made; the last one's result. After a crash those that have ended
    are not asked again."""
    for doer in doers:
        given = await do(ctx, doer, given)
    return given


async def parallel(ctx: Context, given: Any, *doers: Doer) -> list[Any]:
    """All are given the same at the same time; their results in this order. When some fail, the others come
    to their end first, and the first failure in this order is raised: a replay raises the same."""
    tasks = [spawn(f"parallel:{name_of(doer)}", do(ctx, doer, given)) for doer in doers]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class Won(msgspec.Struct, frozen=True):
    """Who was first, and with what."""

    name: str
    value: Any


async def race(ctx: Context, given: Any, *doers: Doer) -> Won:
    """All are given the same, the first result counts, the others are cancelled: their model calls hang up,
    and agents elsewhere are cancelled too. The winner is journaled: a replay has the same one."""

    async def run(doer: Doer) -> Won:
        return Won(name_of(doer), await do(ctx, doer, given))

    won = await ctx.race(*(run(doer) for doer in doers))
    assert isinstance(won, Won)
    return won
