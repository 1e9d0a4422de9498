"""The same raw requests to a real Restate server and to ours: clients must not see a difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.core.test_durations import REFUSED as REFUSED_DELAYS
from tests.core.test_durations import WRITTEN
from tests.http.both_engine import both_ingress
from tests.http.reference_server import find_binary, reference_server
from tests.http.serving import served
from tests.http.test_paths import ANSWERED, AWAKEABLE, ID, REFUSED
from tests.http.wire import JSON, Address, Response

BINARY = find_binary()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no restate-server: npm install @restatedev/restate-server"),
]

COMPARED = (
    *("content-type", "x-restate-error-source", "vary", "access-control-allow-origin"),
    *("access-control-allow-credentials", "access-control-allow-methods", "access-control-allow-headers"),
)
PRESENT = ("x-restate-id", "idempotency-expires")
INFORMATIVE = (  # messages of which only the beginning is the same
    "bad path, cannot decode key: ",
    "bad path, expected either /restate/invocation/",
    "bad delay query parameter, must be a ISO8601 duration: ",
    "cannot use the delay query parameter with calls",
    "cannot use the idempotency key with workflow handlers",
    "bad header ",
    "input validation error: Expected body and content-type to be empty, but wasn't with content-type",
)


class Pair(NamedTuple):
    """The same services behind both."""

    theirs: Address
    ours: Address


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    assert BINARY is not None
    with (
        reference_server(BINARY, tmp_path_factory.mktemp("reference")) as theirs,
        served(both_ingress) as ours,
    ):
        yield Pair(Address(theirs), Address(ours))


def essence(answer: Response) -> dict[str, Any]:
    """What a client may rely on."""
    seen: dict[str, Any] = {"status": answer.status}
    seen |= {name: answer.headers[name] for name in COMPARED if name in answer.headers}
    seen["present"] = [name for name in PRESENT if name in answer.headers]
    seen["body"] = decoded(answer.body)
    if answer.body.startswith(b'{"code"'):
        error = answer.json()
        seen["body"] = error | {"message": shortened(error["message"])}
        seen["body"].pop("stacktrace", None)
    elif answer.body.startswith(b'{"invocationId"'):
        receipt = answer.json()
        seen["body"] = (list(receipt), receipt.get("status"))
    return seen


def decoded(body: bytes) -> Any:
    """JSON by its meaning: spaces are each SDK's own."""
    try:
        return json.loads(body)
    except ValueError:
        return body


def shortened(message: str) -> str:
    return next((start for start in INFORMATIVE if message.startswith(start)), message)


def compare(pair: Pair, method: str, path: str, body: bytes | None = None, headers: Any = ()) -> None:
    """Both are asked at the same time: what waits on one side waits on the other."""
    with ThreadPoolExecutor(2) as askers:
        asked = [askers.submit(each.ask, method, path, body, headers) for each in pair]
        theirs, ours = (essence(answer.result()) for answer in asked)
    assert (method, path, ours) == (method, path, theirs)


@pytest.mark.parametrize("line", ANSWERED.strip().splitlines())
def test_paths_that_mean_something(pair: Pair, line: str) -> None:
    method, path, _ = line.format(awakeable=AWAKEABLE).split()
    if "health" in path:
        one, other = pair.theirs.ask(method, path), pair.ours.ask(method, path)
        assert sorted(one.json()["services"]) == sorted(other.json()["services"])
        return
    compare(pair, method, path, b"1", [JSON])


@pytest.mark.parametrize(("method", "path", "status", "message"), REFUSED, ids=lambda v: str(v)[:50])
def test_paths_that_mean_nothing(pair: Pair, method: str, path: str, status: int, message: str) -> None:
    compare(pair, method, path, b"1", [JSON])


SUBMISSIONS = [
    ("/Echo/echo", b'{"a": 1}', [JSON]),
    ("/Echo/echo", b"1", [("content-type", "text/plain")]),
    ("/Echo/echo", b"1", [("content-type", "APPLICATION/JSON")]),
    ("/Echo/echo", b"1", [("content-type", "application/json; charset=utf-8")]),
    ("/Echo/fail", b"", [JSON]),
    ("/Echo/echo", b"1", []),
    ("/Echo/raw", b"\xff\x00", [("content-type", "x/y")]),
    ("/Echo/raw", b"x", []),
    ("/Echo/nothing", None, []),
    ("/Echo/nothing", b"1", []),
    ("/Echo/nothing", b"", [JSON]),
    ("/Echo/fail", b'{"code": 418, "message": "no tea"}', [JSON]),
    ("/Echo/fail", b'{"code": 200}', [JSON]),
    ("/Echo/fail", b'{"code": 204}', [JSON]),
    ("/Echo/fail", b'{"code": 302}', [JSON]),
    ("/Echo/fail", b'{"code": 304}', [JSON]),
    ("/Echo/fail", b'{"code": 599}', [JSON]),
    ("/Echo/fail", b'{"code": 1234}', [JSON]),
    ("/Echo/echo?delay=1s", b"1", [JSON]),
    ("/Echo/echo?delay=x", b"1", [JSON]),
    ("/Echo/echo/send?delay=0", b"1", [JSON]),
    ("/Echo/echo/send?delay=1+month", b"1", [JSON]),
    ("/Echo/echo/send?Delay=PT1M&delay=x", b"1", [JSON]),
    ("/Signup/late/run/send?delay=1h", b"1", [JSON]),
    ("/Signup/x/run", b"1", [JSON, ("idempotency-key", "k")]),
    ("/Signup/x/seen", b"1", [JSON, ("idempotency-key", "k")]),
    ("/Echo/seen", b"1", [JSON, ("x-b", b"\xff")]),
    ("/Echo/seen", b"1", [JSON, ("idempotency-key", b"\xff")]),
    ("/Echo/seen", b"1", [JSON, ("x-restate-limit-key", "a")]),
    ("/Echo/echo", b"1", [JSON, ("origin", "http://o")]),
    ("/Counter/a%2Fb%20c%C3%A9%2B/seen", None, []),
    ("/Counter//seen", None, []),
]


