"""The journal: what a handler did (commands) and what came back to it (notifications).

Rules of this file:
1. The kinds and their fields are the service protocol's (V5 to V7); names are never reused.
2. An entry is data that outlives versions of this package: fields are added with a default, never removed.
3. `branch` names the asyncio task that made a command ("" is the handler itself); a position is
   (branch, n-th in it).
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr

from agentdur.core.ids import InvocationId
from agentdur.core.text import writable

CANCEL_SIGNAL = 1
FIRST_FREE_SIGNAL = 17

Headers: TypeAlias = tuple[tuple[str, str], ...]


class Void(Struct, frozen=True, tag=True, gc=False):
    """Completed, and there is nothing to say."""


class Success(Struct, frozen=True, tag=True, gc=False):
    """A value, as the bytes that were given."""

    value: bytes = b""


class Failure(Struct, frozen=True, tag=True, gc=False):
    """A terminal failure: `code` is HTTP-like (0..65535)."""

    code: int = 500
    message: str = "unknown"
    metadata: tuple[tuple[str, str], ...] = ()
    stacktrace: str = ""

    def __post_init__(self) -> None:
        """Its words come from anywhere; whatever they are, they can be stored."""
        if not (self.message.isascii() and self.stacktrace.isascii()):
            force_setattr(self, "message", writable(self.message))
            force_setattr(self, "stacktrace", writable(self.stacktrace))
        if self.metadata:
            safe = tuple((writable(str(name)), writable(str(value))) for name, value in self.metadata)
            force_setattr(self, "metadata", safe)


class CalleeId(Struct, frozen=True, tag=True, gc=False):
    """The invocation id that a call or send was given."""

    invocation_id: InvocationId


class Keys(Struct, frozen=True, tag=True, gc=False):
    """Names of state values, sorted."""

    names: tuple[str, ...] = ()


Result: TypeAlias = Success | Failure
Outcome: TypeAlias = Void | Success | Failure | CalleeId | Keys
VOID = Void()


class Command(Struct, frozen=True, gc=False, kw_only=True):
    """What every command has: the name a user gave it, and the branch it was made in."""

    name: str = ""
    branch: str = ""


class Input(Command, frozen=True, tag=True, gc=False):
    """Entry 0, written by the engine."""

    headers: Headers = ()
    value: bytes = b""


class Output(Command, frozen=True, tag=True, gc=False):
    """The handler's answer."""

    result: Result


class GetEagerState(Command, frozen=True, tag=True, gc=False):
    """A state read whose answer was at hand; `value` None means absent."""

    key: str
    value: bytes | None


class GetLazyState(Command, frozen=True, tag=True, gc=False):
    """A state read that the engine answers."""

    key: str
    completion: int


class SetState(Command, frozen=True, tag=True, gc=False):
    """Write one state value."""

    key: str
    value: bytes


class ClearState(Command, frozen=True, tag=True, gc=False):
    """Remove one state value."""

    key: str


class ClearAllState(Command, frozen=True, tag=True, gc=False):
    """Remove all state of the key."""


class GetEagerStateKeys(Command, frozen=True, tag=True, gc=False):
    """The names of all state values, known when asked."""

    keys: tuple[str, ...]


class GetLazyStateKeys(Command, frozen=True, tag=True, gc=False):
    """The names of all state values, answered by the engine."""

    completion: int


class GetPromise(Command, frozen=True, tag=True, gc=False):
    """Wait for a promise of this workflow key."""

    key: str
    completion: int


class PeekPromise(Command, frozen=True, tag=True, gc=False):
    """Look at a promise without waiting."""

    key: str
    completion: int


class CompletePromise(Command, frozen=True, tag=True, gc=False):
    """Resolve or reject a promise, once."""

    key: str
    result: Result
    completion: int


class Sleep(Command, frozen=True, tag=True, gc=False):
    """Wait until `wake_at` (ms since epoch)."""

    wake_at: int
    completion: int


class Call(Command, frozen=True, tag=True, gc=False, kw_only=True):
    """Call another handler and get its result. `callee` is filled in by the engine."""

    service: str
    handler: str
    key: str | None = None
    parameter: bytes = b""
    headers: Headers = ()
    idempotency_key: str | None = None
    scope: str = ""
    limit_key: str = ""
    id_completion: int
    completion: int


