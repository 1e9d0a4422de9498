"""What is asked for within a step that is more than one model call: an agent in a tool, a tool's own step.

Rules of this file:
1. An answer counts at once, so that what the step asks next is bound by it, and stays counted when the step
   has a result. A step that is run again counts anew: what it told of before is in no journal.
2. The result of the step tells what was spent in it; from there a replay counts it, once.
3. Nobody can be asked from within a step, neither a person nor an object: budgets that would have to are
   refused before anything is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from agentdur.core.book import NOTHING, Amounts
from agentdur.llm.account import Account
from agentdur.llm.errors import BudgetOutOfReach
from agentdur.sdk.exceptions import TerminalError

SPENT = "agentdur.spent"
"""Under which name the result of a step, or the metadata of its failure, tells of it."""


class Spending:
    """What one step spends. `shared`: it is bound by a budget, too, that cannot be kept from within."""

    def __init__(self, accounts: Sequence[Account], shared: bool = False) -> None:
        self.accounts, self._shared = tuple(accounts), shared
        self.spent = NOTHING
        self._number = 0

    def next_key(self, step: str) -> str:
        """A name for the next call: what it holds is held under it."""
        self._number += 1
        return f"{step}/{self._number}"

    def check(self) -> None:
        """BudgetOutOfReach when a budget around the step cannot be kept within it."""
        if self._shared:
            raise BudgetOutOfReach("a model was asked within a step, under a budget it cannot ask", 500)
        for account in self.accounts:
            if account.limits.on_limit == "approve":
                name = account.limits.name or "a budget"
                raise BudgetOutOfReach(
                    f"a model was asked within a step, under {name}: it asks a person", 500
                )

    def add(self, cost: Amounts) -> None:
        """A model has answered."""
        self.spent = self.spent.plus(cost)
        for account in self.accounts:
            account.lend(cost)

    @property
    def told(self) -> Any:
        """What was spent, as JSON; None for nothing."""
        return msgspec.to_builtins(self.spent) if self.spent != NOTHING else None


_STEP: ContextVar[Spending | None] = ContextVar("agentdur_spending", default=None)


def spending_here() -> Spending | None:
    """What the step around the code that runs spends, where one keeps account of it."""
    return _STEP.get()


@contextmanager
def spending(accounts: Sequence[Account], key: str, shared: bool = False) -> Iterator[Spending]:
    """Within the block, the action of the step `key`, models may be asked by `ModelCall.run_within`."""
    step = Spending(accounts, shared)
    token = _STEP.set(step)
    kept = False
    try:
        yield step
        kept = True
    except TerminalError as error:
        kept = True
        if step.told is not None:
            error.metadata = {**(error.metadata or {}), SPENT: msgspec.json.encode(step.told).decode()}
        raise
    finally:
        _STEP.reset(token)
        for account in step.accounts:
            account.lend(step.spent.negative())
            if kept:
                account.settle(key, step.spent)


def settle(accounts: Sequence[Account], key: str, told: Any) -> None:
    """The step `key` has a result that tells so; from the journal it is news."""
    if told is None:
        return
    cost = msgspec.convert(msgspec.json.decode(told) if isinstance(told, str) else told, Amounts)
    for account in accounts:
        account.settle(key, cost)
