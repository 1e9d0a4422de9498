"""What a model sees of a long conversation: the end of it, or a summary and the end of it.

Rules of this file:
1. Nothing of the history is changed or lost: compaction decides what is shown, and the history stays.
2. A cut is made before a user's message, never between a tool call and its answer.
3. A summary is written by a model, once, as a step of the turn that needed it; later turns build on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agentdur.core.errors import BadDefinition
from agentdur.llm import Usage, completion
from agentdur.sdk.context import Context
from agentdur.sessions.history import cut_at_user
from agentdur.sessions.words import Digest, Message, Stored, text_of

Entries = Sequence[tuple[int, Stored]]

_ASK = (
    "Summarise the conversation so far for whoever continues it: what was asked, decided, found out and "
    "promised, with all names, numbers and open questions. Write only the summary."
)
_SUMMARY = "Summary of the conversation so far:\n"


@dataclass(frozen=True)
class Compacted:
    """What the model sees, the digest that is in force from now on, and what it cost to write it."""

    entries: Entries
    digest: Digest | None
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    model_calls: int = 0


class Compaction(Protocol):
    """How a conversation is made short."""

    async def compact(self, ctx: Context, entries: Entries, digest: Digest | None) -> Compacted:
        """`entries`: those that the digest does not cover."""


@dataclass(frozen=True)
class Window:
    """The model sees about the last `messages` messages; what came before it never learns of."""

    messages: int = 40

    def __post_init__(self) -> None:
        if self.messages < 1:
            raise BadDefinition(f"a window of {self.messages} messages shows a model nothing")

    async def compact(self, ctx: Context, entries: Entries, digest: Digest | None) -> Compacted:
        """Leave away what is too old."""
        return Compacted(entries[cut_at_user(entries, self.messages) :], None)


@dataclass(frozen=True)
class Summary:
    """When more than `over` messages are not summarised, `model` writes a summary of all but about the last
    `keep`; the summary before it is part of what it reads."""

    model: str
    over: int = 40
    keep: int = 10
    instructions: str = _ASK

    def __post_init__(self) -> None:
        if not 1 <= self.keep < self.over:
            raise BadDefinition(f"keep ({self.keep}) is at least 1 and less than over ({self.over})")

    async def compact(self, ctx: Context, entries: Entries, digest: Digest | None) -> Compacted:
        """Write a summary when it is time for one."""
        if len(entries) <= self.over:
            return Compacted(entries, digest)
        cut = cut_at_user(entries, self.keep)
        if cut == 0:
            return Compacted(entries, digest)
        told = [digest.text] if digest is not None else []
        told += [_line(entry.message) for _, entry in entries[:cut] if entry.message is not None]
        answer = await completion(
            ctx, self.model,
            [{"role": "system", "content": self.instructions}, {"role": "user", "content": "\n".join(told)}],
            role="summary",
        )  # fmt: skip
        new = Digest(upto=entries[cut][0], text=answer.text)
        return Compacted(entries[cut:], new, answer.usage, answer.cost, 1)


def digest_message(digest: Digest) -> Message:
    """The digest as the model reads it."""
    return {"role": "system", "content": _SUMMARY + digest.text}


def _line(message: Message) -> str:
    said = text_of(message.get("content"))
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        said += f" [calls {function.get('name')}({function.get('arguments')})]"
    return f"{message.get('role')}: {said}"
