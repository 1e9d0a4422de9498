"""Durable promises of a workflow key: completed once, seen by everyone who asks (semantics §6)."""

from __future__ import annotations

from agentdur.core.commands import Notify, ReadPromise, SettlePromise
from agentdur.core.effects import Effect, Send, Transition
from agentdur.core.journal import VOID, CompletionOf, Failure
from agentdur.core.state import PromiseState

OPEN = PromiseState()
ALREADY_COMPLETED = Failure(409, "promise was already completed")


def read(state: PromiseState, message: ReadPromise) -> Transition[PromiseState]:
    """The result when it is there; else wait, or (peek) say that it is open."""
    of: CompletionOf = "GetPromise" if message.wait else "PeekPromise"
    if state.result is not None:
        return Transition(state, (Send(Notify(message.invocation, message.completion, state.result, of)),))
    if not message.wait:
        return Transition(state, (Send(Notify(message.invocation, message.completion, VOID, of)),))
    return Transition(PromiseState(None, (*state.waiters, (message.invocation, message.completion))))


def settle(state: PromiseState, message: SettlePromise) -> Transition[PromiseState]:
    """Complete it and tell all who wait; a second completion is refused and changes nothing."""
    effects: list[Effect] = []
    taken = state.result is not None
    if message.invocation is not None:
        outcome = ALREADY_COMPLETED if taken else VOID
        effects.append(Send(Notify(message.invocation, message.completion, outcome, "CompletePromise")))
    if taken:
        return Transition(state, tuple(effects))
    effects += [Send(Notify(inv, cid, message.result, "GetPromise")) for inv, cid in state.waiters]
    return Transition(PromiseState(message.result), tuple(effects))
