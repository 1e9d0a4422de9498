"""Answers in a form: the schema that is sent, the check of what comes, the words of a repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentdur.core.errors import BadDefinition
from agentdur.llm.answer import ModelAnswer
from agentdur.sdk.schema import json_schema
from agentdur.sdk.serde_kind import is_model, type_name


class Form:
    """What an answer shall look like: a type, or a provider's own description, which is not checked here."""

    __slots__ = ("sent", "type")

    def __init__(self, response_format: Any) -> None:
        self.type: Any = None
        if isinstance(response_format, Mapping):
            self.sent: Any = dict(response_format)
            return
        self.type = response_format
        self.sent = response_format if is_model(response_format) else described(response_format)

    def misfit(self, answer: ModelAnswer) -> str | None:
        """What does not fit, in words for the model; None when all is well, or when it is not done yet."""
        if self.type is None or answer.tool_calls:
            return None
        try:
            answer.parsed(self.type)
        except ValueError as misfit:
            return f"it was cut off before its end, so say less ({misfit})" if answer.cut else str(misfit)
        return None


def described(type_hint: Any) -> dict[str, Any]:
    """A dataclass, TypedDict, Struct or the like as OpenAI's `response_format`."""
    schema = json_schema(type_hint)
    name = type_name(type_hint)
    if schema is None:
        raise BadDefinition(f"response_format={name}: no schema can say what it is")
    reference = schema.get("$ref")
    if isinstance(reference, str):  # providers want the object itself at the root
        definitions = schema["$defs"]
        schema = {**definitions[reference.rpartition("/")[2]], "$defs": definitions}
    if schema.get("type") != "object":
        raise BadDefinition(
            f"response_format={name}: providers take an object; put the value into a field of one"
        )
    safe = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64]
    return {"type": "json_schema", "json_schema": {"name": safe, "schema": schema}}


def repair(messages: list[dict[str, Any]], answer: ModelAnswer, misfit: str) -> list[dict[str, Any]]:
    """The conversation that asks for the same answer in the right form."""
    words = f"That does not fit: {misfit}. Answer again, with JSON that fits the schema and nothing else."
    return [*messages, answer.message, {"role": "user", "content": words}]
