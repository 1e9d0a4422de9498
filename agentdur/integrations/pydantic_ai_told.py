"""What a model of Pydantic AI is told, in the shape in which `agentdur.llm` keeps conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_core import to_json, to_jsonable_python


def messages_of(messages: Sequence[ModelMessage]) -> list[dict[str, Any]]:
    """The conversation, in OpenAI's shape; instructions come first, as the last request has them."""
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    instructions = requests[-1].instructions if requests else None
    found = [{"role": "system", "content": instructions}] if instructions else []
    for message in messages:
        found += _asked(message) if isinstance(message, ModelRequest) else [_answered(message)]
    return found


def tools_of(parameters: ModelRequestParameters | None) -> list[dict[str, Any]]:
    """The tools the model may call, in OpenAI's shape, with those it answers by."""
    if parameters is None:
        return []
    found = []
    for tool in (*parameters.function_tools, *parameters.output_tools):
        about = {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters_json_schema,
        }
        found.append({"type": "function", "function": about})
    return found


def _asked(message: ModelRequest) -> Iterator[dict[str, Any]]:
    for part in message.parts:
        match part:
            case SystemPromptPart(content=text):
                yield {"role": "system", "content": text}
            case UserPromptPart(content=content):
                said = content if isinstance(content, str) else [_piece(one) for one in content]
                yield {"role": "user", "content": said}
            case ToolReturnPart():
                yield {"role": "tool", "tool_call_id": part.tool_call_id, "content": _text(part.content)}
            case RetryPromptPart(tool_name=None):
                yield {"role": "user", "content": _text(part.content)}
            case RetryPromptPart():
                yield {"role": "tool", "tool_call_id": part.tool_call_id, "content": _text(part.content)}
            case _:
                yield {"role": "user", "content": None, "part": _plain(part)}


def _answered(message: Any) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    said: dict[str, Any] = {"role": "assistant", "content": None}
    for part in message.parts:
        match part:
            case TextPart(content=text):
                texts.append(text)
            case ThinkingPart(content=text):
                thoughts.append(text)
            case ToolCallPart():
                function = {"name": part.tool_name, "arguments": _text(part.args or {})}
                call = {"id": part.tool_call_id, "type": "function", "function": function}
                said.setdefault("tool_calls", []).append(call)
            case _:
                said.setdefault("parts", []).append(_plain(part))
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    return {**said, "content": "".join(texts)} if texts else said


def _piece(content: Any) -> Any:
    return {"type": "text", "text": content} if isinstance(content, str) else _plain(content)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, fallback=str)
