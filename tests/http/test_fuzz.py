"""Whatever comes in is answered: never a crash, never silence, and the next request is served."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentdur.ingress.app import create_ingress
from agentdur.ingress.settings import IngressSettings
from tests.http.both_engine import both_ingress
from tests.http.memory_engine import MemoryEngine, as_engine
from tests.http.wire import JSON, Address
from tests.http.world import CATALOG, echo

pytestmark = pytest.mark.slow

WORDS = (
    *(
        b"Echo",
        b"Counter",
        b"Signup",
        b"Rules",
        b"Hidden",
        b"Nope",
        b"echo",
        b"seen",
        b"run",
        b"void",
        b"send",
    ),
    *(b"restate", b"call", b"scope", b"attach", b"output", b"lookup", b"invocation", b"workflow", b"health"),
    *(b"awakeables", b"a", b"resolve", b"reject", b"openapi", b"docs", b"", b"..", b"%FF", b"%zz", b"k"),
    *(b"inv_12kpUQONmeFb5PHTfKTRThaBTz19oYy8we", b"sign_1tNP0MzQfEO2WTiPyEkPt_p8sEP1a2ErPAAAAEQ", b"inv_1x"),
)
segments = st.one_of(st.sampled_from(WORDS), st.binary(max_size=8))
paths = st.lists(segments, max_size=9).map(lambda parts: b"/" + b"/".join(parts))
delays = st.one_of(
    st.sampled_from(["1s", "PT1S", "0", "1", "1 month", "9" * 40, "-1s", "1000000w"]), st.text(max_size=12)
)
queries = st.one_of(
    st.just(b""),
    st.binary(max_size=20),
    delays.map(lambda delay: b"delay=" + delay.encode("utf-8", "surrogatepass")),
    st.binary(max_size=10).map(lambda value: b"limit-key=" + value),
)
header_names = st.sampled_from(
    [b"content-type", b"idempotency-key", b"origin", b"content-length", b"x-restate-limit-key",
     b"traceparent", b"host", b"x-any", b"access-control-request-method"]
)  # fmt: skip
header_lists = st.lists(
    st.tuples(
        header_names,
        st.one_of(st.sampled_from([b"application/json", b"", b"a/b", b"7"]), st.binary(max_size=12)),
    ),
    max_size=5,
)
bodies = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b'{"target":"workflow","workflowName":"Signup","workflowKey":"x"}', b"{}"]),
    ),
    min_size=1,
    max_size=3,
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])


def echoing_world() -> MemoryEngine:
    """Every handler answers at once with what it was given."""
    names = [(s.name, h) for s in CATALOG.services.values() for h in s.handlers]
    return MemoryEngine(CATALOG, dict.fromkeys(names, echo))


async def ask(app: Any, scope: dict[str, Any], pieces: list[bytes]) -> tuple[int, bytes]:
    """One request straight to the application."""
    sent: list[dict[str, Any]] = []
    waiting = [
        {"type": "http.request", "body": piece, "more_body": at < len(pieces) - 1}
        for at, piece in enumerate(pieces)
    ]

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, receive, send), timeout=10)
    assert sent[0]["type"] == "http.response.start"
    for name, value in sent[0]["headers"]:
        assert isinstance(name, bytes)
        assert isinstance(value, bytes)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def http_scope(method: str, path: bytes, query: bytes = b"", headers: Any = ()) -> dict[str, Any]:
    return {
        "type": "http", "method": method, "path": path.decode("latin-1"), "raw_path": path,
        "query_string": query, "headers": list(headers), "root_path": "", "http_version": "1.1",
        "scheme": "http", "server": ("test", 80), "client": ("test", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(requests=st.lists(st.tuples(methods, paths, queries, header_lists, bodies), min_size=1, max_size=5))
def test_any_request_is_answered_and_the_next_one_too(requests: Any) -> None:
    async def story() -> None:
        app = create_ingress(as_engine(echoing_world()), IngressSettings(request_bytes_max=64))
        for method, path, query, headers, pieces in requests:
            status, body = await ask(app, http_scope(method, path, query, headers), pieces)
            assert 200 <= status < 500
            if status >= 400 and status != 413 and body and not is_document(path):
                error = json.loads(body)
                assert error["code"] == status
                assert error["source"] in ("ingress", "invocation")
        echo_scope = http_scope("POST", b"/Echo/echo", b"", [(b"content-type", b"application/json")])
        assert await ask(app, echo_scope, [b"1"]) == (200, b"1")

    asyncio.run(story())


def ends_soon(path: bytes) -> bool:
    """Neither a handler that takes its time, nor a wait for one."""
    return not {b"run", b"attach"} & set(path.split(b"/"))


def is_document(path: bytes) -> bool:
    """The OpenAPI routes answer errors as FastAPI does."""
    return path.strip(b"/").split(b"/")[:2] in ([b"restate", b"openapi"], [b"restate", b"docs"])


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(
        st.tuples(methods, paths.filter(ends_soon), queries, header_lists, bodies), min_size=1, max_size=8
    )
)
def test_the_engine_outlives_any_requests(requests: Any) -> None:
    """The same with the real engine: whatever it was sent, it answers the next call."""

    async def story() -> None:
        async with both_ingress() as app:
            for method, path, query, headers, pieces in requests:
                status, body = await ask(app, http_scope(method, path, query, headers), pieces)
                assert 200 <= status < 500 or json.loads(body)["source"] == "invocation"
            echo_scope = http_scope("POST", b"/Echo/echo", b"", [(b"content-type", b"application/json")])
            assert await ask(app, echo_scope, [b"1"]) == (200, b"1")

    asyncio.run(story())


@settings(max_examples=150, deadline=None)
@given(key=st.text(max_size=12))
def test_any_key_reaches_the_handler_as_it_was(key: str) -> None:
    quoted = b"".join(b"%%%02X" % byte for byte in key.encode())
    engine = echoing_world()

    async def story() -> None:
        app = create_ingress(as_engine(engine))
        status, _ = await ask(app, http_scope("POST", b"/Counter/" + quoted + b"/seen"), [b""])
        assert status == 200

    asyncio.run(story())
    assert engine.requests[-1].target.key == key


@settings(max_examples=60, deadline=None)
@given(line=st.binary(max_size=60), tail=st.binary(max_size=40))
def test_any_bytes_on_the_connection_leave_the_server_standing(
    ingress: Address, line: bytes, tail: bytes
) -> None:
    for request in (
        line + b"\r\n\r\n",
        b"POST /Echo/" + line + b" HTTP/1.1\r\nconnection: close\r\n" + tail + b"\r\n\r\n",
    ):
        try:
            answer = ingress.exchange(request, timeout_s=0.3)
            assert answer.status != 500
        except (TimeoutError, ConnectionError, ValueError, IndexError):
            continue  # no HTTP: waiting for more, closed, or not an answer
    assert ingress.ask("POST", "/Echo/echo", b"1", [JSON]).status == 200
