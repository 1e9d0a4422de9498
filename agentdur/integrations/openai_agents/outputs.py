"""What a tool returned, as JSON, and back: the model must read the same text on a replay.

Rules of this file:
1. JSON values come back as they were, the SDK's own outputs (text, image, file) as what they were, and values
   of the type a tool declares as values of that type.
2. Anything else comes back as its text, which is all the model would have seen of it.
"""

from __future__ import annotations

from typing import Any, get_type_hints

from agents.tool import FunctionTool, ToolOutputFileContent, ToolOutputImage, ToolOutputText
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError

from agentdur.integrations.runs import is_json

_OWN: dict[str, Any] = {
    kind.__name__: kind for kind in (ToolOutputText, ToolOutputImage, ToolOutputFileContent)
}


def dump_output(tool: FunctionTool, value: Any) -> dict[str, Any]:
    """The value as tagged JSON data."""
    if is_json(value):
        return {"json": value}
    kind = type(value).__name__
    if _OWN.get(kind) is type(value):
        return {"own": kind, "json": value.model_dump(mode="json", exclude_unset=True)}
    if type(value) is list and value:
        return {"list": [dump_output(tool, item) for item in value]}
    typed = _typed(tool, value)
    return {"text": str(value)} if typed is None else {"typed": typed}


def load_output(tool: FunctionTool, data: dict[str, Any]) -> Any:
    """The value that was dumped."""
    if "own" in data:
        return _OWN[data["own"]].model_validate(data["json"])
    if "list" in data:
        return [load_output(tool, item) for item in data["list"]]
    if "typed" in data:
        adapter = _declared(tool)
        return data["typed"] if adapter is None else adapter.validate_python(data["typed"])
    return data["json"] if "json" in data else data["text"]


def _typed(tool: FunctionTool, value: Any) -> Any:
    """JSON of a value of the declared type, when it comes back equal; else None."""
    adapter = _declared(tool)
    if adapter is None:
        return None
    try:
        data = adapter.dump_python(value, mode="json", by_alias=True, warnings="error")
        return data if adapter.validate_python(data) == value else None
    except (ValueError, PydanticSerializationError):
        return None


def _declared(tool: FunctionTool) -> TypeAdapter[Any] | None:
    """How values of the type that the tool's function declares are written, if it declares one."""
    adapter: TypeAdapter[Any] | None = getattr(tool, "_output_type_adapter", None)
    if adapter is not None:
        return adapter
    try:
        hints = get_type_hints(tool.__wrapped__)
    except (AttributeError, NameError, TypeError):  # not made of a function, or of one without annotations
        return None
    declared = hints.get("return")
    if declared in (None, Any):
        return None
    try:
        return TypeAdapter(declared)
    except PydanticUserError:  # no type that data can be told from
        return None
