"""Crash a story at every commit, before it is made and after, and let it go on: what came out of it.

async for crashed in every_boundary(stage, services, ask): ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from agentdur.core.ports import Filter
from agentdur.observe.observer import EngineObserver
from agentdur.sdk.service import BaseService
from tests.support.stage import InlineCommitter, Stage, check_journal

PATIENCE_SECONDS = 30.0
COMMITS_MAX = 400


class Replayed:
    """One run that died at commit `limit` (`after`: when it had been made) and went on in a new process."""

    def __init__(self, limit: int, after: bool, answer: Any) -> None:
        self.limit, self.after, self.answer = limit, after, answer

    def __repr__(self) -> str:
        return f"crashed {'after' if self.after else 'before'} commit {self.limit}: {self.answer!r}"


async def every_boundary(
    stage: Stage,
    services: Sequence[BaseService],
    ask: Callable[[], Awaitable[Any]],
    begin: Callable[[], None] = lambda: None,
    observe: Callable[[], EngineObserver | None] = lambda: None,
) -> AsyncIterator[Replayed]:
    """Run `ask` (idempotent: it is asked again after the crash) once for each commit it makes. `begin` is
    called before each run: forget what was counted. `observe` gives each engine its observer. Ends at the
    first limit that was not reached."""
    for after in (False, True):
        for limit in range(1, COMMITS_MAX):
            stage.fresh()
            begin()
            committer = InlineCommitter(limit, after)
            await stage.start(*services, committer=lambda made=committer: made, observer=observe())
            asking = asyncio.ensure_future(ask())
            crash = asyncio.ensure_future(committer.crashed.wait())
            await asyncio.wait({asking, crash}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            crash.cancel()
            if not committer.crashed.is_set():
                await asking
                await stage.close()
                break
            asking.cancel()
            await stage.crash()
            await asyncio.sleep(0.02)  # threads and sockets of the dead come to their end
            await stage.start(*services, committer=InlineCommitter, observer=observe())
            answer = await asyncio.wait_for(ask(), PATIENCE_SECONDS)
            for row in await stage.engine.list(Filter()):
                check_journal(stage.journal(row["id"]), row["status"] == "completed")
            yield Replayed(limit, after, answer)
            await stage.close()
