"""How an invocation is written as columns, and read back.

Rules of this file:
1. What is written here is read by every later version, as in `entries`.
2. A result that is a value is bytes, one that is a failure is JSON text; both null: there is none yet.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec.json import Decoder

from agentdur.core.journal import Awaiting, Failure, Result, Success
from agentdur.core.ports import Row, Saved
from agentdur.core.state import Accepted, Head, Status, Waiter
from agentdur.core.target import HandlerKind, ServiceKind, Target

OWN_COLUMNS = ("seq", "id", "key", "caller", "idempotency_key")
"""What never changes and is likely to be another one for each invocation."""
SPEC_COLUMNS = (
    "service", "handler", "scope", "service_kind", "handler_kind", "created_at", "invoked_by",
    "completion_retention_ms", "journal_retention_ms", "execute_at", "restarted_from", "seed", "traceparent",
)  # fmt: skip
"""What never changes and is likely to be the same for many."""
HEAD_COLUMNS = (
    "status", "modified_at", "completed_at", "attempt", "failures", "retry_at", "last_failure",
    "last_failure_entry", "deployment", "protocol", "awaiting", "seen", "waiters", "failure", "journal_kept",
    "expires_at", "journal_expires_at",
)  # fmt: skip
"""All that changes, but `result`, which is bytes."""
JSON_COLUMNS = frozenset({"last_failure", "awaiting", "waiters", "failure"})
ROW_COLUMNS = (*OWN_COLUMNS, *SPEC_COLUMNS, *HEAD_COLUMNS, "result")

LATEST = 2**63 - 1
"""The latest moment a database number can say: a timer due after it is due then."""

Values: TypeAlias = tuple[Any, ...]

_FAILURE = Decoder(Failure)
_AWAITING = Decoder(Awaiting)
_WAITERS = Decoder(tuple[Waiter, ...])
_STATUS = {status.value: status for status in Status}
_SERVICE_KIND = {kind.value: kind for kind in ServiceKind}
_HANDLER_KIND = {kind.value: kind for kind in HandlerKind}


def spec_values(spec: Accepted) -> Values:
    """The values of SPEC_COLUMNS."""
    target = spec.target
    return (
        target.service, target.handler, target.scope, target.service_kind, target.handler_kind,
        spec.created_at, spec.invoked_by, spec.completion_retention_ms, spec.journal_retention_ms,
        spec.execute_at, spec.restarted_from, None if spec.seed is None else str(spec.seed),
        spec.traceparent or None,
    )  # fmt: skip


def head_values(saved: Saved) -> Values:
    """The values of HEAD_COLUMNS; those of JSON_COLUMNS as what is to become JSON."""
    head = saved.head
    result = head.result
    return (
        head.status, head.modified_at, head.completed_at, head.attempt, head.failures, head.retry_at,
        head.last_failure, head.last_failure_entry, head.deployment, head.protocol, head.awaiting, head.seen,
        head.waiters or None, result if type(result) is Failure else None, 1 if saved.journal_kept else 0,
        saved.expires_at, saved.journal_expires_at,
    )  # fmt: skip


def result_of(payload: bytes | None, failure: str | None) -> Result | None:
    """The result that the columns `result` and `failure` say."""
    if payload is not None:
        return Success(payload)
    return None if failure is None else _FAILURE.decode(failure)


def read_invocation(values: Values) -> Row:
    """The row that was written as these values of ROW_COLUMNS."""
    (
        seq, id_, key, caller, idempotency_key,
        service, handler, scope, service_kind, handler_kind, created_at, invoked_by,
        completion_retention_ms, journal_retention_ms, execute_at, restarted_from, seed, traceparent,
        status, modified_at, completed_at, attempt, failures, retry_at, last_failure,
        last_failure_entry, deployment, protocol, awaiting, seen, waiters, failure, journal_kept,
        _, _, result,
    ) = values  # fmt: skip
    target = Target(
        service, handler, key, _SERVICE_KIND[service_kind], _HANDLER_KIND[handler_kind], scope
    )  # fmt: skip
    spec = Accepted(
        id=id_, target=target, created_at=created_at, invoked_by=invoked_by, caller=caller,
        idempotency_key=idempotency_key, completion_retention_ms=completion_retention_ms,
        journal_retention_ms=journal_retention_ms, execute_at=execute_at, restarted_from=restarted_from,
        seed=None if seed is None else int(seed), traceparent=traceparent or "",
    )  # fmt: skip
    head = Head(
        status=_STATUS[status], attempt=attempt, failures=failures, retry_at=retry_at,
        last_failure=None if last_failure is None else _FAILURE.decode(last_failure),
        last_failure_entry=last_failure_entry, deployment=deployment, protocol=protocol,
        awaiting=None if awaiting is None else _AWAITING.decode(awaiting), seen=seen,
        waiters=() if waiters is None else _WAITERS.decode(waiters), result=result_of(result, failure),
        modified_at=modified_at, completed_at=completed_at,
    )  # fmt: skip
    return Row(seq, spec, head, journal_kept == 1)
