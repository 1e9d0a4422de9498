"""Reading state that never changes, at no cost.

Rules of this file:
1. A value that is written once is the same whenever it is read, so a replay needs no entry of having read it.
2. Whoever uses this keeps that promise: a name is never written a second time, and is cleared by a later
   invocation only.
"""

from __future__ import annotations

from typing import Any

from agentdur.sdk.context import Context
from agentdur.sdk.serde import JsonSerde

_JSON: JsonSerde[Any] = JsonSerde()


async def once_written(ctx: Context, name: str) -> Any:
    """A state value that is written once, None while it is not: no entry is made of reading it. Where the
    state is not at hand, on a server that sends it value by value, it is read as any other."""
    attempt = ctx._attempt
    attempt.here()
    if attempt.partial_state:
        return await ctx.get(name)  # type: ignore[attr-defined]  # contexts with state have it
    attempt.flush()  # what was written just now is seen
    value = attempt.driver.values(attempt).get(name)
    return None if value is None else _JSON.deserialize(value)
