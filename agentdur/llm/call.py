"""What a model step does when it really runs: ask, note what it cost, tell readers what comes."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from agentdur.llm.answer import ModelAnswer
from agentdur.llm.errors import ModelBusy
from agentdur.llm.limiter import LIMITER
from agentdur.llm.litellm_client import ask, listen
from agentdur.llm.request import Request, estimated
from agentdur.sdk.branch import current_branch
from agentdur.sdk.note import note


def within_a_handler() -> bool:
    """True when the code runs in a handler, or in a step of one."""
    return current_branch() is not None


def step_key() -> str:
    """The name of the step that runs, the same on every attempt; outside of a handler one that nobody else
    has."""
    branch = current_branch()
    return str(uuid4()) if branch is None else str(branch.attempt.context.idempotency_key)


class ModelCall:
    """One model, asked once; `run` is the action of its step. `asked`: the model that the caller named."""

    def __init__(self, request: Request, asked: str) -> None:
        self.request, self.asked = request, asked

    async def run(self) -> ModelAnswer:
        """The answer; within a step, with a note beside it."""
        request = self.request
        tokens = sum(estimated(request))
        began = time.monotonic()
        try:
            async with LIMITER.slot(request.model, tokens, key=step_key(), patience=request.patience) as slot:
                began = time.monotonic()
                answer = await self._answer(request)
                if slot is not None:
                    slot.correct(answer.usage.total_tokens)
        except ModelBusy as busy:
            if not busy.counted:
                busy.patience = self.request.patience
            raise
        if within_a_handler():
            self._note(answer, round((time.monotonic() - began) * 1000))
        return answer

    async def _answer(self, request: Request) -> ModelAnswer:
        if request.stream:
            return await listen(request, _unheard)
        return await ask(request.model, request.messages, request.settings, request.times.total)

    def _note(self, answer: ModelAnswer, latency_ms: int) -> None:
        facts: dict[str, Any] = {
            "model": answer.model,
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "cost": answer.cost,
            "request_id": answer.request_id,
            "latency_ms": latency_ms,
        }
        if self.request.model != self.asked:
            facts["asked"] = self.asked
        note(**facts)


def _unheard(piece: dict[str, Any]) -> None:
    """Nobody listens."""
