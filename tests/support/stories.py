"""A story told again and again: each time the process dies at another commit, and the end is the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from agentdur.core.ids import InvocationId
from agentdur.sdk.service import BaseService
from tests.support.stage import InlineCommitter, Stage, check_journal

COMMITS_MAX = 400
"""A story that makes more commits than this is no story."""


def just(committer: InlineCommitter) -> Callable[[], InlineCommitter]:
    """What makes nothing new, but gives this one."""
    return lambda: committer


async def every_crash(
    stage: Stage,
    services: tuple[BaseService, ...],
    ask: Callable[[Stage], Awaitable[Any]],
    check: Callable[[Any, bool], None],
    *,
    stride: int = 1,
) -> int:
    """`ask` the engine once without a crash, then with a crash at each commit, before and after it is made;
    whoever was cut off asks the next engine again, so `ask` must be idempotent. `check` sees each answer and
    whether there was a crash. `stride`: leave some of the commits out. Answers the number of crashes."""
    crashes = 0
    for after in (False, True):
        for limit in range(1, COMMITS_MAX, stride):
            stage.fresh()
            committer = InlineCommitter(limit, after)
            await stage.start(*services, committer=lambda made=committer: made)
            answer = await _answer_or_crash(stage, ask, committer)
            if committer.crashed.is_set():
                crashes += 1
                await stage.restart(committer=InlineCommitter)
                answer = await asyncio.wait_for(ask(stage), 10)
            check(answer, committer.crashed.is_set())
            ended = not committer.crashed.is_set()
            await stage.close()
            if ended:
                break
        else:
            raise AssertionError("the story has no end")
    return crashes


async def crash_after_crash(
    stage: Stage,
    services: tuple[BaseService, ...],
    ask: Callable[[Stage], Awaitable[Any]],
    commits: int,
) -> tuple[Any, int]:
    """Every engine dies at its `commits`-th commit, until one of them lives to give the answer. Answers that,
    and the number of crashes."""
    stage.fresh()
    for crashes in range(COMMITS_MAX):
        committer = InlineCommitter(commits, after=crashes % 2 == 0)
        await stage.start(*services, committer=just(committer))
        answer = await _answer_or_crash(stage, ask, committer)
        if not committer.crashed.is_set():
            await stage.close()
            return answer, crashes
        await stage.crash()
    raise AssertionError("the story has no end")


async def _answer_or_crash(
    stage: Stage, ask: Callable[[Stage], Awaitable[Any]], committer: InlineCommitter
) -> Any:
    asking = asyncio.ensure_future(ask(stage))
    crash = asyncio.create_task(committer.crashed.wait())
    done, _ = await asyncio.wait({asking, crash}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert done, "neither an answer nor a crash"
    crash.cancel()
    if committer.crashed.is_set():
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        return None
    return await asking


def check_all_journals(stage: Stage, *invocations: str) -> None:
    """Each of these invocations has ended and its journal is whole."""
    for invocation in invocations:
        row = stage.store.invocation(InvocationId(invocation))
        assert row is not None
        check_journal(stage.store.journal(row.seq))
