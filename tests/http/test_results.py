"""Results by id, by idempotency key, by workflow key, by body; awakeables."""

from __future__ import annotations

import json
import re
import threading

import pytest

from agentdur.core.catalog import Catalog
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Failure, Success
from tests.http.memory_engine import MemoryEngine
from tests.http.wire import JSON, Address, Response

NEVER = "inv_12kpUQONmeFb5PHTfKTRThaBTz19oYy8we"
AWAITING, AWAKEABLE = "inv_1klSBfLnjVre6j9CbWrSsAeVFXEsDv5y0C", "sign_1tNP0MzQfEO2WTiPyEkPt_p8sEP1a2ErPAAAAEQ"
CANCEL_ID = "sign_1tNP0MzQfEO2WTiPyEkPt_p8sEP1a2ErPAAAAAQ"
EXPIRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00\Z")


def submit(ingress: Address, path: str, body: object, *headers: tuple[str, str]) -> str:
    answer = ingress.ask("POST", path, json.dumps(body).encode(), [JSON, *headers])
    return answer.headers["x-restate-id"]


def ways(invocation: str, verb: str) -> list[tuple[str, str, bytes | None]]:
    """All routes to a result by id."""
    body = json.dumps({"target": "invocation", "invocationId": invocation}).encode()
    return [
        ("GET", f"/restate/{verb}/{invocation}", None),
        ("GET", f"/restate/invocation/{invocation}/{verb}", None),
        ("POST", f"/restate/{verb}", body),
    ]


def test_a_result_is_found_by_id(ingress: Address) -> None:
    invocation = submit(ingress, "/Echo/echo", {"a": 1})
    for verb in ("attach", "output"):
        for method, path, body in ways(invocation, verb):
            answer = ingress.ask(method, path, body)
            assert (answer.status, answer.body) == (200, b'{"a": 1}')
            assert answer.headers["x-restate-id"] == invocation
            assert answer.headers["content-type"] == "application/json"
            assert EXPIRY.match(answer.headers["idempotency-expires"])


def test_a_failure_is_a_result(ingress: Address) -> None:
    invocation = submit(ingress, "/Echo/fail", {"code": 418})
    for verb in ("attach", "output"):
        for method, path, body in ways(invocation, verb):
            answer = ingress.ask(method, path, body)
            assert (answer.status, answer.json()["source"]) == (418, "invocation")
            assert answer.headers["x-restate-id"] == invocation
            assert "idempotency-expires" in answer.headers


def test_output_of_what_still_runs_is_not_ready(ingress: Address) -> None:
    invocation = submit(ingress, "/Echo/slow/send?delay=1h", 0)
    for method, path, body in ways(invocation, "output"):
        answer = ingress.ask(method, path, body)
        assert answer.status == 470
        assert answer.json() == {
            "code": 470,
            "message": "the invocation exists but has not completed yet",
            "source": "ingress",
        }
        assert "x-restate-id" not in answer.headers


def test_attach_waits_for_the_end(ingress: Address) -> None:
    invocation = submit(ingress, "/Echo/slow/send", 200)
    answer = ingress.ask("GET", f"/restate/attach/{invocation}")
    assert (answer.status, answer.body) == (200, b'"slept"')
    assert "idempotency-expires" not in answer.headers


def test_an_unknown_invocation_is_told_apart_by_source(ingress: Address) -> None:
    for method, path, body in ways(NEVER, "attach"):
        answer = ingress.ask(method, path, body)
        assert answer.json() == {"code": 404, "message": "not found", "source": "invocation"}
        assert (answer.status, answer.headers["x-restate-id"]) == (404, NEVER)
    for method, path, body in ways(NEVER, "output"):
        answer = ingress.ask(method, path, body)
        assert answer.json() == {"code": 404, "message": "invocation not found", "source": "ingress"}
        assert (answer.status, answer.headers.get("x-restate-id")) == (404, None)


def test_a_value_whose_handler_is_gone_is_not_shown_but_a_failure_is(
    ingress: Address, engine: MemoryEngine
) -> None:
    value = submit(ingress, "/Echo/echo", 1)
    failure = submit(ingress, "/Echo/fail", {"code": 418})
    catalog, engine.catalog = engine.catalog, Catalog()
    try:
        answers = [ingress.ask("GET", f"/restate/{verb}/{value}") for verb in ("attach", "output")]
        kept = ingress.ask("GET", f"/restate/output/{failure}")
    finally:
        engine.catalog = catalog
    for answer in answers:
        assert (answer.status, answer.json()["message"], answer.json()["source"]) == (
            404,
            "not found",
            "ingress",
        )
    assert kept.status == 418
    assert ingress.ask("GET", f"/restate/output/{value}").status == 200


def test_a_result_is_found_by_idempotency_key(ingress: Address) -> None:
    plain = submit(ingress, "/Echo/echo", 1, ("idempotency-key", "r1"))
    keyed = submit(ingress, "/Counter/a%2Fb/slow", 0, ("idempotency-key", "r1"))
    for verb in ("attach", "output"):
        found = ingress.ask("GET", f"/restate/invocation/Echo/echo/r1/{verb}")
        assert (found.status, found.headers["x-restate-id"]) == (200, plain)
        found = ingress.ask("GET", f"/restate/invocation/Counter/a%2Fb/slow/r1/{verb}")
        assert (found.status, found.headers["x-restate-id"]) == (200, keyed)


