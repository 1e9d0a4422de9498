"""What a model is told, in the shape in which `agentdur.llm` keeps conversations, for views and budgets."""

from __future__ import annotations

import json
from typing import Any

from google.adk.models.llm_request import LlmRequest
from google.genai import types

from agentdur.integrations.google_adk.codec import plain

_ROLES = {"model": "assistant"}


def messages_of(request: LlmRequest) -> list[dict[str, Any]]:
    """The conversation, in OpenAI's shape."""
    found: list[dict[str, Any]] = []
    instruction = request.config.system_instruction
    if instruction:
        text = instruction if isinstance(instruction, str) else str(instruction)
        found.append({"role": "system", "content": text})
    for content in request.contents:
        found += _messages(content)
    return found


def _messages(content: types.Content) -> list[dict[str, Any]]:
    said: dict[str, Any] = {"role": _ROLES.get(content.role or "", content.role or "user"), "content": None}
    answers: list[dict[str, Any]] = []
    for part in content.parts or ():
        if part.function_response is not None:
            answers.append(_answered(part.function_response))
        elif part.function_call is not None:
            said.setdefault("tool_calls", []).append(_called(part.function_call))
        elif part.text is not None:
            name = "reasoning_content" if part.thought else "content"
            said[name] = (said.get(name) or "") + part.text
        else:
            said.setdefault("parts", []).append(plain(part))
    return answers if answers and len(said) == 2 and said["content"] is None else [said, *answers]


def _called(call: types.FunctionCall) -> dict[str, Any]:
    function = {"name": call.name or "", "arguments": json.dumps(call.args or {}, ensure_ascii=False)}
    return {"id": call.id or "", "type": "function", "function": function}


def _answered(response: types.FunctionResponse) -> dict[str, Any]:
    content = json.dumps(plain(response).get("response", {}), ensure_ascii=False)
    return {
        "role": "tool",
        "tool_call_id": response.id or "",
        "name": response.name or "",
        "content": content,
    }


def tools_of(request: LlmRequest) -> list[dict[str, Any]]:
    """The tools the model may call, in OpenAI's shape."""
    return [
        {"type": "function", "function": _declared(declaration)}
        for tool in request.config.tools or ()
        for declaration in getattr(tool, "function_declarations", None) or ()
    ]


def _declared(declaration: types.FunctionDeclaration) -> dict[str, Any]:
    schema: Any = declaration.parameters_json_schema
    if schema is None and declaration.parameters is not None:
        schema = plain(declaration.parameters)
    return {
        "name": declaration.name or "",
        "description": declaration.description or "",
        "parameters": schema or {},
    }
