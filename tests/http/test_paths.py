"""Which path means what, and which error wins: one line per fact of the ingress reference."""

from __future__ import annotations

import pytest

from tests.http.wire import JSON, Address

ID = "inv_12kpUQONmeFb5PHTfKTRThaBTz19oYy8we"
AWAKEABLE = "sign_1tNP0MzQfEO2WTiPyEkPt_p8sEP1a2ErPAAAAEQ"

PLAIN = "bad path, expected either /:service-name/:handler"
MODERN = "bad path, expected /restate/call/:service/:handler"
BY_KEY = "bad path, expected either /restate/invocation/:invocation_id/output"
WORKFLOW = "bad path, expected either /restate/workflow/:workflow_name/:workflow_key/output"
COMPLETE = "bad path, expected either /restate/awakeables/:id/resolve"
NO_SERVICE = "service 'Nope' not found"
NO_HANDLER = "the service 'Echo' exists, but the handler 'nope' was not found"
PRIVATE = "the invoked service is not public"
METHOD = "method not allowed"
VQUEUES = "scoped invocations require vqueues to be enabled"

ANSWERED = """
POST /Echo/echo                          200
GET  /Echo/echo                          200
POST //Echo/echo                         200
POST ///Echo/echo/                       200
POST /Echo/echo//                        200
POST /Echo/echo/send                     202
GET  /Echo/echo/send                     202
POST /Echo/echo/send/                    202
POST /Echo/echo?a=b                      200
POST /Counter/k/seen                     200
POST /Counter//seen                      200
POST /Counter/k/seen/send                202
POST /Counter/send/seen                  200
POST /Counter/../seen                    200
POST /Counter/%zz/seen                   200
POST /Counter/%/seen                     200
POST /restate/call/Echo/echo             200
GET  /restate/call/Echo/echo             200
POST /restate/send/Echo/echo             202
GET  /restate/send/Echo/echo             202
POST /restate/call/Counter/k/seen        200
POST /restate/call/Counter//seen         200
POST /restate/send/Counter/k/seen        202
POST /Signup/s1/seen                     200
GET  /restate/health                     200
GET  /restate/health/                    200
GET  /restate/health/x                   200
GET  /restate/health/x/y                 200
POST /restate/awakeables/{awakeable}/resolve     202
POST /restate/awakeables/{awakeable}/reject      202
POST /restate/a/{awakeable}/resolve              202
POST /restate/a/{awakeable}/resolve/surplus      202
"""

