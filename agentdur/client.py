"""Calling handlers over HTTP, typed by their functions.

    async with Client("http://127.0.0.1:8080") as client:
        report = await client.service_call(run, Question(text="…"))

Rules of this file:
1. Nothing is retried here: only the caller knows whether a request without an idempotency key may run twice.
   The exception is reading a stream, which changes nothing.
2. A connection that fails raises what httpx raises; an answer that is an error raises TerminalError when the
   invocation said it, HttpError when the server did.
3. No time limit on an answer: an invocation takes as long as it takes. Wrap the call to limit the wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx
import msgspec

from agentdur.core.errors import BadRequest
from agentdur.core.ports import StreamEvent
from agentdur.core.text import require_text, writable
from agentdur.sdk.approval import ApprovalRecord, Decision
from agentdur.sdk.approval_calls import LIMIT, Wanted, refused
from agentdur.sdk.client import BaseClient, ClientSendHandle, How, Output, check_texts, delay_ms
from agentdur.sdk.exceptions import HttpError, TerminalError
from agentdur.sdk.serde import Serde, serde_for
from agentdur.sdk.service import Handler

__all__ = ["Client", "ClientSendHandle", "HttpError", "Output", "TerminalError", "create_client"]

CONNECT_TIMEOUT_S = 10.0
STREAM_TIMEOUT = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S, read=60.0)
"""A stream that says nothing for so long, not even that it is there, has lost its connection."""
PATIENCE = timedelta(minutes=1)
RECONNECT_S_MIN = 0.05
RECONNECT_S_MAX = 2.0
_AWAY = frozenset({502, 503, 504})
NOT_READY = 470

_UNTYPED: Serde[Any] = serde_for(Any)
_JSON = "application/json"
"""What generic calls say their bytes are, unless a header says otherwise."""


class _Sent(msgspec.Struct, rename="camel"):
    invocation_id: str
    status: str


class _Refusal(msgspec.Struct):
    message: str = ""
    code: int | None = None
    metadata: dict[str, str] | None = None


class _Approvals(msgspec.Struct):
    approvals: list[ApprovalRecord]


class _Refused(msgspec.Struct):
    error: str = ""
    message: str = ""
    approval: msgspec.Raw = msgspec.Raw()


class _Services(msgspec.Struct):
    services: list[str]


class Client(BaseClient):
    """A client of one server. `headers` go with every request; `http` brings a configured httpx client."""

    def __init__(
        self, base_url: str, headers: dict[str, str] | None = None, *, http: httpx.AsyncClient | None = None
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = headers or {}
        self._http = http or httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            # A waiting call holds its connection; a limit would let waiting calls block all others.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )
        self._owns_http = http is None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; a client that was brought stays open."""
        if self._owns_http:
            await self._http.aclose()

    async def stream(
        self, invocation_id: str, after: str | None = None, *, patience: timedelta = PATIENCE
    ) -> AsyncIterator[StreamEvent]:
        """What an invocation streams, to its end. A connection that breaks, and a server that restarts, is
        tried again for `patience`; the reader gets what it lacks."""
        path = f"{self._base_url}/restate/invocation/{_segment(invocation_id)}/stream"
        heard = time.monotonic()
        pause = RECONNECT_S_MIN
        while True:
            headers = {**self._headers, "accept": "text/event-stream"}
            if after is not None:
                headers["last-event-id"] = after
            try:
                async with self._http.stream("GET", path, headers=headers, timeout=STREAM_TIMEOUT) as answer:
                    if answer.status_code == 204:
                        return
                    if answer.status_code != 200:
                        await answer.aread()
                        raise _http_error(answer)
                    async for event in events_of(answer.aiter_raw()):
                        heard, pause, after = time.monotonic(), RECONNECT_S_MIN, event.id
                        yield event
                        if event.kind == "end":
                            return
            except (httpx.TransportError, HttpError) as error:
                away = not isinstance(error, HttpError) or error.status_code in _AWAY
                if not away or time.monotonic() - heard > patience.total_seconds():
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_S_MAX)

    async def generic_call(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        idempotency_key: str | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        how = How(key, idempotency_key, headers)
        return await self._invoke(_path(service, handler, key), arg, _JSON, how)

    async def generic_send(
        self,
        service: str,
        handler: str,
        arg: bytes,
        key: str | None = None,
        send_delay: timedelta | None = None,
        *,
        idempotency_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> ClientSendHandle:
        how = How(key, idempotency_key, headers, send_delay)
        return await self._submit(_path(service, handler, key), arg, _JSON, how)

    async def resolve_awakeable(self, id: str, value: Any = None, serde: Serde[Any] = _UNTYPED) -> None:
        content = serde.serialize(value)
        headers = {"content-type": "application/json"} if content else {}
        await self._request("POST", f"/restate/awakeables/{_segment(id)}/resolve", content, headers)

    async def reject_awakeable(self, id: str, reason: str) -> None:
        headers = {"content-type": "text/plain"}
        content = writable(reason).encode()
        await self._request("POST", f"/restate/awakeables/{_segment(id)}/reject", content, headers)

    async def health(self) -> list[str]:
        raw = await self._request("GET", "/restate/health")
        return sorted(msgspec.json.decode(raw, type=_Services).services)

    async def approvals(
        self, status: Wanted = "pending", *, service: str | None = None, limit: int = LIMIT, after: str = ""
    ) -> list[ApprovalRecord]:
        query = {"status": status, "service": service, "limit": str(limit), "after": after}
        asked = urlencode({name: value for name, value in query.items() if value})
        raw = await self._request("GET", f"/approvals?{asked}")
        return msgspec.json.decode(raw, type=_Approvals).approvals

    async def approval(self, id: str) -> ApprovalRecord:
        return await self._approval("GET", f"/approvals/{_segment(id)}")

    async def _decide(self, id: str, decision: Decision) -> ApprovalRecord:
        said: dict[str, Any] = {"digest": decision.digest, "by": decision.by, "reason": decision.reason}
        if decision.edited:
            said["payload"] = decision.payload
        verb = "approve" if decision.approved else "reject"
        return await self._approval(
            "POST", f"/approvals/{_segment(id)}/{verb}", _UNTYPED.serialize(said), {"content-type": _JSON}
        )

    async def _approval(self, method: str, path: str, *more: Any) -> ApprovalRecord:
        try:
            return msgspec.json.decode(await self._request(method, path, *more), type=ApprovalRecord)
        except HttpError as error:
            raise _refused(error) from error

    async def _call(self, handler: Handler, arg: Any, how: How) -> Any:
        path = _path(handler.service.name, handler.name, how.key)
        raw = await self._invoke(path, _content(handler, arg), handler.request_content_type, how)
        return handler.output_serde.deserialize(raw)

    async def _send(self, handler: Handler, arg: Any, how: How) -> ClientSendHandle:
        path = _path(handler.service.name, handler.name, how.key)
        return await self._submit(path, _content(handler, arg), handler.request_content_type, how)

    async def _attach(self, invocation_id: str) -> bytes:
        return await self._request("GET", f"/restate/invocation/{_segment(invocation_id)}/attach")

    async def _output(self, invocation_id: str) -> bytes | None:
        return await self._ready(f"/restate/invocation/{_segment(invocation_id)}/output")

    async def _attach_run(self, workflow: str, key: str) -> bytes:
        return await self._request("GET", f"/restate/workflow/{workflow}/{_segment(key)}/attach")

    async def _output_run(self, workflow: str, key: str) -> bytes | None:
        return await self._ready(f"/restate/workflow/{workflow}/{_segment(key)}/output")

    async def _ready(self, path: str) -> bytes | None:
        try:
            return await self._request("GET", path)
        except HttpError as error:
            if error.status_code == NOT_READY:
                return None
            raise

    async def _invoke(self, path: str, content: bytes, content_type: str, how: How) -> bytes:
        return await self._request("POST", path, content, _headers(content, content_type, how))

    async def _submit(self, path: str, content: bytes, content_type: str, how: How) -> ClientSendHandle:
        delay = delay_ms(how.delay)
        query = "" if delay is None else f"?delay={delay}ms"
        raw = await self._request(
            "POST", f"{path}/send{query}", content, _headers(content, content_type, how)
        )
        sent = msgspec.json.decode(raw, type=_Sent)
        return ClientSendHandle(sent.invocation_id, fresh=sent.status == "Accepted")

    async def _request(
        self, method: str, path: str, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> bytes:
        answer = await self._http.request(
            method, self._base_url + path, content=content, headers={**self._headers, **(headers or {})}
        )
        # The source, not the status: a handler may fail with any code, even 200.
        if answer.headers.get("x-restate-error-source") == "invocation":
            refusal = _refusal(answer)
            code = answer.status_code if refusal.code is None else refusal.code
            raise TerminalError(refusal.message, code, refusal.metadata)
        if not answer.is_success:
            raise _http_error(answer)
        return answer.content


@asynccontextmanager
async def create_client(ingress: str, headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    """A client of the ingress at this address, closed at the end of the block."""
    async with Client(ingress, headers) as client:
        yield client


def _content(handler: Handler, arg: Any) -> bytes:
    if handler.takes_input:
        return handler.input_serde.serialize(arg)
    if arg is not None:
        raise BadRequest(f"{handler.service.name}/{handler.name} takes no argument, got {type(arg).__name__}")
    return b""


def _headers(content: bytes, content_type: str, how: How) -> dict[str, str]:
    """Without a body there is no content type: the server refuses one without the other."""
    check_texts(how)
    headers = {"content-type": content_type} if content else {}
    headers |= {name.lower(): value for name, value in (how.headers or {}).items()}
    if how.idempotency_key is not None:
        if not (how.idempotency_key.isascii() and how.idempotency_key.isprintable()):
            raise BadRequest(f"an idempotency key is printable ASCII, not {how.idempotency_key!r}")
        headers["idempotency-key"] = how.idempotency_key
    return headers


def _path(service: str, handler: str, key: str | None) -> str:
    return f"/{service}/{handler}" if key is None else f"/{service}/{_segment(key)}/{handler}"


def _segment(text: str) -> str:
    """One path segment. Dots alone are escaped too: clients and proxies read `..` as a step upwards."""
    require_text("key", text)
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def _refused(error: HttpError) -> Exception:
    """The typed error that a refusal of a decision says; the HttpError itself when it says none."""
    try:
        said = msgspec.json.decode(error.body or "", type=_Refused)
    except msgspec.MsgspecError:
        return error
    return refused(said.error, said.message, bytes(said.approval)) or error


async def events_of(lines: AsyncIterator[bytes]) -> AsyncIterator[StreamEvent]:
    """The events that server-sent lines say; the last one is dropped when it is not complete."""
    rest = b""
    async for piece in lines:
        *texts, rest = (rest + piece).split(b"\n\n")
        for text in texts:
            fields = dict(line.split(b": ", 1) for line in text.split(b"\n") if not line.startswith(b":"))
            if b"event" in fields:
                said: dict[str, Any] = msgspec.json.decode(fields[b"data"])
                said |= {"id": fields[b"id"].decode(), "kind": fields[b"event"].decode()}
                yield msgspec.convert(said, StreamEvent)


def _http_error(answer: httpx.Response) -> HttpError:
    message = _refusal(answer).message or answer.text[:200] or answer.reason_phrase
    return HttpError(answer.status_code, message, answer.text)


def _refusal(answer: httpx.Response) -> _Refusal:
    try:
        return msgspec.json.decode(answer.content, type=_Refusal)
    except msgspec.MsgspecError:
        return _Refusal(message=answer.text)
