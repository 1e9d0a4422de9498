"""What the log says: failed attempts, and a store that fails and comes back.

Rules of this file:
1. One line for each failed attempt; the traceback only when the failure is another one than the last.
2. A replay that fails nowhere says nothing.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from agentdur.core.errors import StoreError
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Failure
from agentdur.core.state import Invocation, Status

NAMED_MAX = 10
"""Invocations that one line names."""

_log = logging.getLogger("agentdur.runtime")
_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), 127)}


def attempt_failed(before: Invocation, after: Invocation | None, error: Failure, now: int) -> None:
    """`before` and `after` are the invocation without and with this failure."""
    level, what_next = _what_next(before, after, now)
    if not _log.isEnabledFor(level):
        return
    spec, head = before.spec, before.head
    fields: dict[str, Any] = {
        "invocation": spec.id,
        "handler": str(spec.target),
        "attempt": head.attempt,
        "error": error.message,
        "code": error.code,
        **dict(error.metadata),
    }
    if after is not None and after.head.retry_at is not None:
        fields["next_attempt_at"] = _instant(after.head.retry_at)
    last = head.last_failure
    known = last is not None and (last.code, last.message) == (error.code, error.message)
    trace = "" if known else error.stacktrace
    _log.log(
        level, "%s %s: attempt %d failed: %s; %s",
        spec.id, _line(spec.target), head.attempt, _line(error.message), what_next,
        extra={"fields": fields, "trace": trace},
    )  # fmt: skip


def _what_next(before: Invocation, after: Invocation | None, now: int) -> tuple[int, str]:
    if after is None or after.head.status is Status.COMPLETED:
        return logging.ERROR, "that was the last one, this is its result"
    if after.head.status is Status.PAUSED:
        return logging.ERROR, f"paused, until `agentdur invocations resume {before.spec.id}`"
    wait = max(0, (after.head.retry_at or now) - now) / 1000
    return logging.WARNING, f"the next one is in {wait:.3g} s"


def cut_short(invocations: list[InvocationId]) -> None:
    """The time for draining is over."""
    named = ", ".join(invocations[:NAMED_MAX]) + (", …" if len(invocations) > NAMED_MAX else "")
    _log.warning("stopped while %d attempts ran; they start again with the next server: %s",
        len(invocations), named,
        extra={"fields": {"invocations": invocations[:NAMED_MAX]}},
    )  # fmt: skip


def store_failed(error: StoreError, seconds: float) -> None:
    """Nothing is accepted until the store can be opened again."""
    _log.error(
        "%s Requests are answered with 503; the store is tried again in %.3g s", error, seconds,
        extra={"fields": {"agentdur_code": error.code, "error": error.detail}},
    )  # fmt: skip


def store_is_back() -> None:
    """What was running goes on from what was stored."""
    _log.warning("the store is back: what was running goes on from what is stored")


def _line(text: object) -> str:
    """Keys and messages come from outside: nothing of them may look like a line of its own."""
    return str(text).translate(_CONTROLS)


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
