"""A streamed answer: heard piece by piece, kept whole.

Rules of this file:
1. What is told to readers adds up to what is journaled: the text of the answer is the text of its deltas.
2. An answer without a reason to finish is a broken one, whatever has been heard of it.
3. The vocabulary of the pieces: text, reasoning, tool_call, and one finish at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import msgspec

from agentdur.llm.answer import ModelAnswer

Hear = Callable[[dict[str, Any]], None]


class _Call:
    """A tool call as far as it has been heard."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = self.name = self.arguments = ""


class Hearing:
    """Takes the chunks of one answer in OpenAI's shape and tells `hear` what each one adds."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self.begun = False
        """True when something was heard that a person could see."""

    def take(self, chunk: Any) -> None:
        """One chunk."""
        for choice in chunk.choices[:1]:
            for piece in self._pieces(choice.delta):
                self.begun = True
                self._hear(piece)

    def _pieces(self, delta: Any) -> Iterator[dict[str, Any]]:
        reasoning = getattr(delta, "reasoning_content", None)
        if reasoning:
            self._reasoning.append(reasoning)
            yield {"type": "reasoning", "delta": reasoning}
        if delta.content:
            self._text.append(delta.content)
            yield {"type": "text", "delta": delta.content}
        for part in delta.tool_calls or ():
            call = self._calls.setdefault(part.index, _Call())
            function = part.function
            call.id = call.id or part.id or f"call_{uuid4().hex}"  # some providers send none
            call.name = call.name or (function and function.name) or ""
            arguments = (function and function.arguments) or ""
            call.arguments += arguments
            yield {"type": "tool_call", "id": call.id, "name": call.name, "delta": arguments}

    def whole(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message that a builder made of the same chunks, with the words that were heard."""
        out = {**message, "role": "assistant", "content": "".join(self._text) or None}
        if self._reasoning:
            out["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            built = message.get("tool_calls") or ()
            calls = [call for _, call in sorted(self._calls.items())]
            extras = [*built] if len(built) == len(calls) else [{} for _ in calls]
            out["tool_calls"] = [
                {
                    **extra,
                    "id": call.id,
                    "type": "function",
                    "function": {
                        **(extra.get("function") or {}),
                        "name": call.name,
                        "arguments": call.arguments,
                    },
                }
                for call, extra in zip(calls, extras, strict=True)
            ]
        else:
            out.pop("tool_calls", None)
        return out

    def finish(self, answer: ModelAnswer) -> ModelAnswer:
        """The last piece: why it ended and what it cost."""
        self._hear(
            {
                "type": "finish",
                "reason": answer.finish_reason,
                "usage": msgspec.to_builtins(answer.usage),
                "model": answer.model,
                "cost": answer.cost,
            }
        )
        return answer
