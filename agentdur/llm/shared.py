"""Accounts that several invocations spend from, as one invocation uses them: reserve, ask, settle.

Each of the three is in the journal. So a crash asks for nothing twice, and all decisions are those of the
first time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from agentdur.budgets.judge import More, Settled, Verdict, Wanted, grow, look, reserve, settle
from agentdur.core.book import NOTHING, Amounts, Book, Limits, granted
from agentdur.llm.account import amounts, exceeded, expected, question, unpriced
from agentdur.llm.answer import ModelAnswer
from agentdur.llm.errors import BudgetExceeded, PriceUnknown
from agentdur.llm.request import Request
from agentdur.sdk.context import Context

WAIT_FIRST = timedelta(milliseconds=200)
WAIT_MOST = timedelta(seconds=10)
"""How long a call waits for others to end before it asks again."""
_GRACE_MS = 60_000


class SharedAccount:
    """An account in an object, as one invocation sees it."""

    def __init__(self, key: str, limits: Limits, named: bool = False) -> None:
        self.key, self.limits, self.named = key, limits, named
        self.spent = NOTHING
        """What the answers of this invocation have cost."""

    async def total(self, ctx: Context) -> Amounts:
        """What all who share it have spent."""
        found: Amounts = await ctx.object_call(look, self.key)
        return found

    async def admit(self, ctx: Context, call: str, request: Request, may: Amounts) -> str:
        """Wait until the call may be made; answers the model to ask instead, or nothing. Raises
        BudgetExceeded."""
        lasts_ms = int(request.times.total.total_seconds() * 1000) + _GRACE_MS
        wanted = Wanted(call, self.limits, may, lasts_ms, self.named)
        wait = WAIT_FIRST
        while True:
            verdict: Verdict = await ctx.object_call(reserve, self.key, wanted)
            if verdict.say == "go":
                return verdict.model
            if verdict.reached is None:
                await ctx.sleep(wait, name="budget")
                wait = min(wait * 2, WAIT_MOST)
                continue
            error = exceeded(Book(self.limits, raises=verdict.raises), verdict.reached, self.key)
            if self.limits.on_limit != "approve" or not await self._ask(ctx, error, verdict.raises):
                raise error

    async def _ask(self, ctx: Context, error: BudgetExceeded, raises: int) -> bool:
        answer = await ctx.approval(f"{error.message} Go on?", payload=question(self.limits, error))
        if answer:
            more = More(granted(self.limits, answer.payload), raises)
            await ctx.object_call(grow, self.key, more)
        return bool(answer)

    def settle(self, ctx: Context, call: str, answer: ModelAnswer | None) -> None:
        """The call has ended."""
        cost = NOTHING if answer is None else amounts(answer)
        self.spent = self.spent.plus(cost)
        ctx.object_send(settle, self.key, Settled(call, cost))


async def may_cost(ctx: Context, request: Request, in_money: bool) -> Amounts:
    """What a call may cost, journaled: prices and guesses change with versions, a journal does not."""
    try:
        guess: Any = msgspec.to_builtins(expected(request, in_money))
    except PriceUnknown:
        guess = None
    known = await ctx.note_value("budget", guess)
    if known is None:
        raise unpriced(request.model)
    return msgspec.convert(known, Amounts)
