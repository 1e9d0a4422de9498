"""What the routes of sessions share: finding chats, reading bodies, answering errors, sending events.

Rules of this file:
1. A body is read up to a limit and checked by its type; what does not fit is answered with the field's name.
2. An error has one status, whatever dialect spells it.
3. A client that leaves stops the sending and nothing else: turns go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agentdur.core import errors
from agentdur.core.errors import AgentdurError, CallerError, StoreError, UnknownInvocation
from agentdur.sdk.client import EngineClient
from agentdur.sdk.exceptions import TerminalError
from agentdur.sessions.chat import Chat
from agentdur.sessions.errors import BadMessage, UnknownAgent, UnknownSession, code_of
from agentdur.sessions.words import About, History, Page, Post, Posted, Reply, TurnRecord, turn_name

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
Speller = Callable[[int, str, str, str], Any]
"""(status, code AD…, message, source) -> the body of an error."""

BODY_BYTES_MAX = 32 * 1024 * 1024
HEARTBEAT_SECONDS = 15.0
"""How long nothing is said before a stream says that it is still there."""
KEY_LENGTH_MAX = 512
"""Characters in the id of a session."""
EVENT_STREAM = {"cache-control": "no-store", "x-accel-buffering": "no"}
ABORT = "agentdur.abort"
"""In the scope of a request, where the server can: drops its connection."""
HEARTBEAT = b": still here\n\n"
_STATUS: dict[type[AgentdurError], int] = {
    errors.UnknownService: 404, errors.UnknownInvocation: 404, errors.WrongStatus: 409,
    errors.UnknownApproval: 404, errors.JournalGone: 410, errors.ValueTooLarge: 413,
    errors.Overloaded: 429, errors.NotRunning: 503, CallerError: 400, StoreError: 503,
}  # fmt: skip
_log = logging.getLogger("agentdur.sessions")
_encode = msgspec.json.Encoder().encode


class Desk:
    """The chats of an App, and the client by which they are reached."""

    def __init__(self, client: EngineClient, chats: Sequence[Chat]) -> None:
        self.client = client
        self.chats: Mapping[str, Chat] = {one.name: one for one in chats}

    def chat(self, name: str) -> Chat:
        """The chat of that name; UnknownAgent."""
        found = self.chats.get(name)
        if found is None:
            raise UnknownAgent(f"'{name}'")
        return found

    async def about(self, chat: Chat, key: str) -> About | None:
        """What is known of a session, None when there is none."""
        return await self.decoded(chat, key, "about", About)

    async def record(self, chat: Chat, key: str, turn: int) -> TurnRecord | None:
        """What is known of a turn that ended."""
        return await self.decoded(chat, key, turn_name(turn), TurnRecord)

    async def decoded(self, chat: Chat, key: str, name: str, type_: type[T]) -> T | None:
        """A state value of a session, None when it is absent."""
        raw = await self.client.state(chat.name, key, name)
        return None if raw is None else msgspec.json.decode(raw, type=type_)

    async def known(self, chat: Chat, key: str) -> About:
        """What is known of a session; UnknownSession."""
        about = await self.about(chat, key)
        if about is None:
            raise UnknownSession(f"{chat.name}/{key}")
        return about

    async def history(self, chat: Chat, key: str, page: Page) -> History:
        """A part of its messages."""
        history: History = await self.client.object_call(chat.history, key, page)
        return history

    async def post(self, chat: Chat, key: str, post: Post) -> Posted:
        """Hand a message over."""
        posted: Posted = await self.client.object_call(chat.post, key, post)
        return posted

    async def reply(self, posted: Posted) -> Reply:
        """Wait for the answer to it. TerminalError when its turn failed."""
        try:
            return msgspec.convert(await self.client.attach(posted.invocation), Reply)
        except UnknownInvocation:
            raise TerminalError("this turn is no longer kept", 410) from None

    async def still_asked(self, asked: dict[str, str]) -> bool:
        """Leaves what is not decided yet of the approvals (the values), and says whether there is any."""
        for call, id in list(asked.items()):
            try:
                if (await self.client.approval(id)).status != "pending":
                    del asked[call]
            except errors.UnknownApproval:  # it is only about to be asked
                continue
        return bool(asked)

    async def decide(self, id: str, approved: bool, reason: str) -> None:
        """Answer an approval. UnknownApproval; what was decided before stays so, and the stream tells how."""
        seen = await self.client.approval(id)
        if seen.status != "pending":
            return
        try:
            if approved:
                await self.client.approve(id, seen.digest, reason=reason)
            else:
                await self.client.reject(id, seen.digest, reason=reason)
        except errors.ApprovalDecided:
            return


def answering(spell: Speller) -> Callable[[Endpoint], Endpoint]:
    """Errors of the endpoint are answered as `spell` writes them."""

    def decorate(endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except (TerminalError, AgentdurError) as error:
                return json_response(spell(*told(error)), status_of(error))
            except Exception:
                _log.exception("a request failed: %s %s", request.method, request.url.path)
                return json_response(spell(500, "", "internal error", "ingress"), 500)

        return answer

    return decorate


def told(error: TerminalError | AgentdurError) -> tuple[int, str, str, str]:
    """What a speller is given."""
    if isinstance(error, TerminalError):
        return error.status_code, code_of(error), error.message, "invocation"
    return status_of(error), error.code, str(error), "ingress"


def status_of(error: TerminalError | AgentdurError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, TerminalError):
        return error.status_code if 400 <= error.status_code <= 599 else 500
    own = getattr(error, "status", None)
    if isinstance(own, int):
        return own
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(
        _encode(value), status_code=status, media_type="application/json", headers=dict(headers or {})
    )


def key_of(request: Request) -> str:
    """The session's id in the path; BadMessage when it is none."""
    key: str = request.path_params["id"]
    return checked_key(key)


