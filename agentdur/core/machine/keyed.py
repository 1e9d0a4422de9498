"""A key's lock and inbox: one exclusive invocation at a time, first come first served (semantics §2.1).

Rules of this file:
1. The lock is held from the grant until Release, through back-off, suspension and pause.
2. An operator's edit waits in the same inbox, so that it never changes state under a running handler.
"""

from __future__ import annotations

from agentdur.core.commands import Acquire, EditState, Granted, Release
from agentdur.core.effects import Dequeue, Effect, Enqueue, ReplaceState, Send, Transition
from agentdur.core.ids import InvocationId
from agentdur.core.state import Edit, ObjectState, Place
from agentdur.core.target import ObjectAddress

FREE = ObjectState()


def acquire(state: ObjectState, message: Acquire) -> Transition[ObjectState | None]:
    """Grant the lock, or queue."""
    if state.locked_by is None:
        return Transition(
            ObjectState(message.id, state.inbox, state.next_position), (Send(Granted(message.id)),)
        )
    return queue(state, message.object, message.id)


def queue(
    state: ObjectState, key: ObjectAddress, item: InvocationId | Edit
) -> Transition[ObjectState | None]:
    """Take the next place in the inbox."""
    place = Place(state.next_position, item)
    after = ObjectState(state.locked_by, state.inbox.push(place), place.position + 1)
    return Transition(after, (Enqueue(key, place),))


def release(state: ObjectState, message: Release) -> Transition[ObjectState | None]:
    """The holder leaves and the next one is granted; one that only waits is taken out."""
    if state.locked_by != message.id:
        return give_up(state, message)
    effects: list[Effect] = []
    inbox = state.inbox
    while len(inbox):
        place, inbox = inbox.pop()
        effects.append(Dequeue(message.object, place.position))
        if isinstance(place.item, Edit):
            effects.append(ReplaceState(message.object, place.item))
            continue
        effects.append(Send(Granted(place.item)))
        return Transition(ObjectState(place.item, inbox, state.next_position), tuple(effects))
    return Transition(None, tuple(effects))


def give_up(state: ObjectState, message: Release) -> Transition[ObjectState | None]:
    """Leave the inbox."""
    for place in state.inbox:
        if place.item == message.id:
            rest = state.inbox.without(place)
            kept = ObjectState(state.locked_by, rest, state.next_position)
            return Transition(settled(kept), (Dequeue(message.object, place.position),))
    return Transition(settled(state))


def edit(state: ObjectState, message: EditState) -> Transition[ObjectState | None]:
    """Edit now when nobody holds the key, else after those who wait."""
    if state.locked_by is not None:
        return queue(state, message.object, message.edit)
    return Transition(settled(state), (ReplaceState(message.object, message.edit),))


def settled(state: ObjectState) -> ObjectState | None:
    """A key that is neither locked nor waited for needs no record."""
    return None if state.locked_by is None and not len(state.inbox) else state
