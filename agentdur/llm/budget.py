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
from typing import Any, TypeAlias

import msgspec

from agentdur.core.book import Limits
from agentdur.core.errors import BadDefinition
from agentdur.llm.account import Account
from agentdur.llm.errors import BudgetNotShared
from agentdur.llm.shared import SharedAccount
from agentdur.sdk.along import along, inherited
from agentdur.sdk.branch import current_branch
from agentdur.sdk.context import Context, branch_of

Chain: TypeAlias = tuple[Account | SharedAccount, ...]
_CHAIN: ContextVar[tuple[object, Chain]] = ContextVar("agentdur_budgets", default=(None, ()))
"""The budgets around the code that runs, and whose they are: an invocation that is called in this process
begins in the context of its caller, and is not within the caller's blocks."""


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
    shared: bool = False

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
async def budget(ctx: Context, limit: Budget, *, key: str = "") -> AsyncIterator[Account | SharedAccount]:
    """Everything that models are asked within the block counts to this budget, and is bound by it.

    With `shared=True` handlers that are called within the block are bound as well. With a `key` all
    invocations that name it spend from the same account: a session, a customer, a day."""
    attempt = branch_of(ctx).attempt  # refuses steps, and contexts of others
    chain = _chain()
    account: Account | SharedAccount
    if limit.shared or key:
        entry = {
            "key": key or str(ctx.uuid()),
            "named": bool(key),
            "limits": msgspec.to_builtins(limit.limits),
        }
        account = _shared(await ctx.note_value("budget", entry))
    else:
        began = int(await ctx.time() * 1000) if limit.seconds is not None else 0
        account = Account(limit.limits, began, len(chain))
    token = _CHAIN.set((attempt, (*chain, account)))
    try:
        with along(_said((*chain, account), ctx)):
            yield account
    finally:
        _CHAIN.reset(token)


def _chain() -> Chain:
    branch = current_branch()
    owner, chain = _CHAIN.get()
    return chain if branch is not None and owner is branch.attempt else ()


def accounts() -> tuple[Account, ...]:
    """The budgets of this invocation around the code that runs, innermost first."""
    return tuple(account for account in _chain()[::-1] if isinstance(account, Account))


def out_of_reach() -> bool:
    """True when budgets that only a handler can ask, not one of its steps, bind the code that runs."""
    branch = current_branch()
    if branch is None:
        return False
    if any(isinstance(account, SharedAccount) for account in _chain()):
        return True
    return bool(inherited(branch.attempt.recorded.input.headers))


def shared_accounts(ctx: Context) -> tuple[SharedAccount, ...]:
    """The budgets in objects, innermost first, with those this invocation was called under. Raises
    BudgetNotShared where one of these lives in the memory of another invocation."""
    own = [account for account in _chain()[::-1] if isinstance(account, SharedAccount)]
    entries = _called_under(ctx)
    for entry in entries:
        if "key" not in entry:
            name = entry.get("local") or "a budget"
            raise BudgetNotShared(f"called under {name}, which counts only the calls of its own handler", 500)
    return (*own, *(_shared(entry) for entry in entries))


def _called_under(ctx: Context) -> list[dict[str, Any]]:
    said = inherited(branch_of(ctx).attempt.recorded.input.headers)
    found: list[dict[str, Any]] = msgspec.json.decode(said) if said else []
    return found


def _said(chain: Chain, ctx: Context) -> str:
    """What goes along with calls: the same on every attempt, as it comes from the journal or from names."""
    entries: list[dict[str, Any]] = []
    for account in chain[::-1]:
        if isinstance(account, SharedAccount):
            limits = msgspec.to_builtins(account.limits)
            entries.append({"key": account.key, "named": account.named, "limits": limits})
        else:
            entries.append({"local": account.limits.name})
    return msgspec.json.encode([*entries, *_called_under(ctx)]).decode("ascii", "backslashreplace")


def _shared(entry: dict[str, Any]) -> SharedAccount:
    return SharedAccount(entry["key"], msgspec.convert(entry["limits"], Limits), entry["named"])
