"""Budgets: how much the model calls of a block of code may cost.

Rules of this file:
1. A budget holds for everything that is called within its block: nested budgets, branches, agents as
   tools. A call must be within all budgets around it.
2. What is spent is what the answers in the journal say: a crash changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from agentdur.core.errors import BadDefinition
from agentdur.llm.account import Account
from agentdur.llm.book import Limits
from agentdur.sdk.context import Context, branch_of

_CHAIN: ContextVar[tuple[Account, ...]] = ContextVar("agentdur_budgets", default=())


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent: tokens (of prompts and answers together), cost in US dollars, calls that were
    answered, seconds since the block began. `on_limit`: `fail` with BudgetExceeded, `approve` by a person,
    or the name of a cheaper model to go on with, which nothing of this budget limits any more."""

    tokens: int | None = None
    cost: float | None = None
    calls: int | None = None
    seconds: float | None = None
    on_limit: str = "fail"
    name: str = ""

    def __post_init__(self) -> None:
        given = {"tokens": self.tokens, "cost": self.cost, "calls": self.calls, "seconds": self.seconds}
        for unit, limit in given.items():
            if limit is not None and not limit > 0:
                raise BadDefinition(f"Budget({unit}={limit}): more than 0 is needed")
        if all(limit is None for limit in given.values()):
            raise BadDefinition("Budget(): give tokens, cost, calls or seconds")
        if not self.on_limit:
            raise BadDefinition("Budget(on_limit=''): 'fail', 'approve' or a model")

    @property
    def limits(self) -> Limits:
        """The same, for the book."""
        return Limits(self.tokens, self.cost, self.calls, self.seconds, self.on_limit, self.name)


@asynccontextmanager
async def budget(ctx: Context, limit: Budget) -> AsyncIterator[Account]:
    """Everything that models are asked within the block counts to this budget, and is bound by it."""
    began = 0
    if limit.seconds is not None:
        began = int(await ctx.time() * 1000)
    branch_of(ctx)  # refuses steps, and contexts of others
    chain = _CHAIN.get()
    account = Account(limit.limits, began, len(chain))
    token = _CHAIN.set((*chain, account))
    try:
        yield account
    finally:
        _CHAIN.reset(token)


def accounts() -> tuple[Account, ...]:
    """The budgets around the code that runs, innermost first."""
    return _CHAIN.get()[::-1]
