"""Paths: which route a path means. Pure; methods, headers and bodies are somebody else's business.

Rules of this file:
1. Slashes around the path are trimmed; inside, two slashes enclose an empty segment.
2. Only keys and scopes are percent-decoded, once, as UTF-8; all other segments are compared as they came.
3. Errors come in the order: number of slashes, service, shape, handler.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from agentdur.core.ids import BadId, InvocationId, parse_invocation_id
from agentdur.ingress.errors import IngressError, not_found, unknown_handler, unknown_service
from agentdur.ingress.served import ServedHandler, ServedService, Services

SLASHES_MAX: Final = 7

_PLAIN = "bad path, expected either /:service-name/:handler or /:object-name/:object-key/:handler"
_MODERN = (
    "bad path, expected /restate/call/:service/:handler, /restate/send/:service/:handler, "
    "/restate/scope/:scope/call/:service/:handler, /restate/attach/:invocation_id, "
    "/restate/output/:invocation_id, or /restate/lookup"
)
_INVOCATION = (
    "bad path, expected either /restate/invocation/:invocation_id/output or "
    "/restate/invocation/:invocation_id/attach or "
    "/restate/invocation/:invocation_target/:idempotency_key/output or "
    "/restate/invocation/:invocation_target/:idempotency_key/attach"
)
_WORKFLOW = (
    "bad path, expected either /restate/workflow/:workflow_name/:workflow_key/output or "
    "/restate/workflow/:workflow_name/:workflow_key/attach"
)
_AWAKEABLE = "bad path, expected either /restate/awakeables/:id/resolve or /restate/awakeables/:id/reject"

Verb: TypeAlias = Literal["attach", "output", "stream"]
Segments: TypeAlias = list[bytes]


class Submit(NamedTuple):
    """Call a handler, or send to it."""

    service: ServedService
    handler: ServedHandler
    key: str | None
    send: bool
    scope: str | None = None


class ById(NamedTuple):
    """The result of an invocation, or its stream."""

    verb: Verb
    invocation: InvocationId


class ByIdempotencyKey(NamedTuple):
    """The result of an idempotent invocation."""

    verb: Verb
    service: str
    key: str | None
    handler: str
    idempotency_key: str


class ByWorkflow(NamedTuple):
    """The result of a workflow's run."""

    verb: Verb
    name: str
    key: str


class ByBody(NamedTuple):
    """The invocation is described in the body."""

    verb: Literal["attach", "output", "lookup"]


class Awakeable(NamedTuple):
    """Complete an awakeable; the id is as it came."""

    verb: Literal["resolve", "reject"]
    id: str


class Health(NamedTuple):
    """Is the ingress there, and what does it serve?"""


class Documents(NamedTuple):
    """The OpenAPI document and its page."""


class Hosted(NamedTuple):
    """Below a prefix whose routes are somebody else's."""


Route: TypeAlias = (
    Submit | ById | ByIdempotencyKey | ByWorkflow | ByBody | Awakeable | Health | Documents | Hosted
)


def find_route(path: bytes, services: Services, hosted: Collection[bytes] = ()) -> Route:
    """The route of this path, as the client wrote it; IngressError (400, 404) when there is none. A service
    hides a hosted prefix of the same name."""
    trimmed = path.strip(b"/")
    segments = trimmed.split(b"/")
    count = len(segments)
    if segments[0] in hosted and segments[0] not in services:
        return Hosted()
    if count < 2 or count > SLASHES_MAX:
        raise IngressError(400, f"bad path: /{_text(trimmed)}")
    first = segments[0]
    service = services.get(first)
    if service is not None:
        return _plain(service, segments)
    if first == b"restate":
        return _restate(segments, services)
    if first == b"openapi":
        raise not_found()
    raise unknown_service(_text(first))


def decode_key(segment: bytes) -> str:
    """A key as the handler sees it; what is no UTF-8 after decoding is refused."""
    try:
        return (unquote_to_bytes(segment) if b"%" in segment else segment).decode()
    except UnicodeDecodeError as error:
        raise IngressError(400, f"bad path, cannot decode key: {error}") from error


def _text(segment: bytes) -> str:
    return segment.decode("utf-8", "replace")


def _plain(service: ServedService, segments: Segments) -> Submit:
    """`/Service/handler[/send]`, `/Object/key/handler[/send]`."""
    at = 2 if service.keyed else 1
    count = len(segments)
    send = count == at + 2 and segments[at + 1] == b"send"
    if not (send or count == at + 1):
        raise IngressError(400, _PLAIN)
    key = decode_key(segments[1]) if service.keyed else None
    return Submit(service, _handler(service, segments[at]), key, send)


