"""What a tool changed in the run's own context object, so that a replay changes it again.

Rules of this file:
1. A tool that ran in a step does not run again. The fields it changed in a pydantic model, a dataclass or a
   dict are journaled with its result and set again on a replay, field by field.
2. Fields that are no data (clients, locks, functions) are left alone. What is changed deeper than JSON
   shows, or in objects of other kinds, needs an inline tool.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python


def fields_of(state: Any) -> dict[str, Any]:
    """The fields of the object that are data, as JSON."""
    found: dict[str, Any] = {}
    for name, value in _items(state):
        try:
            found[name] = to_jsonable_python(value)
        except (PydanticSerializationError, ValueError, RecursionError):
            continue
    return found


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not what they were."""
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def set_again(state: Any, values: Mapping[str, Any]) -> None:
    """Make the object have these values, unless it has them."""
    now = fields_of(state)
    for name, value in values.items():
        if name in now and now[name] == value:
            continue
        if isinstance(state, dict):
            state[name] = value
        else:
            setattr(state, name, _as_declared(state, name, value))


def _items(state: Any) -> list[tuple[str, Any]]:
    if isinstance(state, dict):
        return [(name, value) for name, value in state.items() if isinstance(name, str)]
    if isinstance(state, BaseModel):
        return [(name, getattr(state, name)) for name in type(state).model_fields]
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return [(f.name, getattr(state, f.name)) for f in dataclasses.fields(state) if hasattr(state, f.name)]
    return []


def _as_declared(state: Any, name: str, value: Any) -> Any:
    """The JSON value as the type the field has."""
    declared: Any
    if isinstance(state, BaseModel):
        declared = type(state).model_fields[name].annotation
    else:
        declared = next(f.type for f in dataclasses.fields(state) if f.name == name)
        declared = getattr(type(state), "__annotations__", {}).get(name, declared)
    try:
        return TypeAdapter(declared).validate_python(value)
    except (PydanticUserError, ValidationError, NameError, TypeError):
        return value
