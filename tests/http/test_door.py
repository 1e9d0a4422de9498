"""What holds for every request: CORS, limits, clients that leave, a prefix to live under."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import APIRouter, FastAPI

from agentdur.ingress.app import Guest, create_ingress
from agentdur.ingress.settings import IngressSettings
from tests.http.memory_engine import MemoryEngine, as_engine
from tests.http.serving import just, served
from tests.http.wire import JSON, Address
from tests.http.world import memory_world

LIMIT = 1_000
CORS = {
    "vary": "origin, access-control-request-method, access-control-request-headers",
    "access-control-allow-credentials": "true",
}


def cors_of(headers: dict[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in headers.items() if name in CORS or name.startswith("access-control")
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/Echo/echo"), ("POST", "/Echo/echo/send"), ("POST", "/Nope/x"), ("GET", "/restate/health"),
     ("PUT", "/Echo/echo"), ("POST", "/"), ("POST", "/restate/a/x/resolve")],
)  # fmt: skip
def test_any_origin_may_read_any_answer(ingress: Address, method: str, path: str) -> None:
    assert cors_of(ingress.ask(method, path, b"1", [JSON]).headers) == CORS
    with_origin = ingress.ask(method, path, b"1", [JSON, ("origin", "http://o")])
    assert cors_of(with_origin.headers) == CORS | {"access-control-allow-origin": "http://o"}


@pytest.mark.parametrize("path", ["/", "/Nope/x/y", "/Echo/echo", "/restate/health", "*"])
def test_a_preflight_is_granted_anywhere(ingress: Address, path: str) -> None:
    asked = [
        ("origin", "http://o"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-a, x-b"),
    ]
    answer = ingress.ask("OPTIONS", path, None, asked)
    assert (answer.status, answer.body) == (200, b"")
    assert cors_of(answer.headers) == CORS | {
        "access-control-allow-origin": "http://o",
        "access-control-allow-methods": "PUT",
        "access-control-allow-headers": "x-a, x-b",
    }
    assert cors_of(ingress.ask("OPTIONS", path).headers) == CORS


# Limits


@pytest.fixture(scope="module")
def narrow() -> Iterator[Address]:
    """An ingress with a small body limit and room for two requests."""
    settings = IngressSettings(request_bytes_max=LIMIT, concurrent_requests_max=2, disconnect_check_ms=50)
    app = create_ingress(as_engine(memory_world()), settings)
    with served(lambda: just(app)) as port:
        yield Address(port)


def test_a_body_of_exactly_the_limit_is_taken(narrow: Address) -> None:
    assert narrow.ask("POST", "/Echo/echo", b"1" * LIMIT, [JSON]).status == 200
    assert narrow.exchange(chunked("/Echo/echo", [b"1" * 500] * 2)).status == 200


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "PUT"])
@pytest.mark.parametrize("length", [LIMIT + 1, 10**17])
def test_a_declared_length_over_the_limit_is_refused_before_all_else(
    narrow: Address, method: str, length: int
) -> None:
    answer = narrow.exchange(
        b"%s /Nope HTTP/1.1\r\nhost: t\r\norigin: o\r\ncontent-length: %d\r\n\r\n" % (method.encode(), length)
    )
    assert (answer.status, answer.body) == (413, b"length limit exceeded")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert cors_of(answer.headers) == {}
    assert "x-restate-error-source" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/Echo/echo",
        "/Echo/echo/send",
        "/restate/lookup",
        "/restate/a/sign_1tNP0MzQfEO2WTiPyEkPt_p8sEP1a2ErPAAAAEQ/resolve",
    ],
)
@pytest.mark.parametrize("pieces", [[b"1" * 400] * 3, [b"1" * 1_001], [b"1"] * 1_001], ids=len)
def test_a_body_in_chunks_over_the_limit_is_refused(narrow: Address, path: str, pieces: list[bytes]) -> None:
    answer = narrow.exchange(chunked(path, pieces))
    assert answer.status == 413
    assert answer.json() == {
        "code": 413,
        "message": "cannot read body: LengthLimitError",
        "source": "ingress",
    }
    assert cors_of(answer.headers) == CORS


def chunked(path: str, pieces: list[bytes]) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/json\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + b"transfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


@pytest.mark.slow
def test_more_requests_than_the_limit_are_told_to_retry(narrow: Address) -> None:
    with ThreadPoolExecutor(2) as callers:
        waiting = [callers.submit(narrow.ask, "POST", "/Echo/slow", b"400", [JSON]) for _ in range(2)]
        time.sleep(0.1)
        for path in ("/Echo/echo", "/restate/health", "/"):
            answer = narrow.ask("GET", path)
            assert (answer.status, answer.headers["x-restate-error-source"]) == (429, "ingress")
            assert answer.json()["message"] == "too many requests, the ingress is overloaded. Retry later."
        assert narrow.ask("OPTIONS", "/Echo/echo").status == 200
        assert [answer.result().status for answer in waiting] == [200, 200]
    assert narrow.ask("GET", "/restate/health").status == 200


def test_a_client_that_leaves_gives_its_place_free_and_the_invocation_goes_on() -> None:
    engine = memory_world()
    settings = IngressSettings(concurrent_requests_max=2, disconnect_check_ms=50)
    with served(lambda: just(create_ingress(as_engine(engine), settings))) as port:
        door = Address(port)
        leaving = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        for connection in leaving:
            connection.sendall(
                b"POST /Echo/slow HTTP/1.1\r\nhost: t\r\ncontent-type: a/b\r\ncontent-length: 6\r\n\r\n900000"
            )
        until(lambda: door.ask("GET", "/restate/health").status == 429)
        for connection in leaving:
            connection.close()
        until(lambda: door.ask("GET", "/restate/health").status == 200)
        assert [record.result for record in engine.records.values()] == [None, None]
        assert len(engine.tasks) == 2


def until(holds: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_endless_body_is_refused_before_it_ends(narrow: Address) -> None:
    endless = chunked("/Echo/echo", [b"1" * 600] * 2).removesuffix(b"0\r\n\r\n")
    assert narrow.exchange(endless).status == 413


def test_a_client_that_leaves_in_the_middle_of_its_body_submits_nothing_and_is_no_error(
    ingress: Address, engine: MemoryEngine, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(engine.requests)
    with socket.create_connection(("127.0.0.1", ingress.port)) as connection:
        connection.sendall(
            b"POST /Echo/seen HTTP/1.1\r\nhost: t\r\ncontent-type: a/b\r\ncontent-length: 10\r\n\r\n123"
        )
        time.sleep(0.05)
    assert ingress.ask("GET", "/restate/health").status == 200
    assert len(engine.requests) == before
    assert caplog.records == []


def test_a_long_answer_survives_the_check_for_clients_that_left(narrow: Address) -> None:
    assert narrow.ask("POST", "/Echo/slow", b"300", [JSON]).body == b'"slept"'


# A prefix, and guests


def guest(prefix: str) -> Guest:
    """Routes that the ingress hosts for somebody else."""
    router = APIRouter()

    @router.get("")
    @router.get("/{name}/more")
    def show(name: str = "all") -> str:
        return f"{prefix} {name}"

    return Guest(prefix, router)


@pytest.fixture(scope="module")
def mounted() -> Iterator[Address]:
    """The ingress below /agents of somebody else's application."""
    outer = FastAPI()

    @outer.get("/mine")
    def mine() -> str:
        return "mine"

    outer.mount("/agents", create_ingress(as_engine(memory_world()), guests=[guest("chats"), guest("Echo")]))
    with served(lambda: just(outer)) as port:
        yield Address(port)


