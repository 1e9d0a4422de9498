"""`/v1/responses`: OpenAI's Responses API on chat sessions.

Rules of this file:
1. A response is a turn. Responses that follow each other are turns of one session; one that follows an
   earlier turn begins a session of its own, with what was said until then.
2. What is asked for in the background goes on by itself; a stream may be left and read on from any number.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from agentdur.core.errors import AgentdurError, UnknownInvocation
from agentdur.sdk.exceptions import TerminalError
from agentdur.sessions.chat import PAGE_MAX, Chat
from agentdur.sessions.errors import BadMessage, UnknownResponse
from agentdur.sessions.narration import narrate
from agentdur.sessions.openai_words import session_of, spelled
from agentdur.sessions.responses_input import (
    Conversation,
    Place,
    ResponseRequest,
    Said,
    place_of,
    refuse,
    response_id,
    said,
    settings_of,
)
from agentdur.sessions.responses_teller import Event, Teller, since
from agentdur.sessions.web import (
    Desk,
    answering,
    body_of,
    checked_key,
    event_stream,
    flag_of,
    json_response,
    number_of,
    sse,
    status_of,
    told,
)
from agentdur.sessions.words import Conversation as Told
from agentdur.sessions.words import Known, Message, Page, Post, Posted


def response_routes(desk: Desk) -> APIRouter:
    """The routes below `/v1` that speak the Responses API."""
    router = APIRouter()
    routes = _Routes(desk)
    for path, method, endpoint in (
        ("/responses", "POST", routes.create),
        ("/responses/{response}", "GET", routes.retrieve),
        ("/responses/{response}/cancel", "POST", routes.cancel),
    ):
        router.add_api_route(path, answering(spelled)(endpoint), methods=[method], response_model=None)
    return router


class _Routes:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def create(self, request: Request) -> Response:
        """POST: what is new in a conversation, or the answer to an approval."""
        asked = await body_of(request, ResponseRequest)
        chat = self.desk.chat(asked.model)
        refuse(asked)
        heard = said(asked)
        if heard.approvals:
            place = await self._decided(asked, heard)
        else:
            place = await self._posted(request, chat, asked, heard)
        base = base_of(place, asked)
        headers = {"x-restate-id": place.invocation}
        if asked.stream:
            return event_stream(request, self._events(place, base, -1), headers)
        if asked.background:
            return json_response({**base, "status": "queued", "output": []}, headers=headers)
        return json_response(await self._whole(place, base), headers=headers)

    async def retrieve(self, request: Request) -> Response:
        """GET: a response as it is now, or its events."""
        place = place_of(request.path_params["response"])
        status = await self._status(place)
        base = base_of(place, None)
        if flag_of(request, "stream", False):
            return event_stream(request, self._events(place, base, number_of(request, "starting_after", -1)))
        if status != "ended":
            return json_response({**base, "status": status, "output": []})
        return json_response(await self._whole(place, base))

    async def cancel(self, request: Request) -> Response:
        """POST: interrupt its turn, if that runs."""
        place = place_of(request.path_params["response"])
        chat = self.desk.chat(place.agent)
        status = await self._status(place)
        if status == "in_progress":
            await self.desk.client.object_call(chat.stop, place.key)
        if status == "queued":
            return json_response({**base_of(place, None), "status": status, "output": []})
        return json_response(await self._whole(place, base_of(place, None)))

    async def _status(self, place: Place) -> str:
        """Of its turn: queued, in_progress or ended; UnknownResponse."""
        chat = self.desk.chat(place.agent)
        about = await self.desk.about(chat, place.key)
        if about is not None and about.running is not None and about.running.id == place.message:
            return "in_progress"
        try:
            ended: object = await self.desk.client.output(place.invocation)
        except TerminalError:
            return "ended"
        except (AgentdurError, UnknownInvocation):
            raise UnknownResponse(response_id(place)) from None
        return "queued" if ended is None else "ended"

    # -- a new turn

    async def _posted(self, request: Request, chat: Chat, asked: ResponseRequest, heard: Said) -> Place:
        if not heard.messages or heard.messages[-1]["role"] != "user" or not heard.messages[-1]["content"]:
            raise BadMessage("input: the last item is what an agent is told, and is a user's")
        key, before = await self._session(request, chat, asked)
        once = request.headers.get("idempotency-key", "") or uuid4().hex
        preceding = [*before, *heard.messages[:-1]]
        if asked.store is False:
            system: list[Message] = [{"role": "system", "content": one} for one in heard.system]
            conversation = [*system, *preceding, heard.messages[-1]]
            sent = await self.desk.client.object_send(
                chat.complete, once, Told(messages=conversation, settings=settings_of(asked)),
                idempotency_key=f"response/{once}",
            )  # fmt: skip
            return Place(chat.name, once, once, sent.invocation_id)
        post = Post(
            content=heard.messages[-1]["content"], id=once, policy=asked.policy, preceding=preceding,
            instructions="\n".join(heard.system), settings=settings_of(asked), metadata=asked.metadata or {},
        )  # fmt: skip
        posted = await self.desk.post(chat, key, post)
        return Place(chat.name, key, posted.id, posted.invocation)

    async def _session(
        self, request: Request, chat: Chat, asked: ResponseRequest
    ) -> tuple[str, list[Message]]:
        """The session, and what was said before, if that is not what the session remembers."""
        named = asked.conversation
        key = named.id if isinstance(named, Conversation) else named
        key = key or session_of(request, asked.session_id, asked.metadata)
        if asked.previous_response_id is None:
            return checked_key(key or uuid4().hex), []
        if key:
            raise BadMessage("previous_response_id: not together with a conversation")
        place = place_of(asked.previous_response_id)
        if place.agent != chat.name:
            raise UnknownResponse(f"it is {place.agent}'s")
        about = await self.desk.about(chat, place.key)
        known = await self.desk.decoded(chat, place.key, f"id:{place.message}", Known)
        if about is None or known is None:
            raise UnknownResponse(asked.previous_response_id)
        if known.turn == about.turns:
            return place.key, []
        record = await self.desk.record(chat, place.key, known.turn)
        last = record.last if record is not None else known.index + 1
        history = await self.desk.history(chat, place.key, Page(limit=PAGE_MAX))
        return uuid4().hex, [one.message for one in history.messages if one.index < last]

    async def _decided(self, asked: ResponseRequest, heard: Said) -> Place:
        """Hand answers to approvals over; the rest of the turn that waited for them."""
        if asked.previous_response_id is None:
            raise BadMessage("previous_response_id: an approval is answered to the response that asked")
        place = place_of(asked.previous_response_id)
        teller = Teller(base_of(place, None), place.skip)
        async for _ in self._told(place, teller):
            pass
        for one in heard.approvals:
            await self.desk.decide(one.id, one.approved, one.reason)
        return Place(place.agent, place.key, place.message, place.invocation, teller.told)

    # -- telling

    async def _told(self, place: Place, teller: Teller) -> AsyncIterator[Event]:
        narration = narrate(self.desk.client, Posted(id=place.message, invocation=place.invocation))
        for event in teller.begin():
            yield event
        try:
            async for item in narration:
                for event in teller.tell(item):
                    yield event
                if teller.waits and await self.desk.still_asked(teller.asked) and teller.waits:
                    for event in teller.pause():
                        yield event
                    return
        finally:
            await narration.aclose()

    async def _whole(self, place: Place, base: dict[str, Any]) -> dict[str, Any]:
        """The response when it is there. TerminalError when its turn failed."""
        last: Event = {}
        async for event in self._told(place, Teller(base, place.skip)):
            last = event
        response: dict[str, Any] = last["response"]
        return response

    async def _events(self, place: Place, base: dict[str, Any], after: int) -> AsyncIterator[bytes]:
        number = after
        try:
            async for event in self._told(place, Teller(base, place.skip)):
                rest = since(event, after)
                if rest is not None:
                    number = rest["sequence_number"]
                    yield sse(rest, rest["type"])
        except (TerminalError, AgentdurError) as error:
            if status_of(error) == 503:
                raise
            _, code, message, _ = told(error)
            said = {"type": "error", "code": code, "message": message, "param": None}
            yield sse({**said, "sequence_number": number + 1}, "error")


def base_of(place: Place, asked: ResponseRequest | None) -> dict[str, Any]:
    """What every response has, besides its status and output."""
    return {
        "id": response_id(place), "object": "response", "created_at": int(time.time()), "error": None,
        "incomplete_details": None, "instructions": asked.instructions if asked is not None else None,
        "metadata": (asked.metadata if asked is not None else None) or {}, "model": place.agent,
        "parallel_tool_calls": True, "temperature": asked.temperature if asked is not None else None,
        "tool_choice": "auto", "tools": [], "top_p": asked.top_p if asked is not None else None,
        "background": bool(asked is not None and asked.background), "conversation": {"id": place.key},
        "previous_response_id": asked.previous_response_id if asked is not None else None,
        "text": {"format": {"type": "text"}}, "truncation": "disabled", "usage": None,
        "store": asked is None or asked.store is not False,
        "agentdur": {"invocation": place.invocation},
    }  # fmt: skip
