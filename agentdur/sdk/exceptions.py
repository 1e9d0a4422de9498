"""What a handler raises to say how it failed, and what a client raises when a call did.

Rules of this file:
1. TerminalError ends an invocation and reaches its caller unchanged; every other exception is retried.
2. These three are the public ones; how an attempt is stopped from inside is the runner's own matter.
"""

from __future__ import annotations

from datetime import timedelta


class TerminalError(Exception):
    """Ends the invocation, without a retry; the caller sees `message`, `status_code` and `metadata`."""

    def __init__(self, message: str, status_code: int = 500, metadata: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.metadata = metadata


def terminal_in(error: BaseException | None) -> TerminalError | None:
    """The error itself when it is terminal; of a group (from a TaskGroup) the first, when all are terminal.
    With another error among them it is worth a retry."""
    if isinstance(error, TerminalError):
        return error
    if not isinstance(error, ExceptionGroup):
        return None
    found = [terminal_in(inner) for inner in error.exceptions]
    return None if None in found else found[0]


class RetryableError(Exception):
    """Ends the attempt; the next one starts after `retry_after`, or when the retry policy says so."""

    counted = True
    """False: the failure uses up no attempt of a step's policy, it only asks for patience."""
    patience: timedelta | None = None
    """How long a step may wait on failures that are not counted; then its policy is exhausted."""
    metadata: dict[str, str] | None = None
    """Given to the terminal failure that this becomes when a step's policy is exhausted."""

    def __init__(self, message: str, status_code: int = 500, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.retry_after = retry_after


class HttpError(Exception):
    """The server refused the request, or could not serve it: nothing the handler said."""

    def __init__(self, status_code: int, message: str, body: str | None = None) -> None:
        super().__init__(f"HTTP {status_code}: {message}")
        self.status_code = status_code
        self.message = message
        self.body = body
