"""A request to /v1/responses, read as the conversation it stands for.

Rules of this file:
1. The playbook knows conversations in the shape of chat messages only; what of an item matters to it ends up
   there, and item ids do not: clients send them back or not as they like.
2. The items of one answer (reasoning, a message, calls) are one assistant message.
3. What a provider refuses is refused: calls without their outputs, outputs without their calls, ids of
   responses that are not kept.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from agentdur.testing.scripted_llm.exchange import REQUEST_BYTES_MAX
from agentdur.testing.scripted_llm.playbook import BadRequest, ChatRequest

_REASONING, _MESSAGE, _CALL = range(3)


class Kept(Protocol):
    """What a request may refer to."""

    def conversation(self, response_id: str) -> list[dict[str, Any]] | None:
        """The items of a kept response: what it was asked, and what it answered."""

    def item(self, item_id: str) -> dict[str, Any] | None:
        """An output item of a kept response."""


class ResponsesBody(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the body that the server reads; `more` of it is only sent back."""

    model: str
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None


class ResponsesRequest(ChatRequest, frozen=True, kw_only=True):
    """A request whose `messages` are the conversation, with what only this API has."""

    items: list[dict[str, Any]]
    """Input items of the whole conversation, those of earlier responses included."""
    body: ResponsesBody
    settings: dict[str, Any]
    """The body as it came: what a response repeats is taken from there."""


def parse_responses(body: bytes, kept: Kept) -> ResponsesRequest:
    """Read a request; BadRequest for what a provider refuses."""
    if len(body) > REQUEST_BYTES_MAX:
        raise BadRequest(f"the request has more than {REQUEST_BYTES_MAX} bytes")
    try:
        settings = msgspec.json.decode(body, type=dict[str, Any])
        given = msgspec.convert(settings, ResponsesBody)
    except (msgspec.DecodeError, msgspec.ValidationError) as broken:
        raise BadRequest(str(broken)) from broken
    if given.conversation is not None:
        raise BadRequest("this server keeps responses, and no conversations: use previous_response_id")
    items = [*_earlier(given, kept), *_referred(_items(given.input), kept)]
    if not items:
        raise BadRequest("input must not be empty")
    _check_pairs(items)
    messages = list(messages_of(items))
    if given.instructions:
        messages.insert(0, {"role": "system", "content": given.instructions})
    return ResponsesRequest(
        model=given.model, messages=messages, stream=given.stream, items=items, body=given, settings=settings
    )


def _items(given: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return [{"type": "message", **item} if "role" in item else item for item in given or ()]


def _earlier(given: ResponsesBody, kept: Kept) -> list[dict[str, Any]]:
    if given.previous_response_id is None:
        return []
    found = kept.conversation(given.previous_response_id)
    if found is None:
        raise BadRequest(f"Previous response with id '{given.previous_response_id}' not found.")
    return found


def _referred(items: Iterable[dict[str, Any]], kept: Kept) -> list[dict[str, Any]]:
    found = []
    for item in items:
        if item.get("type") == "item_reference":
            there = kept.item(str(item.get("id")))
            if there is None:
                raise BadRequest(f"Item with id '{item.get('id')}' not found.")
            found.append(there)
        else:
            found.append(item)
    return found


def _check_pairs(items: Iterable[Mapping[str, Any]]) -> None:
    called: dict[Any, bool] = {}
    for item in items:
        match item.get("type"):
            case "function_call":
                if not all(isinstance(item.get(name), str) for name in ("call_id", "name", "arguments")):
                    raise BadRequest("a function_call needs call_id, name and arguments")
                called[item["call_id"]] = False
            case "function_call_output":
                if item.get("call_id") not in called:
                    raise BadRequest(
                        f"No tool call found for function call output with call_id {item.get('call_id')}."
                    )
                called[item["call_id"]] = True
    for call_id, answered in called.items():
        if not answered:
            raise BadRequest(f"No tool output found for function call {call_id}.")


def messages_of(items: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """The conversation as chat messages."""
    current: dict[str, Any] | None = None
    last = _REASONING
    for item in items:
        rank = _rank(item)
        if rank is None:
            if current is not None:
                yield current
                current = None
            yield from _others(item)
            continue
        if current is None or rank < last or rank == last == _MESSAGE:
            if current is not None:
                yield current
            current = {"role": "assistant", "content": None}
        _add(current, item)
        last = rank
    if current is not None:
        yield current


def _rank(item: Mapping[str, Any]) -> int | None:
    """The place of an item within one answer; None when it is no part of an answer."""
    kind = str(item.get("type"))
    if kind == "message":
        return _MESSAGE if item.get("role") == "assistant" else None
    if kind == "reasoning":
        return _REASONING
    return _CALL if kind.endswith("_call") else None


def _add(message: dict[str, Any], item: Mapping[str, Any]) -> None:
    match item.get("type"):
        case "message":
            message["content"] = text_of(item.get("content"))
        case "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            message.setdefault("tool_calls", []).append(call)


def _others(item: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    match item.get("type"):
        case "message":
            yield {"role": item.get("role"), "content": text_of(item.get("content"))}
        case "compaction":
            yield from uncompacted(str(item.get("encrypted_content")))
        case _:
            output = text_of(item.get("output"))
            yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": output}


def text_of(content: Any) -> str:
    """The text of a content, whether it is a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text", part.get("refusal")) for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def compacted(messages: Iterable[Mapping[str, Any]]) -> str:
    """All but what users said, as an opaque text: a compaction item carries it."""
    rest = [message for message in messages if message.get("role") != "user"]
    return base64.b64encode(msgspec.json.encode(rest)).decode()


def uncompacted(text: str) -> list[dict[str, Any]]:
    """What a compaction item stands for."""
    try:
        return msgspec.json.decode(base64.b64decode(text, validate=True), type=list[dict[str, Any]])
    except (binascii.Error, msgspec.DecodeError, ValueError) as broken:
        raise BadRequest("The encrypted content of the compaction item could not be verified.") from broken
