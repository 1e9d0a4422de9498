"""Responses that are kept: retrieved, continued from, cancelled and deleted by their ids.

Rules of this file:
1. The shelf is in memory: a server that starts again knows none of them, as a provider does after a while.
2. A response in the background is finished when its time has come; nothing runs meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agentdur.testing.scripted_llm import answers
from agentdur.testing.scripted_llm.playbook import BadRequest
from agentdur.testing.scripted_llm.responses_answers import usage_body
from agentdur.testing.scripted_llm.responses_request import ResponsesRequest, compacted, parse_responses
from agentdur.testing.scripted_llm.script import Usage

RESPONSES_MAX = 10_000
"""Responses on a shelf; the oldest leave."""


@dataclass(slots=True)
class _Stored:
    request: ResponsesRequest
    body: dict[str, Any]
    events: list[bytes]
    ready_at: float
    cancelled: bool = False


class Shelf:
    """The kept responses of one server."""

    def __init__(self) -> None:
        self._stored: dict[str, _Stored] = {}

    def keep(
        self, request: ResponsesRequest, body: dict[str, Any], events: list[bytes], delay_ms: int
    ) -> None:
        """Keep a response, unless its request says `store: false`."""
        if request.body.store is not False:
            if len(self._stored) >= RESPONSES_MAX:
                del self._stored[next(iter(self._stored))]
            ready_at = time.monotonic() + (delay_ms / 1000 if request.body.background else 0)
            self._stored[body["id"]] = _Stored(request, body, events, ready_at)

    def conversation(self, response_id: str) -> list[dict[str, Any]] | None:
        """The items of a kept response: what it was asked, and what it answered."""
        stored = self._stored.get(response_id)
        return None if stored is None else [*stored.request.items, *stored.body["output"]]

    def item(self, item_id: str) -> dict[str, Any] | None:
        """An output item of a kept response."""
        for stored in self._stored.values():
            for item in stored.body["output"]:
                if item["id"] == item_id:
                    return dict(item)
        return None

    def routes(self, base: str) -> list[Route]:
        """Everything under /responses but the question itself."""
        one = f"{base}/responses/{{response_id}}"
        return [
            Route(f"{base}/responses/input_tokens", self._count, methods=["POST"]),
            Route(f"{base}/responses/compact", self._compact, methods=["POST"]),
            Route(one, self._retrieve, methods=["GET"]),
            Route(one, self._delete, methods=["DELETE"]),
            Route(f"{one}/cancel", self._cancel, methods=["POST"]),
            Route(f"{one}/input_items", self._input_items, methods=["GET"]),
        ]

    def shown(self, stored: _Stored) -> dict[str, Any]:
        """A response as it is now."""
        if stored.cancelled:
            return {**stored.body, "status": "cancelled", "output": [], "usage": None, "completed_at": None}
        if time.monotonic() < stored.ready_at:
            return {
                **stored.body, "status": "in_progress", "output": [], "usage": None, "completed_at": None,
            }  # fmt: skip
        return stored.body

    async def _retrieve(self, request: Request) -> Response:
        """GET /v1/responses/{id}, with ?stream=true its events, those after `starting_after`."""
        stored = self._stored.get(request.path_params["response_id"])
        if stored is None:
            return _unknown(request)
        if request.query_params.get("stream") == "true":
            after = int(request.query_params.get("starting_after", "-1"))
            return StreamingResponse(iter(stored.events[after + 1 :]), media_type="text/event-stream")
        return JSONResponse(self.shown(stored))

    async def _delete(self, request: Request) -> Response:
        """DELETE /v1/responses/{id}."""
        response_id = request.path_params["response_id"]
        if self._stored.pop(response_id, None) is None:
            return _unknown(request)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    async def _cancel(self, request: Request) -> Response:
        """POST /v1/responses/{id}/cancel."""
        stored = self._stored.get(request.path_params["response_id"])
        if stored is None:
            return _unknown(request)
        if not stored.request.body.background:
            return _refused("Only responses created with background=true can be cancelled.")
        stored.cancelled = stored.cancelled or time.monotonic() < stored.ready_at
        return JSONResponse(self.shown(stored))

    async def _input_items(self, request: Request) -> Response:
        """GET /v1/responses/{id}/input_items, the newest first."""
        stored = self._stored.get(request.path_params["response_id"])
        if stored is None:
            return _unknown(request)
        items = [_with_id(number, item) for number, item in enumerate(stored.request.items)][::-1]
        ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]}
        return JSONResponse({"object": "list", "data": items, "has_more": False, **ends})

    async def _count(self, request: Request) -> Response:
        """POST /v1/responses/input_tokens."""
        try:
            asked = parse_responses(await request.body(), self)
        except BadRequest as refused:
            return _refused(str(refused))
        return JSONResponse(
            {"object": "response.input_tokens", "input_tokens": answers.tokens_of(asked.messages)}
        )

    async def _compact(self, request: Request) -> Response:
        """POST /v1/responses/compact: what users said, and one item that stands for all else."""
        try:
            asked = parse_responses(await request.body(), self)
        except BadRequest as refused:
            return _refused(str(refused))
        spoken = [item for item in asked.items if item.get("role") == "user"]
        rest = [message for message in asked.messages if message["role"] not in ("system", "developer")]
        mark = f"{time.time_ns():x}"
        item = {"id": f"cmp_{mark}", "type": "compaction", "encrypted_content": compacted(rest)}
        usage = Usage(prompt_tokens=answers.tokens_of(asked.messages), completion_tokens=1)
        return JSONResponse({
            "id": f"resp_{mark}", "object": "response.compaction", "created_at": int(time.time()),
            "output": [*(_with_id(number, one) for number, one in enumerate(spoken)), item],
            "usage": usage_body(usage),
        })  # fmt: skip


def _with_id(number: int, item: dict[str, Any]) -> dict[str, Any]:
    """An item as the API shows it: with an id, and its content as parts."""
    shown = {"id": f"item_{number}", **item}
    if shown.get("type") == "message" and isinstance(shown.get("content"), str):
        kind = "output_text" if shown["role"] == "assistant" else "input_text"
        shown["content"] = [{"type": kind, "text": shown["content"]}]
        shown.setdefault("status", "completed")
    return shown


def _unknown(request: Request) -> Response:
    reason = f"Response with id '{request.path_params['response_id']}' not found."
    return JSONResponse(answers.error_body(reason, "invalid_request_error", None), status_code=404)


def _refused(reason: str) -> Response:
    return JSONResponse(answers.error_body(reason, "invalid_request_error", None), status_code=400)
