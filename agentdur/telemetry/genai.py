"""OpenTelemetry's conventions for generative AI, from what steps note about themselves.

https://opentelemetry.io/docs/specs/semconv/gen-ai/ : names of attributes, of operations and of providers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from agentdur.core.journal import MODEL_STEP, ChatMessage
from agentdur.telemetry.span import Value

_PROVIDERS = {
    "azure": "azure.ai.openai", "azure_ai": "azure.ai.inference", "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini", "mistral": "mistral_ai", "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}  # fmt: skip
"""Where the conventions have another name than LiteLLM."""
_FAMILIES = {"gpt-": "openai", "o1": "openai", "o3": "openai", "o4": "openai", "claude": "anthropic",
             "gemini": "gcp.gemini"}  # fmt: skip


class Note(Struct, kw_only=True):
    """What a step said about itself (`agentdur.sdk.note`), as far as it is told on. Users note as well: the
    types of the values are checked where they are used."""

    model: Any = None
    request_model: Any = None
    asked: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    cost: Any = None
    request_id: Any = None
    finish_reason: Any = None
    why: Any = None
    tool: Any = None
    tool_call_id: Any = None

    @property
    def requested(self) -> str:
        """The model that the provider was asked for."""
        return text(self.request_model) or text(self.model)


_NOTE = msgspec.json.Decoder(Note)
_EMPTY = Note()


def noted(meta: str) -> Note:
    """The note of a step; an empty one when there is none."""
    if not meta:
        return _EMPTY
    try:
        return _NOTE.decode(meta)
    except msgspec.MsgspecError:
        return _EMPTY


def text(value: Any) -> str:
    """A value that should be text; empty when it is none."""
    return value if type(value) is str else ""


def number(value: Any) -> int:
    """A value that should be a count; 0 when it is none."""
    return value if type(value) is int and value >= 0 else 0


def cost(value: Any) -> float | None:
    """A value that should be US dollars; None when it is not known."""
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def provider(model: str) -> str:
    """The provider that a model's name points to; empty when it points to none."""
    prefix, slash, _ = model.partition("/")
    if slash:
        return _PROVIDERS.get(prefix, prefix)
    return next((name for begin, name in _FAMILIES.items() if model.startswith(begin)), "")


def agent_of(step: str) -> str:
    """The agent or role that a model step is of."""
    return step[len(MODEL_STEP) :].partition("/")[0] if step.startswith(MODEL_STEP) else ""


def of_model(note: Note, agent: str) -> list[tuple[str, Value]]:
    """The attributes of a model's span."""
    requested = note.requested
    out: list[tuple[str, Value]] = [
        ("gen_ai.operation.name", "chat"), ("gen_ai.request.model", requested),
    ]  # fmt: skip
    named = (
        ("gen_ai.provider.name", provider(requested)), ("gen_ai.response.model", text(note.model)),
        ("gen_ai.response.id", text(note.request_id)), ("gen_ai.agent.name", agent),
        ("agentdur.model.asked", text(note.asked)), ("agentdur.model.why", text(note.why)),
    )  # fmt: skip
    out += [pair for pair in named if pair[1]]
    if note.prompt_tokens is not None:
        out.append(("gen_ai.usage.input_tokens", number(note.prompt_tokens)))
    if note.completion_tokens is not None:
        out.append(("gen_ai.usage.output_tokens", number(note.completion_tokens)))
    if reason := text(note.finish_reason):
        out.append(("gen_ai.response.finish_reasons", (reason,)))
    if (dollars := cost(note.cost)) is not None:
        out.append(("agentdur.cost", dollars))
    return out


def of_tool(note: Note, agent: str) -> list[tuple[str, Value]]:
    """The attributes of a tool's span."""
    named: tuple[tuple[str, Value], ...] = (
        ("gen_ai.operation.name", "execute_tool"), ("gen_ai.tool.name", text(note.tool)),
        ("gen_ai.tool.type", "function"), ("gen_ai.tool.call.id", text(note.tool_call_id)),
        ("gen_ai.agent.name", agent),
    )  # fmt: skip
    return [pair for pair in named if pair[1]]


# What was said: leaves only when a setting says so.


def told(messages: Iterable[ChatMessage]) -> str:
    """What a model was told (`gen_ai.input.messages`)."""
    decoded = (_decoded(message.value) for message in messages)
    return _json([_message(one) for one in decoded if isinstance(one, dict) and "role" in one])


def answered(result: bytes) -> tuple[str, dict[str, str]]:
    """A model's answer (`gen_ai.output.messages`), and the arguments of each tool call in it, by its id."""
    answer = _decoded(result)
    message = answer.get("message") if isinstance(answer, dict) else None
    if not isinstance(message, dict):
        return "", {}
    said = {**_message(message), "finish_reason": answer.get("finish_reason", "stop")}
    calls = (part for part in said["parts"] if part["type"] == "tool_call")
    return _json([said]), {str(part["id"]): text(part["arguments"]) for part in calls}


def _message(message: dict[str, Any]) -> dict[str, Any]:
    role, content = message.get("role", ""), message.get("content")
    parts: list[dict[str, Any]] = []
    if role == "tool":
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content})
    elif isinstance(content, str) and content:
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts += (one for one in content if isinstance(one, dict))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        parts.append(
            {"type": "tool_call", "id": call.get("id"), "name": function.get("name"),
             "arguments": function.get("arguments")}
        )  # fmt: skip
    return {"role": role, "parts": parts}


def _decoded(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except msgspec.MsgspecError:
        return None


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
