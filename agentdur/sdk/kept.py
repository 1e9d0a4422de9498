"""State that is written once and never changed, read without a journal entry.

`ctx.get` journals the value it read, so that a replay sees the same. What cannot change needs no copy: an
append-only log read by `ctx.get` in every invocation would cost the journal its whole length each time.

Rules of this file:
1. Only names that a handler never writes twice may be read here, and none that the reading invocation could
   have found absent and then written itself.
2. Where the server sends state lazily, it is read as `ctx.get` does.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentdur.core import journal as j
from agentdur.sdk.context import Context, ObjectContext, ObjectSharedContext, branch_of
from agentdur.sdk.serde import BytesSerde, Serde

_RAW: Serde[bytes | None] = BytesSerde()  # type: ignore[assignment]  # it reads what is absent as None


async def read_kept(ctx: Context, names: Iterable[str]) -> list[bytes | None]:
    """The values of these names, None for what is absent; bytes as they are stored."""
    assert isinstance(ctx, ObjectContext | ObjectSharedContext)  # others have no state
    branch = branch_of(ctx)
    attempt = branch.attempt
    attempt.flush()  # what this invocation has just written is seen
    values = attempt.driver.values(attempt)
    found: list[bytes | None] = []
    for name in names:
        lazily = branch.recorded and isinstance(branch.recorded[-1][1], j.GetLazyState)
        if lazily or (name not in values and attempt.partial_state):
            found.append(await ctx.get(name, serde=_RAW))
        else:
            found.append(values.get(name))
    return found
