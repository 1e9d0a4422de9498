"""A budget's account in the memory of an attempt. It is spent by answers of the journal, so a replay fills
it again.

Rules of this file:
1. What decides is journaled: a call that may not be made is the failure of its step, so that a replay
   decides the same whatever the order in which branches get there.
2. A step is settled once, when its action ends, or when a replay finds its answer.
3. A person is asked once, however many branches have come to the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import msgspec

from agentdur.core.book import UNITS, Amounts, Book, Hold, Limits, Reached, granted
from agentdur.llm.answer import ModelAnswer
from agentdur.llm.errors import BudgetExceeded, PriceUnknown
from agentdur.llm.litellm_client import installed, price
from agentdur.llm.request import Request, estimated
from agentdur.sdk.context import Context

FOREVER = 1 << 62


class Account:
    """What a budget has left. `depth`: how many budgets are around it."""

    def __init__(self, limits: Limits, began: int, depth: int = 0) -> None:
        self.book = Book(limits, began)
        self.depth = depth
        self._settled: set[str] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._asking = asyncio.Lock()

    @property
    def spent(self) -> Amounts:
        """What the answers so far have cost."""
        return self.book.spent

    @property
    def limits(self) -> Limits:
        """What there was to spend at the beginning."""
        return self.book.limits

    def settle(self, key: str, cost: Amounts) -> None:
        """The step `key` has its answer."""
        if key not in self._settled:
            self._settled.add(key)
            self.book.spent = self.book.spent.plus(cost)

    def told(self, cost: Amounts) -> dict[str, Any]:
        """What is noted beside an answer that has cost so much: the limits, and what is spent with it."""
        units = {unit: limit for unit in UNITS if (limit := self.book.limit(unit)) is not None}
        spent = msgspec.to_builtins(self.book.spent.plus(cost))
        began = {"began": self.book.began} if "seconds" in units else {}
        name, then = self.limits.name, self.limits.on_limit
        return {"depth": self.depth, "name": name, "limits": units, "spent": spent, "on_limit": then, **began}

    def lend(self, cost: Amounts) -> None:
        """Count it, until it is taken back: of a step whose result is not there yet."""
        self.book.spent = self.book.spent.plus(cost)

    @contextmanager
    def held(self, key: str, amounts: Amounts) -> Iterator[None]:
        """While a call runs, what it may cost is not there for others."""
        self.book.holds = {**self.book.holds, key: Hold(amounts, FOREVER)}
        try:
            yield
        finally:
            self.book.holds = {name: hold for name, hold in self.book.holds.items() if name != key}
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def changed(self) -> None:
        """Until a call that runs has ended."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def exceeded(self, reached: Reached) -> BudgetExceeded:
        """The end of a call that is not made."""
        return exceeded(self.book, reached, str(self.depth))

    async def ask_person(self, context: Context, error: BudgetExceeded) -> bool:
        """Ask for more, unless somebody did since; True when there is more."""
        async with self._asking:
            if self.book.raises > int(error.facts["raises"]):
                return True
            if self.book.closed:
                return False
            shown = question(self.book.limits, error)
            answer = await context.approval(f"{error.message} Go on?", payload=shown)
            if answer:
                self.book.grow(granted(self.book.limits, answer.payload))
            else:
                self.book.closed = True
            return bool(answer)


def exceeded(book: Book, reached: Reached, account: str) -> BudgetExceeded:
    """A limit that is reached, as the error that says so."""
    name = book.limits.name or "the budget"
    facts = {
        "budget": book.limits.name, "unit": reached.unit, "spent": f"{reached.spent:.12g}",
        "limit": f"{reached.limit:.12g}", "raises": str(book.raises), "account": account,
    }  # fmt: skip
    return BudgetExceeded(f"{name} is used up: {reached}.", 429, facts)


def question(limits: Limits, error: BudgetExceeded) -> dict[str, Any]:
    """What a person is shown who is asked for more; an edited copy says how much more of what."""
    facts = error.facts
    shown = {"budget": limits.name, "reached": facts["unit"], "spent": float(facts["spent"])}
    return {**shown, **granted(limits, None)}


def amounts(answer: ModelAnswer) -> Amounts:
    """What an answer cost."""
    return Amounts(1, answer.usage.total_tokens, answer.cost or 0.0)


def expected(request: Request, in_money: bool) -> Amounts:
    """What a call may cost; PriceUnknown when it must be known and is not."""
    prompt, completion = estimated(request)
    cost = price(request.model, prompt, completion) if in_money else 0.0
    if cost is None:
        raise unpriced(request.model)
    return Amounts(1, prompt + completion, cost)


def unpriced(model: str) -> PriceUnknown:
    """A budget in money that cannot bind this model."""
    why = "" if installed() else ": LiteLLM, which knows prices, is not installed (agentdur[litellm])"
    return PriceUnknown(f"the price of {model} is not known{why}", 500, {"model": model})


class Admission:
    """What a call may do: ask this model, for at most so many seconds."""

    __slots__ = ("model", "seconds", "unlimited", "until_over")

    def __init__(self, model: str) -> None:
        self.model = model
        self.seconds: float | None = None
        self.until_over: Account | None = None
        """Whose time is over first."""
        self.unlimited: set[Account] = set()
        """Those whose limit is reached, and which go on with a cheaper model."""


@asynccontextmanager
async def admitted(
    accounts: Sequence[Account], request: Request, key: str, now: Callable[[], int]
) -> AsyncIterator[Admission]:
    """Wait until it is known whether the call may be made, and hold what it may cost while it is.

    `now()` is ms since the epoch. Raises BudgetExceeded, or PriceUnknown."""
    admission = await _admission(accounts, request.model, now)
    asked = replace(request, model=admission.model)
    with ExitStack() as stack:
        for account in accounts:
            in_money = account.limits.cost is not None and account not in admission.unlimited
            stack.enter_context(account.held(key, expected(asked, in_money)))
        yield admission


async def _admission(accounts: Sequence[Account], model: str, now: Callable[[], int]) -> Admission:
    """Who came to no limit may go; where calls that run decide about it, they are waited for."""
    while True:
        admission = Admission(model)
        full = None
        for account in accounts:
            at = now()
            reached, cheaper = account.book.reached(at), account.limits.model
            if reached is not None and cheaper is None:
                raise account.exceeded(reached)
            if reached is not None and cheaper is not None:
                admission.model = cheaper
                admission.unlimited.add(account)
                continue
            left = None if cheaper is not None else account.book.seconds_left(at)
            if left is not None and (admission.seconds is None or left < admission.seconds):
                admission.seconds, admission.until_over = left, account
            if account.book.full():
                full = account
        if full is None:
            return admission
        await full.changed()