class OneWayCall(Command, frozen=True, tag=True, gc=False, kw_only=True):
    """Start another handler; `invoke_at` (ms since epoch), 0 = now."""

    service: str
    handler: str
    key: str | None = None
    parameter: bytes = b""
    headers: Headers = ()
    idempotency_key: str | None = None
    scope: str = ""
    limit_key: str = ""
    invoke_at: int = 0
    id_completion: int


class SendSignal(Command, frozen=True, tag=True, gc=False):
    """Send a signal, by index or by name, to another invocation."""

    target: InvocationId
    signal: int | str
    outcome: Void | Success | Failure


class Run(Command, frozen=True, tag=True, gc=False):
    """A step: its action runs outside, its result comes as the completion."""

    completion: int


class WorkflowRef(Struct, frozen=True, tag=True, gc=False):
    """A workflow run by its key."""

    name: str
    key: str
    scope: str = ""


class IdempotentRef(Struct, frozen=True, tag=True, gc=False):
    """An invocation by its idempotency key."""

    service: str
    handler: str
    idempotency_key: str
    key: str | None = None
    scope: str = ""


class InvocationRef(Struct, frozen=True, tag=True, gc=False):
    """An invocation by its id."""

    invocation_id: InvocationId


AttachTarget: TypeAlias = InvocationRef | WorkflowRef | IdempotentRef


class AttachInvocation(Command, frozen=True, tag=True, gc=False):
    """Wait for another invocation's result."""

    target: AttachTarget
    completion: int


class GetInvocationOutput(Command, frozen=True, tag=True, gc=False):
    """Another invocation's result, or Void while it has none."""

    target: AttachTarget
    completion: int


class CompleteAwakeable(Command, frozen=True, tag=True, gc=False):
    """Resolve or reject an awakeable by its id."""

    awakeable: str
    result: Result


AnyCommand: TypeAlias = (
    Input | Output | GetEagerState | GetLazyState | SetState | ClearState | ClearAllState
    | GetEagerStateKeys | GetLazyStateKeys | GetPromise | PeekPromise | CompletePromise | Sleep
    | Call | OneWayCall | SendSignal | Run | AttachInvocation | GetInvocationOutput | CompleteAwakeable
)  # fmt: skip

CompletionOf = Literal[
    "Run", "Sleep", "CallId", "Call", "GetState", "GetStateKeys", "GetPromise", "PeekPromise",
    "CompletePromise", "Attach", "Output",
]  # fmt: skip


class Completion(Struct, frozen=True, tag=True, gc=False):
    """The answer to the command that owns completion id `id`. `meta`: JSON text, not read by the engine."""

    id: int
    of: CompletionOf
    outcome: Outcome
    meta: str = ""


class Signal(Struct, frozen=True, tag=True, gc=False):
    """Something sent to the invocation from outside: cancel (1), an awakeable (17 and up), or a name."""

    signal: int | str
    outcome: Void | Success | Failure


Notification: TypeAlias = Completion | Signal
Entry: TypeAlias = AnyCommand | Notification


MODEL_STEP = "llm:"
"""What the name of a step that asks a model begins with; an agent's name follows, or a role."""


class ChatMessage(Struct, frozen=True, gc=False):
    """A message of a conversation, in a chain: `hash` names it and all before it, `parent` those before it
    ("" for the first). It is stored once, whoever says it how often."""

    hash: str
    parent: str
    value: bytes


class RunResult(Struct, frozen=True, tag=True, gc=False):
    """A driver proposes the result of a step; the engine makes it a Completion. `messages`: conversations
    that its `meta` refers to, stored beside the journal; each chain whole and from its beginning."""

    completion: int
    result: Result
    meta: str = ""
    messages: tuple[ChatMessage, ...] = ()


Proposal: TypeAlias = AnyCommand | RunResult


class Combinator(Enum):
    """How the children of an awaited tree count (protocol V7)."""

    UNKNOWN = 0
    FIRST_COMPLETED = 1
    ALL_COMPLETED = 2
    FIRST_SUCCEEDED_OR_ALL_FAILED = 3
    ALL_SUCCEEDED_OR_FIRST_FAILED = 4


class Awaiting(Struct, frozen=True):
    """What a suspended invocation waits for; flat sets mean "any of these" (V5, V6)."""

    completions: tuple[int, ...] = ()
    signals: tuple[int | str, ...] = ()
    nested: tuple[Awaiting, ...] = ()
    combinator: Combinator = Combinator.FIRST_COMPLETED
