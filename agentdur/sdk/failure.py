"""Failures as they are journaled and retried: of attempts, of steps, of handlers."""

from __future__ import annotations

import traceback

import msgspec

from agentdur.core import journal as j
from agentdur.core.errors import AgentdurError, JournalMismatch
from agentdur.sdk.exceptions import RetryableError, TerminalError


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt failed. `delay_ms` replaces the next back-off; `pause` skips retrying, and `final` makes
    the error the invocation's result. `step`: the completion id of the step that failed, if one did."""

    error: j.Failure
    delay_ms: int | None = None
    pause: bool = False
    final: bool = False
    step: int | None = None


def failure_for(error: BaseException) -> Failed:
    """An exception of the handler as a failed attempt."""
    message = str(error) or type(error).__name__
    trace = "".join(traceback.format_exception(error))
    metadata = (("agentdur_code", error.code),) if isinstance(error, AgentdurError) else ()
    if isinstance(error, RetryableError):
        delay = error.retry_after
        delay_ms = None if delay is None else int(delay.total_seconds() * 1000)
        failure = j.Failure(_code(error.status_code), message, metadata, trace)
        return Failed(error=failure, delay_ms=delay_ms)
    code = 570 if isinstance(error, JournalMismatch) else 500
    failure = j.Failure(code, message, metadata, trace)
    return Failed(error=failure, pause=isinstance(error, JournalMismatch))


def failure_of(error: TerminalError) -> j.Failure:
    """A terminal error as it is journaled, whatever the handler put into it."""
    return j.Failure(
        _code(error.status_code), str(error.message), tuple(sorted((error.metadata or {}).items()))
    )


def _code(given: object) -> int:
    """What is no number, or beyond the wire's range, becomes 500."""
    return int(given) if isinstance(given, int) and 0 <= given <= 65535 else 500
