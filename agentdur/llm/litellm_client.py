"""The one place that knows LiteLLM: a request in, an answer or one of our errors out.

Rules of this file:
1. LiteLLM is imported when this file is, which is at the start of an app that uses models: its import takes
   seconds and would block the loop in the first call.
2. Nothing is retried here, neither by LiteLLM nor by the provider's client: the journal's owner retries.
3. Everything that is not in the answer but is wanted later (cost, request id) is taken before it is lost.
"""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec

from agentdur.llm.answer import ModelAnswer, Usage
from agentdur.llm.errors import BadModelAnswer, ModelTimeout, ModelUnavailable
from agentdur.llm.failures import failed_request
from agentdur.llm.request import Request, Timeouts
from agentdur.llm.streaming import Hear, Hearing

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or the import fetches a price list
try:
    import litellm
    import openai
    import openai.resources  # else the client under LiteLLM loads them in the first call
except ModuleNotFoundError:  # the extra is not installed: told when a model is called
    litellm = None
else:
    litellm.suppress_debug_info = True  # it prints to stdout otherwise

_FIXED = {
    "max_retries": 0,
    "num_retries": 0,
    # LiteLLM would run tools of the kind "mcp" by itself, out of the journal's sight, and would import its
    # proxy to find out whether there are any.
    "_skip_mcp_handler": True,
}
_STREAMED = {"stream_options": {"include_usage": True}}
_NO_ANSWER = "the model's answer holds no choice"


async def ask(model: str, messages: list[Any], settings: dict[str, Any], timeout: timedelta) -> ModelAnswer:
    """One request, without retries. When this coroutine is cancelled, the connection is closed."""
    acompletion = _client().acompletion
    seconds = timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds):  # the client's own limit counts from byte to byte
            response = await acompletion(
                model=model, messages=messages, timeout=seconds, **settings, **_FIXED
            )
    except TimeoutError as late:
        raise ModelTimeout(f"{model}: no answer within {seconds:g} s", 504) from late
    except Exception as error:
        raise translated(model, error) from error
    return answer_of(model, response)


async def listen(request: Request, hear: Hear) -> ModelAnswer:
    """One streamed request, without retries; `hear` is told what comes while it comes. The answer is whole,
    or an error is raised. When this coroutine is cancelled, the connection is closed."""
    loop = asyncio.get_running_loop()
    model, clock = request.model, Clock(request.times, loop.time())
    hearing, chunks = Hearing(hear), []
    stream: Any = None
    try:
        async with asyncio.timeout_at(clock.until) as limit:
            stream = await _client().acompletion(
                model=model, messages=request.messages, timeout=request.times.total.total_seconds(),
                **{**_STREAMED, **request.settings, "stream": True}, **_FIXED,
            )  # fmt: skip
            async for chunk in stream:
                chunks.append(chunk)
                hearing.take(chunk)
                limit.reschedule(clock.heard(loop.time(), hearing.begun))
    except TimeoutError as late:
        raise ModelTimeout(f"{model}: {clock.late()}", 504) from late
    except Exception as error:
        raise translated(model, error) from error
    finally:
        if stream is not None:
            await stream.aclose()
    if stream.received_finish_reason is None:
        raise BadModelAnswer(f"{model}: the stream ended without a reason to finish", 502)
    return hearing.finish(_built(request, stream, chunks, hearing))


class Clock:
    """When a stream is given up: each limit counts from its own beginning."""

    def __init__(self, times: Timeouts, now: float) -> None:
        self._times = times
        self._end = now + times.total.total_seconds()
        self._which = "no whole answer", times.total
        self.until = self._end
        self._narrow(now, "no first token", times.first_token)

    def heard(self, now: float, begun: bool) -> float:
        """A chunk came; the new limit. What holds nothing to read is no first token."""
        if begun or self._times.first_token is None:
            self.until, self._which = self._end, ("no whole answer", self._times.total)
            self._narrow(now, "nothing more", self._times.idle)
        return self.until

    def _narrow(self, now: float, what: str, limit: timedelta | None) -> None:
        if limit is not None and now + limit.total_seconds() < self.until:
            self.until, self._which = now + limit.total_seconds(), (what, limit)

    def late(self) -> str:
        """What did not come in time."""
        what, limit = self._which
        return f"{what} within {limit.total_seconds():g} s"


def _built(request: Request, stream: Any, chunks: list[Any], hearing: Hearing) -> ModelAnswer:
    """The answer that a stream's chunks are."""
    whole = litellm.stream_chunk_builder(chunks, messages=request.messages)
    if whole is None or not whole.choices:
        raise BadModelAnswer(f"{request.model}: {_NO_ANSWER}", 502)
    hidden = getattr(stream, "_hidden_params", None) or {}
    whole._hidden_params = {**hidden, "response_cost": _cost(request.model, whole)}
    answer = answer_of(request.model, whole)
    return msgspec.structs.replace(
        answer, message=hearing.whole(answer.message), finish_reason=stream.received_finish_reason or "stop"
    )


