"""Values that are journaled only when there are any, and what a model had said when it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentdur.core import journal as j
from agentdur.sdk.context import Context, branch_of
from agentdur.sdk.segment import START, STREAM


def noted(ctx: Context, name: str, look: Callable[[], Any]) -> Any:
    """What `look` sees, journaled under this name if it is anything; on a replay what was journaled here, or
    None, without looking."""
    recorded = branch_of(ctx).recorded
    if recorded:
        there = recorded[-1][1]
        if not isinstance(there, j.Run) or there.name != name:
            return None
    value = look()  # not needed when the journal has it, and then what was seen before
    if not value and not recorded:
        return None
    return ctx.note_value(name, value).result()


def interrupted_text(ctx: Context) -> str:
    """The text that the model of the interrupted step had streamed; from now on it is part of the stream."""
    branch = branch_of(ctx)
    segment, branch.dropped = branch.dropped, None
    text = ""
    if segment is not None:
        chunks, _ = segment.since(START)
        text = "".join(
            chunk["delta"] for chunk in chunks if isinstance(chunk, dict) and chunk.get("type") == "text"
        )
    chunk = noted(ctx, STREAM, lambda: {"type": "text", "delta": text} if text else None)
    return str(chunk["delta"]) if chunk else ""
