"""JSON schemas of a manifest: whether they are any, and whether what they refer to is there.

Loaded when the first schema arrives: the library takes its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from agentdur.core.catalog import Schema
from agentdur.core.errors import DiscoveryFailed

DEPTH_MAX = 200
"""How deep a schema is looked into."""


def check_schema(place: str, schema: Schema) -> None:
    """DiscoveryFailed when it is none, or refers to what it does not hold; nothing is fetched."""
    try:
        validator_for(schema).check_schema(schema)  # type: ignore[arg-type]  # a bool is one, too
        root = DRAFT202012.create_resource(schema)
        resolver = Registry().resolver_with_root(root)
        for reference in _references(schema, 0):
            resolver.lookup(reference)
    except SchemaError as error:
        raise DiscoveryFailed(f"{place} has a JSON schema that is none: {error.message}", 400) from error
    except Unresolvable as error:
        raise DiscoveryFailed(
            f"{place} has a JSON schema that refers to {error.ref!r}, which is not in it", 400
        ) from error
    except RecursionError as error:
        raise DiscoveryFailed(f"{place} has a JSON schema that is nested too deep", 400) from error


def _references(part: Any, depth: int) -> Iterator[str]:
    if depth > DEPTH_MAX:
        raise RecursionError
    if isinstance(part, dict):
        if isinstance(reference := part.get("$ref"), str):
            yield reference
        for name, inner in part.items():
            if name not in ("enum", "const", "default", "examples"):
                yield from _references(inner, depth + 1)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner, depth + 1)
