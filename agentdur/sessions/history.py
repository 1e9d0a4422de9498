"""The history as a log: what of it is the conversation now, and what of that may be shown to a model.

Rules of this file:
1. All of it is pure: a log goes in, a conversation comes out.
2. A model is never sent a torn pair: each tool call has exactly one answer right behind it, and each answer
   has its call. What is missing is said in words, what has no call is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentdur.sessions.words import Message, Shown, Stored

NO_RESULT = "[interrupted before a result was recorded: this call may have taken effect, or not]"
"""What a model is told instead of the answer of a tool that was stopped."""


def conversation(log: Sequence[tuple[int, Stored]]) -> list[tuple[int, Stored]]:
    """The entries that are still part of it, rewinds applied, oldest first."""
    kept: list[tuple[int, Stored]] = []
    for index, entry in log:
        if entry.rewind is not None:
            while kept and kept[-1][0] >= entry.rewind:
                kept.pop()
        else:
            kept.append((index, entry))
    return kept


def shown(log: Sequence[tuple[int, Stored]]) -> list[Shown]:
    """Every message of the log, those that were dropped marked."""
    live = {index for index, _ in conversation(log)}
    return [
        Shown(
            index=index, id=entry.id, turn=entry.turn, at=entry.at, role=entry.message.get("role", ""),
            message=entry.message, partial=entry.partial, dropped=index not in live,
        )
        for index, entry in log
        if entry.message is not None
    ]  # fmt: skip


def mended(messages: Iterable[Message]) -> list[Message]:
    """The same conversation without torn pairs."""
    whole: list[Message] = []
    open_calls: list[str] = []

    def close() -> None:
        whole.extend({"role": "tool", "tool_call_id": one, "content": NO_RESULT} for one in open_calls)
        open_calls.clear()

    for message in messages:
        if message.get("role") == "tool":
            call = message.get("tool_call_id")
            if call in open_calls:
                open_calls.remove(call)
                whole.append(message)
            continue
        close()
        whole.append(message)
        open_calls.extend(call["id"] for call in message.get("tool_calls") or ())
    close()
    return whole


def cut_at_user(entries: Sequence[tuple[int, Stored]], keep: int) -> int:
    """How many entries to leave away, so that about `keep` stay and the first of them is a user's; 0 when
    there is no such place."""
    for position in range(max(0, len(entries) - keep), 0, -1):
        message = entries[position][1].message
        if message is not None and message.get("role") == "user":
            return position
    return 0
