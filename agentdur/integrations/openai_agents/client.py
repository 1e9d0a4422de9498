"""The model of the SDK under a durable one, as a client of `agentdur.llm`: asked within a step, under its
budgets and limits.

Rules of this file:
1. No model of the user is changed: another name is that of a copy, or the run's provider makes a new one.
2. What was used is what the SDK's own usage says.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
from agents.exceptions import UserError
from agents.models._retry_runtime import provider_managed_retries_disabled
from agents.models.interface import Model, ModelProvider
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_provider import OpenAIProvider
from agents.models.openai_responses import OpenAIResponsesModel

from agentdur.integrations.model_calls import Data, FrameworkAnswer, details, named, priced
from agentdur.integrations.openai_agents.events import finish
from agentdur.integrations.openai_agents.failures import translated
from agentdur.integrations.openai_agents.told import messages_of, tools_of
from agentdur.llm.answer import ModelAnswer, Usage
from agentdur.llm.call import ModelClient
from agentdur.llm.errors import ModelTimeout, SwitchImpossible
from agentdur.llm.request import TIMEOUT, Request, Timeouts

Answer = Callable[[Model], Awaitable[Data]]
"""Asks a model of the SDK, and gives its answer as data."""
_ARGUMENTS = ("system_instructions", "input", "model_settings", "tools", "output_schema", "handoffs")
_OPENAI = (OpenAIResponsesModel, OpenAIChatCompletionsModel)
_LITELLM = "litellm/"


def read(data: Data) -> ModelAnswer:
    """What an answer says about itself: one that came whole, or the last response of a stream."""
    response = data["response"] if "kind" in data else data
    usage = response.get("usage") or {}
    return ModelAnswer(
        message=data,
        finish_reason=_reason(response),
        model=response.get("model") or "",
        usage=Usage(
            prompt_tokens=usage.get("input_tokens") or 0,
            completion_tokens=usage.get("output_tokens") or 0,
            cached_tokens=details(usage, "input_tokens_details", "cached_tokens"),
            reasoning_tokens=details(usage, "output_tokens_details", "reasoning_tokens"),
        ),
        request_id=data.get("request_id") or "",
    )


def _reason(response: Data) -> str:
    cut: str | None = (response.get("incomplete_details") or {}).get("reason")
    if cut is not None or response.get("status") == "incomplete":
        return "content_filter" if cut == "content_filter" else "length"
    called = any(item.get("type") == "function_call" for item in response.get("output") or ())
    return "tool_calls" if called else "stop"


class AgentsClient(ModelClient):
    """Asks a model of the SDK once. `provider`: the run's, which knows models by their names."""

    stored = FrameworkAnswer(read)
    framework = "OpenAI Agents"

    def __init__(self, model: Model, provider: ModelProvider, timeout: float | None, answer: Answer) -> None:
        self._model, self._provider, self._timeout, self._answer = model, provider, timeout, answer
        self.name = name_of(model)

    def request(self, args: tuple[Any, ...], kwargs: dict[str, Any], stream: bool) -> Request:
        """What the SDK asks for, by the arguments of `get_response`."""
        given = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
        settings = given.get("model_settings")
        tools = tools_of(given.get("tools") or (), given.get("handoffs") or ())
        seconds = TIMEOUT if self._timeout is None else timedelta(seconds=self._timeout)
        return Request(
            model=self.name,
            messages=messages_of(given.get("system_instructions"), given.get("input") or ()),
            settings={"tools": tools, "max_tokens": getattr(settings, "max_tokens", None)},
            times=Timeouts(seconds),
            stream=stream,
        )

    def switch(self, model: str) -> None:
        """To models of the same client, or those that the run's provider knows."""
        self._switched(model)

    async def ask(self, request: Request) -> ModelAnswer:
        """One answer, without retries."""
        model = self._model if request.model == self.name else self._switched(request.model)
        said = str(getattr(model, "model", "") or type(model).__name__)
        try:
            with provider_managed_retries_disabled(True):
                async with asyncio.timeout(self._timeout):
                    data = await self._answer(model)
        except TimeoutError as late:
            limit = "in time" if self._timeout is None else f"within {self._timeout:g} s"
            raise ModelTimeout(f"{said}: no answer {limit}", 504) from late
        except Exception as error:
            raise translated(said, error) from error
        found = priced(read(data), request.model)
        answer = found if found.model else msgspec.structs.replace(found, model=said)
        if request.stream:
            finish(answer)
        return answer

    def _switched(self, name: str) -> Model:
        own = name.removeprefix("openai/")
        if type(self._model) in _OPENAI and (own != name or "/" not in name):
            return _renamed(self._model, own)
        if type(self._model).__name__ == "LitellmModel":
            return _renamed(self._model, name)
        if isinstance(self._provider, OpenAIProvider):  # which takes any name, and asks OpenAI for it
            if own == name and "/" in name:
                raise self._impossible(name, "it is another provider's")
            return self._provider.get_model(own)
        try:
            return self._provider.get_model(name)
        except UserError as unknown:
            if name.startswith(_LITELLM):
                raise self._impossible(name, unknown) from unknown
        try:
            return self._provider.get_model(f"{_LITELLM}{name}")
        except (UserError, ImportError) as unknown:
            raise self._impossible(name, unknown) from unknown

    def _impossible(self, name: str, why: object) -> SwitchImpossible:
        return SwitchImpossible(f"{self.name} cannot go on as {name}: {why}", 500)


def name_of(model: Model) -> str:
    """The model's name, as LiteLLM has it."""
    name = str(getattr(model, "model", "") or type(model).__name__)
    return named("openai" if isinstance(model, _OPENAI) else None, name.removeprefix(_LITELLM))


def _renamed(model: Any, name: str) -> Model:
    other: Any = copy.copy(model)
    other.model = name
    made: Model = other
    return made