def _cost(model: str, response: Any) -> float | None:
    try:
        return float(litellm.completion_cost(completion_response=response, model=model))
    except Exception:  # LiteLLM raises a plain Exception for a model whose price it does not know
        return None


def price(
    model: str, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
) -> float | None:  # fmt: skip
    """In US dollars; None when LiteLLM does not know this model's price, or is not there. `cached_tokens`
    are those of the prompt that the provider had read before."""
    if litellm is None:
        return None
    try:
        return float(sum(litellm.cost_per_token(
            model=model, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens,
            cache_read_input_tokens=cached_tokens,
        )))  # fmt: skip
    except Exception:  # LiteLLM raises a plain Exception for what it does not know
        return None


def installed() -> bool:
    """True when LiteLLM is there."""
    return litellm is not None


def _client() -> Any:
    if litellm is None:
        raise ModuleNotFoundError("models are called through LiteLLM: pip install 'agentdur[litellm]'")
    return litellm


def answer_of(model: str, response: Any) -> ModelAnswer:
    """What we keep of LiteLLM's response."""
    if not response.choices:
        raise BadModelAnswer(f"{model}: {_NO_ANSWER}", 502)
    choice = response.choices[0]
    message = _dense(choice.message.model_dump(exclude_none=True, mode="json"))
    for call in message.get("tool_calls") or ():
        call["id"] = call.get("id") or f"call_{uuid4().hex}"  # some providers send none
    hidden = getattr(response, "_hidden_params", None) or {}
    return ModelAnswer(
        message=message,
        finish_reason=choice.finish_reason or "stop",
        model=response.model or model,
        usage=_usage(getattr(response, "usage", None)),
        cost=hidden.get("response_cost"),
        request_id=_request_id(hidden) or response.id or "",
    )


def _dense(message: dict[str, Any]) -> dict[str, Any]:
    """Without what LiteLLM adds and leaves empty; what a provider really sent stays."""
    extra = {k: v for k, v in (message.get("provider_specific_fields") or {}).items() if v is not None}
    kept = {k: v for k, v in message.items() if k not in ("provider_specific_fields", "annotations") or v}
    kept.pop("provider_specific_fields", None)
    return {**kept, "provider_specific_fields": extra} if extra else kept


def _usage(usage: Any) -> Usage:
    prompt = getattr(usage, "prompt_tokens_details", None)
    completion = getattr(usage, "completion_tokens_details", None)
    return Usage(
        prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
        completion_tokens=getattr(usage, "completion_tokens", None) or 0,
        cached_tokens=getattr(prompt, "cached_tokens", None) or 0,
        reasoning_tokens=getattr(completion, "reasoning_tokens", None) or 0,
    )


def _request_id(hidden: dict[str, Any]) -> str:
    headers = hidden.get("additional_headers") or {}
    for name in ("x-request-id", "request-id"):
        value = headers.get(f"llm_provider-{name}") or headers.get(name)
        if value:
            return str(value)
    return ""


def translated(model: str, error: Exception) -> Exception:
    """LiteLLM's exception as one of ours; what is no failed request (a bug, a bad setting) stays as it is."""
    if isinstance(error, ModelUnavailable):
        return error
    inner = getattr(error, "original_exception", None)
    if isinstance(inner, Exception):  # LiteLLM wraps what goes wrong within a stream
        error = inner
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return error
    said = f"{model}: {getattr(error, 'message', None) or error}"
    if isinstance(error, litellm.Timeout) and not _answered(error):
        return ModelTimeout(said, 504)
    reason = "context_window" if isinstance(error, litellm.ContextWindowExceededError) else ""
    told = f"{getattr(error, 'body', '')} {error}"
    failed = failed_request(model, said, status, _headers(error), told, reason=reason)
    return BadModelAnswer(said, 502) if type(failed) is ModelUnavailable and _unreadable(error) else failed


def _answered(error: BaseException | None) -> bool:
    """LiteLLM calls an answer of status 408 a timeout, as if there had been none."""
    while error is not None:
        if isinstance(error, openai.APIStatusError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _headers(error: Exception) -> Any:
    """What the provider's answer said beside its body; LiteLLM keeps it in one of two places."""
    kept = getattr(error, "litellm_response_headers", None)
    return kept or getattr(getattr(error, "response", None), "headers", None) or {}


def _unreadable(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, json.JSONDecodeError):
            return True
        error = error.__cause__ or error.__context__
    return False
