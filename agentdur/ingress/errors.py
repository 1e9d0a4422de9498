"""How errors look over HTTP: status, body, source. The only place that knows HTTP status codes of errors.

Rules of this file:
1. `source` says whose answer it is: `ingress` for ours, `invocation` for the outcome of a handler.
2. An engine error becomes the status of its nearest class in `_STATUS`.
3. Words that clients may compare are constants here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agentdur.core import errors
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Failure
from agentdur.ingress.replies import JSON, Reply

NOT_FOUND = "not found"
INVOCATION_NOT_FOUND = "invocation not found"
NOT_READY = "the invocation exists but has not completed yet"
NOT_PUBLIC = "the invoked service is not public"
METHOD_NOT_ALLOWED = "method not allowed"
OVERLOADED = "too many requests, the ingress is overloaded. Retry later."
LENGTH_LIMIT = "cannot read body: LengthLimitError"
SCOPE_OFF = "scoped invocations require vqueues to be enabled"
LIMIT_KEY_ALONE = "limit-key requires a scope to be set"
DELAY_ON_CALL = "cannot use the delay query parameter with calls. The delay is supported only with sends"
KEY_ON_WORKFLOW = "cannot use the idempotency key with workflow handlers. A workflow runs once per key anyway"

NOT_READY_STATUS: Final = 470

_STATUS: Final[dict[type[errors.AgentdurError], int]] = {
    errors.UnknownService: 404,
    errors.UnknownHandler: 404,
    errors.UnknownInvocation: 404,
    errors.CrossSite: 403,
    errors.NotSignedIn: 401,
    errors.NotAllowed: 403,
    errors.PayloadsHidden: 403,
    errors.UnknownHost: 403,
    errors.WrongStatus: 409,
    errors.JournalGone: 410,
    errors.ValueTooLarge: 413,
    errors.NotForWorkflows: 422,
    errors.TooEarly: 425,
    errors.Overloaded: 429,
    errors.NotRunning: 503,
    errors.CallerError: 400,
    errors.StoreError: 503,
}
_SOURCE_HEADER = b"x-restate-error-source"
_FROM_INGRESS = (_SOURCE_HEADER, b"ingress")
_FROM_INVOCATION = (_SOURCE_HEADER, b"invocation")

_encode = msgspec.json.Encoder().encode


class IngressError(Exception):
    """The ingress answers this request itself, with `status` and `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def status_of(error: errors.AgentdurError) -> int:
    """The status of an engine error: that of its nearest known class."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def engine_error(error: errors.AgentdurError, invocation: InvocationId | None = None) -> Reply:
    """What the engine refused, in its own words; the client may ask for the fate of `invocation`."""
    status = status_of(error)
    prefix = "internal routing error: " if status == 503 else ""
    reply = ingress_error(status, f"{prefix}{error}")
    if invocation is not None:
        reply.headers.append((b"x-restate-id", invocation.encode()))
    return reply


def ingress_error(status: int, message: str) -> Reply:
    """An error of the ingress itself."""
    body = _encode({"code": status, "message": message, "source": "ingress"})
    return Reply(status, [_FROM_INGRESS, JSON], body)


def invocation_error(invocation: InvocationId, failure: Failure) -> Reply:
    """A terminal failure, as any caller of the handler sees it."""
    fields: dict[str, Any] = {"code": failure.code, "message": failure.message}
    if failure.stacktrace:
        fields["stacktrace"] = failure.stacktrace
    if failure.metadata:
        fields["metadata"] = dict(failure.metadata)
    fields["source"] = "invocation"
    headers = [(b"x-restate-id", invocation.encode()), _FROM_INVOCATION, JSON]
    return Reply(invocation_status(failure.code), headers, _encode(fields))


def invocation_status(code: int) -> int:
    """A handler's code where HTTP can carry it as a final status, else 500; the body keeps the code.

    Codes of 600 and more are no HTTP statuses for uvicorn and most clients; those below 200 are not final.
    """
    return code if 200 <= code <= 599 else 500


def too_large() -> Reply:
    """The declared length is over the limit: a bare answer, without JSON, source or CORS."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    return Reply(413, headers, b"length limit exceeded")


def unknown_service(name: str) -> IngressError:
    """No such service."""
    message = f"service '{name}' not found, make sure to register the service before calling it."
    return IngressError(404, message)


def unknown_handler(service: str, handler: str) -> IngressError:
    """The service is there, the handler is not."""
    return IngressError(
        404,
        f"the service '{service}' exists, but the handler '{handler}' was not found, "
        "check that the handler exists in the latest registered service version.",
    )


def not_found() -> IngressError:
    """No such route."""
    return IngressError(404, NOT_FOUND)


def bad_header(name: str) -> IngressError:
    """A header value the handler could not be given."""
    return IngressError(400, f"bad header {name}: only visible ASCII characters are allowed in the value")
