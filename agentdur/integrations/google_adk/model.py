"""A model of ADK whose answers are steps of the journal.

Rules of this file:
1. One request is one step, named `llm:<agent>`: asked once, paid once, replayed for nothing. It is a model
   call like those of `agentdur.llm`: budgets and limits bind it, views show it.
2. What the code sees went through the journal's JSON, on the first run as on a replay; of a streamed answer
   it sees one fragment for the text, while what comes goes out live.
3. Calls that came without an id get one within the step: ids name the branches of their tools.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.adk.flows.llm_flows.functions import generate_client_function_call_id
from google.adk.models.base_llm import BaseLlm
from google.adk.models.google_llm import Gemini
from google.adk.models.lite_llm import LiteLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from agentdur.integrations.google_adk.clients import Heard, quiet
from agentdur.integrations.google_adk.codec import dump_response, load_response
from agentdur.integrations.google_adk.failures import translated
from agentdur.integrations.google_adk.scope import Scope
from agentdur.integrations.google_adk.told import messages_of, tools_of
from agentdur.integrations.model_calls import at_same_provider, named, priced
from agentdur.llm.answer import ModelAnswer, Usage
from agentdur.llm.budget import accounts
from agentdur.llm.call import ModelCall, ModelClient
from agentdur.llm.errors import BadModelAnswer, ModelTimeout, SwitchImpossible
from agentdur.llm.request import Request, Timeouts
from agentdur.sdk.stream import stream


class DurableModel:
    """Asks the model it stands for within steps of the run it was made for; all else is that model's own."""

    def __init__(self, inner: BaseLlm, scope: Scope, agent: str, place: str) -> None:
        self._inner, self._scope, self._agent, self._place = inner, scope, agent, place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        """The answer, from the model or from the journal."""
        scope = self._scope
        said = self._agent if stream and self._agent != scope.speaker else ""
        scope.speaker = self._agent if stream else scope.speaker
        name = named(_provider(self._inner), llm_request.model or self._inner.model)
        request = Request(
            model=name, messages=messages_of(llm_request), settings=_settings(llm_request),
            times=Timeouts(scope.how.model_timeout), stream=stream,
        )  # fmt: skip
        call = ModelCall(request, name, accounts(), _Client(self._inner, name, llm_request, said))
        label, step = f"model:{self._place}", f"llm:{self._agent}"
        answer = await scope.ask(label, step, call, scope.how.model_options)
        scope.saw(answer.message["at"])
        for data in answer.message["responses"]:
            response = load_response(data)
            if stream and (fragment := _fragment(response)) is not None:
                yield fragment
            yield response


class _Client(ModelClient):
    """Asks through ADK's model. `speaker`: the agent to be told of, when another one spoke before."""

    framework = "Google ADK"

    def __init__(self, model: BaseLlm, known: str, request: LlmRequest, speaker: str) -> None:
        self._model, self._known, self._request, self._speaker = model, known, request, speaker

    def switch(self, model: str) -> None:
        """Within ADK's client of the agent; LiteLLM's knows all providers."""
        switched(self._model, self._known, model)

    async def ask(self, request: Request) -> ModelAnswer:
        """One answer, all its fragments told."""
        asked = self._request.model_copy(update={"config": self._request.config.model_copy()})
        asking, name = self._model, request.model
        if name != self._known:
            asking, asked.model = switched(self._model, self._known, name)
        heard = Heard()
        model = quiet(asking, asked, heard)
        seconds = request.times.total.total_seconds()
        if self._speaker:
            stream({"type": "agent", "name": self._speaker})
        try:
            async with (
                asyncio.timeout(seconds),
                aclosing(model.generate_content_async(asked, stream=request.stream)) as live,
            ):
                responses = await _whole(live)
        except TimeoutError as late:
            raise ModelTimeout(f"{request.model}: no answer within {seconds:g} s", 504) from late
        except Exception as error:
            raise translated(request.model, error) from error
        if not any(_says(response) for response in responses):
            raise BadModelAnswer(f"{request.model}: the model answered nothing", 502)
        answer = _answer_of(request.model, asking, responses, heard)
        if request.stream:
            _finish(answer)
        return answer


