"""`/v1/chat/completions` and `/v1/models`: agents for clients of OpenAI.

Rules of this file:
1. The model is the name of a chat. With a session the server remembers, and the last message of the request
   is what is new; without one the request's messages are the conversation, and nothing is stored.
2. Tools run here: a client is told text, never a call it would have to make.
3. Streamed or not, an answer is told from the same durable stream, so both say the same.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from agentdur.core.errors import AgentdurError
from agentdur.sdk.exceptions import TerminalError
from agentdur.sessions.chat import SETTINGS, Chat
from agentdur.sessions.errors import BadMessage, NotSupported
from agentdur.sessions.narration import narrate
from agentdur.sessions.openai_words import Said, chat_usage, finish_reason, session_of, spelled
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
from agentdur.sessions.words import Conversation, Message, Policy, Post, Posted, Reply, text_of

DONE = b"data: [DONE]\n\n"
_SYSTEM = ("system", "developer")
_CREATED = int(time.time())


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream is to hold beside the answer."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a request that matters; what else there is, is let pass or refused below."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    session_id: str | None = None
    policy: Policy | None = None
    metadata: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: str | None = None


def chat_routes(desk: Desk) -> APIRouter:
    """The routes below `/v1` that speak chat completions."""
    router = APIRouter()
    routes = _Routes(desk)
    for path, method, endpoint in (
        ("/chat/completions", "POST", routes.complete),
        ("/models", "GET", routes.models),
        ("/models/{model}", "GET", routes.model),
    ):
        router.add_api_route(path, answering(spelled)(endpoint), methods=[method], response_model=None)
    return router


class _Routes:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def models(self, request: Request) -> Response:
        """GET: the chats."""
        return json_response({"object": "list", "data": [_model(name) for name in sorted(self.desk.chats)]})

    async def model(self, request: Request) -> Response:
        """GET: one of them."""
        return json_response(_model(self.desk.chat(request.path_params["model"]).name))

    async def complete(self, request: Request) -> Response:
        """POST: a conversation, or the next message of one."""
        asked = await body_of(request, ChatRequest)
        chat = self.desk.chat(asked.model)
        refuse(asked)
        session = session_of(request, asked.session_id, asked.metadata)
        once = request.headers.get("idempotency-key", "")
        if session:
            posted = await self.desk.post(chat, checked_key(session), post_of(asked, once))
        else:
            posted = await self._stateless(chat, asked, once)
        about = {
            "id": f"chatcmpl-{posted.invocation}", "created": int(time.time()), "model": chat.name,
        }  # fmt: skip
        headers = {"x-restate-id": posted.invocation}
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return event_stream(request, self._chunks(posted, about, usage), headers)
        reply, text = await self._whole(posted)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(reply)}
        body = {
            **about, "object": "chat.completion", "choices": [choice], "usage": chat_usage(reply.usage),
            "agentdur": beside(reply, posted),
        }  # fmt: skip
        return json_response(body, headers=headers)

    async def _stateless(self, chat: Chat, asked: ChatRequest, once: str) -> Posted:
        sent = await self.desk.client.object_send(
            chat.complete, once or uuid4().hex,
            Conversation(messages=checked(asked.messages), settings=settings_of(asked)),
            idempotency_key=f"completion/{once}" if once else None,
        )  # fmt: skip
        return Posted(id=once, invocation=sent.invocation_id)

    async def _whole(self, posted: Posted) -> tuple[Reply, str]:
        runs: dict[int, str] = {}
        async for item in narrate(self.desk.client, posted):
            if item.kind == "text":
                runs[item.run] = runs.get(item.run, "") + item.data["delta"]
            elif item.kind == "void":
                runs.pop(item.run, None)
            elif item.kind == "end":
                if isinstance(item.data, TerminalError):
                    raise item.data
                said = Said()
                for run, text in runs.items():
                    said.hear(run, text)
                said.rest(item.data)
                return item.data, said.text
        raise AssertionError("a narration ends")

    async def _chunks(self, posted: Posted, about: dict[str, Any], usage: bool) -> AsyncIterator[bytes]:
        def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return sse({**about, "object": "chat.completion.chunk", "choices": [choice], **more})

        yield chunk({"role": "assistant", "content": ""})
        said = Said()
        try:
            async for item in narrate(self.desk.client, posted):
                match item.kind:
                    case "text":
                        if new := said.hear(item.run, item.data["delta"]):
                            yield chunk({"content": new})
                    case "reasoning":
                        yield chunk({"reasoning_content": item.data["delta"]})
                    case "void":
                        said.void(item.run)
                    case "approval" | "status":
                        yield chunk({}, agentdur={item.kind: item.data})
                    case "end":
                        if isinstance(item.data, TerminalError):
                            raise item.data
                        if rest := said.rest(item.data):
                            yield chunk({"content": rest})
                        yield chunk({}, finish_reason(item.data), agentdur=beside(item.data, posted))
                        if usage:
                            used = {"choices": [], "usage": chat_usage(item.data.usage)}
                            yield sse({**about, "object": "chat.completion.chunk", **used})
        except (TerminalError, AgentdurError) as error:
            if status_of(error) == 503:
                raise
            yield sse(spelled(*told(error)))
        yield DONE


def refuse(asked: ChatRequest) -> None:
    """NotSupported for what would be ignored in silence."""
    if asked.n not in (None, 1):
        raise NotSupported("n: one answer is given")
    if asked.tools or asked.functions:
        raise NotSupported("tools: the tools of an agent are its own, and run on the server")
    if asked.response_format is not None and asked.response_format.get("type") != "text":
        raise NotSupported("response_format: an agent's output type is its own")
    if not asked.messages:
        raise BadMessage("messages: there is none")


def checked(messages: list[Message]) -> list[Message]:
    """The messages, each with a role."""
    for number, message in enumerate(messages):
        if message.get("role") not in ("system", "developer", "user", "assistant", "tool"):
            raise BadMessage(f"messages[{number}].role: {message.get('role')!r} is no role")
    return messages


def post_of(asked: ChatRequest, once: str) -> Post:
    """What is new in a request that names a session: its last message, and its system messages for this turn
    only."""
    messages = checked(asked.messages)
    last = messages[-1]
    content = last.get("content")
    if last["role"] != "user" or not content:
        raise BadMessage("messages: the last one is what a session is told, and is a user's")
    system = [text_of(one.get("content")) for one in messages if one["role"] in _SYSTEM]
    return Post(
        content=content, id=once, policy=asked.policy, instructions="\n".join(system),
        settings=settings_of(asked),
    )  # fmt: skip


def settings_of(asked: ChatRequest) -> dict[str, Any]:
    """The settings that are given."""
    given = {name: getattr(asked, name, None) for name in SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


def beside(reply: Reply, posted: Posted) -> dict[str, Any]:
    """What OpenAI has no words for."""
    return {
        "status": reply.status, "turn": reply.turn, "invocation": posted.invocation, "agent": reply.agent,
        "cost": reply.cost, "model_calls": reply.model_calls,
    }  # fmt: skip


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "agentdur"}
