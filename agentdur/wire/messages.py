"""The control messages of an attempt: what is neither a command nor a notification."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from agentdur.core.journal import AnyCommand, Awaiting, Notification, Result


class Start(Struct, frozen=True, kw_only=True, gc=False):
    """The server begins an attempt. `id` is the invocation's 24 bytes; `known_entries` journal frames follow.
    `state` is all of the key's state unless `partial_state`. Times in ms."""

    id: bytes
    debug_id: str = ""
    known_entries: int = 1
    state: tuple[tuple[str, bytes], ...] = ()
    partial_state: bool = False
    key: str = ""
    retry_count: int = 0
    duration_ms: int = 0
    random_seed: int | None = None
    scope: str | None = None
    limit_key: str | None = None
    idempotency_key: str | None = None


class Suspension(Struct, frozen=True):
    """The handler leaves until this holds."""

    awaiting: Awaiting


class Error(Struct, frozen=True, kw_only=True, gc=False):
    """The attempt failed; never the invocation's result. Code 570: journal and code do not match."""

    code: int = 500
    message: str = ""
    stacktrace: str = ""
    related_command_index: int | None = None
    related_command_name: str | None = None
    related_command_type: int | None = None
    next_retry_delay_ms: int | None = None
    behavior: Literal["retry", "pause", "fail"] = "retry"


class End(Struct, frozen=True, gc=False):
    """The handler is done; its Output came before."""


class CommandAck(Struct, frozen=True, gc=False):
    """The command at this place among the commands is stored."""

    command_index: int


class ProposeRunCompletion(Struct, frozen=True, gc=False):
    """The result of a step, to be stored."""

    completion: int
    result: Result


class AwaitingOn(Struct, frozen=True):
    """What the handler waits for without leaving (V7); shown, and nothing else."""

    awaiting: Awaiting
    executing_side_effects: bool = False


class ProposeRunCompletionAck(Struct, frozen=True, gc=False):
    """The proposed result is stored (V7)."""

    completion: int


Control: TypeAlias = (
    Start
    | Suspension
    | Error
    | End
    | CommandAck
    | ProposeRunCompletion
    | AwaitingOn
    | ProposeRunCompletionAck
)
Word: TypeAlias = Control | AnyCommand | Notification
