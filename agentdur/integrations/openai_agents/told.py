"""What a model is told, in the shape in which `agentdur.llm` keeps conversations, for views and budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.handoffs import Handoff
from agents.tool import FunctionTool
from pydantic_core import to_jsonable_python

_ROLES = {"developer": "system"}


def messages_of(instructions: str | None, given: Any) -> list[dict[str, Any]]:
    """The conversation, in OpenAI's shape of chats."""
    found: list[dict[str, Any]] = []
    if instructions:
        found.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        return [*found, {"role": "user", "content": given}]
    return found + [_message(_plain(item)) for item in given]


def tools_of(tools: Sequence[Any], handoffs: Sequence[Handoff[Any, Any]]) -> list[dict[str, Any]]:
    """The tools the model may call, in OpenAI's shape; those of the provider by their names."""
    found: list[dict[str, Any]] = []
    for tool in tools:
        if isinstance(tool, FunctionTool):
            found.append(_function(tool.name, tool.description, tool.params_json_schema))
        else:
            found.append({"type": getattr(tool, "name", None) or type(tool).__name__})
    for handoff in handoffs:
        found.append(_function(handoff.tool_name, handoff.tool_description, handoff.input_json_schema))
    return found


def _function(name: str, description: str, parameters: Any) -> dict[str, Any]:
    about = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": about}


def _plain(item: Any) -> dict[str, Any]:
    data: Any = item if isinstance(item, dict) else to_jsonable_python(item, fallback=str)
    return dict(data)


def _message(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type") or ("message" if "role" in item else "")
    match kind:
        case "message":
            role = str(item.get("role") or "assistant")
            return {"role": _ROLES.get(role, role), "content": _text(item.get("content"))}
        case "function_call":
            function = {"name": item.get("name") or "", "arguments": item.get("arguments") or ""}
            call = {"id": item.get("call_id") or "", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "function_call_output":
            output = _text(item.get("output"))
            return {"role": "tool", "tool_call_id": item.get("call_id") or "", "content": output}
        case "reasoning":
            return {"role": "assistant", "content": None, "reasoning_content": _text(item.get("summary"))}
        case _:
            return {"role": "assistant", "content": None, "item": to_jsonable_python(item, fallback=str)}


def _text(content: Any) -> Any:
    """Text of one or several parts as text; anything else as it is."""
    if not isinstance(content, list):
        return content if content is None or isinstance(content, str) else to_jsonable_python(content)
    parts = [to_jsonable_python(part, fallback=str) for part in content]
    said = [part.get("text", part.get("refusal")) for part in parts if isinstance(part, dict)]
    texts = [text for text in said if isinstance(text, str)]
    return "\n".join(texts) if len(texts) == len(parts) else parts