@pytest.mark.parametrize(("path", "body", "headers"), SUBMISSIONS, ids=lambda v: str(v)[:40])
def test_submissions(pair: Pair, path: str, body: bytes | None, headers: Any) -> None:
    compare(pair, "POST", path, body, headers)


# Ours takes a bare number as milliseconds, and refuses what ends after the year 9999 instead of hanging up.
DELAYS = [
    text
    for text in (*WRITTEN, *REFUSED_DELAYS)
    if len(text) < 100 and not text.isdecimal() and "7304484" not in text
]


@pytest.mark.parametrize("delay", DELAYS)
def test_delays(pair: Pair, delay: str) -> None:
    compare(pair, "POST", f"/Echo/echo/send?delay={quote(delay, safe='')}", b"1", [JSON])


def test_what_the_handler_sees(pair: Pair) -> None:
    headers = [JSON, ("X-A", "1"), ("x-a", "2"), ("cookie", "c"), ("idempotency-key", "s"), ("x-empty", "")]
    compare(pair, "POST", "//Echo/seen/?q=%20", b"1", headers)


def test_a_preflight(pair: Pair) -> None:
    asked = [
        ("origin", "o"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "a, b"),
    ]
    compare(pair, "OPTIONS", "/any/thing", None, asked)
    compare(pair, "OPTIONS", "/")


def test_a_body_that_is_too_large(pair: Pair) -> None:
    compare(pair, "POST", "/Nope", None, [("content-length", "99999999999"), ("origin", "o")])


def test_duplicates_and_results(pair: Pair) -> None:
    """One story, told to both: an idempotent call, its duplicate, its result by all routes."""
    key = ("idempotency-key", "d1")
    story: list[tuple[str, str, bytes | None, list[tuple[str, str]]]] = [
        ("GET", "/restate/invocation/Echo/slow/d1/output", None, []),
        ("GET", "/restate/invocation/Echo/slow/d1/attach", None, []),
        ("POST", "/Echo/slow/send?delay=1s", b"10", [JSON, key]),
        ("GET", "/restate/invocation/Echo/slow/d1/output", None, []),
        ("POST", "/Echo/slow/send", b"20", [JSON, key]),
        ("POST", "/Echo/slow", b"20", [JSON, key]),
        ("POST", "/Echo/slow", b"20", [JSON, key]),
        ("POST", "/Echo/slow/send", b"20", [JSON, key]),
        ("GET", "/restate/invocation/Echo/slow/d1/output", None, []),
        ("GET", "/restate/invocation/Echo/slow/d1/attach", None, []),
        ("POST", "/restate/lookup", described("slow", "d1"), []),
        ("POST", "/restate/output", described("slow", "d1"), []),
        ("POST", "/restate/attach", described("slow", "never"), []),
        ("POST", "/Signup/d1/run", b"10", [JSON]),
        ("POST", "/Signup/d1/run", b"10", [JSON]),
        ("POST", "/Signup/d1/run/send", b"10", [JSON]),
        ("GET", "/restate/workflow/Signup/d1/output", None, []),
        ("GET", "/restate/workflow/Signup/d1/attach", None, []),
        ("POST", "/Echo/fail", b'{"code": 418}', [JSON, ("idempotency-key", "d2")]),
        ("POST", "/Echo/fail", b'{"code": 200}', [JSON, ("idempotency-key", "d2")]),
        ("GET", "/restate/invocation/Echo/fail/d2/output", None, []),
        ("GET", f"/restate/output/{ID}", None, []),
        ("GET", f"/restate/attach/{ID}", None, []),
    ]
    for method, path, body, headers in story:
        compare(pair, method, path, body, headers)


def described(handler: str, idempotency_key: str) -> bytes:
    target = {"target": "idempotentInvocation", "service": "Echo", "handler": handler}
    return json.dumps(target | {"idempotencyKey": idempotency_key}).encode()


def test_both_compute_the_same_ids(pair: Pair) -> None:
    for body in (
        described("echo", "k1"),
        b'{"target":"workflow","workflowName":"Signup","workflowKey":"w"}',
        b'{"target":"idempotentInvocation","service":"Counter","key":"c","handler":"slow",'
        b'"idempotencyKey":""}',
    ):
        theirs = pair.theirs.ask("POST", "/restate/lookup", body)
        assert pair.ours.ask("POST", "/restate/lookup", body).json() == theirs.json()


@pytest.mark.parametrize(
    "identifier",
    [
        "foo",
        "abc_1x",
        "sign_",
        "sign_1",
        "sign_2abc",
        "sign_1!!",
        "prom_1abc",
        "inv_1abc",
        "mut_1aa",
        "vq_1aa",
        "rule_1",
    ],
)
def test_bad_ids_have_the_same_reasons(pair: Pair, identifier: str) -> None:
    compare(pair, "POST", f"/restate/a/{identifier}/resolve", b"1")
    compare(pair, "GET", f"/restate/output/{identifier}")
