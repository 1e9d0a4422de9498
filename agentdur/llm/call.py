"""What a model step does when it really runs: ask, note what it cost, tell readers what comes.

Rules of this file:
1. Whoever asks (LiteLLM, or a framework's own client), budgets and limits are the same, and are kept here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec

from agentdur.core.edits import EDITED
from agentdur.llm.account import Account, admitted, amounts
from agentdur.llm.answer import ModelAnswer, Usage
from agentdur.llm.conversation import remember
from agentdur.llm.errors import BudgetExceeded, ModelBusy
from agentdur.llm.limiter import LIMITER, Slot
from agentdur.llm.litellm_client import ask, listen, price
from agentdur.llm.request import BYTES_PER_TOKEN, Request, estimated
from agentdur.llm.within import Spending
from agentdur.sdk.branch import current_branch
from agentdur.sdk.note import note
from agentdur.sdk.serde import Serde
from agentdur.sdk.stream import stream


def within_a_handler() -> bool:
    """True when the code runs in a handler, or in a step of one."""
    return current_branch() is not None


def step_key() -> str:
    """The name of the step that runs, the same on every attempt; outside of a handler one that nobody else
    has."""
    branch = current_branch()
    return str(uuid4()) if branch is None else str(branch.attempt.context.idempotency_key)


class ModelClient:
    """Who is asked: LiteLLM. A framework's own client is another one."""

    stored: Serde[Any] | None = None
    """How an answer is journaled, where it has another form than ours."""
    framework = ""
    """Whose client it is, when it tells models what it likes and not the messages of the request."""
    in_line = True
    """False: it waits for its turns by itself, as it may ask several models for one answer."""

    async def ask(self, request: Request) -> ModelAnswer:
        """One request, without retries. What it streams goes to the readers of the step."""
        if request.stream:
            return await listen(request, stream if within_a_handler() else _unheard)
        return await ask(request.model, request.messages, request.settings, request.times.total)

    def unmeasured(self, answer: ModelAnswer) -> bool:
        """Nobody counted its tokens."""
        return not answer.usage.total_tokens

    def switch(self, model: str) -> None:
        """SwitchImpossible when it cannot ask that model: told before a budget is spent, not when it is."""


LITELLM = ModelClient()


class ModelCall:
    """One model, asked once; `run` is the action of its step. `asked`: the model that the caller named;
    `under`: the budgets that bind it, innermost first."""

    def __init__(
        self, request: Request, asked: str, under: tuple[Account, ...] = (), client: ModelClient = LITELLM
    ) -> None:
        self.request, self.asked, self.under, self.client = request, asked, under, client
        self.model = request.model
        self.cheaper = self.stays = False
        self.edits: tuple[int, ...] = ()
        """Which edits of a fork made it what it is."""

    def instead(self, model: str) -> ModelCall:
        """The same call of a cheaper model."""
        call = ModelCall(replace(self.request, model=model), self.asked, self.under, self.client)
        call.cheaper, call.edits = True, self.edits
        return call

    async def run(self) -> ModelAnswer:
        """The answer; within a step, with a note beside it."""
        request, key = self.request, step_key()
        if within_a_handler():
            remember(request.messages, request.settings.get("tools"))
            if self.client.framework:
                note(framework=self.client.framework)
        answer, latency_ms = await self._allowed(key)
        if within_a_handler():
            self._note(answer, latency_ms)
        self.settle(key, answer)
        return answer

    async def run_within(self, step: Spending) -> ModelAnswer:
        """The answer, within a step that does other things too, and tells what all of them cost. Nobody knows
        how to go on in the middle of it, so it waits for its turn in memory."""
        step.check()
        self.stays = True
        answer, _ = await self._allowed(step.next_key(step_key()))
        step.add(amounts(answer))
        return answer

    async def _allowed(self, key: str) -> tuple[ModelAnswer, int]:
        """The answer and the ms it took, when budgets and limits let it be asked for."""
        async with admitted(self.under, self.request, key, _now) as admission:
            self.model = admission.model
            limit = asyncio.timeout(admission.seconds)
            try:
                async with limit:
                    answer, latency_ms = await self._in_turn(replace(self.request, model=self.model), key)
            except TimeoutError:
                account = admission.until_over
                reached = None if account is None else account.book.reached(_now())
                if not limit.expired() or account is None or reached is None:
                    raise
                raise account.exceeded(reached) from None
            return self._priced(answer), latency_ms

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
        if not self.client.in_line:
            return await _measured(self.client, request)
        async with turn(request, key, self.stays) as slot:
            answer, latency_ms = await _measured(self.client, request)
            if slot is not None:
                slot.correct(answer.usage.total_tokens)
            return answer, latency_ms

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
        elif self.model != self.asked and self.edits:
            facts["why"] = EDITED
        if self.under:
            cost = amounts(answer)
            facts["budgets"] = [account.told(cost) for account in self.under]
        if self.edits:
            facts[EDITED] = self.edits
        note(**facts)


@asynccontextmanager
async def turn(request: Request, key: str, stays: bool = False) -> AsyncIterator[Slot | None]:
    """Wait for the turn of a request, by the limits of its model; `stays`: in memory, however long."""
    tokens, patience = sum(estimated(request)), request.patience
    try:
        async with LIMITER.slot(request.model, tokens, key=key, patience=patience, stays=stays) as slot:
            yield slot
    except ModelBusy as busy:
        if not busy.counted:
            busy.patience = patience
        raise


async def _measured(client: ModelClient, request: Request) -> tuple[ModelAnswer, int]:
    began = time.monotonic()
    answer = await client.ask(request)
    latency_ms = round((time.monotonic() - began) * 1000)
    if client.unmeasured(answer):
        answer = msgspec.structs.replace(answer, usage=_guessed(request, answer))
    return answer, latency_ms


def _guessed(request: Request, answer: ModelAnswer) -> Usage:
    """What is not counted would be spent for nothing."""
    prompt, _ = estimated(request)
    completion = -(-len(msgspec.json.encode(answer.message)) // BYTES_PER_TOKEN)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, guessed=True)


def _now() -> int:
    branch = current_branch()
    return int(time.time() * 1000) if branch is None else int(branch.attempt.driver.now())


def _unheard(piece: dict[str, Any]) -> None:
    """Nobody listens."""
