"""The ingress in front of the real engine: stories from the first request to the last answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.http.both_engine import both_ingress
from tests.http.serving import served
from tests.http.wire import JSON, Address, Response


@pytest.fixture(scope="module")
def door() -> Iterator[Address]:
    with served(both_ingress) as port:
        yield Address(port)


def post(door: Address, path: str, body: object, *headers: tuple[str, str]) -> Response:
    return door.ask("POST", path, json.dumps(body).encode(), [JSON, *headers])


def until_ready(door: Address, invocation: str) -> Response:
    deadline = time.monotonic() + 10
    while (answer := door.ask("GET", f"/restate/output/{invocation}")).status == 470:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer


def test_a_call_runs_the_handler(door: Address) -> None:
    answer = post(door, "/Echo/echo", {"a": [1, "é"]})
    assert (answer.status, answer.json()) == (200, {"a": [1, "é"]})


def test_a_send_is_run_and_its_result_kept(door: Address) -> None:
    receipt = post(door, "/Echo/slow/send", 50).json()
    answer = until_ready(door, receipt["invocationId"])
    assert (answer.status, answer.json()) == (200, "slept")
    assert answer.headers["x-restate-id"] == receipt["invocationId"]
    assert "idempotency-expires" in answer.headers


def test_a_delayed_send_waits_and_runs(door: Address) -> None:
    begun = time.monotonic()
    receipt = post(door, "/Echo/echo/send?delay=300ms", 7).json()
    waiting = door.ask("GET", f"/restate/output/{receipt['invocationId']}")
    assert waiting.status == 470
    assert door.ask("GET", f"/restate/attach/{receipt['invocationId']}").json() == 7
    assert time.monotonic() - begun >= 0.29


def test_exclusive_calls_of_one_key_follow_each_other(door: Address) -> None:
    answers: list[Any] = []
    callers = [
        threading.Thread(target=lambda: answers.append(post(door, "/Counter/q/seen", 0))) for _ in range(5)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [answer.json() for answer in answers] == [{"key": "q"}] * 5


def test_an_idempotent_send_and_call_are_one_invocation(door: Address) -> None:
    key = ("idempotency-key", "one")
    sent = post(door, "/Echo/slow/send", 100, key)
    called = post(door, "/Echo/slow", 999_999, key)
    assert called.headers["x-restate-id"] == sent.headers["x-restate-id"]
    again = post(door, "/Echo/slow/send", 0, key).json()
    assert (again["status"], again["invocationId"]) == ("PreviouslyAccepted", sent.headers["x-restate-id"])


def test_a_workflow_runs_once_and_is_found_by_its_key(door: Address) -> None:
    assert post(door, "/Signup/me/run", 10).json() == "signed up"
    assert post(door, "/Signup/me/run", 10).status == 409
    assert post(door, "/Signup/me/run/send", 10).json()["status"] == "PreviouslyAccepted"
    assert door.ask("GET", "/restate/workflow/Signup/me/attach").json() == "signed up"


def test_a_terminal_error_keeps_its_code_metadata_and_message(door: Address) -> None:
    failure = {"code": 418, "message": "no tea", "metadata": {"pot": "cold"}}
    answer = post(door, "/Echo/fail", failure)
    assert answer.status == 418
    error = answer.json()
    assert (error["message"], error["metadata"], error["source"]) == ("no tea", {"pot": "cold"}, "invocation")


def test_an_awakeable_is_completed_from_outside(door: Address) -> None:
    receipt = door.ask("POST", "/Echo/approve/send").json()
    awakeable = told_by(door, "asked")
    assert door.ask("POST", f"/restate/awakeables/{awakeable}/resolve", b'"yes"').status == 202
    assert door.ask("POST", f"/restate/awakeables/{awakeable}/reject", b"too late").status == 202
    assert until_ready(door, receipt["invocationId"]).json() == "yes"


def test_a_rejected_awakeable_fails_its_waiter(door: Address) -> None:
    receipt = door.ask("POST", "/Echo/approve/send").json()
    awakeable = told_by(door, "asked")
    assert door.ask("POST", f"/restate/a/{awakeable}/reject", b"no way").status == 202
    answer = until_ready(door, receipt["invocationId"])
    assert (answer.status, answer.json()["message"]) == (500, "no way")


def told_by(door: Address, key: str) -> str:
    """What a handler left under this key, once it did."""
    deadline = time.monotonic() + 10
    while (told := door.ask("POST", f"/Board/{key}/take").json()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert isinstance(told, str)
    return told


def test_an_attach_to_what_is_not_retained_still_gets_the_answer(door: Address) -> None:
    receipt = post(door, "/Echo/fleeting/send", 200).json()
    answer = door.ask("GET", f"/restate/attach/{receipt['invocationId']}")
    assert (answer.status, answer.json()) == (200, "slept")
    assert door.ask("GET", f"/restate/output/{receipt['invocationId']}").status == 404


@pytest.mark.slow
def test_a_client_that_leaves_does_not_cancel(door: Address) -> None:
    key = ("idempotency-key", "leaver")
    with pytest.raises(TimeoutError):
        door.ask("POST", "/Echo/slow", b"400", [JSON, key], timeout_s=0.1)
    assert post(door, "/Echo/slow", 0, key).json() == "slept"
