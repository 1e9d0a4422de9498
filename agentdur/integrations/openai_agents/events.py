"""The events of a streamed answer: taken from a live stream, and made again from the journaled response.

Rules of this file:
1. The code sees the made ones only, on the first run as on a replay: one delta for each part, in OpenAI's
   order.
2. A stream that ends without a last response is a failure, however quietly it ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, get_args

from agents.items import TResponseStreamEvent
from openai.types.responses import Response, ResponseStreamEvent

from agentdur.llm.answer import ModelAnswer
from agentdur.llm.errors import BadModelAnswer, ModelBusy, ModelUnavailable
from agentdur.llm.failures import refused
from agentdur.sdk.stream import stream

_EVENTS: dict[str, Any] = {
    name: event
    for event in get_args(get_args(ResponseStreamEvent)[0])
    for name in get_args(event.model_fields["type"].annotation)
}
_TEXT = {"response.output_text.delta": "text", "response.refusal.delta": "text"}
_REASONING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


async def last_response(model: str, events: AsyncIterator[TResponseStreamEvent]) -> tuple[str, Response]:
    """Read a live stream to its end, passing on its deltas: the kind of its last event, and its response."""
    calls: dict[int, dict[str, str]] = {}
    items: list[Any] = []
    finished: tuple[str, Response] | None = None
    async for event in events:
        kind = getattr(event, "type", "")
        if kind in ("error", "response.error"):
            raise _told(model, getattr(event, "code", None), getattr(event, "message", "") or "")
        if kind == "response.failed":
            error = event.response.error  # type: ignore[union-attr]  # only ResponseFailedEvent has this type
            raise _told(model, getattr(error, "code", None), getattr(error, "message", "") or "")
        if kind in ("response.completed", "response.incomplete"):
            finished = kind, event.response  # type: ignore[union-attr]  # both have one
            if kind == "response.incomplete":
                break  # the SDK would raise; what was said is paid, and its runner raises when it is told
        elif kind == "response.output_item.done":
            items.append(event.item)  # type: ignore[union-attr]  # by its type
        else:
            _pass_on(event, kind, calls)
    if finished is None:
        raise BadModelAnswer(f"{model}: the stream ended without a response", 502)
    if not finished[1].output:  # some providers leave the items to their own events
        finished[1].output = items
    return finished


def _told(model: str, code: str | None, message: str) -> Exception:
    """A failure the provider told within the stream."""
    said = f"{model}: {message or code or 'the stream failed'}"
    if code in ("insufficient_quota", "invalid_prompt", "context_length_exceeded"):
        return refused(model, said, 400)
    return ModelBusy(said, 429) if code == "rate_limit_exceeded" else ModelUnavailable(said, 502)


def _pass_on(event: Any, kind: str, calls: dict[int, dict[str, str]]) -> None:
    if kind in _TEXT:
        stream({"type": "text", "delta": event.delta})
    elif kind in _REASONING:
        stream({"type": "reasoning", "delta": event.delta})
    elif kind == "response.output_item.added" and getattr(event.item, "type", "") == "function_call":
        calls[event.output_index] = {"id": event.item.call_id, "name": event.item.name}
        stream({"type": "tool_call", **calls[event.output_index], "delta": event.item.arguments or ""})
    elif kind == "response.function_call_arguments.delta":
        call = calls.get(event.output_index)
        if call is not None:
            stream({"type": "tool_call", **call, "delta": event.delta})


def finish(answer: ModelAnswer) -> None:
    """Tell readers that the model has ended."""
    usage = answer.usage
    counted = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    told = {"reason": answer.finish_reason, "usage": counted, "model": answer.model, "cost": answer.cost}
    stream({"type": "finish", **told})


def made_again(kind: str, response: Response) -> Iterator[TResponseStreamEvent]:
    """The events that tell of this response."""
    for number, event in enumerate(_told_again(kind, response)):
        yield _EVENTS[event["type"]].construct(**event, sequence_number=number)


def _told_again(kind: str, response: Response) -> Iterator[dict[str, Any]]:
    begun = response.model_copy(update={"status": "in_progress", "output": [], "usage": None})
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response.output):
        yield from _item(index, item)
    yield {"type": kind, "response": response}


def _item(index: int, item: Any) -> Iterator[dict[str, Any]]:
    place = {"output_index": index}
    hollow = {"message": ("content", []), "reasoning": ("summary", []), "function_call": ("arguments", "")}
    begun = item
    if item.type in hollow:
        name, nothing = hollow[item.type]
        status = {"status": "in_progress"} if getattr(item, "status", None) is not None else {}
        begun = item.model_copy(update={name: nothing, **status})
    yield {"type": "response.output_item.added", **place, "item": begun}
    at = {**place, "item_id": getattr(item, "id", None) or ""}
    if item.type == "function_call":
        args = "response.function_call_arguments"
        yield {"type": f"{args}.delta", **at, "delta": item.arguments}
        yield {"type": f"{args}.done", **at, "arguments": item.arguments, "name": item.name}
    elif item.type == "message":
        for number, part in enumerate(item.content):
            yield from _part({**at, "content_index": number}, part)
    elif item.type == "reasoning":
        for number, part in enumerate(item.summary):
            yield from _summary({**at, "summary_index": number}, part)
    yield {"type": "response.output_item.done", **place, "item": item}


def _part(at: dict[str, Any], part: Any) -> Iterator[dict[str, Any]]:
    if part.type == "refusal":
        yield {"type": "response.content_part.added", **at, "part": {"type": "refusal", "refusal": ""}}
        yield {"type": "response.refusal.delta", **at, "delta": part.refusal}
        yield {"type": "response.refusal.done", **at, "refusal": part.refusal}
    else:
        empty = {"type": "output_text", "text": "", "annotations": []}
        yield {"type": "response.content_part.added", **at, "part": empty}
        yield {"type": "response.output_text.delta", **at, "delta": part.text, "logprobs": []}
        yield {"type": "response.output_text.done", **at, "text": part.text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part}


def _summary(at: dict[str, Any], part: Any) -> Iterator[dict[str, Any]]:
    kind = "response.reasoning_summary"
    yield {"type": f"{kind}_part.added", **at, "part": {"type": "summary_text", "text": ""}}
    yield {"type": f"{kind}_text.delta", **at, "delta": part.text}
    yield {"type": f"{kind}_text.done", **at, "text": part.text}
    yield {"type": f"{kind}_part.done", **at, "part": part}
