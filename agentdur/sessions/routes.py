"""`/sessions`: chat sessions over HTTP.

Rules of this file:
1. What is posted is durable before it is answered; waiting for the answer is the client's choice.
2. A stream's events have ids that say turn and place: who comes back with the last one misses nothing, also
   after the server was started anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from fastapi import APIRouter
from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response

from agentdur.core.errors import BadRequest, JournalGone, UnknownInvocation
from agentdur.observe.redaction import hidden, marker
from agentdur.sdk.client import EngineClient
from agentdur.sdk.exceptions import TerminalError
from agentdur.sessions.chat import PAGE_MAX, Chat
from agentdur.sessions.errors import BadMessage
from agentdur.sessions.web import (
    Desk,
    answering,
    body_of,
    event_stream,
    flag_of,
    json_response,
    key_of,
    number_of,
    sse,
)
from agentdur.sessions.words import About, Page, Policy, Post, Posted, Shown, TurnRecord

TURNS_MAX = 200
"""Turns in one answer: each is read by itself."""
LOOK_SECONDS_MIN, LOOK_SECONDS_MAX = 0.05, 1.0
"""How often a reader looks for the next turn: at first, and when none comes."""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client posts; see Post."""

    content: str | list[dict[str, Any]] = ""
    id: str = ""
    policy: Policy | None = None
    instructions: str = ""
    settings: dict[str, Any] = {}


