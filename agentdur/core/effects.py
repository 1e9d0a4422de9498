"""What follows from a command: rows to write, commands to pass on, and things to do in the world.

Durable effects are part of the commit. `Send` is applied in the same commit. Volatile effects are performed
for a commit that holds: `Start` and `Deliver` may run ahead of it inside this process, because nothing that
an attempt does can leave the process before the commit (nothing happens before it is durable).
"""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

from msgspec import Struct

from agentdur.core.commands import Message
from agentdur.core.ids import InvocationId
from agentdur.core.journal import AttachTarget, ChatMessage, Entry, Failure, Notification, Result
from agentdur.core.state import Edit, Place
from agentdur.core.target import ObjectAddress

S = TypeVar("S")


class Append(Struct, frozen=True, gc=False):
    """A journal entry at its index."""

    id: InvocationId
    index: int
    entry: Entry


class NoteFailure(Struct, frozen=True, gc=False):
    """This attempt has failed, perhaps in the step whose entry is at this place: for those who look."""

    id: InvocationId
    attempt: int
    error: Failure
    place: int | None = None


class PutState(Struct, frozen=True, gc=False):
    """Write one value of a key; None removes it."""

    object: ObjectAddress
    name: str
    value: bytes | None


class DropState(Struct, frozen=True, gc=False):
    """Remove all values of a key."""

    object: ObjectAddress


class ReplaceState(Struct, frozen=True, gc=False):
    """An operator's edit takes effect, if the version it was based on still holds."""

    object: ObjectAddress
    edit: Edit


class DropPromises(Struct, frozen=True, gc=False):
    """Remove all promises of a workflow key."""

    object: ObjectAddress


class Enqueue(Struct, frozen=True, gc=False):
    """A place in a key's inbox."""

    object: ObjectAddress
    place: Place


class Dequeue(Struct, frozen=True, gc=False):
    """A place in a key's inbox is given up."""

    object: ObjectAddress
    position: int


class SetTimer(Struct, frozen=True, gc=False):
    """Wake a sleep (completion > 0) or start a scheduled invocation (completion 0) at `at` ms since epoch."""

    id: InvocationId
    at: int
    completion: int


class ClearTimer(Struct, frozen=True, gc=False):
    """The timer has fired or is no longer wanted."""

    id: InvocationId
    at: int
    completion: int


class DropJournal(Struct, frozen=True, gc=False):
    """Remove all entries of an invocation."""

    id: InvocationId


class KeepMessages(Struct, frozen=True, gc=False):
    """Conversations that an entry refers to: each message is stored, unless it is."""

    messages: tuple[ChatMessage, ...]


class Send(Struct, frozen=True, gc=False):
    """A command for another aggregate, applied in the same commit."""

    message: Message


class Start(Struct, frozen=True, gc=False):
    """Begin this attempt."""

    id: InvocationId
    attempt: int


class Deliver(Struct, frozen=True, gc=False):
    """Tell the running attempt what was just stored at `index`."""

    id: InvocationId
    index: int
    notification: Notification


class Stop(Struct, frozen=True, gc=False):
    """Take the running attempt down; it may say nothing any more."""

    id: InvocationId
    reason: str


class ArmRetry(Struct, frozen=True, gc=False):
    """Send RetryDue at `at` ms since epoch."""

    id: InvocationId
    attempt: int
    at: int


class ReadState(Struct, frozen=True, gc=False):
    """Answer a lazy read: one name, or all names (None)."""

    id: InvocationId
    object: ObjectAddress
    completion: int
    name: str | None


class Find(Struct, frozen=True, gc=False):
    """Find the invocation that `target` means and attach to it under `completion`."""

    id: InvocationId
    target: AttachTarget
    completion: int
    wait: bool


class Refuse(Struct, frozen=True, gc=False):
    """A proposed command breaks a rule: the attempt fails with this error (retried by policy)."""

    id: InvocationId
    attempt: int
    error: Failure


class Finished(Struct, frozen=True, gc=False):
    """Tell all who wait outside."""

    id: InvocationId
    result: Result


Durable: TypeAlias = (
    Append
    | NoteFailure
    | PutState
    | DropState
    | ReplaceState
    | DropPromises
    | Enqueue
    | Dequeue
    | SetTimer
    | ClearTimer
    | DropJournal
    | KeepMessages
)
Volatile: TypeAlias = Start | Deliver | Stop | ArmRetry | ReadState | Find | Refuse | Finished
Effect: TypeAlias = Durable | Send | Volatile


class Transition(Struct, Generic[S], frozen=True, gc=False):
    """The aggregate after a command (None: it is gone) and what follows."""

    state: S
    effects: tuple[Effect, ...] = ()
