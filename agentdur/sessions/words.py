"""What is said to a session, what it answers, and what it remembers. All of it is JSON.

Rules of this file:
1. The names of state values are promises: `about`, `m:<index>`, `turn:<number>`, `id:<message id>`.
2. What is under `m:` is written once and never changed; what it means is said by what comes after it.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from agentdur.llm import Usage

Policy: TypeAlias = Literal["enqueue", "interrupt", "steer", "reject"]
Trigger: TypeAlias = Literal["message", "regenerate", "edit"]
Status: TypeAlias = Literal["running", "completed", "interrupted", "failed", "steered", "lost"]
Message: TypeAlias = dict[str, Any]
"""A message in OpenAI's shape."""


class Post(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A message for a session.

    `id` is the client's own: sent again with the same id it is the same message, and has the same answer.
    `trigger`: `regenerate` drops the answer to the user's message `target` (default: the last one) and runs
    again; `edit` drops that message as well and puts `content` in its place. `instructions` are told to the
    model for this turn only, `settings` are the model's for this turn only.
    """

    content: str | list[dict[str, Any]] = ""
    id: str = ""
    policy: Policy | None = None
    trigger: Trigger = "message"
    target: str = ""
    instructions: str = ""
    settings: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    preceding: list[Message] = []
    """Messages to be put into the history before it: of a conversation that was held elsewhere."""
    after: int | None = None
    """Only when no other turn has begun since this many: the session's own, for the policy `reject`."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A conversation that is remembered by the caller: the agent answers it, and nothing is stored."""

    messages: list[Message]
    settings: dict[str, Any] = {}


class Posted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message that is accepted. `invocation`: its own turn; `into`: the running turn it was put into, if it
    comes in time."""

    id: str
    invocation: str
    into: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a turn ended. `status` `steered`: the message became part of the running turn `turn`, whose answer
    this is; `interrupted`: `text` is what the model had said until then."""

    id: str
    turn: int
    status: Status
    text: str = ""
    output: Any = None
    agent: str = ""
    finish_reason: str = "stop"
    usage: Usage = Usage()
    cost: float | None = None
    model_calls: int = 0


class Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the history, at `m:<index>`. Without a message it is a rewind: what has an index from
    `rewind` on is no longer part of the conversation, and is kept for audit."""

    id: str = ""
    turn: int = 0
    at: float = 0.0
    message: Message | None = None
    rewind: int | None = None
    partial: bool = False


class Shown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message as it is shown. `dropped`: an edit or a regeneration has taken its place."""

    index: int
    id: str
    turn: int
    at: float
    role: str
    message: Message
    partial: bool = False
    dropped: bool = False


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The turn that runs."""

    turn: int
    invocation: str
    id: str


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is told instead of the messages below index `upto`."""

    upto: int
    text: str


class About(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a session, at `about`. Times in seconds since the epoch; `next`: the index of the next
    entry of the history."""

    created: float
    updated: float
    title: str = ""
    agent: str = ""
    next: int = 0
    messages: int = 0
    turns: int = 0
    usage: Usage = Usage()
    cost: float | None = None
    model_calls: int = 0
    running: Running | None = None
    digest: Digest | None = None
    expiring: bool = False
    """A delayed message is under way that clears the session when its time is up."""


class TurnRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A turn that ended, at `turn:<number>`: its entries are those from `first` up to and without `last`."""

    invocation: str
    id: str
    first: int
    last: int
    status: Status
    at: float
    answer: int | None = None
    """The index of the message that holds the answer."""
    agent: str = ""
    finish_reason: str = "stop"
    usage: Usage = Usage()
    cost: float | None = None
    model_calls: int = 0
    error: str = ""
    metadata: dict[str, Any] = {}


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message id went, at `id:<message id>`."""

    turn: int
    index: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a history is asked for: after the entry `after`, at most `limit`; `audit`: also what was
    dropped."""

    after: int = -1
    limit: int = 100
    audit: bool = False


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a history; `after` continues it, None when this was the end."""

    messages: list[Shown]
    after: int | None = None


def message_name(index: int) -> str:
    """The state name of an entry of the history; the names sort as the entries do."""
    return f"m:{index:08d}"


def turn_name(number: int) -> str:
    """The state name of a turn that ended."""
    return f"turn:{number:08d}"


def id_name(message_id: str) -> str:
    """The state name that says where a message id went."""
    return f"id:{message_id}"


def text_of(content: Any) -> str:
    """The text of a message's content, whatever its form."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