class Again(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which message is answered again, the last one by default."""

    target: str = ""
    id: str = ""
    policy: Policy | None = None


def spelled(status: int, code: str, message: str, source: str) -> dict[str, Any]:
    """An error as the ingress spells it, with our code beside."""
    return {"code": status, "message": message, "source": source, **({"error": code} if code else {})}


def session_routes(desk: Desk) -> APIRouter:
    """The routes below `/sessions`."""
    router = APIRouter()
    routes = _Routes(desk)
    for path, methods, endpoint in (
        ("", ["GET"], routes.listed),
        ("/{agent}/{id}", ["GET"], routes.about),
        ("/{agent}/{id}", ["DELETE"], routes.delete),
        ("/{agent}/{id}/messages", ["GET"], routes.messages),
        ("/{agent}/{id}/messages", ["POST"], routes.post),
        ("/{agent}/{id}/messages/{message}", ["PUT"], routes.edit),
        ("/{agent}/{id}/turns", ["GET"], routes.turns),
        ("/{agent}/{id}/regenerate", ["POST"], routes.regenerate),
        ("/{agent}/{id}/stop", ["POST"], routes.stop),
        ("/{agent}/{id}/stream", ["GET"], routes.stream),
    ):
        router.add_api_route(path, answering(spelled)(endpoint), methods=methods, response_model=None)
    return router


class _Routes:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def _place(self, request: Request) -> tuple[Chat, str]:
        return self.desk.chat(request.path_params["agent"]), key_of(request)

    async def listed(self, request: Request) -> Response:
        """GET: the sessions that there are, by agent and id."""
        limit = max(1, min(number_of(request, "limit", 100), PAGE_MAX))
        agent, after = request.query_params.get("agent"), request.query_params.get("after", "")
        first, _, key = after.partition("/")
        names = [self.desk.chat(agent).name] if agent is not None else sorted(self.desk.chats)
        found: list[dict[str, Any]] = []
        for name in names:
            if name < first or len(found) > limit:
                continue
            start = key if name == first else ""
            for id, raw in await self.desk.client.states(name, "about", after=start, limit=limit + 1):
                found.append(summary(name, id, msgspec.json.decode(raw, type=About)))
        page = found[:limit]
        more = f"{page[-1]['agent']}/{page[-1]['id']}" if len(found) > limit else None
        return json_response({"sessions": page, "after": more})

    async def about(self, request: Request) -> Response:
        """GET: what is known of a session."""
        chat, key = self._place(request)
        return json_response(summary(chat.name, key, await self.desk.known(chat, key)))

    async def delete(self, request: Request) -> Response:
        """DELETE: stop what runs, and forget all."""
        chat, key = self._place(request)
        await self.desk.known(chat, key)
        await self.desk.client.object_call(chat.stop, key)
        deleted = await self.desk.client.object_call(chat.clear, key)
        return json_response({"deleted": deleted})

    async def messages(self, request: Request) -> Response:
        """GET: the messages, oldest first."""
        chat, key = self._place(request)
        await self.desk.known(chat, key)
        page = Page(
            after=number_of(request, "after", -1), limit=number_of(request, "limit", 100),
            audit=flag_of(request, "audit", False),
        )  # fmt: skip
        history = await self.desk.history(chat, key, page)
        if hidden():
            history = structs.replace(history, messages=[_unsaid(one) for one in history.messages])
        return json_response(history)

    async def turns(self, request: Request) -> Response:
        """GET: the turns that ended: what each cost, how it ended, and the invocation it was."""
        chat, key = self._place(request)
        about = await self.desk.known(chat, key)
        after = max(0, number_of(request, "after", 0))
        last = min(about.turns, after + max(1, min(number_of(request, "limit", 100), TURNS_MAX)))
        ended = []
        for number in range(after + 1, last + 1):
            record = await self.desk.record(chat, key, number)
            if record is not None:
                ended.append(turn_shown(number, record))
        return json_response({"turns": ended, "after": last if last < about.turns else None})

    async def post(self, request: Request) -> Response:
        """POST: a message."""
        chat, key = self._place(request)
        message = await body_of(request, Message)
        post = Post(
            content=message.content, id=message.id or request.headers.get("idempotency-key", ""),
            policy=message.policy, instructions=message.instructions, settings=message.settings,
        )  # fmt: skip
        if not post.content:
            raise BadMessage("content: a message is not empty")
        return await self._posted(request, chat, key, post)

    async def regenerate(self, request: Request) -> Response:
        """POST: the same question, another answer."""
        chat, key = self._place(request)
        again = await body_of(request, Again, b"{}")
        await self.desk.known(chat, key)
        post = Post(trigger="regenerate", target=again.target, id=again.id, policy=again.policy)
        return await self._posted(request, chat, key, post)

    async def edit(self, request: Request) -> Response:
        """PUT: another message in the place of one, and an answer to it."""
        chat, key = self._place(request)
        message = await body_of(request, Message)
        await self.desk.known(chat, key)
        post = Post(
            trigger="edit", target=request.path_params["message"], content=message.content,
            id=message.id or request.headers.get("idempotency-key", ""), policy=message.policy,
            instructions=message.instructions, settings=message.settings,
        )  # fmt: skip
        return await self._posted(request, chat, key, post)

    async def stop(self, request: Request) -> Response:
        """POST: interrupt the running turn."""
        chat, key = self._place(request)
        await self.desk.known(chat, key)
        return json_response({"stopped": await self.desk.client.object_call(chat.stop, key)})

    async def _posted(self, request: Request, chat: Chat, key: str, post: Post) -> Response:
        """The answer in the form the client asked for: at once, as events, or when it is there."""
        desk = self.desk
        posted = await desk.post(chat, key, post)
        headers = {"x-restate-id": posted.invocation}
        if "text/event-stream" in request.headers.get("accept", ""):
            return event_stream(request, turn_events(desk, chat, key, posted), headers)
        if "respond-async" in request.headers.get("prefer", "") or not flag_of(request, "wait", True):
            return json_response(posted, 202, headers)
        return json_response(await desk.reply(posted), headers=headers)

    async def stream(self, request: Request) -> Response:
        """GET: the running turn and those that follow, as events."""
        chat, key = self._place(request)
        about = await self.desk.known(chat, key)
        last = request.headers.get("last-event-id") or request.query_params.get("after")
        if last:
            turn, after = read_place(last)
            await self._check_place(chat, key, turn, after)
            return event_stream(request, follow(self.desk, chat, key, turn, after))
        running = about.running
        turn = number_of(request, "turn", running.turn if running is not None else about.turns + 1)
        return event_stream(request, follow(self.desk, chat, key, turn, None))

    async def _check_place(self, chat: Chat, key: str, turn: int, after: str) -> None:
        """BadMessage before anything is sent."""
        record = await self.desk.record(chat, key, turn)
        if record is not None and after:
            try:
                self.desk.client.stream(record.invocation, after).close()
            except BadRequest as wrong:
                raise BadMessage(f"Last-Event-ID: {wrong.detail}") from wrong
            except (JournalGone, UnknownInvocation):
                return  # told in the stream


def _unsaid(shown: Shown) -> Shown:
    """Who said it, and a marker in place of what."""
    said = {"role": shown.role, "content": marker(msgspec.json.encode(shown.message))}
    return structs.replace(shown, message=said)


def turn_shown(number: int, record: TurnRecord) -> dict[str, Any]:
    """A turn as it is listed; what the client said of it is not told."""
    return {
        "turn": number, "invocation": record.invocation, "id": record.id, "status": record.status,
        "at": record.at, "agent": record.agent, "finish_reason": record.finish_reason, "usage": record.usage,
        "cost": record.cost, "model_calls": record.model_calls, "error": record.error,
    }  # fmt: skip


def summary(agent: str, key: str, about: About) -> dict[str, Any]:
    """A session as it is listed. Its title is what was said first, so it may be hidden."""
    title = marker(about.title.encode()) if about.title and hidden() else about.title
    return {
        "agent": agent, "id": key, "title": title, "created": about.created, "updated": about.updated,
        "messages": about.messages, "turns": about.turns, "running": about.running, "usage": about.usage,
        "cost": about.cost, "model_calls": about.model_calls, "speaker": about.agent,
        "summarised_up_to": None if about.digest is None else about.digest.upto,
    }  # fmt: skip


def read_place(text: str) -> tuple[int, str]:
    """Turn and place within it, of an event's id; the place is empty when only the turn was told."""
    turn, slash, after = text.partition("/")
    if not turn.isdigit() or not slash or len(text) > 2000:
        raise BadMessage(f"Last-Event-ID: {text[:50]!r} is no id of an event of this stream")
    return int(turn), after


async def turn_events(desk: Desk, chat: Chat, key: str, posted: Posted) -> AsyncIterator[bytes]:
    """The turn that answers a message, as events."""
    if posted.into:
        last = b""
        async for piece, end in _events(desk.client, posted.into, None, ""):
            if end:
                last = piece
            else:
                yield piece
        try:
            own = await desk.reply(posted)
        except TerminalError:
            own = None
        if own is not None and own.status == "steered":
            yield last
            return
    async for piece, _ in _events(desk.client, posted.invocation, None, ""):
        yield piece


async def follow(desk: Desk, chat: Chat, key: str, turn: int, after: str | None) -> AsyncIterator[bytes]:
    """Turn after turn, for as long as the session lives and the client listens. `after` None: not even the
    beginning of the first one was told."""
    while True:
        invocation = await _invocation_of(desk, chat, key, turn)
        if invocation is None:
            return  # the session is gone
        if after is None:
            yield sse({"turn": turn, "invocation": invocation}, "turn", f"{turn}/")
        try:
            async for piece, _ in _events(desk.client, invocation, after, f"{turn}/"):
                yield piece
        except (JournalGone, UnknownInvocation):
            yield sse({"turn": turn, "invocation": invocation}, "gone", f"{turn}/")
        turn, after = turn + 1, None


async def _invocation_of(desk: Desk, chat: Chat, key: str, turn: int) -> str | None:
    """The invocation of a turn, waited for; None when the session is no longer there."""
    seconds = LOOK_SECONDS_MIN
    while True:
        about = await desk.about(chat, key)
        if about is None:
            return None
        if about.running is not None and about.running.turn == turn:
            return about.running.invocation
        if turn <= about.turns:
            record = await desk.record(chat, key, turn)
            if record is not None:
                return record.invocation
        await asyncio.sleep(seconds)
        seconds = min(seconds * 2, LOOK_SECONDS_MAX)


async def _events(
    client: EngineClient, invocation: str, after: str | None, prefix: str
) -> AsyncIterator[tuple[bytes, bool]]:
    """The events of one invocation as they are sent, and whether each is the last one."""
    try:
        stream = client.stream(invocation, after or None)
    except BadRequest as wrong:
        raise BadMessage(f"Last-Event-ID: {wrong.detail}") from wrong
    try:
        async for event in stream:
            said = {
                "step": event.step, "branch": event.branch, "run": event.run, "attempt": event.attempt,
                "data": event.data,
            }  # fmt: skip
            yield sse(said, event.kind, f"{prefix}{event.id}"), event.kind == "end"
    finally:
        stream.close()
