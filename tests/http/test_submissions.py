"""Calls and sends: what comes back, what the handler is given, what duplicates get."""

from __future__ import annotations

import json
import re
import threading
import time
from datetime import UTC, datetime

import pytest

from agentdur.core.errors import (
    CallerError,
    NotRunning,
    Overloaded,
    StoreFailed,
    UnknownHandler,
    ValueTooLarge,
)
from tests.http.memory_engine import MemoryEngine
from tests.http.wire import JSON, Address, Response

ANY = ("content-type", "application/octet-stream")
INVOCATION_ID = re.compile(r"inv_1[0-9a-zA-Z]{33}\Z")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}000000Z\Z")
EXPIRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00\Z")


def key(value: str) -> tuple[str, str]:
    return ("idempotency-key", value)


def post(ingress: Address, path: str, body: object, *headers: tuple[str, str]) -> Response:
    return ingress.ask("POST", path, json.dumps(body).encode(), [JSON, *headers])


def test_a_call_answers_with_the_handlers_bytes(ingress: Address) -> None:
    answer = ingress.ask("POST", "/Echo/echo", b'{"a": 1 }', [JSON])
    assert (answer.status, answer.body) == (200, b'{"a": 1 }')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == "9"
    assert INVOCATION_ID.match(answer.headers["x-restate-id"])
    assert "x-restate-error-source" not in answer.headers
    assert "idempotency-expires" not in answer.headers


def test_a_body_in_chunks_is_one_body(ingress: Address) -> None:
    answer = ingress.exchange(
        b"POST /Echo/echo HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n"
    )
    assert answer.body == b"[1,2]"


def test_the_body_is_never_parsed(ingress: Address) -> None:
    assert ingress.ask("POST", "/Echo/echo", b"not json", [JSON]).body == b"not json"


@pytest.mark.parametrize("path", ["/Echo/echo/send", "/restate/send/Echo/echo"])
def test_a_send_is_accepted(ingress: Address, path: str) -> None:
    answer = post(ingress, path, 1)
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    receipt = answer.json()
    assert list(receipt) == ["invocationId", "status"]
    assert receipt["status"] == "Accepted"
    assert receipt["invocationId"] == answer.headers["x-restate-id"]


@pytest.mark.parametrize(
    ("delay", "ms"),
    [("10s", 10_000), ("PT1.5S", 1_500), ("1%20hour,%202%20minutes", 3_720_000), ("10+days", 864_000_000),
     ("00:00:05", 5_000), ("0", 0), ("0s", 0), ("1500", 1_500), ("1us", 0)],
)  # fmt: skip
def test_a_delayed_send_says_when_it_will_run(ingress: Address, delay: str, ms: int) -> None:
    before = time.time()
    receipt = post(ingress, f"/Echo/echo/send?delay={delay}", 1).json()
    assert list(receipt) == ["invocationId", "executionTime", "status"]
    assert INSTANT.match(receipt["executionTime"])
    at = datetime.fromisoformat(receipt["executionTime"][:23]).replace(tzinfo=UTC).timestamp()
    assert before + ms / 1000 - 0.01 <= at <= time.time() + ms / 1000 + 0.01


@pytest.mark.parametrize(
    "delay", ["", "abc", "-1s", "PT-5S", "P1M", "1+month", "1+year", "7304485d", "1000000w", "9" * 30, "%FF"]
)
def test_a_bad_delay_is_refused_and_nothing_is_scheduled(
    ingress: Address, engine: MemoryEngine, delay: str
) -> None:
    before = len(engine.requests)
    for path in ("/Echo/echo/send", "/restate/send/Echo/echo", "/Echo/echo"):
        answer = post(ingress, f"{path}?delay={delay}", 1)
        assert answer.status == 400
        assert answer.json()["message"].startswith("bad delay query parameter, must be a ISO8601 duration: ")
    assert len(engine.requests) == before


def test_the_first_delay_counts_in_any_case(ingress: Address) -> None:
    assert post(ingress, "/Echo/echo/send?x=1&DELAY=1s&delay=bad", 1).status == 202
    assert post(ingress, "/Echo/echo/send?Delay=bad&delay=1s", 1).status == 400
    assert post(ingress, "/Echo/echo/send?delayed=bad", 1).status == 202
    assert post(ingress, "/Echo/echo/send?delay", 1).status == 400


def test_a_call_cannot_be_delayed(ingress: Address) -> None:
    answer = post(ingress, "/Echo/echo?delay=1s", 1)
    assert answer.status == 400
    assert answer.json()["message"].startswith("cannot use the delay query parameter with calls")


