"""Looking at approvals and deciding them, with any client.

Rules of this file:
1. A refusal is a typed error wherever it is met: in a handler it travels as a TerminalError, over HTTP as a
   status, and arrives as the same class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET

from agentdur.core.errors import (
    ApprovalDecided,
    ApprovalForged,
    ApprovalLinkExpired,
    CallerError,
    UnknownApproval,
)
from agentdur.core.ports import Engine
from agentdur.core.text import require_text
from agentdur.sdk.approval import DECIDED, PENDING, SERVICE, ApprovalRecord, Decision, Question
from agentdur.sdk.exceptions import TerminalError

Refusal = ApprovalDecided | ApprovalForged | ApprovalLinkExpired | UnknownApproval
Wanted = Literal["pending", "decided", "all"]

STATUS: Mapping[str, int] = {
    UnknownApproval.code: 404, ApprovalDecided.code: 409, ApprovalForged.code: 403,
    ApprovalLinkExpired.code: 410,
}  # fmt: skip
"""By code: the status of a refusal."""
LIMIT = 100
"""How many approvals are listed unless more are asked for."""
_CLASSES: Mapping[str, type[CallerError]] = {
    error.code: error for error in (UnknownApproval, ApprovalForged, ApprovalLinkExpired)
}
_RECORD = msgspec.json.Decoder(ApprovalRecord)
_QUESTION = msgspec.json.Decoder(Question)


class Generic(Protocol):
    """A client that calls handlers by name."""

    async def generic_call(self, service: str, handler: str, arg: bytes, key: str | None = None) -> bytes:
        """Call it."""


class ApprovalCalls(ABC):
    """What every client can do with approvals."""

    @abstractmethod
    async def approvals(
        self,
        status: Wanted = "pending",
        *,
        service: str | None = None,
        limit: int = LIMIT,
        after: str = "",
    ) -> list[ApprovalRecord]:
        """Approvals of all invocations, oldest first; `service` asked, `after` an id."""

    @abstractmethod
    async def approval(self, id: str) -> ApprovalRecord:
        """One approval; UnknownApproval when there is none, or it is not kept any more."""

    @abstractmethod
    async def _decide(self, id: str, decision: Decision) -> ApprovalRecord:
        """Decide; a Refusal changes nothing."""

    async def approve(
        self, id: str, digest: str, *, by: str = "", reason: str = "", payload: Any = UNSET
    ) -> ApprovalRecord:
        """Approve what was seen: `digest` says what that was. `payload`: the approver's own version of it.
        ApprovalDecided when it is too late, ApprovalForged when the digest is another one's."""
        edited = payload is not UNSET
        decision = Decision(
            approved=True, digest=digest, by=by, reason=reason, edited=edited,
            payload=payload if edited else None,
        )  # fmt: skip
        return await self._decide(id, decision)

    async def reject(self, id: str, digest: str, *, by: str = "", reason: str = "") -> ApprovalRecord:
        """Reject what was seen. Raises as `approve` does."""
        return await self._decide(id, Decision(approved=False, digest=digest, by=by, reason=reason))


def decided_before(record: ApprovalRecord) -> ApprovalDecided:
    """The refusal that says what was decided, by whom and when."""
    at: datetime | None = record.decided_at
    how = "by nobody in time" if record.timed_out else f"by {record.by}" if record.by else "by somebody"
    when = "" if at is None else f", {at.isoformat(timespec='seconds').replace('+00:00', 'Z')}"
    return ApprovalDecided(f"{record.id} is {record.status} {how}{when}", record)


def refusal(error: Refusal) -> TerminalError:
    """A typed error as what goes through a handler."""
    metadata = {"agentdur_code": error.code}
    if isinstance(error, ApprovalDecided):
        metadata["approval"] = msgspec.json.encode(error.record).decode()
    return TerminalError(error.detail, STATUS[error.code], metadata)


async def listed(
    engine: Engine, status: Wanted, service: str | None, limit: int, after: str
) -> list[ApprovalRecord]:
    """Oldest first: their ids sort by time."""
    found: list[ApprovalRecord] = []
    if status in ("pending", "all"):
        found += await _page(engine, (PENDING, _pending), service, limit, after)
    if status in ("decided", "all"):
        found += await _page(engine, (DECIDED, _RECORD.decode), service, limit, after)
    return sorted(found, key=lambda record: record.id)[:limit]


async def _page(
    engine: Engine,
    kind: tuple[str, Callable[[bytes], ApprovalRecord]],
    service: str | None,
    limit: int,
    after: str,
) -> list[ApprovalRecord]:
    name, read = kind
    found: list[ApprovalRecord] = []
    while len(found) < limit:
        states = await engine.states(SERVICE, name, after=after, limit=limit)
        records = [read(value) for _, value in states]
        found += [record for record in records if service in (None, record.service)]
        if len(states) < limit:
            break
        after = states[-1][0]
    return found[:limit]


def _pending(value: bytes) -> ApprovalRecord:
    return _QUESTION.decode(value).record()


async def judged(client: Generic, id: str, handler: str, arg: bytes = b"") -> ApprovalRecord:
    """What the object says to a client that calls handlers by name."""
    require_text("an approval's id", id)
    try:
        return _RECORD.decode(await client.generic_call(SERVICE, handler, arg, id))
    except TerminalError as error:
        said = error.metadata or {}
        found = refused(said.get("agentdur_code"), error.message, said.get("approval"))
        if found is None:
            raise
        raise found from error


def refused(code: str | None, message: str, record: bytes | str | None) -> CallerError | None:
    """The typed error again; None when it is no refusal."""
    if code == ApprovalDecided.code and record is not None:
        return ApprovalDecided(message, _RECORD.decode(record))
    known = _CLASSES.get(code or "")
    return None if known is None else known(message)