async def _whole(live: AsyncIterator[LlmResponse]) -> list[LlmResponse]:
    """Read an answer to its end, passing on its fragments."""
    responses: list[LlmResponse] = []
    told: set[str] = set()
    async for response in live:
        if not response.partial:
            responses.append(response)
        elif response.content is not None:
            for part in response.content.parts or ():
                _pass_on(part, told)
    for call in (call for response in responses for call in response.get_function_calls()):
        call.id = call.id or generate_client_function_call_id()
    return responses


def _says(response: LlmResponse) -> bool:
    """False for what ADK makes of an answer without a candidate."""
    return response.content is not None or response.error_code not in (None, "UNKNOWN_ERROR")


def _pass_on(part: types.Part, told: set[str]) -> None:
    if part.text:
        stream({"type": "reasoning" if part.thought else "text", "delta": part.text})
    elif part.function_call is not None and part.function_call.name:
        call_id = part.function_call.id or part.function_call.name
        if call_id not in told:
            told.add(call_id)
            stream({"type": "tool_call", "id": call_id, "name": part.function_call.name, "delta": ""})


def _answer_of(model: str, inner: BaseLlm, responses: list[LlmResponse], heard: Heard) -> ModelAnswer:
    last = responses[-1]
    counted = next((one.usage_metadata for one in reversed(responses) if one.usage_metadata), None)
    usage = Usage(
        prompt_tokens=(counted and counted.prompt_token_count) or 0,
        completion_tokens=((counted and counted.candidates_token_count) or 0)
        + ((counted and counted.thoughts_token_count) or 0 if isinstance(inner, Gemini) else 0),
        cached_tokens=(counted and counted.cached_content_token_count) or 0,
        reasoning_tokens=(counted and counted.thoughts_token_count) or 0,
    )
    called = any(response.get_function_calls() for response in responses)
    reason = "tool_calls" if called else (last.finish_reason.name.lower() if last.finish_reason else "stop")
    data = [dump_response(response) for response in responses]
    answer = ModelAnswer(
        message={"role": "assistant", "responses": data, "at": time.time()},
        finish_reason="length" if reason == "max_tokens" else reason,
        model=last.model_version or model,
        usage=usage,
        request_id=heard.request_id,
    )
    return priced(answer, model)


def switched(model: BaseLlm, known: str, name: str) -> tuple[BaseLlm, str]:
    """The model that goes on, and what it calls the one that is asked; SwitchImpossible when it cannot."""
    if isinstance(model, LiteLlm):
        own = name
    elif isinstance(model, Gemini) or type(model).__module__.startswith("google.adk."):
        own = at_same_provider(known, name)
    else:
        raise SwitchImpossible(
            f"{known} cannot go on as {name}: {type(model).__name__} is not ADK's own", 500
        )
    return model.model_copy(update={"model": own}), own


_PROVIDERS = {"Claude": "vertex_ai", "AnthropicLlm": "anthropic", "Gemini": "gemini"}


def _provider(model: BaseLlm) -> str:
    """LiteLLM's word for who is asked; nothing where names have it already, or nobody knows."""
    kinds = (kind.__name__ for kind in type(model).__mro__)
    return next((_PROVIDERS[kind] for kind in kinds if kind in _PROVIDERS), "")


def _finish(answer: ModelAnswer) -> None:
    """Tell readers that the model has ended, and the calls it made."""
    for data in answer.message["responses"]:
        for call in load_response(data).get_function_calls():
            arguments = json.dumps(call.args or {}, ensure_ascii=False)
            stream({"type": "tool_call", "id": call.id, "name": call.name, "delta": arguments})
    usage = {
        "prompt_tokens": answer.usage.prompt_tokens, "completion_tokens": answer.usage.completion_tokens,
    }  # fmt: skip
    told = {"reason": answer.finish_reason, "usage": usage, "model": answer.model, "cost": answer.cost}
    stream({"type": "finish", **told})


def _fragment(response: LlmResponse) -> LlmResponse | None:
    """What a stream's reader sees before the whole answer: its text, in one piece."""
    if response.content is None:
        return None
    parts = [part for part in response.content.parts or () if part.text]
    if not parts:
        return None
    return LlmResponse(content=types.Content(role="model", parts=parts), partial=True)


def _settings(request: LlmRequest) -> dict[str, Any]:
    """What budgets need to know of a request."""
    settings: dict[str, Any] = {"tools": tools_of(request)}
    if request.config.max_output_tokens:
        settings["max_tokens"] = request.config.max_output_tokens
    return settings