def test_a_workflow_run_can_be_delayed(ingress: Address) -> None:
    assert "executionTime" in post(ingress, "/Signup/delayed/run/send?delay=1h", 1).json()


# What the handler is given


def test_the_handler_sees_the_path_and_then_the_headers(ingress: Address) -> None:
    answer = ingress.ask(
        "POST",
        "/Echo/seen?q=1",
        b"1",
        [
            ("Content-Type", "a/b; c=d"),
            ("Authorization", "Bearer x"),
            ("Cookie", "c=1"),
            ("X-Twice", "first"),
            ("x-twice", "second"),
            ("x-restate-whatever", "w"),
            ("Idempotency-Key", "seen-1"),
            ("Idempotency-Expires", "never"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-empty", ""),
        ],
    )
    assert answer.json()["headers"] == [
        ["x-restate-ingress-path", "/Echo/seen?q=1"],
        ["content-type", "a/b; c=d"],
        ["authorization", "Bearer x"],
        ["cookie", "c=1"],
        ["x-twice", "first"],
        ["x-restate-whatever", "w"],
        ["traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
        ["x-empty", ""],
        ["content-length", "1"],
    ]


def test_the_path_is_shown_without_the_slashes_around_it(ingress: Address) -> None:
    answer = ingress.ask("POST", "//Counter/a%2Fb/seen/?q=%20")
    assert answer.json()["headers"][0] == ["x-restate-ingress-path", "/Counter/a%2Fb/seen?q=%20"]


@pytest.mark.parametrize("name", ["x-name", "idempotency-key", "x-restate-limit-key"])
def test_a_header_that_is_no_ascii_is_refused(ingress: Address, name: str) -> None:
    answer = ingress.ask("POST", "/Echo/seen", b"1", [ANY, (name, b"\xc3\xa9")])
    assert answer.status == 400
    assert answer.json()["message"].startswith(f"bad header {name}: ")


def test_an_empty_limit_key_is_none(ingress: Address) -> None:
    assert ingress.ask("POST", "/Echo/seen", None, [("x-restate-limit-key", "")]).status == 200
    assert ingress.ask("POST", "/Echo/seen?limit-key=").status == 200
    refused = ingress.ask("POST", "/Echo/seen?limit-key=", None, [("x-restate-limit-key", "a")])
    assert refused.json()["message"] == "limit-key requires a scope to be set"


def test_the_limit_keys_header_wins_over_the_query(ingress: Address) -> None:
    answer = ingress.ask("POST", "/Echo/seen?limit-key=a", None, [("x-restate-limit-key", "a/b/c")])
    assert answer.json()["message"].startswith("invalid limit-key")


# Failures


def test_a_terminal_failure_is_shown_with_all_it_has(ingress: Address) -> None:
    failure = {"code": 418, "message": "m1", "stacktrace": "at a", "metadata": {"a": "b"}}
    answer = ingress.ask("POST", "/Echo/fail", json.dumps(failure).encode(), [ANY])
    assert answer.status == 418
    assert list(answer.json()) == ["code", "message", "stacktrace", "metadata", "source"]
    assert answer.json() == failure | {"source": "invocation"}
    assert answer.headers["x-restate-error-source"] == "invocation"
    assert INVOCATION_ID.match(answer.headers["x-restate-id"])


@pytest.mark.parametrize(
    ("code", "status"),
    [(418, 418), (470, 470), (599, 599), (200, 200), (302, 302), (404, 404), (99, 500), (0, 500), (1234, 500),
     (65_535, 500), (101, 500)],
)  # fmt: skip
def test_the_failures_code_is_the_status_when_http_can_carry_it(
    ingress: Address, code: int, status: int
) -> None:
    answer = ingress.ask("POST", "/Echo/fail", json.dumps({"code": code}).encode(), [ANY])
    assert answer.status == status
    assert answer.json() == {"code": code, "message": "m", "source": "invocation"}


@pytest.mark.parametrize("code", [204, 304])
def test_a_failure_whose_status_has_no_body_leaves_the_connection_usable(ingress: Address, code: int) -> None:
    request = b"POST /Echo/fail HTTP/1.1\r\nhost: t\r\ncontent-type: a/b\r\ncontent-length: 12\r\n"
    first = request + b'\r\n{"code":%d}' % code
    second = request + b'connection: close\r\n\r\n{"code":418}'
    answer = ingress.exchange(first + second)
    assert answer.status == code
    assert answer.body.startswith(b"HTTP/1.1 418 ")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Overloaded("the queue"), 429),
        (NotRunning(), 503),
        (StoreFailed("disk"), 503),
        (ValueTooLarge("1 GiB"), 413),
        (UnknownHandler("Echo/echo"), 404),
        (CallerError("?"), 400),
        (RuntimeError("nobody thought of this"), 500),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_the_engine_refuses_is_an_error_of_the_ingress(
    ingress: Address, engine: MemoryEngine, error: Exception, status: int
) -> None:
    engine.refuse_with = error
    try:
        answer = post(ingress, "/Echo/echo", 1)
    finally:
        engine.refuse_with = None
    assert answer.status == status
    assert (answer.json()["code"], answer.json()["source"]) == (status, "ingress")
    assert "nobody thought" not in answer.json()["message"]
    assert post(ingress, "/Echo/echo", 1).status == 200


@pytest.mark.parametrize("path", ["/Echo/echo", "/Echo/echo/send"])
def test_a_submission_whose_fate_is_unknown_names_its_invocation(
    ingress: Address, engine: MemoryEngine, path: str
) -> None:
    engine.fail_with = StoreFailed("disk")
    try:
        answer = post(ingress, path, 1)
    finally:
        engine.fail_with = None
    assert (answer.status, answer.json()["source"]) == (503, "ingress")
    assert answer.json()["message"].startswith("internal routing error: ")
    assert INVOCATION_ID.match(answer.headers["x-restate-id"])


# Duplicates


def test_an_idempotent_call_runs_once(ingress: Address, engine: MemoryEngine) -> None:
    first = post(ingress, "/Echo/echo", 1, key("once"))
    before = len(engine.requests)
    again = post(ingress, "/Echo/echo", 2, key("once"), ("x-other", "1"))
    assert (again.body, again.headers["x-restate-id"]) == (b"1", first.headers["x-restate-id"])
    assert len(engine.requests) == before
    assert EXPIRY.match(again.headers["idempotency-expires"])
    assert "idempotency-expires" not in first.headers


def test_a_duplicate_call_waits_for_the_first(ingress: Address) -> None:
    answers: list[Response] = []
    callers = [
        threading.Thread(target=lambda: answers.append(post(ingress, "/Echo/slow", 300, key("together"))))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert {answer.body for answer in answers} == {b'"slept"'}
    assert len({answer.headers["x-restate-id"] for answer in answers}) == 1


def test_an_idempotent_send_is_accepted_once(ingress: Address) -> None:
    first = post(ingress, "/Echo/echo/send?delay=1h", 1, key("sent")).json()
    again = post(ingress, "/Echo/echo/send", 1, key("sent"))
    assert (first["status"], again.json()["status"], again.status) == ("Accepted", "PreviouslyAccepted", 202)
    assert again.json()["invocationId"] == first["invocationId"]
    assert again.json()["executionTime"] == first["executionTime"]


def test_an_empty_idempotency_key_is_a_key(ingress: Address) -> None:
    one = post(ingress, "/Counter/k1/slow", 0, key(""))
    two = post(ingress, "/Counter/k1/slow", 0, key(""))
    assert one.headers["x-restate-id"] == two.headers["x-restate-id"]


def test_of_several_idempotency_keys_the_first_counts(ingress: Address) -> None:
    one = post(ingress, "/Echo/echo", 1, key("k-a"), key("k-b"))
    assert one.headers["x-restate-id"] == post(ingress, "/Echo/echo", 1, key("k-a")).headers["x-restate-id"]


def test_a_workflow_runs_once_per_key(ingress: Address) -> None:
    assert post(ingress, "/Signup/w1/run", 0).body == b'"slept"'
    again = post(ingress, "/Signup/w1/run", 0)
    assert (again.status, again.json()["message"]) == (409, "the workflow method was already invoked")
    assert again.headers["x-restate-error-source"] == "invocation"
    assert post(ingress, "/Signup/w1/run/send", 0).json()["status"] == "PreviouslyAccepted"


@pytest.mark.parametrize("path", ["/Signup/w9/run", "/Signup/w9/run/send", "/restate/call/Signup/w9/run"])
def test_a_workflow_run_takes_no_idempotency_key(ingress: Address, path: str) -> None:
    answer = post(ingress, path, 0, key("x"))
    assert answer.status == 400
    assert answer.json()["message"].startswith("cannot use the idempotency key with workflow handlers")
    assert post(ingress, "/Signup/w9/seen", 0, key("x")).status == 200
