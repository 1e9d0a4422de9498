"""Cancellation of an invocation, as its attempts notice it.

Rules of this file:
1. A cancel signal reaches the branches that wait, or run a step, when it is noticed. Which ones is a
   decision, journaled in the branch `~cancel`: every replay interrupts the same ones at the same place.
2. A decision takes effect at the journal index of its result: what was stored before it is still seen.
3. Calls made so far are cancelled with it, sends are not (semantics §9.5).
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator
from typing import Any, Protocol

import msgspec

from agentdur.core import journal as j
from agentdur.core.replay import Recorded
from agentdur.sdk.branch import CANCEL_BRANCH, Branch
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.future import NEVER, CallFuture, DurableFuture

CANCELLED = "cancelled"
_NAMES = msgspec.json.Decoder(list[str])


class Attempt(Protocol):
    """What cancellation needs of an attempt."""

    branches: dict[Branch, asyncio.Task[Any]]
    buffer: list[j.Proposal]
    cancels: tuple[int, ...]
    closed: bool
    decided: int
    deciding: bool
    decisions: tuple[tuple[int, frozenset[str]], ...]
    loop: asyncio.AbstractEventLoop
    next_completion: int
    pending: dict[int, Any]
    recorded: Recorded
    root: Branch
    task: asyncio.Task[Any] | None

    def add(self, entry: j.Proposal) -> None:
        """Propose soon."""

    def flush(self) -> None:
        """Propose what is buffered."""

    def in_turn(self, branch: Branch, index: int) -> Generator[Any, Any, None]:
        """On replay: let those go on first that went on earlier."""

    def park(self, branch: Branch, thing: Any) -> Generator[Any, Any, None]:
        """Wait until `thing` is complete."""


class Decision:
    """Which branches one cancel signal reaches; waits to be stored, like a future."""

    __slots__ = ("attempt", "reached")

    def __init__(self, attempt: Attempt, reached: list[Branch]) -> None:
        self.attempt, self.reached = attempt, reached

    def resolve(self, index: int, outcome: j.Outcome) -> None:
        """It is stored: interrupt them."""
        attempt = self.attempt
        names = frozenset(branch.name for branch in self.reached)
        attempt.decisions = (*attempt.decisions, (index, names))
        for branch in self.reached:
            if branch.stop_step:
                task = attempt.branches.get(branch, attempt.task)
                assert task is not None  # its step runs
                task.cancel()
            elif branch.waiting is not None and not branch.waiting[0].done():
                branch.waiting[0].set_result(None)


def read_decisions(attempt: Attempt) -> None:
    """Those of earlier attempts."""
    for _, command in reversed(attempt.recorded.branches.get(CANCEL_BRANCH, [])):
        if isinstance(command, j.Run):
            known = attempt.recorded.completions.get(command.completion)
            if known is None:
                continue  # the connection broke in between: it is decided again
            index, completion = known
            assert isinstance(completion.outcome, j.Success)
            names = frozenset(_NAMES.decode(completion.outcome.value))
            attempt.decisions = (*attempt.decisions, (index, names))
    attempt.decided = len(attempt.decisions)


def decide_soon(attempt: Attempt) -> None:
    """In two turns of the loop, so that branches that are about to wait are included."""
    if not attempt.deciding:
        attempt.deciding = True
        attempt.loop.call_soon(attempt.loop.call_soon, decide, attempt)


def decide(attempt: Attempt) -> None:
    """Journal whom the cancel reaches. Nobody waits: the next one that does will be asked."""
    attempt.deciding = False
    if attempt.closed or attempt.decided >= len(attempt.cancels):
        return
    reached = [b for b in (attempt.root, *attempt.branches) if b.waiting is not None or b.stop_step]
    if not reached:
        return
    for call in attempt.pending.values():
        if isinstance(call, CallFuture) and isinstance(call.callee.outcome, j.CalleeId):
            callee = call.callee.outcome.invocation_id
            attempt.add(
                j.SendSignal(target=callee, signal=j.CANCEL_SIGNAL, outcome=j.VOID, branch=CANCEL_BRANCH)
            )
    attempt.decided += 1
    completion = attempt.next_completion
    attempt.next_completion += 1
    attempt.pending[completion] = Decision(attempt, reached)
    attempt.add(j.Run(completion=completion, name="cancel", branch=CANCEL_BRANCH))
    value = msgspec.json.encode(sorted(branch.name for branch in reached))
    attempt.add(j.RunResult(completion, j.Success(value)))
    attempt.flush()


def next_cancel(attempt: Attempt, branch: Branch) -> int:
    """Where the next cancellation that reaches this branch was stored, NEVER when none is known."""
    later = attempt.decisions[branch.cancels_seen :]
    return next((position for position, names in later if branch.name in names), NEVER)


def raise_if_cancelled(attempt: Attempt, branch: Branch, index: int) -> None:
    """Raise the cancellation that reached this branch before entry `index` was stored; once each."""
    while branch.cancels_seen < len(attempt.decisions):
        position, names = attempt.decisions[branch.cancels_seen]
        if index < position:
            return  # what it awaits was there first; tasks it makes now may be among those that are reached
        branch.cancels_seen += 1
        if branch.name in names:
            raise TerminalError(CANCELLED, 409)


@types.coroutine
def recorded_cancel(attempt: Attempt, branch: Branch) -> Generator[Any, Any, None]:
    """On replay, before a step without a result: it may have been interrupted, at its place in the order."""
    yield from attempt.in_turn(branch, NEVER)
    raise_if_cancelled(attempt, branch, NEVER)


@types.coroutine
def cancel_point(attempt: Attempt, branch: Branch, future: DurableFuture[Any]) -> Generator[Any, Any, None]:
    """Before a step's action: a cancel that nobody has met yet reaches this branch now."""
    raise_if_cancelled(attempt, branch, NEVER)
    if attempt.decided < len(attempt.cancels):
        yield from attempt.park(branch, future)
        raise_if_cancelled(attempt, branch, NEVER)


def interrupted(attempt: Attempt, branch: Branch) -> bool:
    """A step of this branch was stopped by asyncio: by the cancellation of the invocation?"""
    return not attempt.closed and any(
        branch.name in names for _, names in attempt.decisions[branch.cancels_seen :]
    )
