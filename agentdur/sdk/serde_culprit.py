"""Which part of a value has no JSON form: looked for only after writing it has failed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pydantic

from agentdur.sdk.serde_kind import type_name

DEPTH_MAX = 100
"""How deep the culprit is looked for; deeper values are named by their depth."""


def culprit(value: Any, encode: Callable[[Any], bytes], error: Exception) -> str:
    """One line: the path of the part that fails, and why."""
    found = _search(value, encode, "$", 0)
    return (
        found
        or f"{type_name(type(value))}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    )


def _search(value: Any, encode: Callable[[Any], bytes], path: str, depth: int) -> str | None:
    if depth > DEPTH_MAX:
        return f"at {path[:60]}…: it contains itself, or is nested more than {DEPTH_MAX} deep"
    if isinstance(value, float) and not math.isfinite(value):
        return f"at {path}: {value!r} is no JSON number"
    if isinstance(value, Mapping) and (bad := _bad_key(value, encode)):
        return f"at {path}: the key {bad[0]!r} is of type {bad[1]}, which cannot be a JSON key"
    for step, part in _parts(value):
        if found := _search(part, encode, path + step, depth + 1):
            return found
    try:
        encode(value)
    except UnicodeEncodeError:
        return f"at {path}: the text holds a lone surrogate, which UTF-8 cannot write"
    except Exception as error:  # an encoder hook or a model's serializer may raise anything
        return (
            f"at {path}: {type_name(type(value))} ({str(error).splitlines()[0] if str(error) else 'refused'})"
        )
    return None


def _bad_key(value: Mapping[Any, Any], encode: Callable[[Any], bytes]) -> tuple[Any, str] | None:
    for key in value:
        try:
            encode({key: None})
        except (TypeError, ValueError):
            return key, type_name(type(key))
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value consists of, each with its step of the path."""
    if isinstance(value, Mapping):
        yield from ((f".{key}", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{at}]", part) for at, part in enumerate(value))
    elif isinstance(value, pydantic.BaseModel):
        yield from ((f".{name}", part) for name, part in value)
    elif isinstance(value, msgspec.Struct):
        yield from ((f".{name}", getattr(value, name, None)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{one.name}", getattr(value, one.name, None)) for one in dataclasses.fields(value))
