"""What a model step does when it really runs: ask, note what it cost, tell readers what comes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec

from agentdur.llm.account import Account, admitted, amounts
from agentdur.llm.answer import ModelAnswer
from agentdur.llm.conversation import remember
from agentdur.llm.errors import BudgetExceeded, ModelBusy
from agentdur.llm.limiter import LIMITER
from agentdur.llm.litellm_client import ask, listen, price
from agentdur.llm.request import Request, estimated
from agentdur.sdk.branch import current_branch
from agentdur.sdk.note import note
from agentdur.sdk.stream import stream


def within_a_handler() -> bool:
    """True when the code runs in a handler, or in a step of one."""
    return current_branch() is not None


def step_key() -> str:
    """The name of the step that runs, the same on every attempt; outside of a handler one that nobody else
    has."""
    branch = current_branch()
    return str(uuid4()) if branch is None else str(branch.attempt.context.idempotency_key)


class ModelCall:
    """One model, asked once; `run` is the action of its step. `asked`: the model that the caller named;
    `under`:
    the budgets that bind it, innermost first."""

    def __init__(self, request: Request, asked: str, under: tuple[Account, ...] = ()) -> None:
        self.request, self.asked, self.under = request, asked, under
        self.model = request.model
        self.cheaper = False

    def instead(self, model: str) -> ModelCall:
        """The same call of a cheaper model."""
        call = ModelCall(replace(self.request, model=model), self.asked, self.under)
        call.cheaper = True
        return call

    async def run(self) -> ModelAnswer:
        """The answer; within a step, with a note beside it."""
        request, key = self.request, step_key()
        if within_a_handler():
            remember(request.messages, request.settings.get("tools"))
        async with admitted(self.under, request, key, _now) as admission:
            self.model = admission.model
            limit = asyncio.timeout(admission.seconds)
            try:
                async with limit:
                    answer, latency_ms = await self._in_turn(replace(request, model=self.model), key)
            except TimeoutError:
                account = admission.until_over
                reached = None if account is None else account.book.reached(_now())
                if not limit.expired() or account is None or reached is None:
                    raise
                raise account.exceeded(reached) from None
            answer = self._priced(answer)
        if within_a_handler():
            self._note(answer, latency_ms)
        self.settle(key, answer)
        return answer

    def account_of(self, error: BudgetExceeded) -> Account | None:
        """The budget that is used up."""
        return next((a for a in self.under if str(a.depth) == error.facts.get("account")), None)

    def _priced(self, answer: ModelAnswer) -> ModelAnswer:
        """A budget in money needs to know, also where LiteLLM did not say it by itself."""
        if answer.cost is not None or all(account.limits.cost is None for account in self.under):
            return answer
        usage = answer.usage
        return msgspec.structs.replace(
            answer, cost=price(self.model, usage.prompt_tokens, usage.completion_tokens)
        )

    def settle(self, key: str, answer: ModelAnswer) -> None:
        """The budgets hear of it, once of each step."""
        for account in self.under:
            account.settle(key, amounts(answer))

    async def _in_turn(self, request: Request, key: str) -> tuple[ModelAnswer, int]:
        """The answer, and the ms it took without the wait for its turn."""
        tokens = sum(estimated(request))
        try:
            async with LIMITER.slot(request.model, tokens, key=key, patience=request.patience) as slot:
                began = time.monotonic()
                answer = await self._answer(request)
                if slot is not None:
                    slot.correct(answer.usage.total_tokens)
                return answer, round((time.monotonic() - began) * 1000)
        except ModelBusy as busy:
            if not busy.counted:
                busy.patience = self.request.patience
            raise

    async def _answer(self, request: Request) -> ModelAnswer:
        if request.stream:
            return await listen(request, stream if within_a_handler() else _unheard)
        return await ask(request.model, request.messages, request.settings, request.times.total)

    def _note(self, answer: ModelAnswer, latency_ms: int) -> None:
        facts: dict[str, Any] = {
            "model": answer.model,
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "cost": answer.cost,
            "request_id": answer.request_id,
            "finish_reason": answer.finish_reason,
            "latency_ms": latency_ms,
        }
        if self.model != answer.model:
            facts["request_model"] = self.model
        if self.model != self.asked:
            facts["asked"] = self.asked
        if self.cheaper or self.model != self.request.model:
            facts["why"] = "budget"
        note(**facts)


def _now() -> int:
    branch = current_branch()
    return int(time.time() * 1000) if branch is None else int(branch.attempt.driver.now())


def _unheard(piece: dict[str, Any]) -> None:
    """Nobody listens."""
