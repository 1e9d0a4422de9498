"""The routes that `useChat` talks to: the Vercel AI SDK's UI message stream on chat sessions.

Rules of this file:
1. The server remembers: of the messages a client sends, the last one is what is new.
2. An approval's answer is taken from the client's message and given to the approval; tools never run because
   a client says so.
3. A client that closes the connection stops nothing; it may come back to the stream, which begins anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal
from uuid import uuid4

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from agentdur.core.errors import AgentdurError
from agentdur.sdk.exceptions import TerminalError
from agentdur.sessions.chat import PAGE_MAX, Chat
from agentdur.sessions.errors import BadMessage, UnknownSession
from agentdur.sessions.narration import narrate
from agentdur.sessions.routes import spelled
from agentdur.sessions.ui_history import ui_messages
from agentdur.sessions.ui_teller import Shown, TellAgain, Teller, Void
from agentdur.sessions.web import (
    Desk,
    answering,
    body_of,
    checked_key,
    event_stream,
    json_response,
    sse,
    status_of,
    told,
)
from agentdur.sessions.words import Page, Policy, Post, Posted, Trigger, id_name

HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
DONE = b"data: [DONE]\n\n"


class UIMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the client's."""

    role: Literal["system", "user", "assistant"]
    parts: list[dict[str, Any]]
    id: str = ""


class UIRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the client's transport posts; `policy` is ours, for the extra body."""

    messages: list[UIMessage]
    id: str = ""
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    policy: Policy | None = None


def ui_routes(desk: Desk) -> APIRouter:
    """Below `/sessions`: `/{agent}/{id}/ui`, and `/{agent}/ui` for a transport that names the session in its
    body."""
    router = APIRouter()
    routes = _Routes(desk)
    for path, method, endpoint in (
        ("/{agent}/ui", "POST", routes.post),
        ("/{agent}/ui/{id}", "GET", routes.messages),
        ("/{agent}/ui/{id}/stream", "GET", routes.resume),
        ("/{agent}/{id}/ui", "POST", routes.post),
        ("/{agent}/{id}/ui", "GET", routes.messages),
        ("/{agent}/{id}/ui/stream", "GET", routes.resume),
        ("/{agent}/{id}/ui/{chat}/stream", "GET", routes.resume),
    ):
        router.add_api_route(path, answering(spelled)(endpoint), methods=[method], response_model=None)
    return router


