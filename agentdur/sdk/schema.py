"""The JSON schema of an annotation, for discovery and for the OpenAPI pages."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pydantic

from agentdur.sdk.serde_kind import JsonReader, is_model, reader_of


def json_schema(
    type_hint: Any, mode: Literal["validation", "serialization"] = "validation"
) -> dict[str, Any] | None:
    """The schema of what is read (`validation`) or written; None when untyped, bytes, or beyond schemas."""
    if type_hint is bytes or type_hint is bytearray:
        return None
    reader = JsonReader.PYDANTIC if is_model(type_hint) else reader_of(type_hint)[0]
    try:
        match reader:
            case JsonReader.UNTYPED:
                return None
            case JsonReader.MSGSPEC:
                return msgspec.json.schema(type_hint, schema_hook=_schema_of_model)
            case JsonReader.PYDANTIC:
                return pydantic.TypeAdapter(type_hint).json_schema(mode=mode)
    except (TypeError, NameError, pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema):
        return None  # a type can be readable and still have parts no schema can say


def _schema_of_model(type_hint: Any) -> dict[str, Any]:
    return pydantic.TypeAdapter(type_hint).json_schema()
