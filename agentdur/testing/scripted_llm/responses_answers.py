"""The bytes of an answer of /v1/responses: the response, and the events of a stream in OpenAI's order.

Rules of this file:
1. Ids of responses and items are new with each request, so that an answer which should have been replayed
   shows; ids of calls come from the conversation, as everywhere in this server.
2. Everything a provider sends is sent, because each client insists on another part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from agentdur.testing.scripted_llm.answers import Answer, arguments_of, pieces
from agentdur.testing.scripted_llm.responses_request import ResponsesRequest
from agentdur.testing.scripted_llm.script import Usage

_REPEATED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, with what it says when the request does not."""


def response(request: ResponsesRequest, answer: Answer) -> dict[str, Any]:
    """The finished response."""
    cut = answer.finish_reason in ("length", "content_filter")
    reason = "max_output_tokens" if answer.finish_reason == "length" else answer.finish_reason
    return {
        **unfinished(request, answer, "incomplete" if cut else "completed"),
        "completed_at": None if cut else answer.created,
        "incomplete_details": {"reason": reason} if cut else None,
        "output": output(answer),
        "usage": usage_body(answer.usage),
    }


def response_without_output(request: ResponsesRequest, answer: Answer) -> dict[str, Any]:
    """A response that is complete, and empty."""
    return {**response(request, answer), "output": []}


def unfinished(request: ResponsesRequest, answer: Answer, status: str) -> dict[str, Any]:
    """The response before anything of its output is known."""
    given = request.settings
    repeated = {
        name: fallback if given.get(name) is None else given[name] for name, fallback in _REPEATED.items()
    }
    return {
        "id": response_id(answer),
        "object": "response",
        "created_at": answer.created,
        "completed_at": None,
        "status": status,
        "background": bool(request.body.background),
        "error": None,
        "incomplete_details": None,
        "model": answer.model,
        "output": [],
        "service_tier": "default",
        "usage": None,
        **repeated,
    }


def response_id(answer: Answer) -> str:
    return f"resp_{_hit(answer)}"


def output(answer: Answer) -> list[dict[str, Any]]:
    """The output items: reasoning, a message, calls."""
    status = "incomplete" if answer.finish_reason in ("length", "content_filter") else "completed"
    items: list[dict[str, Any]] = []
    if answer.reasoning is not None:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        items.append({"id": f"rs_{_hit(answer)}", "type": "reasoning", "summary": summary})
    content: list[dict[str, Any]] = []
    if answer.text is not None:
        content.append({"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []})
    if answer.refusal is not None:
        content.append({"type": "refusal", "refusal": answer.refusal})
    if content:
        items.append({
            "id": f"msg_{_hit(answer)}", "type": "message", "role": "assistant", "status": status,
            "content": content,
        })  # fmt: skip
    for position, (call_id, call) in enumerate(answer.tool_calls):
        items.append({
            "id": f"fc_{_hit(answer)}{position:02}", "type": "function_call", "status": status,
            "call_id": call_id, "name": call.name, "arguments": arguments_of(call),
        })  # fmt: skip
    return items


def events(request: ResponsesRequest, answer: Answer) -> list[bytes]:
    """All events of the stream, numbered."""
    found = [*_opening(request, answer)]
    for index, item in enumerate(output(answer)):
        found += _item_events(index, item, answer.chunk_chars)
    whole = response(request, answer)
    found.append({"type": f"response.{whole['status']}", "response": whole})
    return [sse(event, number) for number, event in enumerate(found)]


def events_without_output(request: ResponsesRequest, answer: Answer) -> list[bytes]:
    """A stream that ends well and said nothing."""
    done = {"type": "response.completed", "response": response_without_output(request, answer)}
    return [sse(event, number) for number, event in enumerate((*_opening(request, answer), done))]


def error_event(number: int, message: str, code: str) -> bytes:
    """What a provider sends in place of the rest of a stream."""
    return sse({"type": "error", "code": code, "message": message, "param": None}, number)


def sse(event: dict[str, Any], number: int) -> bytes:
    """One server-sent event."""
    body = msgspec.json.encode({**event, "sequence_number": number})
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"


def usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _opening(request: ResponsesRequest, answer: Answer) -> Iterator[dict[str, Any]]:
    begun = unfinished(request, answer, "in_progress")
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}


def _item_events(index: int, item: dict[str, Any], chars: int) -> Iterator[dict[str, Any]]:
    place = {"output_index": index}
    hollow = {"message": "content", "reasoning": "summary"}.get(item["type"], "arguments")
    begun = {**item, hollow: "" if hollow == "arguments" else []}
    if "status" in item:
        begun["status"] = "in_progress"
    yield {"type": "response.output_item.added", **place, "item": begun}
    at = {**place, "item_id": item["id"]}
    if item["type"] == "function_call":
        yield from _call_events(item, at, chars)
    else:
        yield from _part_events(item, at, chars)
    yield {"type": "response.output_item.done", **place, "item": item}


def _call_events(item: dict[str, Any], at: dict[str, Any], chars: int) -> Iterator[dict[str, Any]]:
    kind = "response.function_call_arguments"
    for piece in pieces(item["arguments"], chars):
        yield {"type": f"{kind}.delta", **at, "delta": piece}
    yield {"type": f"{kind}.done", **at, "name": item["name"], "arguments": item["arguments"]}


def _part_events(item: dict[str, Any], at: dict[str, Any], chars: int) -> Iterator[dict[str, Any]]:
    reasoning = item["type"] == "reasoning"
    part_event = "response.reasoning_summary_part" if reasoning else "response.content_part"
    for number, part in enumerate(item["summary" if reasoning else "content"]):
        there = {**at, "summary_index" if reasoning else "content_index": number}
        field = "refusal" if part["type"] == "refusal" else "text"
        kind = {"output_text": "output_text", "refusal": "refusal"}.get(
            part["type"], "reasoning_summary_text"
        )
        more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        yield {"type": f"{part_event}.added", **there, "part": {**part, field: ""}}
        for piece in pieces(part[field], chars):
            yield {"type": f"response.{kind}.delta", **there, "delta": piece, **more}
        yield {"type": f"response.{kind}.done", **there, field: part[field], **more}
        yield {"type": f"{part_event}.done", **there, "part": part}


def _hit(answer: Answer) -> str:
    return answer.id.removeprefix("chatcmpl-")
