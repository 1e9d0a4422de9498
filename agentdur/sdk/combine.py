"""Combining futures: all of them, the first of them, one after another, or a race.

Rules of this file:
1. Of durable futures, the one stored first wins (the smallest journal index), on every attempt.
2. Of anything else (coroutines, tasks) the winner is journaled as a step named `race`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any

from agentdur.core.errors import ForeignFuture
from agentdur.core.journal import Combinator
from agentdur.sdk.attempt import Attempt
from agentdur.sdk.branch import Branch, current_branch
from agentdur.sdk.future import NEVER, DurableFuture, Group


def _owned(futures: tuple[Any, ...]) -> Attempt:
    attempt: Attempt | None = None
    for future in futures:
        if not isinstance(future, DurableFuture):
            raise ForeignFuture(f"{type(future).__name__} is not a durable future")
        if attempt is not None and future._attempt is not attempt:
            raise ForeignFuture("the futures belong to different invocations")
        attempt = future._attempt
    assert attempt is not None
    return attempt


async def _until(futures: tuple[DurableFuture[Any], ...], combinator: Combinator) -> None:
    attempt = _owned(futures)
    for future in futures:
        future.start()
    if any(f.outcome is not None and f.index == NEVER for f in futures):
        attempt.flush()  # results that are not stored yet have no place in the order
    await _Wait(attempt, Group(list(futures), combinator))


class _Wait:
    __slots__ = ("attempt", "group")

    def __init__(self, attempt: Attempt, group: Group) -> None:
        self.attempt, self.group = attempt, group

    def __await__(self) -> Any:
        return self.attempt.wait(self.group)


async def gather(*futures: DurableFuture[Any]) -> list[DurableFuture[Any]]:
    """Wait until all are complete; answers the futures, each to be awaited for its value or failure."""
    if futures:
        await _until(futures, Combinator.ALL_COMPLETED)
    return list(futures)


async def wait_completed(
    *futures: DurableFuture[Any],
) -> tuple[list[DurableFuture[Any]], list[DurableFuture[Any]]]:
    """Wait for the first; answers ([the first], [the others]), even when others are complete too: what is
    complete by now depends on timing, which of them was first does not."""
    if not futures:
        return [], []
    await _until(futures, Combinator.FIRST_COMPLETED)
    first = min(futures, key=lambda f: f.index)
    return [first], [f for f in futures if f is not first]


async def as_completed(*futures: DurableFuture[Any]) -> AsyncIterator[DurableFuture[Any]]:
    """The futures in the order in which they were completed."""
    rest = list(futures)
    while rest:
        done, rest = await wait_completed(*rest)
        yield done[0]


async def select(**futures: DurableFuture[Any]) -> list[Any]:
    """Wait for the first; answers [its name, its value]."""
    if not futures:
        raise ValueError("at least one future is needed")
    done, _ = await wait_completed(*futures.values())
    name = next(key for key, future in futures.items() if future is done[0])
    return [name, await done[0]]


async def race(*entrants: Awaitable[Any]) -> Any:
    """The value (or failure) of the one that ends first; the others are cancelled: tasks and coroutines stop,
    running steps stop and close their sockets, called invocations are cancelled."""
    if not entrants:
        raise ValueError("at least one entrant is needed")
    if all(isinstance(e, DurableFuture) for e in entrants):
        futures: tuple[Any, ...] = entrants
        done, losers = await wait_completed(*futures)
        for loser in losers:
            loser.abandon()
        return await done[0]
    return await _race_tasks(entrants)


async def _race_tasks(entrants: tuple[Awaitable[Any], ...]) -> Any:
    branch = current_branch()
    if branch is None:
        raise ForeignFuture("a race outside of a handler")
    attempt: Attempt = branch.attempt
    attempt.here()
    context = attempt.context
    first: int | None = context.recorded_value("race")
    decided = first is not None
    tasks: list[asyncio.Future[Any] | None] = []
    for number, entrant in enumerate(entrants):
        if decided and first != number:
            _drop(attempt, branch, number, entrant)
            tasks.append(None)
        else:
            attempt.next_label = f"race:{number}"
            tasks.append(asyncio.ensure_future(entrant))
            attempt.next_label = None
    running = [task for task in tasks if task is not None]
    try:
        if first is None:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            first = min(number for number, task in enumerate(tasks) if task in done)
        await context.note_value("race", first)
    finally:
        keep = None if first is None else tasks[first]
        await _stop(attempt, [task for task in running if task is not keep], entrants)
    assert keep is not None
    return await keep


def _drop(attempt: Attempt, branch: Branch, number: int, entrant: Awaitable[Any]) -> None:
    """A loser of a race that was decided before the crash does not run again."""
    if isinstance(entrant, asyncio.Future):
        _abandon(attempt, [entrant])
        entrant.cancel()
        return
    attempt.abandoned |= {branch.child(f"race:{number}").name}
    if isinstance(entrant, Coroutine):
        entrant.close()


def _abandon(attempt: Attempt, tasks: list[asyncio.Future[Any]]) -> None:
    """What earlier attempts recorded in these tasks need not be met again."""
    attempt.abandoned |= {branch.name for branch, task in attempt.branches.items() if task in tasks}


async def _stop(
    attempt: Attempt, tasks: list[asyncio.Future[Any]], entrants: tuple[Awaitable[Any], ...]
) -> None:
    _abandon(attempt, tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for entrant in entrants:
        if isinstance(entrant, DurableFuture) and entrant.outcome is None:
            entrant.abandon()
