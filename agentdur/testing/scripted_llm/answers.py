"""The bytes of an answer, in OpenAI's shapes and order.

Rules of this file:
1. Everything a provider sends is sent, because each client insists on another part of it.
2. Tool-call ids come from the conversation, not from chance: asked again, the model makes the very same
   calls. The id of the completion is new each time, so that an answer which should have been replayed shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from agentdur.testing.scripted_llm.script import Status, ToolCall, Turn, Usage

DONE = b"data: [DONE]\n\n"
GARBAGE_JSON = b'<html><body>upstream said: {"id": "chatcmpl-'
GARBAGE_SSE = b'data: {"id": "chatcmpl-\n\n'
CHARS_PER_TOKEN = 4  # an estimate, for turns that do not state their usage

_ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request is invalid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "permission_denied", "You are not allowed to use this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", "service_unavailable", "The engine is currently overloaded."),
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A turn, made concrete for one request."""

    id: str
    created: int
    model: str
    text: str | None
    refusal: str | None
    reasoning: str | None
    tool_calls: tuple[tuple[str, ToolCall], ...]
    finish_reason: str
    usage: Usage
    chunk_chars: int


def make_answer(
    turn: Turn, *, request_id: str, created: int, model: str, messages: list[Any], digest: str
) -> Answer:
    """Fill in what the turn leaves open: ids, the reason to finish, the usage."""
    calls = tuple(
        (call.id or _tool_call_id(digest, position, call), call)
        for position, call in enumerate(turn.tool_calls)
    )
    said = (turn.reasoning, turn.text, turn.refusal)
    spoken = "".join(part or "" for part in said) + "".join(arguments_of(call) for call in turn.tool_calls)
    usage = turn.usage or Usage(prompt_tokens=tokens_of(messages), completion_tokens=_estimate(len(spoken)))
    return Answer(
        id=f"chatcmpl-{request_id}",
        created=created,
        model=model,
        text=turn.text,
        refusal=turn.refusal,
        reasoning=turn.reasoning,
        tool_calls=calls,
        finish_reason=turn.finish_reason or ("tool_calls" if turn.tool_calls else "stop"),
        usage=usage,
        chunk_chars=turn.chunk_chars,
    )


def arguments_of(call: ToolCall) -> str:
    """The arguments as the wire carries them: text that should be JSON."""
    return call.arguments if isinstance(call.arguments, str) else msgspec.json.encode(call.arguments).decode()


def completion(answer: Answer) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text,
        "refusal": answer.refusal,
        "annotations": [],
    }
    if answer.reasoning is not None:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": call.name, "arguments": arguments_of(call)}}
            for id_, call in answer.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return _envelope(answer, "chat.completion", [choice]) | {"usage": usage_body(answer.usage)}


def completion_without_choices(answer: Answer) -> dict[str, Any]:
    return _envelope(answer, "chat.completion", []) | {"usage": usage_body(answer.usage)}


def chunks(answer: Answer, *, include_usage: bool) -> list[dict[str, Any]]:
    """The chunks of a streamed answer, without the `[DONE]` that ends it."""
    envelope = _envelope(answer, "chat.completion.chunk", [])
    if include_usage:
        envelope["usage"] = None
    found = [
        envelope | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
        for delta in _deltas(answer)
    ]
    last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": answer.finish_reason}
    found.append(envelope | {"choices": [last]})
    if include_usage:
        found.append(envelope | {"choices": [], "usage": usage_body(answer.usage)})
    return found


def chunk_without_choices(answer: Answer) -> dict[str, Any]:
    return _envelope(answer, "chat.completion.chunk", [])


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def error_body(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def status_body(fault: Status) -> dict[str, Any]:
    """The error body a provider sends with this status, unless the script words it."""
    fallback = (
        "server_error" if fault.status >= 500 else "invalid_request_error",
        None,
        f"Error {fault.status}.",
    )
    kind, code, message = _ERRORS.get(fault.status, fallback)
    return error_body(fault.message or message, kind, fault.code or code)


def models_body(models: tuple[str, ...]) -> dict[str, Any]:
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "agentdur"} for name in models]
    return {"object": "list", "data": listed}


def _envelope(answer: Answer, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": answer.id,
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
        "choices": choices,
    }


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if answer.text is not None else None, "refusal": None}
    for piece in pieces(answer.reasoning or "", answer.chunk_chars):
        yield {"reasoning_content": piece}
    for piece in pieces(answer.text or "", answer.chunk_chars):
        yield {"content": piece}
    for piece in pieces(answer.refusal or "", answer.chunk_chars):
        yield {"refusal": piece}
    for index, (id_, call) in enumerate(answer.tool_calls):
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": id_, "type": "function", "function": function}]}
        for piece in pieces(arguments_of(call), answer.chunk_chars):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def pieces(text: str, chars: int) -> Iterator[str]:
    """A text as it is streamed."""
    return (text[start : start + chars] for start in range(0, len(text), chars))


def tokens_of(messages: list[Any]) -> int:
    """How long a conversation is, about."""
    return _estimate(len(msgspec.json.encode(messages)))


def _estimate(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


def _tool_call_id(digest: str, position: int, call: ToolCall) -> str:
    seed = f"{digest} {position} {call.name} {arguments_of(call)}"
    return f"call_{hashlib.sha256(seed.encode()).hexdigest()[:24]}"
