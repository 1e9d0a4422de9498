"""One model call, journaled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from agentdur.llm.answer import ModelAnswer
from agentdur.llm.errors import ModelRefused
from agentdur.llm.litellm_client import ask
from agentdur.sdk.context import Context, branch_of
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.note import note
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunOptions

TIMEOUT = timedelta(minutes=10)
"""How long a model may take for its whole answer, unless the call says otherwise."""


class HasSpec(Protocol):
    """A tool that can describe itself to a model."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """The description, in OpenAI's shape."""


async def completion(
    ctx: Context | None,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[HasSpec | Mapping[str, Any]] | None = None,
    response_format: Any = None,
    *,
    role: str = "",
    timeout: timedelta = TIMEOUT,
    options: RunOptions[ModelAnswer] | None = None,
    **settings: Any,
) -> ModelAnswer:
    """Ask a model, once: the answer is a step of the journal, and a replay costs nothing.

    `ctx` None means the handler that is running. `model`, `messages` and the settings (temperature, api_base
    and so on) are LiteLLM's. The step is named `llm:<role>`, by default after the service: names are part of
    the journal, so a role must not change under running invocations, while the model may. `options` replaces
    the invocation's retry policy for this call.

    Raises ModelRefused when the provider will not answer this request at all; everything else is retried.
    """
    context = ctx if ctx is not None else current_context()
    given = {**settings}
    if tools:
        given["tools"] = [dict(t) if isinstance(t, Mapping) else dict(t.spec) for t in tools]
    if response_format is not None:
        given["response_format"] = response_format
    said = [dict(message) for message in messages]  # the step runs later: what is sent is what was given

    async def call_model() -> ModelAnswer:
        began = time.monotonic()
        answer = await ask(model, said, given, timeout)
        note(
            model=answer.model,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            cost=answer.cost,
            request_id=answer.request_id,
            latency_ms=round((time.monotonic() - began) * 1000),
        )
        return answer

    name = f"llm:{role or branch_of(context).attempt.target.service}"
    how = replace(options or RunOptions(), type_hint=ModelAnswer)
    try:
        result: ModelAnswer = await context.run_typed(name, call_model, how)
    except TerminalError as error:
        if ModelRefused.is_one(error):  # from the journal it comes without its class
            raise ModelRefused(error.message, error.status_code, error.metadata) from None
        raise
    return result
