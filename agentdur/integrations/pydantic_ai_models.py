"""A model of Pydantic AI as a client of `agentdur.llm`: asked within a step, under its budgets and limits.

Rules of this file:
1. No model of the user is changed: another name is that of a model of the same class, over the same client.
2. Fallback models wait for their turns one by one, each by its own limits; one of them answers, and counts.
3. An agent that runs inside a step asks under the budgets around that step: see `agentdur.llm.within`.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Protocol

from pydantic import TypeAdapter
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestContext, ModelRequestParameters
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel

from agentdur.integrations.model_calls import Data, FrameworkAnswer, at_same_provider, named, priced
from agentdur.integrations.pydantic_ai_told import messages_of, tools_of
from agentdur.llm.answer import ModelAnswer, Usage
from agentdur.llm.budget import accounts, out_of_reach
from agentdur.llm.call import ModelCall, ModelClient, step_key, turn
from agentdur.llm.errors import SwitchImpossible
from agentdur.llm.limiter import Slot
from agentdur.llm.request import TIMEOUT, Request, Timeouts
from agentdur.llm.within import Spending, spending_here

_RESPONSE: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)
_REASONS = {"tool_call": "tool_calls"}
_LENGTHS = ("max_tokens", "max_completion_tokens")
going_on_with: ContextVar[Model[Any] | None] = ContextVar("agentdur_pydantic_ai_going_on", default=None)
"""In a model's step: the model that a budget goes on with."""


class Knows(Protocol):
    """Who knows the models that an agent may go on with."""

    def model_like(self, model: Model[Any], name: str) -> Model[Any]:
        """The model of that name in the place of this one; SwitchImpossible when there is none."""


def read(data: Data) -> ModelAnswer:
    """What a response says about itself."""
    response = data.get("response", data)  # older versions keep the events beside it
    usage = response.get("usage") or {}
    reason = response.get("finish_reason") or ""
    cost = usage.get("cost")
    return ModelAnswer(
        message=data,
        finish_reason=_REASONS.get(reason, reason),
        model=response.get("model_name") or "",
        usage=Usage(
            prompt_tokens=usage.get("input_tokens") or 0,
            completion_tokens=usage.get("output_tokens") or 0,
            cached_tokens=usage.get("cache_read_tokens") or 0,
            reasoning_tokens=usage.get("output_reasoning_tokens") or 0,
        ),
        cost=None if cost is None else float(cost),
        request_id=response.get("provider_response_id") or "",
    )


class _Client(ModelClient):
    """What the clients of both kinds have in common."""

    framework = "Pydantic AI"

    def __init__(self, model: Model[Any] | None, known: Knows, request: Request) -> None:
        self._model, self._known, self.request = model, known, request
        self.in_line = not _falls_back(model)

    def switch(self, model: str) -> None:
        """To models that are registered, or of the same provider."""
        self._switched(model)

    def unmeasured(self, answer: ModelAnswer) -> bool:
        """A request that the provider works on is counted when it has ended."""
        return super().unmeasured(answer) and answer.message.get("state") != "suspended"

    def _switched(self, name: str) -> Model[Any]:
        if self._model is None:
            raise SwitchImpossible(f"{self.request.model} cannot go on as {name}", 500)
        return self._known.model_like(self._model, name)

    def _with_price(self, answer: ModelAnswer, provider: str | None, asked: str) -> ModelAnswer:
        answering = asked == self.request.model and not self.in_line
        return priced(answer, named(provider, answer.model) if answering else asked)


class StepClient(_Client):
    """Asks by running the framework's own operation. `answer` runs it, and gives what the journal keeps."""

    stored = FrameworkAnswer(read)

    def __init__(
        self, model: Model[Any] | None, known: Knows, request: Request, answer: Callable[[], Awaitable[Any]]
    ) -> None:
        super().__init__(model, known, request)
        self._answer = answer

    async def ask(self, request: Request) -> ModelAnswer:
        """One answer."""
        other = None if request.model == self.request.model else self._switched(request.model)
        token = going_on_with.set(other)
        try:
            data = await self._answer()
        finally:
            going_on_with.reset(token)
        return self._with_price(read(data), data.get("provider_name"), request.model)


class InStepClient(_Client):
    """Asks for an agent that runs inside somebody's step; the answer is left in `response`."""

    def __init__(
        self, model: Model[Any], known: Knows, asked: ModelRequestContext,
        answer: Callable[[ModelRequestContext], Awaitable[ModelResponse]],
    ) -> None:  # fmt: skip
        made = request_of(
            name_of(model), asked.messages, asked.model_settings, asked.model_request_parameters
        )
        super().__init__(model, known, made)
        self._asked, self._answer = asked, answer
        self.response: ModelResponse | None = None

    async def ask(self, request: Request) -> ModelAnswer:
        """One answer."""
        if request.model != self.request.model:
            self._asked.model = self._switched(request.model)
        elif not self.in_line:
            self._asked.model = in_turns(self._asked.model)
        self.response = await self._answer(self._asked)
        data: Data = _RESPONSE.dump_python(self.response, mode="json", fallback=str)
        return self._with_price(read(data), data.get("provider_name"), request.model)