def test_the_ingress_lives_below_a_prefix(mounted: Address) -> None:
    assert mounted.ask("GET", "/mine").json() == "mine"
    below = Address(mounted.port, b"/agents")
    assert below.ask("POST", "/Echo/echo", b"1", [JSON]).body == b"1"
    assert below.ask("POST", "/Counter/a%2Fb//seen").status == 400
    seen = below.ask("POST", "/Counter/a%2Fb/seen?q").json()
    assert seen["key"] == "a/b"
    assert seen["headers"][0] == ["x-restate-ingress-path", "/agents/Counter/a%2Fb/seen?q"]
    assert below.ask("GET", "/restate/health").status == 200
    assert below.ask("POST", "/").json()["message"] == "bad path: /"


def test_guests_answer_below_their_prefix_and_any_origin_may_read_it(mounted: Address) -> None:
    below = Address(mounted.port, b"/agents")
    assert below.ask("GET", "/chats").json() == "chats all"
    answer = below.ask("GET", "/chats/7/more", None, [("origin", "http://o")])
    assert answer.json() == "chats 7"
    assert cors_of(answer.headers) == CORS | {"access-control-allow-origin": "http://o"}
    assert below.ask("GET", "/chats/7").status == 404


def test_a_service_hides_a_guest_of_its_name(mounted: Address) -> None:
    below = Address(mounted.port, b"/agents")
    assert below.ask("GET", "/Echo").json() == {
        "code": 400,
        "message": "bad path: /Echo",
        "source": "ingress",
    }
    assert below.ask("POST", "/Echo/echo", b"1", [JSON]).body == b"1"


def test_the_documents_below_a_prefix_know_where_they_are(mounted: Address) -> None:
    below = Address(mounted.port, b"/agents")
    assert b"/agents/restate/openapi" in below.ask("GET", "/restate/docs").body
    assert below.ask("GET", "/restate/openapi").json()["servers"][0]["url"] == "/agents"


@pytest.mark.slow
def test_an_offer_to_upgrade_is_just_answered(ingress: Address) -> None:
    answer = ingress.ask("GET", "/Echo/echo", None, [("upgrade", "h2c")])
    assert answer.status == 200
