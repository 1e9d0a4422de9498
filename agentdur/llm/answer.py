"""What a model answered, as data: the value of a model step, so it reads back from the journal unchanged."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from agentdur.core.errors import BadRequest
from agentdur.sdk.serde import serde_for

T = TypeVar("T")


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool the model wants run. `arguments` is the model's own text: it should be JSON, and may not be."""

    id: str
    name: str
    arguments: str = ""
    cut: bool = False
    """The answer ended within this call, or may have: it was too long, or somebody's filter ended it."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens as the provider counted them; cached and reasoning tokens are part of the first two."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    guessed: bool = False
    """Nobody counted: the lengths of what was said are all there is."""

    @property
    def total_tokens(self) -> int:
        """Both directions together."""
        return self.prompt_tokens + self.completion_tokens


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer. `message` is the assistant message in OpenAI's shape: append it to the conversation as it
    is, with whatever the provider wants to see again (tool calls, reasoning, signatures)."""

    message: dict[str, Any]
    finish_reason: str = "stop"
    model: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    """In US dollars, as priced when the answer came; None when the price is not known."""
    request_id: str = ""

    @property
    def cut(self) -> bool:
        """The model did not come to its end."""
        return self.finish_reason in ("length", "content_filter")

    @property
    def text(self) -> str:
        """What the model said; empty when it only called tools."""
        return self.message.get("content") or ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tools the model wants run, in its order."""
        calls = self.message.get("tool_calls") or ()
        return [
            ToolCall(
                id=call["id"],
                name=(call.get("function") or {}).get("name") or "",
                arguments=(call.get("function") or {}).get("arguments") or "",
                cut=self.cut and number == len(calls),
            )
            for number, call in enumerate(calls, 1)
        ]

    def parsed(self, type_: type[T]) -> T:
        """The text as a value of that type, for answers asked for with `response_format`. ValueError when it
        does not fit: the text is in the message."""
        try:
            value: T | None = serde_for(type_).deserialize(self.text.encode())
        except BadRequest as misfit:
            raise ValueError(f"the model's answer is no {type_.__name__}: {misfit.detail}") from misfit
        if value is None:
            raise ValueError(f"the model's answer is no {type_.__name__}: it is empty")
        return value