REFUSED = [
    # number of slashes
    ("POST", "/", 400, "bad path: /"),
    ("POST", "//", 400, "bad path: /"),
    ("POST", "/Echo", 400, "bad path: /Echo"),
    ("POST", "/Echo/", 400, "bad path: /Echo"),
    ("POST", "/Nope", 400, "bad path: /Nope"),
    ("GET", "/openapi", 400, "bad path: /openapi"),
    ("POST", "/restate", 400, "bad path: /restate"),
    ("POST", "/a/b/c/d/e/f/g/h", 400, "bad path: /a/b/c/d/e/f/g/h"),
    ("POST", "/a/b/c/d/e/f/g", 404, "service 'a' not found"),
    # service, shape, handler, privacy, method: in this order
    ("DELETE", "/Nope/x", 404, NO_SERVICE),
    ("POST", "/Nope/x/y/z/a", 404, NO_SERVICE),
    ("GET", "/Restate/health", 404, "service 'Restate' not found"),
    ("POST", "/%45cho/echo", 404, "service '%45cho' not found"),
    ("POST", "/Echo//echo", 400, PLAIN),
    ("POST", "/Echo/echo/x", 400, PLAIN),
    ("POST", "/Echo/echo/Send", 400, PLAIN),
    ("POST", "/Echo/nope/x", 400, PLAIN),
    ("POST", "/Echo/echo/send/x", 400, PLAIN),
    ("POST", "/Counter/seen", 400, PLAIN),
    ("POST", "/Counter/k/seen/x", 400, PLAIN),
    ("PUT", "/Echo/nope", 404, NO_HANDLER),
    ("POST", "/Echo/nope/send", 404, NO_HANDLER),
    ("POST", "/Echo/%65cho", 404, "the service 'Echo' exists, but the handler '%65cho' was not found"),
    ("POST", "/Hidden/nope", 404, "the service 'Hidden' exists"),
    ("DELETE", "/Hidden/seen", 400, PRIVATE),
    ("POST", "/Echo/hidden", 400, PRIVATE),
    ("POST", "/Echo/hidden/send", 400, PRIVATE),
    ("PUT", "/Echo/echo", 405, METHOD),
    ("DELETE", "/Counter/k/seen/send", 405, METHOD),
    ("POST", "/Counter/%FF/seen", 400, "bad path, cannot decode key: "),
    # /restate/call, /restate/send
    ("POST", "/restate/call", 400, MODERN),
    ("POST", "/restate/call/Echo", 400, MODERN),
    ("POST", "/restate/call/Nope", 404, NO_SERVICE),
    ("POST", "/restate/call/Nope/x/y", 404, NO_SERVICE),
    ("POST", "/restate/call/Echo/echo/send", 400, MODERN),
    ("POST", "/restate/send/Echo/echo/x", 400, MODERN),
    ("POST", "/restate/call/Counter/k", 400, MODERN),
    ("POST", "/restate/call/Counter/k/seen/x", 400, MODERN),
    ("POST", "/restate/call/Echo/nope", 404, NO_HANDLER),
    ("DELETE", "/restate/call/Echo/echo", 405, METHOD),
    ("POST", "/restate//call/Echo/echo", 404, "not found"),
    # scopes are off
    ("POST", "/restate/scope", 400, MODERN),
    ("POST", "/restate/scope/t", 400, MODERN),
    ("POST", "/restate/scope/t/call", 400, MODERN),
    ("POST", "/restate/scope/t/call/Echo", 400, MODERN),
    ("POST", "/restate/scope/t/jump/Echo/echo", 400, MODERN),
    ("POST", "/restate/scope/t/call/Nope/x", 404, NO_SERVICE),
    ("POST", "/restate/scope/t/call/Echo/nope", 404, NO_HANDLER),
    ("DELETE", "/restate/scope/t/call/Echo/echo", 400, VQUEUES),
    ("POST", "/restate/scope/t/send/Echo/echo", 400, VQUEUES),
    ("POST", "/restate/scope/t/call/Counter/k/seen", 400, VQUEUES),
    ("POST", "/restate/scope//call/Echo/echo", 400, "bad scope value: value cannot be empty"),
    ("POST", "/restate/scope/a%20b/call/Echo/echo", 400, "bad scope value: value contains characters"),
    (
        "POST",
        f"/restate/scope/{'a' * 37}/call/Echo/echo",
        400,
        "bad scope value: value too long: 37 bytes (max 36)",
    ),
    ("POST", "/restate/scope/%FF/call/Echo/echo", 400, "bad path, cannot decode key: "),
    ("POST", "/Echo/seen?limit-key=a", 400, "limit-key requires a scope to be set"),
    ("POST", "/Echo/seen?LIMIT-KEY=a/b", 400, "limit-key requires a scope to be set"),
    ("POST", "/Echo/seen?limit-key=a/b/c", 400, "invalid limit-key: too many path components"),
    ("POST", "/Echo/seen?limit-key=a/", 400, "limit-key requires a scope to be set"),
    ("POST", "/Echo/seen?limit-key=a//", 400, "invalid limit-key: invalid limit-key component: value cannot"),
    ("POST", "/Echo/seen?limit-key=a%20b", 400, "invalid limit-key: invalid limit-key component"),
    # results
    ("GET", "/restate/invocation", 400, BY_KEY),
    ("GET", "/restate/invocation/x", 400, BY_KEY),
    ("GET", "/restate/invocation/x/attach", 400, "bad invocation id 'x': bad format"),
    ("POST", "/restate/invocation/x/output", 400, "bad invocation id 'x': bad format"),
    ("GET", "/restate/invocation/x/jump", 404, "not found"),
    ("POST", f"/restate/invocation/{ID}/output", 405, METHOD),
    ("GET", f"/restate/invocation/{ID}/output/x", 404, f"service '{ID}' not found"),
    ("GET", "/restate/invocation/Echo/echo/k", 400, BY_KEY),
    ("GET", "/restate/invocation/Echo/echo/k/jump", 404, "not found"),
    ("GET", "/restate/invocation/Echo/echo/output", 400, BY_KEY),
    ("GET", "/restate/invocation/Counter/k/seen/output", 400, BY_KEY),
    ("GET", "/restate/invocation/Counter/%FF/seen/i/output", 400, "bad path, cannot decode key: "),
    ("DELETE", "/restate/invocation/Nope/x/k/output", 404, NO_SERVICE),
    ("DELETE", "/restate/invocation/Echo/echo/k/output", 405, METHOD),
    ("GET", "/restate/invocation/Echo/echo/k/output/surplus", 404, "invocation not found"),
    ("GET", "/restate/output/x", 400, "bad invocation id 'x': bad format"),
    ("GET", f"/restate/output/{ID}/x", 400, MODERN),
    ("POST", f"/restate/output/{ID}", 405, METHOD),
    ("GET", "/restate/output", 405, METHOD),
    ("GET", "/restate/attach", 405, METHOD),
    ("GET", "/restate/lookup", 405, METHOD),
    ("GET", "/restate/lookup/x", 400, MODERN),
    ("GET", "/restate/workflow", 400, WORKFLOW),
    ("GET", "/restate/workflow/Signup/k", 400, WORKFLOW),
    ("GET", "/restate/workflow/Signup/k/jump", 404, "not found"),
    ("GET", "/restate/workflow/Signup/%FF/output", 400, "bad path, cannot decode key: "),
    ("POST", "/restate/workflow/Signup/k/output", 405, METHOD),
    ("GET", "/restate/workflow/Nope/k/output", 404, "invocation not found"),
    ("GET", "/restate/workflow/Signup/k/output/surplus", 404, "invocation not found"),
    # awakeables
    ("POST", "/restate/awakeables", 400, COMPLETE),
    ("POST", "/restate/awakeables/x", 400, COMPLETE),
    ("POST", f"/restate/a/{AWAKEABLE}", 400, COMPLETE),
    ("POST", "/restate/a/x/resolve", 400, "bad awakeable id 'x': bad format"),
    ("POST", "/restate/a/x/jump", 404, "not found"),
    ("GET", f"/restate/a/{AWAKEABLE}/jump", 404, "not found"),
    ("GET", "/restate/a/x/resolve", 405, METHOD),
    ("POST", f"/restate/a/{ID}/resolve", 400, f"bad awakeable id '{ID}': id doesn't match the expected type"),
    # the rest
    ("POST", "/restate/health", 405, METHOD),
    ("POST", "/restate/jump", 404, "not found"),
    ("POST", "/restate/jump/x", 404, "not found"),
    ("GET", "/openapi/x", 404, "not found"),
    ("POST", "/openapi/x/y", 404, "not found"),
]


