"""The OpenAPI document of the admin API: how errors look is said once for all routes."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_ERROR: Json = {
    "type": "object",
    "properties": {
        "message": {"type": "string"},
        "restate_code": {"type": ["string", "null"], "description": "META0003 and the like"},
    },
    "required": ["message", "restate_code"],
}
_REFUSED: Json = {
    "description": "Refused, and nothing was changed: JSON, or a line of text for what cannot be read.",
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/Error"}},
        "text/plain": {"schema": {"type": "string"}},
    },
}
_FRAMEWORK = ("HTTPValidationError", "ValidationError")


def with_errors(document: Json) -> Json:
    """The framework's document, with what this API answers instead of the framework's own errors."""
    components = document.setdefault("components", {})
    schemas = {name: one for name, one in components.get("schemas", {}).items() if name not in _FRAMEWORK}
    components["schemas"] = {**schemas, "Error": _ERROR}
    components["responses"] = {"Refused": _REFUSED}
    for path in document["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            answers.pop("422", None)
            answers["4XX"] = {"$ref": "#/components/responses/Refused"}
    return document