class _Routes:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def post(self, request: Request) -> Response:
        """POST: a message, another answer, or the answer to an approval."""
        chat = self.desk.chat(request.path_params["agent"])
        asked = await body_of(request, UIRequest)
        key = checked_key(request.path_params.get("id") or asked.id)
        if not asked.messages:
            raise BadMessage("messages: there is none")
        last = asked.messages[-1]
        if last.role == "assistant" and asked.trigger == "submit-message":
            posted = await self._decided(chat, key, last)
            return self._stream(request, posted, last)
        post = await self._post_of(chat, key, asked)
        posted = await self.desk.post(chat, key, post)
        return self._stream(request, posted)

    async def messages(self, request: Request) -> Response:
        """GET: the conversation as the client keeps it."""
        chat = self.desk.chat(request.path_params["agent"])
        key = checked_key(request.path_params["id"])
        await self.desk.known(chat, key)
        history = await self.desk.history(chat, key, Page(limit=PAGE_MAX))
        return json_response({"id": key, "messages": ui_messages(history.messages)})

    async def resume(self, request: Request) -> Response:
        """GET: the running turn from its beginning; 204 when none runs."""
        chat = self.desk.chat(request.path_params["agent"])
        about = await self.desk.about(chat, checked_key(request.path_params["id"]))
        if about is None or about.running is None:
            return Response(status_code=204)
        posted = Posted(id=about.running.id, invocation=about.running.invocation)
        return self._stream(request, posted, again=True)

    def _stream(
        self, request: Request, posted: Posted, shown: UIMessage | None = None, again: bool = False
    ) -> Response:
        how = Void.RESET_STEP if sdk_version(request) >= 7 else Void.AGAIN if again else Void.OWED
        parts = self._parts(posted, how, shown)
        return event_stream(request, parts, {**HEADERS, "x-restate-id": posted.invocation})

    async def _parts(self, posted: Posted, how: Void, shown: UIMessage | None) -> AsyncIterator[bytes]:
        """The message, told again from the beginning whenever that is the only way to take something back."""
        turn = posted.into or posted.invocation
        times = 0
        while True:
            id = message_id(turn) + (f".{times}" if times else "")
            teller = Teller(id, how)
            if shown is not None:
                teller = Teller(shown.id or id, how, shown_of(shown))
            yield sse(teller.begin())
            try:
                async for part in self._told(posted, teller):
                    yield part
            except TellAgain:
                times += 1
                continue
            except (TerminalError, AgentdurError) as error:
                if status_of(error) == 503:
                    raise
                yield sse({"type": "error", "errorText": told(error)[2]})
            yield DONE
            return

    async def _told(self, posted: Posted, teller: Teller) -> AsyncIterator[bytes]:
        narration = narrate(self.desk.client, posted)
        try:
            async for item in narration:
                for part in teller.tell(item):
                    yield sse(part)
                if teller.waits and await self.desk.still_asked(teller.asked) and teller.waits:
                    for part in teller.pause():
                        yield sse(part)
                    return
        finally:
            await narration.aclose()

    async def _post_of(self, chat: Chat, key: str, asked: UIRequest) -> Post:
        """The last user's message as a post: new, in the place of another, or to be answered again."""
        users = [message for message in asked.messages if message.role == "user"]
        if not users:
            raise BadMessage("messages: none is a user's")
        last = users[-1]
        about = await self.desk.about(chat, key)
        if asked.trigger == "regenerate-message":
            if about is None:
                raise UnknownSession(f"{chat.name}/{key}")
            return Post(trigger="regenerate", target=last.id, policy=asked.policy, id=uuid4().hex)
        content = content_of(last)
        trigger: Trigger = "message"
        target, id = "", last.id
        if asked.message_id and asked.message_id == last.id:
            known = await self.desk.client.state(chat.name, key, id_name(last.id))
            if known is not None:
                trigger, target, id = "edit", last.id, f"{last.id}~{uuid4().hex[:8]}"
        return Post(content=content, id=id, policy=asked.policy, trigger=trigger, target=target)

    async def _decided(self, chat: Chat, key: str, message: UIMessage) -> Posted:
        """Hand the answers to approvals over; the turn that waited for them."""
        answers = [part for part in message.parts if part.get("state") == "approval-responded"]
        if not answers:
            raise BadMessage("messages: the last one is the assistant's, and answers no approval")
        about = await self.desk.known(chat, key)
        for part in answers:
            approval = part.get("approval")
            if not isinstance(approval, dict) or not isinstance(approval.get("approved"), bool):
                raise BadMessage("parts: approval.approved is true or false")
            id, reason = str(approval.get("id")), str(approval.get("reason") or "")
            await self.desk.decide(id, approval["approved"], reason)
        if about.running is not None:
            return Posted(id=about.running.id, invocation=about.running.invocation)
        record = await self.desk.record(chat, key, about.turns)
        if record is None:
            raise BadMessage("parts: no turn of this session waits for an approval")
        return Posted(id=record.id, invocation=record.invocation)


def sdk_version(request: Request) -> int:
    """The client's major version, as far as it says it: by `?sdk=`, or as its User-Agent does."""
    said = request.query_params.get("sdk") or request.headers.get("x-ai-sdk-version") or ""
    agent = request.headers.get("user-agent", "")
    if not said and "ai-sdk/" in agent:
        said = agent.partition("ai-sdk/")[2]
    major = said.partition(".")[0].strip()
    return int(major) if major.isdigit() and len(major) < 4 else 6


def message_id(invocation: str) -> str:
    """The id of the message that a turn's answer is for the client."""
    return f"msg_{invocation}"


def shown_of(message: UIMessage) -> Shown:
    """What the client has of a message that goes on."""
    steps = sum(part.get("type") == "step-start" for part in message.parts)
    done = ("output-available", "output-error", "output-denied")
    calls = [str(part["toolCallId"]) for part in message.parts if part.get("state") in done]
    return Shown(steps, frozenset(calls))


def content_of(message: UIMessage) -> str | list[dict[str, Any]]:
    """The parts of a user's message in OpenAI's shape; BadMessage for what a model cannot be told."""
    content: list[dict[str, Any]] = []
    for part in message.parts:
        kind = part.get("type")
        if kind == "text":
            content.append({"type": "text", "text": str(part.get("text", ""))})
        elif kind == "file" and str(part.get("mediaType", "")).startswith("image/"):
            content.append({"type": "image_url", "image_url": {"url": str(part.get("url", ""))}})
        elif kind == "file":
            file = {"file_data": str(part.get("url", "")), "filename": str(part.get("filename") or "file")}
            content.append({"type": "file", "file": file})
        elif not str(kind).startswith("data-"):
            raise BadMessage(f"parts: a user's message has text and files, not {kind!r}")
    if all(part["type"] == "text" for part in content):
        text = "".join(part["text"] for part in content)
        if not text:
            raise BadMessage("parts: a message is not empty")
        return text
    return content
