"""The chat model under a durable one, as a client of `agentdur.llm`: asked in a step, under its budgets and
limits.

Rules of this file:
1. No model of the user is changed: a request is made with a copy of it.
2. What was used is what the message's `usage_metadata` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, convert_to_openai_messages

from agentdur.integrations.langchain.codec import message_data, read, result_data
from agentdur.integrations.langchain.failures import translated
from agentdur.integrations.model_calls import FrameworkAnswer, at_same_provider, named, priced
from agentdur.llm.answer import ModelAnswer
from agentdur.llm.call import ModelClient
from agentdur.llm.errors import SwitchImpossible
from agentdur.llm.request import Request

_NAMES = ("model_name", "model", "model_id")
"""Where models of LangChain keep their name."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How the framework asks: what to stop at, who listens, and what was bound to the model."""

    stop: list[str] | None
    run_manager: Any
    bound: dict[str, Any]


class ChatClient(ModelClient):
    """Asks a chat model once, without its own retries."""

    stored = FrameworkAnswer(read)
    framework = "LangChain"

    def __init__(self, model: Any, messages: list[BaseMessage], asking: Asking) -> None:
        self._model, self._messages, self._asking = model, messages, asking
        self.request = Request(
            model=name_of(model, asking.bound), messages=told(messages),
            settings={"tools": asking.bound.get("tools"), "max_tokens": _longest(model, asking.bound)},
            stream=bool(getattr(model, "streaming", False)),
        )  # fmt: skip

    def switch(self, model: str) -> None:
        """Within the provider of the chat model."""
        switched(self._model, self.request.model, model)

    async def ask(self, request: Request) -> ModelAnswer:
        """One answer."""
        model, asking = self._model, self._asking
        if request.model != self.request.model:
            model = switched(model, self.request.model, request.model)
        try:
            result = await without_retries(model)._agenerate_with_cache(
                self._messages, asking.stop, asking.run_manager, **asking.bound
            )
        except Exception as error:
            raise translated(request.model, error) from error
        return priced(read(result_data(result)), request.model)


def name_of(model: Any, bound: dict[str, Any]) -> str:
    """The model's name, as LiteLLM has it."""
    about = model._get_ls_params(**bound)
    return named(about.get("ls_provider"), about.get("ls_model_name") or type(model).__name__)


def switched(model: Any, known: str, name: str) -> Any:
    """The same chat model with another one's name; SwitchImpossible when it cannot have one."""
    own = at_same_provider(known, name)
    for field in _NAMES:
        if field in type(model).model_fields and isinstance(getattr(model, field), str):
            return model.model_copy(update={field: own})
    raise SwitchImpossible(f"{type(model).__name__} cannot go on as {name}: it has no model name", 500)


def without_retries(model: Any) -> Any:
    """The model with its client's own retries off: the journal's owner retries. Models without such a client
    are left as they are."""
    client = getattr(model, "root_async_client", None)
    if client is None or getattr(client, "max_retries", 0) == 0:
        return model
    quiet = client.with_options(max_retries=0)
    copy = model.model_copy()
    copy.root_async_client, copy.async_client = quiet, quiet.chat.completions
    return copy


def told(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    """The conversation in OpenAI's shape, for views and estimates."""
    try:
        made: Any = convert_to_openai_messages(messages)
    except (TypeError, ValueError):  # what OpenAI has no word for
        return [message_data(message) for message in messages]
    return list(made)


def _longest(model: Any, bound: dict[str, Any]) -> Any:
    """The length of an answer that was asked for, if any."""
    names = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict")
    asked = (bound.get(name) or getattr(model, name, None) for name in names)
    return next((length for length in asked if isinstance(length, int)), None)