def _handler(service: ServedService, name: bytes) -> ServedHandler:
    handler = service.handlers.get(name)
    if handler is None:
        raise unknown_handler(service.meta.name, _text(name))
    return handler


def _service(name: bytes, services: Services) -> ServedService:
    service = services.get(name)
    if service is None:
        raise unknown_service(_text(name))
    return service


def _restate(segments: Segments, services: Services) -> Route:
    """Everything below `/restate`."""
    rest = segments[2:]
    match segments[1]:
        case b"call" | b"send" as verb:
            return _modern(verb, rest, services)
        case b"awakeables" | b"a":
            return _awakeable(rest)
        case b"attach" | b"output" | b"stream" as verb:
            return _short_result(verb, rest)
        case b"invocation":
            return _result(rest, services)
        case b"workflow":
            return _workflow(rest)
        case b"lookup":
            if rest:
                raise IngressError(400, _MODERN)
            return ByBody("lookup")
        case b"scope":
            return _scoped(rest, services)
        case b"health":
            return Health()
        case b"docs" | b"openapi":
            return Documents()
    raise not_found()


def _modern(verb: bytes, rest: Segments, services: Services, scope: str | None = None) -> Submit:
    """What follows `call` or `send`."""
    if not rest:
        raise IngressError(400, _MODERN)
    service = _service(rest[0], services)
    if len(rest) != (3 if service.keyed else 2):
        raise IngressError(400, _MODERN)
    key = decode_key(rest[1]) if service.keyed else None
    return Submit(service, _handler(service, rest[-1]), key, verb == b"send", scope)


def _scoped(rest: Segments, services: Services) -> Submit:
    """`{scope}/call/…`, `{scope}/send/…`."""
    if len(rest) < 3 or rest[1] not in (b"call", b"send"):
        raise IngressError(400, _MODERN)
    return _modern(rest[1], rest[2:], services, decode_key(rest[0]))


def _verb(segment: bytes) -> Verb:
    if segment == b"attach":
        return "attach"
    if segment == b"output":
        return "output"
    if segment == b"stream":
        return "stream"
    raise not_found()


def read_invocation_id(text: str) -> InvocationId:
    """A good id, or 400 with the reason."""
    try:
        return parse_invocation_id(text)
    except BadId as error:
        raise IngressError(400, f"bad invocation id '{text}': {error.reason}") from error


def _short_result(verb: bytes, rest: Segments) -> ById | ByBody:
    """`/restate/attach[/{id}]`, `/restate/output[/{id}]`, `/restate/stream/{id}`."""
    if len(rest) > 1:
        raise IngressError(400, _MODERN)
    word = _verb(verb)
    if not rest:
        if word == "stream":
            raise not_found()
        return ByBody(word)
    return ById(word, read_invocation_id(_text(rest[0])))


def _result(rest: Segments, services: Services) -> ById | ByIdempotencyKey:
    """`/restate/invocation/…`: two segments are an id, more are a target with its idempotency key."""
    if len(rest) < 2:
        raise IngressError(400, _INVOCATION)
    if len(rest) == 2:
        verb = _verb(rest[1])
        return ById(verb, read_invocation_id(_text(rest[0])))
    service = _service(rest[0], services)
    at = 2 if service.keyed else 1
    if len(rest) < at + 3:
        raise IngressError(400, _INVOCATION)
    key = decode_key(rest[1]) if service.keyed else None
    verb = _verb(rest[at + 2])
    return ByIdempotencyKey(verb, service.meta.name, key, _text(rest[at]), _text(rest[at + 1]))


def _workflow(rest: Segments) -> ByWorkflow:
    """`/restate/workflow/{name}/{key}/attach`, `…/output`."""
    if len(rest) < 3:
        raise IngressError(400, _WORKFLOW)
    key = decode_key(rest[1])
    return ByWorkflow(_verb(rest[2]), _text(rest[0]), key)


def _awakeable(rest: Segments) -> Awakeable:
    """`/restate/awakeables/{id}/resolve`, `…/reject`."""
    if len(rest) < 2:
        raise IngressError(400, _AWAKEABLE)
    if rest[1] == b"resolve":
        return Awakeable("resolve", _text(rest[0]))
    if rest[1] == b"reject":
        return Awakeable("reject", _text(rest[0]))
    raise not_found()
