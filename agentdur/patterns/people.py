"""A person looks at what an agent made before it counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from agentdur.patterns.doer import Doer, do
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError

ROUNDS_MAX = 3


class NotApproved(TerminalError):
    """The person said no for the last time, or nothing in time."""

    KIND = "not_approved"


async def human_review(
    ctx: Context, task: Any, writer: Doer, question: str, timeout: timedelta | None = None, *,
    rounds_max: int = ROUNDS_MAX,
) -> Any:  # fmt: skip
    """What the writer made, once a person approved it (as it is, or as they edited it). A rejection with a
    reason goes back to the writer as `{"task", "draft", "feedback"}`, `rounds_max` drafts at most. Waiting
    costs nothing and survives restarts. NotApproved (403) when it was refused for the last time, 408 when
    nobody answered within `timeout`."""
    draft = await do(ctx, writer, task)
    rounds = 0
    while True:
        rounds += 1
        said = await ctx.approval(question, payload=draft, timeout=timeout)
        if said:
            return said.payload if said.edited else draft
        if said.timed_out or rounds >= rounds_max:
            status = 408 if said.timed_out else 403
            raise NotApproved(said.reason or "not approved", status, {"kind": NotApproved.KIND})
        draft = await do(ctx, writer, {"task": task, "draft": draft, "feedback": said.reason})
