"""What an error looks like here: `{"message", "restate_code"}`, or text for what cannot be parsed.

Rules of this file:
1. The status of each error class is decided here and nowhere else.
2. An error without a status here is ours: 500, with its code, and the log has the rest.
"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from agentdur.admin.words import ERROR_HEADER
from agentdur.core.errors import (
    AgentdurError,
    AnswerTooLarge,
    ArrowMissing,
    BadQuery,
    BadRequest,
    ConversionFailed,
    CrossSite,
    DeploymentInUse,
    DiscoveryFailed,
    JournalGone,
    KeyRequired,
    NotAllowed,
    NotEditable,
    NotForWorkflows,
    NotRunning,
    NotSignedIn,
    Overloaded,
    PayloadsHidden,
    QueriesBusy,
    QueryFailed,
    QueryNotAllowed,
    QueryTooComplex,
    QueryTooLong,
    StoreError,
    TooEarly,
    TooManyRows,
    UnknownConversation,
    UnknownDeployment,
    UnknownEntry,
    UnknownHandler,
    UnknownHost,
    UnknownInQuery,
    UnknownInvocation,
    UnknownService,
    ValueTooLarge,
    WrongStatus,
)

_STATUS: dict[type[AgentdurError], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    KeyRequired: HTTPStatus.BAD_REQUEST,
    UnknownInvocation: HTTPStatus.NOT_FOUND,
    UnknownService: HTTPStatus.NOT_FOUND,
    UnknownHandler: HTTPStatus.NOT_FOUND,
    UnknownDeployment: HTTPStatus.NOT_FOUND,
    UnknownEntry: HTTPStatus.NOT_FOUND,
    CrossSite: HTTPStatus.FORBIDDEN,
    NotSignedIn: HTTPStatus.UNAUTHORIZED,
    NotAllowed: HTTPStatus.FORBIDDEN,
    PayloadsHidden: HTTPStatus.FORBIDDEN,
    UnknownHost: HTTPStatus.FORBIDDEN,
    UnknownConversation: HTTPStatus.NOT_FOUND,
    DeploymentInUse: HTTPStatus.CONFLICT,
    NotEditable: HTTPStatus.UNPROCESSABLE_ENTITY,
    ConversionFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    WrongStatus: HTTPStatus.CONFLICT,
    JournalGone: HTTPStatus.GONE,
    NotForWorkflows: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooEarly: HTTPStatus.TOO_EARLY,
    ValueTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    BadQuery: HTTPStatus.BAD_REQUEST,
    QueryNotAllowed: HTTPStatus.BAD_REQUEST,
    QueryTooComplex: HTTPStatus.BAD_REQUEST,
    QueryTooLong: HTTPStatus.BAD_REQUEST,
    TooManyRows: HTTPStatus.BAD_REQUEST,
    AnswerTooLarge: HTTPStatus.BAD_REQUEST,
    UnknownInQuery: HTTPStatus.INTERNAL_SERVER_ERROR,  # as a Restate server has it
    QueryFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    QueriesBusy: HTTPStatus.TOO_MANY_REQUESTS,
    ArrowMissing: HTTPStatus.NOT_ACCEPTABLE,
    NotRunning: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class MethodNotAllowed(Exception):
    """A route of another version of this API."""


class Unreadable(Exception):
    """Something that cannot be parsed, answered as text."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


def json_only(request: Request) -> None:
    """A dependency of routes with a body: what is not said to be JSON is not read as such."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        said = f"Expected request with `Content-Type: application/json`, got {kind!r}"
        raise Unreadable(said, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def message_of(error: AgentdurError) -> str:
    """One line for people; the words of the two errors that clients show most are the field's own."""
    match error:
        case UnknownInvocation():
            return f"The requested invocation '{error.detail}' does not exist, or it was purged"
        case UnknownService():
            return f"The requested service '{error.detail}' does not exist"
        case UnknownHandler():
            return f"The requested handler '{error.detail}' does not exist"
        case WrongStatus() | TooEarly() | BadRequest() | DeploymentInUse() | DiscoveryFailed() if (
            error.detail
        ):
            return error.detail
        case _:
            return str(error)


def status_of(error: AgentdurError) -> HTTPStatus:
    """The most specific status of its class; where errors of one class differ, they say their own."""
    if isinstance(error, DiscoveryFailed | QueryNotAllowed):
        return HTTPStatus(error.status)
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def refusal(error: AgentdurError) -> Response:
    """An error as an answer."""
    code = error.restate_code if isinstance(error, DiscoveryFailed) else None
    headers = {ERROR_HEADER: error.code}
    if isinstance(error, NotSignedIn):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"message": message_of(error), "restate_code": code}, status_of(error), headers)


def install_errors(app: FastAPI) -> None:
    """Teach `app` to answer errors this way."""

    @app.exception_handler(AgentdurError)
    async def refused(request: Request, error: AgentdurError) -> Response:
        return refusal(error)

    @app.exception_handler(Unreadable)
    async def unreadable(request: Request, error: Unreadable) -> Response:
        return PlainTextResponse(str(error), error.status)

    @app.exception_handler(RequestValidationError)
    async def misfit(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        in_body = first["loc"][:1] == ("body",)
        broken = first["type"] == "json_invalid"
        status = HTTPStatus.UNPROCESSABLE_ENTITY if in_body and not broken else HTTPStatus.BAD_REQUEST
        place = ".".join(str(step) for step in first["loc"])
        return PlainTextResponse(f"{place}: {first['msg']}", status)

    @app.exception_handler(MethodNotAllowed)
    async def elsewhere(request: Request, error: MethodNotAllowed) -> Response:
        return JSONResponse({"message": str(error), "restate_code": None}, HTTPStatus.METHOD_NOT_ALLOWED)

    @app.exception_handler(HTTPException)
    async def nothing_here(request: Request, error: HTTPException) -> Response:
        return Response(status_code=error.status_code, headers=error.headers)
