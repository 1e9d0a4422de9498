"""Asking a person: what is said between who asks, the approval's object, and who decides.

Rules of this file:
1. One approval is one key of the virtual object `agentdur.Approval`, which alone says who was first, whether
   it was in time, and whether what was decided upon is what was asked (`agentdur.approvals.judge`).
2. Who asks waits for a signal whose name only it and the object know: nobody else can complete it.
3. A decision names the digest of the question and payload that were seen; another digest is another question.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import b32hexencode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from agentdur.core.ids import InvocationId
from agentdur.core.text import require_text
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.segment import STREAM
from agentdur.sdk.serde import JsonSerde

SERVICE = "agentdur.Approval"
PENDING, DECIDED = "pending", "decided"
"""The names of the object's state: an approval has one of them."""
Status = Literal["pending", "approved", "rejected", "withdrawn"]

_JSON: JsonSerde[Any] = JsonSerde()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, frozen=True)
class Approval:
    """What a person decided. True in a condition only when approved.

    `payload`: what was decided upon, as plain JSON: what was asked about, or (`edited`) the approver's own
    version of it. `timed_out`: nobody decided in time, so the default was taken.
    """

    approved: bool
    reason: str = ""
    by: str = ""
    timed_out: bool = False
    payload: Any = field(default=None)
    at: datetime | None = None
    id: str = ""
    edited: bool = False

    def __bool__(self) -> bool:
        return self.approved


class ApprovalRecord(Struct, frozen=True, kw_only=True):
    """An approval as people see it, pending or decided. `edited`: the approver gave a payload of
    their own, `edited_payload`."""

    id: str
    status: Status
    question: str
    payload: Any
    digest: str
    service: str
    invocation: str
    asked_at: datetime
    deadline: datetime | None = None
    default: bool = False
    tool: str = ""
    approved: bool | None = None
    by: str = ""
    reason: str = ""
    decided_at: datetime | None = None
    timed_out: bool = False
    edited: bool = False
    edited_payload: Any = None


class Question(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the asker tells the object, and what it keeps while nobody has decided.

    `signal` is the secret name of the asker's signal; `helpers` are the invocations that watch for it.
    """

    id: str
    question: str
    digest: str
    signal: str
    invocation: str
    service: str
    asked_at: datetime
    payload: Any = None
    deadline: datetime | None = None
    default: bool = False
    tool: str = ""
    notify: tuple[str, ...] | None = None
    helpers: tuple[str, ...] = ()

    def record(self) -> ApprovalRecord:
        """As people see it: without the secret."""
        return ApprovalRecord(
            id=self.id, status="pending", question=self.question, payload=self.payload, digest=self.digest,
            service=self.service, invocation=self.invocation, asked_at=self.asked_at, deadline=self.deadline,
            default=self.default, tool=self.tool,
        )  # fmt: skip


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody decides. `digest`: of what they saw; `payload`: their version of it, when `edited`."""

    approved: bool
    digest: str
    by: str = ""
    reason: str = ""
    edited: bool = False
    payload: Any = None


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the object tells the asker."""

    approved: bool
    at: datetime
    by: str = ""
    reason: str = ""
    timed_out: bool = False
    edited: bool = False
    payload: Any = None


class _Opening(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the asker journals first: from here on everything is the same on every attempt."""

    id: str
    question: str
    digest: str
    signal: str
    asked_at: datetime
    deadline: datetime | None = None


class Asker(Protocol):
    """What asking needs of a context."""

    _attempt: Any

    def note_value(self, name: str, value: Any) -> Any:
        """Journal a value."""

    def generic_send(self, service: str, handler: str, arg: bytes, key: str | None = None) -> Any:
        """Start a handler."""

    def signal(self, name: str) -> Any:
        """The next value sent under that name."""


async def ask(
    ctx: Asker,
    question: str,
    payload: Any = None,
    *,
    timeout: timedelta | None = None,
    default: bool = False,
    notify: str | Sequence[str] | None = None,
    tool: str = "",
) -> Approval:
    """Ask, and wait. A cancelled asker withdraws its question."""
    require_text("a question", question)
    data = _plain(payload)
    opening = _opening(ctx, question, data, timeout)
    known = msgspec.convert(await ctx.note_value("approval", opening), _Opening)
    attempt = ctx._attempt
    asked = Question(
        id=known.id, question=known.question, digest=known.digest, signal=known.signal,
        invocation=attempt.id, service=attempt.target.service, asked_at=known.asked_at, payload=data,
        deadline=known.deadline, default=default, tool=tool,
        notify=(notify,) if isinstance(notify, str) else None if notify is None else tuple(notify),
    )  # fmt: skip
    ctx.generic_send(SERVICE, "open", msgspec.json.encode(asked), known.id)
    ctx.note_value(STREAM, _told(attempt.here().name, asked))
    try:
        verdict = msgspec.convert(await ctx.signal(known.signal), Verdict)
    except (TerminalError, asyncio.CancelledError):
        if not attempt.closed:  # the invocation was cancelled, or this branch lost a race
            ctx.generic_send(SERVICE, "withdraw", b"", known.id)
        raise
    return Approval(
        verdict.approved, verdict.reason, verdict.by, verdict.timed_out,
        verdict.payload if verdict.edited else data, verdict.at, known.id, verdict.edited,
    )  # fmt: skip


def _told(branch: str, asked: Question) -> dict[str, Any]:
    """What a reader of the asker's stream is told: `call` is the tool call that waits for it, if one does."""
    place = branch.rpartition("/")[2]
    return {
        "type": "approval", "id": asked.id, "question": asked.question, "tool": asked.tool,
        "call": place.removeprefix("tool:") if place.startswith("tool:") else "",
        "payload": asked.payload, "digest": asked.digest,
    }  # fmt: skip


def _opening(ctx: Asker, question: str, data: Any, timeout: timedelta | None) -> _Opening:
    attempt = ctx._attempt
    branch = attempt.here()
    now_ms: int = attempt.driver.now()
    id = approval_id(attempt.id, branch.name, branch.count("~approval"), now_ms)
    now = _EPOCH + timedelta(milliseconds=now_ms)
    return _Opening(
        id=id, question=question, digest=digest_of(question, data), asked_at=now,
        signal=f"approval/{id}/{secrets.token_urlsafe(16)}",
        deadline=_later(now, timeout),
    )  # fmt: skip


def _later(now: datetime, timeout: timedelta | None) -> datetime | None:
    """None when that is never, or after the end of the calendar."""
    try:
        return None if timeout is None else now + max(timeout, timedelta(0))
    except OverflowError:
        return None


def approval_id(invocation: InvocationId | str, branch: str, count: int, now_ms: int) -> str:
    """`apr_` and 26 letters and digits that sort by time: what is listed by id is listed oldest first."""
    place = sha256(f"{invocation}\n{branch}\n{count}".encode()).digest()[:10]
    return "apr_" + b32hexencode(now_ms.to_bytes(6, "big") + place).decode().rstrip("=").lower()


def digest_of(question: str, payload: Any) -> str:
    """SHA-256 of the question and the payload as canonical JSON (sorted, compact), in hex."""
    return sha256(msgspec.json.encode([question, payload], order="sorted")).hexdigest()


def _plain(payload: Any) -> Any:
    """The payload as the approver will see it."""
    return None if payload is None else _JSON.deserialize(_JSON.serialize(payload))
