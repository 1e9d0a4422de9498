"""From a function to what a model needs to call it: a name, a description, a JSON schema, and a checker.

Rules of this file:
1. The schema says what the function takes, no more: types and defaults from the annotations, words from the
   docstring.
2. What cannot be described is refused where the tool is declared, not when the model calls it.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError

from agentdur.core.errors import BadDefinition
from agentdur.tools.key import takes_key

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What every provider takes as the name of a tool."""
_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?):\s*$")
_PARAMETER = re.compile(r"^(?P<indent>\s+)\*{0,2}(?P<name>\w+)\s*(\([^)]*\))?:\s*(?P<text>.*)$")


def arguments_model(function: Callable[..., Any], name: str) -> type[BaseModel]:
    """A model whose fields are the function's parameters. BadDefinition for what a model cannot give."""
    words = parameters_of(inspect.getdoc(function) or "")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as unknown:
        raise BadDefinition(f"tool '{name}': {unknown}, in an annotation") from unknown
    fields: dict[str, Any] = {}
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise BadDefinition(f"tool '{name}': parameter '{parameter.name}' cannot be given by name")
        if parameter.name not in hints:
            raise BadDefinition(f"tool '{name}': parameter '{parameter.name}' has no annotation")
        if takes_key(hints[parameter.name]):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        described: dict[str, Any] = {}
        if parameter.name in words:
            described["description"] = words[parameter.name]
        # By alias: a parameter may have any name, but a model's field may not be called `json` or `_x`.
        about = Field(default, alias=parameter.name, **described)
        fields[f"argument_{number}"] = (hints[parameter.name], about)
    try:
        return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticUserError, NameError, TypeError) as error:
        raise BadDefinition(f"tool '{name}': {error}") from error


def key_parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters that are given the call's key."""
    hints = typing.get_type_hints(function, include_extras=True)
    return tuple(name for name in inspect.signature(function).parameters if takes_key(hints.get(name)))


def given(arguments: BaseModel) -> dict[str, Any]:
    """The checked arguments, by the names of the function's parameters."""
    return {
        field.alias or name: getattr(arguments, name) for name, field in type(arguments).model_fields.items()
    }


def json_schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    """The schema of the arguments, without the titles pydantic adds to everything."""
    try:
        schema = model.model_json_schema()
    except PydanticUserError as error:
        raise BadDefinition(f"tool '{name}': {error}") from error
    schema.pop("title", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    schema.setdefault("properties", {})
    return schema


def description_of(doc: str) -> str:
    """The docstring up to its first section."""
    lines = []
    for line in doc.splitlines():
        if _SECTION.match(line.strip()):
            break
        lines.append(line)
    return "\n".join(lines).strip()


def parameters_of(doc: str) -> dict[str, str]:
    """The texts of the `Args:` section (Google's style), by parameter."""
    found: dict[str, str] = {}
    inside, current, indent = False, "", 0
    for line in doc.splitlines():
        section = _SECTION.match(line.strip())
        if section:
            inside, current = section[1] in ("Args", "Arguments", "Parameters"), ""
            continue
        if not inside or not line.strip():
            continue
        start = _PARAMETER.match(line)
        if start and (not current or len(start["indent"]) <= indent):
            current, indent = start["name"], len(start["indent"])
            found[current] = start["text"].strip()
        elif current:
            found[current] = f"{found[current]} {line.strip()}".strip()
    return found
