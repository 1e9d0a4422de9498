"""What a model reads: results, errors, and what was wrong with its arguments."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from agentdur.core.errors import NotSerializable
from agentdur.sdk.serde import DefaultSerde

_JSON: DefaultSerde[Any] = DefaultSerde()


class Misfit(ValueError):
    """Arguments that are not what the tool takes; the text says to the model what is wrong."""


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong, at once and in these words; nothing is retried."""


class ToolTimeout(Exception):
    """A tool did not answer within its timeout."""


def text_of(value: Any) -> str:
    """A result as the model reads it: text as it is, all else as JSON."""
    if value is None:
        return "null"
    return value if isinstance(value, str) else _JSON.serialize(value).decode()


def told(value: Any) -> tuple[str, bool]:
    """A result as the model reads it, and whether that is word of a failure: what has no JSON form is one."""
    try:
        return text_of(value), False
    except NotSerializable as error:
        return f"Error: the tool ran, but what it returned cannot be told. {error}", True


def too_long(text: str, limit: int) -> str | None:
    """What the model is told instead of an answer above the limit; None for one within it."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size <= limit:
        return None
    return (
        f"Error: the tool's answer has {size} bytes, the limit is {limit} (tool-answer-limit). "
        "It was not kept. Ask for less, or for a part."
    )


def misfits(error: ValidationError) -> str:
    """What is wrong with the arguments, for a model to read."""
    found = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"])
        found.append(f"{place}: {problem['msg']}" if place else str(problem["msg"]))
    return "; ".join(found)
