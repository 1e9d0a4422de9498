"""A key's lock and inbox: one exclusive invocation at a time, first come first served (semantics §2.1).

Rules of this file:
1. The lock is held from the grant until Release, through back-off, suspension and pause.
2. An operator's edit waits in the same inbox, so that it never changes state under a running handler.
"""

from __future__ import annotations

from agentdur.core.commands import Acquire, EditState, Granted, Release
from agentdur.core.effects import Dequeue, Effect, Enqueue, ReplaceState, Send, Transition
from agentdur.core.state import Edit, ObjectState

FREE = ObjectState()


def acquire(state: ObjectState, message: Acquire) -> Transition[ObjectState | None]:
    """Grant the lock, or queue."""
    if state.locked_by is None:
        return Transition(ObjectState(message.id), (Send(Granted(message.id)),))
    position = state.next_position
    return Transition(
        ObjectState(state.locked_by, state.inbox.push(message.id), position + 1),
        (Enqueue(message.object, position, message.id),),
    )


def release(state: ObjectState, message: Release) -> Transition[ObjectState | None]:
    """The holder leaves and the next one is granted; one that only waits is taken out."""
    if state.locked_by != message.id:
        if message.id not in state.inbox:
            return Transition(settled(state))
        rest = state.inbox.without(message.id)
        kept = ObjectState(state.locked_by, rest, state.next_position)
        return Transition(settled(kept), (Dequeue(message.object, message.id),))
    effects: list[Effect] = []
    inbox = state.inbox
    while len(inbox):
        item, inbox = inbox.pop()
        effects.append(Dequeue(message.object, item))
        if isinstance(item, Edit):
            effects.append(ReplaceState(message.object, item))
            continue
        effects.append(Send(Granted(item)))
        return Transition(ObjectState(item, inbox, state.next_position), tuple(effects))
    return Transition(None, tuple(effects))


def edit(state: ObjectState, message: EditState) -> Transition[ObjectState | None]:
    """Edit now when nobody holds the key, else after those who wait."""
    if state.locked_by is None:
        return Transition(settled(state), (ReplaceState(message.object, message.edit),))
    position = state.next_position
    return Transition(
        ObjectState(state.locked_by, state.inbox.push(message.edit), position + 1),
        (Enqueue(message.object, position, message.edit),),
    )


def settled(state: ObjectState) -> ObjectState | None:
    """A key that is neither locked nor waited for needs no record."""
    return None if state.locked_by is None and not len(state.inbox) else state
