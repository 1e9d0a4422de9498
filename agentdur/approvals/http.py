"""`/approvals`: looking at questions and deciding them, by hand, by program, or by a signed link.

Rules of this file:
1. What a client may see and do is what `EngineClient` can; nothing here decides anything by itself.
2. A GET never decides: mail scanners and previews follow links.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from msgspec import UNSET, Struct, UnsetType

from agentdur.approvals import pages
from agentdur.approvals.links import KEEPER, LINK_SECRET, Claim, claim_of
from agentdur.approvals.settings import ApprovalSettings
from agentdur.core.access import CALLER, Caller
from agentdur.core.errors import AgentdurError, ApprovalDecided, ApprovalForged, BadRequest, CallerError
from agentdur.observe.redaction import hidden, marker
from agentdur.sdk.approval import ApprovalRecord
from agentdur.sdk.approval_calls import LIMIT, STATUS, Wanted
from agentdur.sdk.client import EngineClient

LIMIT_MAX = 1000
"""Approvals in one answer."""
BODY_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of a decision, an edited payload included."""


class Deciding(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a decision."""

    digest: str
    by: str = ""
    reason: str = ""
    payload: Any | UnsetType = UNSET


class Listing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of approvals; `after` leads to the next one."""

    approvals: list[ApprovalRecord | dict[str, Any]]
    after: str | None = None


class _Refusal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    code: int
    message: str
    error: str
    source: str = "approvals"
    approval: ApprovalRecord | None = None


_DECIDING = msgspec.json.Decoder(Deciding)


def approval_routes(client: EngineClient, settings: ApprovalSettings) -> APIRouter:
    """The routes, to be hosted below `/approvals`."""
    routes = APIRouter()

    @routes.get("")
    async def list_approvals(
        status: Wanted = "pending",
        service: str | None = None,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT,
        after: str = "",
    ) -> Response:
        found = await client.approvals(status, service=service, limit=limit, after=after)
        more = found[-1].id if len(found) == limit else None
        return _json(Listing(approvals=[shown(one) for one in found], after=more))

    @routes.get("/{id}")
    async def show(id: str) -> Response:
        async def seen() -> ApprovalRecord | dict[str, Any]:
            return shown(await client.approval(id))

        return await _answer(seen())

    @routes.post("/{id}/approve")
    async def approve(id: str, request: Request) -> Response:
        return await _answer(_approve(client, id, request))

    @routes.post("/{id}/reject")
    async def reject(id: str, request: Request) -> Response:
        return await _answer(_reject(client, id, request))

    _add_links(routes, client, settings)
    return routes


async def _approve(client: EngineClient, id: str, request: Request) -> ApprovalRecord:
    said = await _said(request)
    by = _who(request, said.by)
    return await client.approve(id, said.digest, by=by, reason=said.reason, payload=said.payload)


async def _reject(client: EngineClient, id: str, request: Request) -> ApprovalRecord:
    said = await _said(request)
    if said.payload is not UNSET:
        raise BadRequest("a rejection has no payload")
    return await client.reject(id, said.digest, by=_who(request, said.by), reason=said.reason)


def _who(request: Request, claimed: str) -> str:
    """Where tokens are asked for, their owner decides, whatever the body says."""
    caller: Caller | None = request.scope.get(CALLER)
    return claimed if caller is None else caller.name


def _add_links(routes: APIRouter, client: EngineClient, settings: ApprovalSettings) -> None:
    async def claimed(id: str, token: str) -> Claim:
        key = settings.link_key or msgspec.json.decode(
            await client.generic_call(KEEPER, "get", b"", LINK_SECRET)
        )
        return claim_of(key, id, token, datetime.now(UTC))

    @routes.get("/{id}/link/{token}")
    async def look(id: str, token: str) -> HTMLResponse:
        async def page() -> str:
            claim = await claimed(id, token)
            record = await client.approval(id)
            if record.digest != claim.digest:
                raise ApprovalForged(f"{id}: the link is about another question")
            return pages.decided(record) if record.status != "pending" else pages.ask(record, claim.choice)

        return await _page(page)

    @routes.post("/{id}/link/{token}")
    async def decide(id: str, token: str, request: Request) -> HTMLResponse:
        async def page() -> str:
            claim = await claimed(id, token)
            form = dict(parse_qsl((await _body(request)).decode("utf-8", "replace")))
            by, reason = form.get("by", "").strip() or "link", form.get("reason", "").strip()
            how = client.approve if claim.choice == "approve" else client.reject
            return pages.decided(await how(id, claim.digest, by=by, reason=reason))

        return await _page(page)


async def _said(request: Request) -> Deciding:
    try:
        return _DECIDING.decode(await _body(request))
    except msgspec.MsgspecError as error:
        raise BadRequest(f"a decision is {{digest, by?, reason?, payload?}}: {error}") from error


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise BadRequest(f"a decision has more than {BODY_BYTES_MAX} bytes")
    return body


def shown(record: ApprovalRecord) -> ApprovalRecord | dict[str, Any]:
    """For who may not see payloads: markers in place of what is asked and said. The digest has no key, so
    what is short could be guessed from it: it is not told."""
    if not hidden():
        return record
    facts: dict[str, Any] = {**msgspec.to_builtins(record), "digest": ""}
    for name in ("question", "payload", "reason", "edited_payload"):
        if facts[name] not in (None, ""):
            facts[name] = marker(msgspec.json.encode(facts[name]))
    return facts


async def _answer(asked: Awaitable[ApprovalRecord | dict[str, Any]]) -> Response:
    try:
        return _json(await asked)
    except AgentdurError as error:
        return _json(_refusal(error), status_of(error))


async def _page(made: Callable[[], Awaitable[str]]) -> HTMLResponse:
    try:
        return HTMLResponse(await made(), headers=pages.HEADERS)
    except ApprovalDecided as error:
        return HTMLResponse(pages.decided(error.record, late=True), status_of(error), pages.HEADERS)
    except AgentdurError as error:
        return HTMLResponse(pages.refused(error), status_of(error), pages.HEADERS)


def _refusal(error: AgentdurError) -> _Refusal:
    record = error.record if isinstance(error, ApprovalDecided) else None
    return _Refusal(code=status_of(error), message=str(error), error=error.code, approval=record)


def status_of(error: AgentdurError) -> int:
    """As HTTP says it."""
    known = STATUS.get(error.code)
    if known is not None:
        return known
    return 400 if isinstance(error, CallerError) else 503


def _json(value: Struct | dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
