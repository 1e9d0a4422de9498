"""What a client of the Responses API says: its request, the items of its input, and the ids it was given.

Rules of this file:
1. The id of a response says where its turn is: nothing else is kept for it.
2. An item that a model cannot be told is refused by its name, never left out.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from agentdur.sessions.errors import BadMessage, NotSupported, UnknownResponse
from agentdur.sessions.words import Message, Policy

_PREFIX = "resp_"
_PARTS = {"input_text": "text", "output_text": "text", "text": "text"}
_UNSAID = frozenset({"reasoning", "mcp_call", "mcp_list_tools", "mcp_approval_request", "item_reference"})
"""Items of earlier outputs that the server remembers itself."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as an object."""

    id: str


class ResponseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a request that matters."""

    model: str
    input: str | list[dict[str, Any]] = ""
    instructions: str | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: str | Conversation | None = None
    tools: list[Any] | None = None
    session_id: str | None = None
    policy: Policy | None = None
    metadata: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    text: dict[str, Any] | None = None


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where the turn of a response is. `skip`: output items that an earlier response of the turn has."""

    agent: str
    key: str
    message: str
    invocation: str
    skip: int = 0


class Approved(msgspec.Struct, frozen=True):
    """The answer to an approval."""

    id: str
    approved: bool
    reason: str = ""


class Said(msgspec.Struct, frozen=True):
    """What an input says: the messages, system messages apart, and the answers to approvals."""

    messages: list[Message]
    system: list[str]
    approvals: list[Approved]


def response_id(place: Place) -> str:
    """The id of the response at that place."""
    return _PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(id: str) -> Place:
    """The place that an id says; UnknownResponse when it is none of ours."""
    text = id.removeprefix(_PREFIX)
    try:
        if len(id) < 5000 and id.startswith(_PREFIX):
            return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Place)
    except (ValueError, msgspec.MsgspecError):
        pass
    raise UnknownResponse(id[:100])


def said(asked: ResponseRequest) -> Said:
    """What is said by the input."""
    items = [{"role": "user", "content": asked.input}] if isinstance(asked.input, str) else asked.input
    messages: list[Message] = []
    system = [asked.instructions] if asked.instructions else []
    approvals: list[Approved] = []
    for number, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "message":
            _hear(item, number, messages, system)
        elif kind == "mcp_approval_response":
            approvals.append(_approved(item, number))
        elif kind == "function_call":
            function = {"name": item.get("name", ""), "arguments": item.get("arguments", "")}
            call = {"id": item.get("call_id", ""), "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            output = {"tool_call_id": item.get("call_id", ""), "content": item.get("output", "")}
            messages.append({"role": "tool", **output})
        elif kind not in _UNSAID:
            raise BadMessage(f"input[{number}].type: {kind!r} is nothing an agent can be told")
    return Said(messages, system, approvals)


def _hear(item: dict[str, Any], number: int, messages: list[Message], system: list[str]) -> None:
    role, content = item.get("role"), _content(item.get("content"), number)
    if role in ("system", "developer"):
        system.append(content if isinstance(content, str) else str(content))
    elif role in ("user", "assistant"):
        messages.append({"role": role, "content": content})
    else:
        raise BadMessage(f"input[{number}].role: {role!r} is no role")


def _content(content: Any, number: int) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadMessage(f"input[{number}].content: expected text or parts")
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _PARTS:
            parts.append({"type": "text", "text": str(part.get("text", ""))})
        elif kind == "input_image" and part.get("image_url"):
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"]}})
        else:
            raise BadMessage(f"input[{number}].content: {kind!r} is no part an agent can be told")
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _approved(item: dict[str, Any], number: int) -> Approved:
    id, approve = item.get("approval_request_id"), item.get("approve")
    if not isinstance(id, str) or not isinstance(approve, bool):
        raise BadMessage(f"input[{number}]: approval_request_id is text and approve true or false")
    return Approved(id, approve, str(item.get("reason") or ""))


def settings_of(asked: ResponseRequest) -> dict[str, Any]:
    """The settings that are given, as chat completions call them."""
    given = {
        "temperature": asked.temperature, "top_p": asked.top_p, "max_tokens": asked.max_output_tokens,
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def refuse(asked: ResponseRequest) -> None:
    """NotSupported for what would be ignored in silence."""
    if asked.tools:
        raise NotSupported("tools: the tools of an agent are its own, and run on the server")
    form = (asked.text or {}).get("format") or {"type": "text"}
    if form.get("type") != "text":
        raise NotSupported("text.format: an agent's output type is its own")