def checked_key(key: str) -> str:
    """A session's id; BadMessage when it is empty, too long or not writable."""
    if not key or len(key) > KEY_LENGTH_MAX or not key.isprintable():
        raise BadMessage(f"the id of a session is 1 to {KEY_LENGTH_MAX} printable characters")
    return key


async def body_of(request: Request, type_: type[T], empty: bytes = b"") -> T:
    """The body as a value of that type; BadMessage says what does not fit. `empty`: stands for no body."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise errors.ValueTooLarge(f"the body has more than {BODY_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(bytes(body) or empty, type=type_)
    except msgspec.MsgspecError as misfit:
        raise BadMessage(f"the body: {misfit}") from misfit
    except UnicodeDecodeError as misfit:
        raise BadMessage(f"the body is no UTF-8: {misfit.reason}") from misfit


def number_of(request: Request, name: str, default: int) -> int:
    """A number of the query; BadMessage when it is none."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise BadMessage(f"{name}: expected a number, got {text[:50]!r}") from None


def flag_of(request: Request, name: str, default: bool) -> bool:
    """A flag of the query: anything but `false` and `0` is true."""
    text = request.query_params.get(name)
    return default if text is None else text.lower() not in ("false", "0", "no", "")


def sse(value: Any, event: str = "", id: str = "") -> bytes:
    """One server-sent event, its data as JSON."""
    lines = b""
    if id:
        lines += b"id: %b\n" % id.encode()
    if event:
        lines += b"event: %b\n" % event.encode()
    return lines + b"data: %b\n\n" % _encode(value)


def event_stream(
    request: Request, events: AsyncIterator[bytes], headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that lasts. When the engine stops the connection is dropped, and whoever reads comes back."""
    return StreamingResponse(
        kept_alive(events, request.scope.get(ABORT)), media_type="text/event-stream",
        headers={**EVENT_STREAM, **(headers or {})},
    )  # fmt: skip


async def kept_alive(events: AsyncIterator[bytes], abort: Callable[[], None] | None) -> AsyncIterator[bytes]:
    """The events, and a comment whenever there is none for a while."""
    source = aiter(events)
    waiting: asyncio.Future[bytes] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(_next(source))
            done, _ = await asyncio.wait({waiting}, timeout=HEARTBEAT_SECONDS)
            if not done:
                yield HEARTBEAT
                continue
            piece, waiting = waiting.result(), None
            yield piece
    except _Over:
        return
    except (errors.NotRunning, StoreError):
        if abort is None:
            raise
        abort()
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait({waiting})
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def _next(source: AsyncIterator[bytes]) -> bytes:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise _Over from None


class _Over(Exception):
    """There are no more events: a future cannot carry StopAsyncIteration's kin."""