async def ask_within_step(client: InStepClient) -> ModelResponse:
    """The answer for an agent inside a step, under the budgets around the step. BudgetOutOfReach when these
    cannot be kept there."""
    under = accounts()
    step = spending_here()
    if step is None:  # a step that tells nobody what was spent in it
        step = Spending((), shared=bool(under) or out_of_reach())
        under = ()
    await ModelCall(client.request, client.request.model, under, client).run_within(step)
    assert client.response is not None
    return client.response


def request_of(name: str, messages: Any, settings: Any, parameters: Any, **more: Any) -> Request:
    """What is asked of a model, in the words of `agentdur.llm`."""
    given = settings or {}
    longest = next((given[length] for length in _LENGTHS if given.get(length)), None)
    asked = {"tools": tools_of(parameters), "max_tokens": longest}
    return Request(model=name, messages=messages_of(messages), settings=asked, **more)


def operation_request(
    name: str, told: tuple[object, ...], timeout: timedelta | None, streaming: bool
) -> Request:
    """The same of a durable operation, by what the framework identifies it with."""
    context: Any = _first(told, ModelRequestContext)
    if context is None:
        messages, settings = _first(told, list) or [], _first(told, dict)
        parameters = _first(told, ModelRequestParameters)
    else:
        messages, settings = context.messages, context.model_settings
        parameters = context.model_request_parameters
    times = Timeouts(TIMEOUT if timeout is None else timeout)
    return request_of(name, messages, settings, parameters, times=times, stream=streaming)


def _first(told: tuple[object, ...], kind: type) -> Any:
    return next((one for one in told if isinstance(one, kind)), None)


def bare(model: Model[Any]) -> Model[Any]:
    """The model that really asks, of several the first one."""
    while isinstance(model, WrapperModel | FallbackModel):
        model = model.models[0] if isinstance(model, FallbackModel) else model.wrapped
    return model


def name_of(model: Model[Any]) -> str:
    """The model's name, as LiteLLM has it; of several that of the first one."""
    real = bare(model)
    return named(real.system, real.model_name)


def name_of_id(model_id: str) -> str:
    """The same, by the framework's own name of a model."""
    provider, _, name = model_id.rpartition(":")
    return named(provider.removeprefix("gateway/"), name)


def like(model: Model[Any], wanted: str) -> Model[Any]:
    """A model of the same class and client under another name; SwitchImpossible when there is no such way."""
    real: Any = bare(model)
    own = at_same_provider(name_of(real), wanted)
    try:
        made: Model[Any] = type(real)(
            own, provider=real._provider, profile=real._profile, settings=real._settings
        )
    except (AttributeError, TypeError) as error:
        words = f"{type(real).__name__} cannot go on as {wanted}: register that model in Durable(models=…)"
        raise SwitchImpossible(words, 500) from error
    return made


def _falls_back(model: Model[Any] | None) -> bool:
    while isinstance(model, WrapperModel):
        model = model.wrapped
    return isinstance(model, FallbackModel)


def in_turns(model: Model[Any]) -> Model[Any]:
    """The model, where fallbacks are in it each waiting for its turn; any other as it is."""
    if not _falls_back(model):
        return model
    other: Any = copy.copy(model)
    if isinstance(model, WrapperModel):
        other.wrapped = in_turns(model.wrapped)
    else:
        other.models = [InTurn(one) for one in other.models]
    other.agentdur_of = model
    made: Model[Any] = other
    return made


def original(model: Model[Any]) -> Model[Any]:
    """The user's own model, of one that waits for turns."""
    known: Model[Any] = getattr(model, "agentdur_of", model)
    return known


class InTurn(WrapperModel):
    """A model that waits for its turn."""

    async def request(
        self, messages: list[ModelMessage], model_settings: Any, model_request_parameters: Any
    ) -> ModelResponse:
        """As the model's, in turn."""
        async with self._turn(messages, model_settings, model_request_parameters) as slot:
            response = await super().request(messages, model_settings, model_request_parameters)
            _counted(slot, response)
            return response

    @asynccontextmanager
    async def request_stream(
        self, messages: Any, model_settings: Any, model_request_parameters: Any, *more: Any, **other: Any
    ) -> AsyncIterator[Any]:
        """As the model's, in turn."""
        async with (
            self._turn(messages, model_settings, model_request_parameters) as slot,
            super().request_stream(
                messages, model_settings, model_request_parameters, *more, **other
            ) as stream,
        ):
            yield stream
            _counted(slot, stream.get())

    def _turn(self, messages: Any, settings: Any, parameters: Any) -> Any:
        asked = request_of(name_of(self), messages, settings, parameters)
        return turn(asked, f"{step_key()}/{asked.model}", stays=spending_here() is not None)


def _counted(slot: Slot | None, response: ModelResponse) -> None:
    if slot is not None and response.usage.total_tokens:
        slot.correct(response.usage.total_tokens)
