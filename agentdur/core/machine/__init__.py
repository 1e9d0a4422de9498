"""apply(): the one function that decides. Pure, and exhaustive over every message.

`state` is the addressed aggregate or None when there is none; `now` is ms since epoch. The answer is the
aggregate after the message and the effects in their order. A `CallerError` means: refused, nothing changed.
"""

from __future__ import annotations

from typing import assert_never

from agentdur.core import commands as c
from agentdur.core.catalog import Catalog
from agentdur.core.effects import Transition
from agentdur.core.machine import attempt, keyed, notify, operate, promise, propose, submit
from agentdur.core.state import Invocation, ObjectState, PromiseState

__all__ = ["apply", "apply_object", "apply_promise"]


def apply(
    state: Invocation | None, message: c.ToInvocation, now: int, catalog: Catalog
) -> Transition[Invocation | None]:
    """Say `message` to an invocation."""
    if isinstance(message, c.Propose):  # first: most messages are proposals
        return operate.absent(message) if state is None else propose.propose(state, message, now, catalog)
    if isinstance(message, c.Submit):
        return submit.submit(state, message, now)
    if isinstance(message, c.Attach):
        return notify.attach(state, message)
    if state is None:
        return operate.absent(message)
    match message:
        case c.End():
            return attempt.end(state, message, now)
        case c.Notify():
            return notify.notify(state, message, now)
        case c.SignalTo():
            return notify.signal(state, message, now)
        case c.Suspend():
            return attempt.suspend(state, message, now)
        case c.Fail():
            return attempt.fail(state, message, now)
        case c.Pin():
            return attempt.pin(state, message)
        case c.Granted():
            return attempt.granted(state, now)
        case c.StartDue():
            return attempt.start_due(state, now)
        case c.RetryDue():
            return attempt.retry_due(state, message, now)
        case c.Recover():
            return attempt.recover(state, now)
        case c.Kill():
            return operate.kill(state, message, now)
        case c.Pause():
            return operate.pause(state, now)
        case c.Resume():
            return operate.resume(state, message, now)
        case c.Purge():
            return operate.purge(state, message)
        case _:
            assert_never(message)


def apply_object(state: ObjectState | None, message: c.ToObject) -> Transition[ObjectState | None]:
    """Say `message` to a key of an object."""
    match message:
        case c.Acquire():
            return keyed.acquire(state or keyed.FREE, message)
        case c.Release():
            return keyed.release(state or keyed.FREE, message)
        case c.EditState():
            return keyed.edit(state or keyed.FREE, message)
        case _:
            assert_never(message)


def apply_promise(state: PromiseState | None, message: c.ToPromise) -> Transition[PromiseState]:
    """Say `message` to a promise."""
    match message:
        case c.ReadPromise():
            return promise.read(state or promise.OPEN, message)
        case c.SettlePromise():
            return promise.settle(state or promise.OPEN, message)
        case _:
            assert_never(message)
