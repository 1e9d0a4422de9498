"""The clients under ADK's models: their own retries are taken from them, and what ADK drops of their answers
is kept.

Rules of this file:
1. No model of the user is changed: a request is made with a copy of it.
2. An answer without a choice, or a stream without a reason to finish, is no answer, whatever ADK makes of it.
"""

from __future__ import annotations

from typing import Any

from google.adk.models.base_llm import BaseLlm
from google.adk.models.google_llm import Gemini
from google.adk.models.lite_llm import LiteLlm, LiteLLMClient
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from agentdur.llm.errors import BadModelAnswer


class Heard:
    """What a client said beside the answer."""

    request_id = ""


def quiet(model: BaseLlm, request: LlmRequest, heard: Heard) -> BaseLlm:
    """The model without retries of its own, for this request."""
    options = request.config.http_options
    if isinstance(model, LiteLlm):
        if options is not None and options.retry_options is not None:
            request.config.http_options = options.model_copy(update={"retry_options": None})
        copy = model.model_copy(update={"llm_client": _Listening(model.llm_client, model.model, heard)})
        copy._additional_args = {**model._additional_args, "max_retries": 0, "num_retries": 0}
        return copy
    if isinstance(model, Gemini):
        once = {"retry_options": types.HttpRetryOptions(attempts=1)}
        request.config.http_options = (options or types.HttpOptions()).model_copy(update=once)
        return model
    client = getattr(model, "_anthropic_client", None)
    if client is None or not hasattr(client, "with_options"):
        return model
    other = model.model_copy()
    other.__dict__["_anthropic_client"] = client.with_options(max_retries=0)
    return other


class _Listening(LiteLLMClient):
    """Takes the provider's id of an answer, which ADK drops."""

    def __init__(self, inner: LiteLLMClient, model: str, heard: Heard) -> None:
        self._inner, self._model, self._heard = inner, model, heard

    async def acompletion(self, model: Any, messages: Any, tools: Any, **kwargs: Any) -> Any:
        """As LiteLLM's."""
        response = await self._inner.acompletion(model=model, messages=messages, tools=tools, **kwargs)
        if kwargs.get("stream"):
            return _Stream(response, self._model, self._heard)
        if not response.choices:
            raise BadModelAnswer(f"{self._model}: the model's answer holds no choice", 502)
        self._heard.request_id = response.id or ""
        return response


class _Stream:
    """The chunks of an answer."""

    def __init__(self, inner: Any, model: str, heard: Heard) -> None:
        self._inner, self._model, self._heard = inner, model, heard

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await self._inner.__anext__()
        except StopAsyncIteration:
            if self._inner.received_finish_reason is None:
                said = f"{self._model}: the stream ended without a reason to finish"
                raise BadModelAnswer(said, 502) from None
            raise
        self._heard.request_id = self._heard.request_id or getattr(chunk, "id", "") or ""
        return chunk