def test_an_idempotency_key_in_a_path_is_not_decoded(ingress: Address) -> None:
    submit(ingress, "/Echo/echo", 1, ("idempotency-key", "a b/c"))
    assert ingress.ask("GET", "/restate/invocation/Echo/echo/a%20b%2Fc/output").status == 404
    found = by_body(ingress, "output", idempotent("Echo", "echo", "a b/c"))
    assert found.body == b"1"


def test_a_workflows_result_is_found_by_key(ingress: Address) -> None:
    run = submit(ingress, "/Signup/r%201/run", 0)
    for verb in ("attach", "output"):
        found = ingress.ask("GET", f"/restate/workflow/Signup/r%201/{verb}")
        assert (found.status, found.body, found.headers["x-restate-id"]) == (200, b'"slept"', run)
    assert ingress.ask("GET", "/restate/workflow/Signup/other/output").status == 404
    attached = ingress.ask("GET", "/restate/workflow/Signup/other/attach")
    assert (attached.status, attached.json()["source"]) == (404, "invocation")


def by_body(ingress: Address, verb: str, target: object) -> Response:
    return ingress.ask("POST", f"/restate/{verb}", json.dumps(target).encode())


def idempotent(service: str, handler: str, idempotency_key: str, **more: str) -> dict[str, str]:
    target = {"target": "idempotentInvocation", "service": service, "handler": handler}
    return target | {"idempotencyKey": idempotency_key} | more


def test_lookup_computes_ids_of_what_exists_and_what_does_not(ingress: Address) -> None:
    plain = submit(ingress, "/Echo/echo", 1, ("idempotency-key", "l1"))
    keyed = submit(ingress, "/Counter/c1/slow", 0, ("idempotency-key", "l1"))
    run = submit(ingress, "/Signup/l1/run", 0)
    workflow = {"target": "workflow", "workflowName": "Signup", "workflowKey": "l1", "unknown": [1]}
    for target, invocation in [
        (idempotent("Echo", "echo", "l1"), plain),
        (idempotent("Counter", "slow", "l1", key="c1"), keyed),
        (workflow, run),
        ({"target": "invocation", "invocationId": NEVER}, NEVER),
    ]:
        answer = by_body(ingress, "lookup", target)
        assert (answer.status, answer.json()) == (200, {"invocationId": invocation})
        assert answer.headers["content-type"] == "application/json"
    nobody = by_body(ingress, "lookup", idempotent("Nope", "x", "y"))
    assert nobody.status == 200
    assert nobody.json() != by_body(ingress, "lookup", idempotent("Nope", "x", "y", scope="s")).json()


@pytest.mark.parametrize("verb", ["attach", "output", "lookup"])
@pytest.mark.parametrize(
    "body",
    [b"", b"1", b"{", b"\xff", b'"\\ud800"', b"{}", b'{"target":"nobody"}', b'{"target":"workflow"}',
     b'{"target":"invocation","invocationId":7}', b"[" * 100_000],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_body_that_describes_nothing_is_refused(ingress: Address, verb: str, body: bytes) -> None:
    answer = ingress.ask("POST", f"/restate/{verb}", body)
    assert (answer.status, answer.json()["source"]) == (400, "ingress")
    assert answer.json()["message"].startswith("cannot read body: ")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"target": "invocation", "invocationId": "inv_1"}, "bad invocation id 'inv_1': bad length"),
        (idempotent("Echo", "echo", "k", scope="a b"), "bad scope value: "),
        (idempotent("Echo", "echo", "k", scope=""), "bad scope value: value cannot be empty"),
    ],
)
def test_a_bad_id_or_scope_in_a_body_is_refused(
    ingress: Address, target: dict[str, str], message: str
) -> None:
    answer = by_body(ingress, "lookup", target)
    assert answer.status == 400
    assert answer.json()["message"].startswith(message)


# Awakeables


def test_an_awakeable_is_resolved_with_the_bytes_that_came(ingress: Address, engine: MemoryEngine) -> None:
    for route in ("awakeables", "a"):
        for body in (b'{"hello":1}', b"", b"\xff\x00"):
            engine.signals.clear()
            answer = ingress.ask(
                "POST", f"/restate/{route}/{AWAKEABLE}/resolve", body, [("content-type", "x/y")]
            )
            assert (answer.status, answer.body, answer.headers["content-length"]) == (202, b"", "0")
            assert engine.signals == [(InvocationId(AWAITING), 17, Success(body))]


def test_an_awakeable_is_rejected_with_a_message(ingress: Address, engine: MemoryEngine) -> None:
    engine.signals.clear()
    assert ingress.ask("POST", f"/restate/awakeables/{AWAKEABLE}/reject", b"no \xff way").status == 202
    assert engine.signals == [(InvocationId(AWAITING), 17, Failure(500, "no \ufffd way"))]


def test_an_id_of_an_older_journal_or_of_the_engine_itself_wakes_nothing(
    ingress: Address, engine: MemoryEngine
) -> None:
    """A `prom_` id names a journal entry, and signal 1 is cancel: neither is an awakeable."""
    engine.signals.clear()
    for awakeable in (AWAKEABLE.replace("sign", "prom"), CANCEL_ID):
        assert ingress.ask("POST", f"/restate/a/{awakeable}/resolve", b"1").status == 202
    assert engine.signals == []


@pytest.mark.slow
def test_many_who_attach_get_the_same_answer(ingress: Address) -> None:
    invocation = submit(ingress, "/Echo/slow/send", 200)
    answers: list[Response] = []
    readers = [
        threading.Thread(target=lambda: answers.append(ingress.ask("GET", f"/restate/attach/{invocation}")))
        for _ in range(5)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [answer.body for answer in answers] == [b'"slept"'] * 5