@pytest.mark.parametrize("line", ANSWERED.strip().splitlines())
def test_a_path_that_means_something_is_answered(ingress: Address, line: str) -> None:
    method, path, status = line.format(awakeable=AWAKEABLE).split()
    assert ingress.ask(method, path, b"1", [JSON]).status == int(status)


@pytest.mark.parametrize(("method", "path", "status", "message"), REFUSED, ids=lambda v: str(v)[:50])
def test_the_first_thing_wrong_is_the_answer(
    ingress: Address, method: str, path: str, status: int, message: str
) -> None:
    body = b"not what the handler accepts" if "limit-key" not in path.lower() else None
    answer = ingress.ask(method, path, body)
    error = answer.json()
    assert (answer.status, error["code"], error["source"]) == (status, status, "ingress")
    assert error["message"].startswith(message)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-restate-error-source"] == "ingress"
    assert "x-restate-id" not in answer.headers
    assert "allow" not in answer.headers


def test_an_exact_message_is_the_whole_message(ingress: Address) -> None:
    for path, message in {"/restate/jump": "not found", "/Hidden/seen": PRIVATE, "/": "bad path: /"}.items():
        assert ingress.ask("POST", path, b"").json()["message"] == message


def test_a_wrong_method_is_noticed_before_a_wrong_body(ingress: Address) -> None:
    assert ingress.ask("PATCH", "/Echo/echo", b"1", [("content-type", "text/plain")]).status == 405


def test_head_is_a_wrong_method_and_has_no_body(ingress: Address) -> None:
    answer = ingress.ask("HEAD", "/Echo/echo")
    assert (answer.status, answer.body) == (405, b"")


@pytest.mark.parametrize(
    ("segment", "key"),
    [
        ("a%2Fb%20c%C3%A9%2B", "a/b cé+"),
        ("a+b", "a+b"),
        ("", ""),
        ("%zz", "%zz"),
        ("%4", "%4"),
        ("%2525", "%25"),
        ("..", ".."),
        ("k" * 20_000, "k" * 20_000),
    ],
    ids=lambda v: v[:12],
)
def test_a_key_is_decoded_exactly_once(ingress: Address, segment: str, key: str) -> None:
    assert ingress.ask("POST", f"/Counter/{segment}/seen").json()["key"] == key
    assert ingress.ask("POST", f"/restate/call/Counter/{segment}/seen").json()["key"] == key


def test_health_names_the_services(ingress: Address) -> None:
    answer = ingress.ask("GET", "/restate/health")
    assert sorted(answer.json()["services"]) == ["Counter", "Echo", "Hidden", "Out", "Rules", "Signup"]
