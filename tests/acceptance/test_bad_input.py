"""Bad input from outside: a precise answer, nothing else changes, and the server goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.server import JSON, ROOT, Server, serving

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
OPTIONS = {
    "entry-size-limit": "1MiB", "request-size-limit": "2MiB", "journal-length-limit": "50",
    "default-retry-policy-initial-interval": "5ms", "default-retry-policy-max-attempts": "2",
}  # fmt: skip
PLAIN_PATH = "bad path, expected either /:service-name/:handler or /:object-name/:object-key/:handler"
BAD_DELAY = "bad delay query parameter, must be a ISO8601 duration: "
UNKNOWN_ID = "inv_15K3CgagdyB54sm3ZiTR2Cd5RtLvFf52oE"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = [f"--set={name}={value}" for name, value in OPTIONS.items()]
    with serving(tmp_path_factory.mktemp("bad"), *options) as server:
        server.post("/Box/witness/put", b'"untouched"').raise_for_status()
        yield server


@pytest.fixture(autouse=True)
def nothing_else_changed(server: Server) -> Iterator[None]:
    yield
    assert server.post("/Box/witness/read").json() == ["witness", "untouched"]
    assert server.http.get("/restate/health").json() == {"services": ["Desk", "Box", "Trip"]}


def count(server: Server) -> int:
    return len(server.operator.get("/invocations?limit=1000&service=Desk").json()["invocations"])


def refused(answer: httpx.Response, status: int, source: str = "ingress") -> str:
    """Its message, when it is an error of this kind."""
    body = answer.json()
    assert (answer.status_code, body["code"], body["source"]) == (status, status, source), body
    assert answer.headers["x-restate-error-source"] == source
    return str(body["message"])


def code_of(message: str) -> str:
    """The code at its beginning, which has a page that gives the cure in the same words."""
    assert message.startswith("["), message
    code = message[1:7]
    page = (ROOT / "docs" / "errors" / f"{code}.md").read_text()
    cure = next(line[2:] for line in page.splitlines() if line.startswith("> "))
    assert message.endswith(cure), message
    return code


# -- addresses


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/Nope/say", 404, "service 'Nope' not found, make sure to register"),
        ("DELETE", "/Nope/say", 404, "service 'Nope' not found, make sure to register"),
        ("POST", "/Desk/nope", 404, "the service 'Desk' exists, but the handler 'nope' was not found"),
        ("POST", "/Desk/n%6fthing", 404, "the service 'Desk' exists, but the handler 'n%6fthing' was"),
        ("POST", "/Desk/key/say", 400, PLAIN_PATH),
        ("POST", "/Box/put", 400, PLAIN_PATH),
        ("POST", "/Desk", 400, "bad path: /Desk"),
        ("GET", "/", 400, "bad path: /"),
        ("POST", "/a/b/c/d/e/f/g/h/i", 400, "bad path: /a/b/c/d/e/f/g/h/i"),
        ("PUT", "/Desk/nothing", 405, "method not allowed"),
        ("GET", "/restate/nope", 404, "not found"),
        ("POST", "/Box/%FF/read", 400, "bad path, cannot decode key: "),
        ("POST", "/Box/%ED%A0%80/read", 400, "bad path, cannot decode key: "),
        ("GET", "/restate/output/nope", 400, "bad invocation id 'nope': bad format"),
        ("GET", "/restate/attach/inv_xx", 400, "bad invocation id 'inv_xx': "),
        ("GET", f"/restate/output/{UNKNOWN_ID}", 404, "invocation not found"),
        ("POST", "/restate/awakeables/nope/resolve", 400, "bad awakeable id 'nope': bad format"),
        ("POST", f"/restate/a/{UNKNOWN_ID}/reject", 400, f"bad awakeable id '{UNKNOWN_ID}': id "),
        ("GET", "/restate/awakeables/nope/resolve", 405, "method not allowed"),
    ],
)  # fmt: skip
def test_an_address_that_is_none(server: Server, method: str, path: str, status: int, message: str):
    assert refused(server.http.request(method, path), status).startswith(message)


def test_an_unknown_invocation_that_is_attached_to(server: Server):
    answer = server.http.get(f"/restate/attach/{UNKNOWN_ID}")
    assert refused(answer, 404, "invocation") == "not found"


@pytest.mark.parametrize("id", ["nope", "dp_1", "inv_%00", "inv_" + "1" * 5000])
def test_a_malformed_id_for_the_operator(server: Server, id: str):
    for answer in (
        server.operator.get(f"/invocations/{id}"),
        server.operator.patch(f"/invocations/{id}/kill"),
    ):
        assert answer.status_code == 400
        assert "bad invocation id" in answer.text


def test_an_unknown_invocation_is_told_before_an_unknown_deployment(server: Server):
    nowhere = "dp_16O17gUnleQOERNwYTpo4Fj"
    answer = server.operator.patch(f"/invocations/{UNKNOWN_ID}/resume?deployment={nowhere}")
    assert answer.status_code == 404
    assert UNKNOWN_ID in answer.json()["message"]


def test_a_malformed_id_of_a_deployment(server: Server):
    answer = server.operator.patch(f"/invocations/{UNKNOWN_ID}/resume?deployment=dp_nope")
    assert answer.status_code == 400
    assert "'dp_nope'" in answer.json()["message"]


@pytest.mark.parametrize("key", ["a\0b", "%zz%", "a/b c", "é", "k" * 20_000, ".."])
def test_keys_that_look_odd_but_are_none_the_worse(server: Server, key: str):
    path = "".join(f"%{byte:02X}" for byte in key.encode()) if key != "%zz%" else key
    assert server.post(f"/Box/{path}/put", b"1").status_code == 200
    assert server.post(f"/Box/{path}/read").json() == [key, 1]


def test_what_is_no_http(server: Server):
    for garbage in (b"\0\1\2 nonsense\r\n\r\n", b"POST /Box/a\0b/read HTTP/1.1\r\nhost: x\r\n\r\n"):
        assert server.raw(garbage).startswith(b"HTTP/1.1 400 ")
    long = b"POST /Box/%b/read HTTP/1.1\r\nhost: x\r\n\r\n" % (b"k" * 200_000)
    assert server.raw(long).startswith(b"HTTP/1.1 400 ")


# -- headers and query


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"content-type": "text/plain"}, "Content-type 'text/plain' does not match 'application/json'"),
        ({"content-type": "APPLICATION/JSON"}, "Content-type 'APPLICATION/JSON' does not match"),
        ({}, "Empty content-type"),
    ],
)
def test_a_body_of_another_type(server: Server, headers: dict[str, str], message: str):
    before = count(server)
    answer = server.http.post("/Desk/say", content=b'"x"', headers=headers)
    assert refused(answer, 400).startswith(f"input validation error: {message}")
    assert count(server) == before


def test_a_body_where_none_is_taken_and_none_where_one_is_announced(server: Server):
    assert "Expected body and content-type to be empty" in refused(server.post("/Desk/nothing", b"5"), 400)
    empty = server.http.post("/Desk/say", headers=JSON)
    assert refused(empty, 400) == "input validation error: Empty body not allowed"


@pytest.mark.parametrize("header", [{b"x-note": b"\xff\xfe"}, {b"idempotency-key": b"\xff"}])
def test_a_header_that_is_not_ascii(server: Server, header: dict[bytes, bytes]):
    name = next(iter(header)).decode()
    assert refused(server.http.post("/Desk/nothing", headers=header), 400).startswith(f"bad header {name}: ")


def test_a_thousand_headers_are_only_many(server: Server):
    headers = {f"x-note-{number}": "v" for number in range(1000)}
    assert server.http.post("/Desk/nothing", headers=headers).json() == "nothing"


def test_an_idempotency_key_where_the_workflow_key_is_one(server: Server):
    answer = server.post("/Trip/paris/run", idempotency_key="once")
    assert refused(answer, 400).startswith("cannot use the idempotency key with workflow handlers")


@pytest.mark.parametrize(
    "delay",
    ["", "abc", "-1s", "PT-5S", "P1M", "P1Y", "1+month", "7304485+days", "1000000w", "9" * 30,
     "1" * 5000 + "s", "1e5s", "NaN", "inf", "1.5", "%00", "%ff", "1s%202s"],
)  # fmt: skip
def test_a_delay_that_is_none(server: Server, delay: str):
    before = count(server)
    assert refused(server.post(f"/Desk/nothing/send?delay={delay}"), 400).startswith(BAD_DELAY)
    assert count(server) == before


def test_a_delay_on_a_call(server: Server):
    assert refused(server.post("/Desk/nothing?delay=1s"), 400).startswith(
        "cannot use the delay query parameter"
    )


# -- values


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/Desk/order", b"{not json", "at $: Invalid JSON: "),
        ("/Desk/order", b'{"item": "nut", "pieces": "many"}', "at $.pieces: Input should be a valid integer"),
        ("/Desk/order", b'{"item": "nut"}', "at $.pieces: Field required"),
        ("/Desk/order", b"", "expected Order, got an empty body"),
        ("/Desk/say", b"5", "at $: Expected `str`, got `int`"),
        ("/Desk/say", b"null", "at $: Expected `str`, got `null`"),
        ("/Desk/say", b'"\xff"', "not valid JSON: "),
        ("/Desk/say", b'"a\\ud800b"', "not valid JSON: "),
        ("/Desk/slow", b"[" * 5000 + b"]" * 5000, ""),
    ],
)
def test_a_value_of_another_shape(server: Server, path: str, body: bytes, message: str):
    told = refused(server.post(path, body), 400, "invocation")
    assert code_of(told) == "AD0020"
    assert told.startswith(f"[AD0020] {message}")


def test_a_nul_character_is_a_character(server: Server):
    assert server.post("/Desk/say", b'"a\\u0000b"').json() == "a\0b"


def test_a_body_that_declares_too_much(server: Server):
    head = (
        b"POST /Desk/say HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    for size in (2 * MIB + 1, 10**15):
        answer = server.raw(head % size)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"content-type: text/plain; charset=utf-8\r\n" in answer
        assert b"access-control" not in answer


def test_a_body_that_grows_too_large(server: Server):
    chunks = (b"x" * 65536 for _ in range(33))
    answer = server.http.post("/Desk/say", content=chunks, headers=JSON)
    assert refused(answer, 413) == "cannot read body: LengthLimitError"


def test_an_input_larger_than_an_entry_may_be(server: Server):
    told = refused(server.post("/Desk/say", b'"' + b"x" * MIB + b'"'), 413)
    assert code_of(told) == "AD0021"
    assert f"has {MIB + 2} bytes, the limit is {MIB} (entry-size-limit)" in told


@pytest.mark.parametrize(
    ("path", "body", "code", "message"),
    [
        ("/Desk/large_result", b"%d" % MIB, "AD0036", "the result of Desk/large_result has 1048578 bytes"),
        ("/Desk/large_step", b"%d" % MIB, "AD0036", "the result of step 'read' has 1048578 bytes"),
        ("/Desk/odd_result", b"", "AD0032", "the result of Desk/odd_result: at $: object"),
        ("/Desk/odd_step", b"", "AD0032", "the result of step 'fetch': at $: object"),
    ],
)
def test_a_result_that_cannot_be_kept(server: Server, path: str, body: bytes, code: str, message: str):
    answer = server.post(path, body)
    told = refused(answer, 500, "invocation")
    assert code_of(told) == code
    assert told.startswith(f"[{code}] {message}")
    assert answer.json()["metadata"] == {"agentdur_code": code}


@pytest.mark.parametrize(
    ("path", "body", "code", "message"),
    [
        ("/Box/large/put_large", b"%d" % MIB, "AD0036", "state 'value' has 1048578 bytes"),
        ("/Desk/large_call", b"%d" % MIB, "AD0036", "the argument of Desk/say has 1048578 bytes"),
        ("/Desk/long_journal", b"60", "AD0037", " entries, the limit is 50 (journal-length-limit)"),
        ("/Desk/bad_step_name", b'"lone"', "AD0020", "a step's name: expected text that UTF-8 can write"),
        ("/Desk/bad_step_name", b"5", "AD0020", "a step's name: expected a string, got int '5'"),
        ("/Desk/bad_key", b'"lone"', "AD0020", "Call, its key: expected text that UTF-8 can write"),
        ("/Desk/bad_key", b"7", "AD0020", "Call, its key: expected a string, got int '7'"),
    ],
)
def test_a_handler_that_goes_wrong_waits_for_its_author(
    server: Server, path: str, body: bytes, code: str, message: str
):
    """It is retried, then paused: with better code it goes on. The reason is shown, and is in the log."""
    invocation = server.send(path, body)
    failure: dict[str, Any] = server.becomes(invocation, "paused")["last_failure"]
    assert code_of(failure["message"]) == code
    assert message in failure["message"]
    assert any(invocation in line and message in line for line in server.said().splitlines())


def test_words_that_cannot_be_written_are_spelled_out(server: Server):
    answer = server.post("/Desk/bad_words", b'"terminal"')
    assert refused(answer, 418, "invocation") == "no \\ud800\0"
    assert answer.json()["metadata"] == {"why": "\\ud800"}
    invocation = server.send("/Desk/bad_words", b'"other"')
    assert server.becomes(invocation, "paused")["last_failure"]["message"] == "no \\ud800\nno"


# -- awakeables, and clients that leave


def test_an_awakeable_is_completed_once(server: Server):
    invocation = server.send("/Desk/wait")
    awakeable = server.awakeable(invocation)
    for value in (b'"first"', b'"second"'):
        assert server.post(f"/restate/awakeables/{awakeable}/resolve", value).status_code == 202
    assert server.http.get(f"/restate/attach/{invocation}").json() == "first"
    assert server.post(f"/restate/awakeables/{awakeable}/reject", b"late").status_code == 202
    assert server.http.get(f"/restate/output/{invocation}").json() == "first"


def test_a_client_that_leaves_in_the_middle_of_its_body_has_said_nothing(server: Server):
    before = count(server)
    head = (
        b"POST /Desk/say HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    )
    server.raw(head + b'"abc', wait=False)
    server.post("/Desk/nothing").raise_for_status()
    assert count(server) == before + 1


def test_a_client_that_leaves_while_it_waits_leaves_its_invocation(server: Server):
    with pytest.raises(httpx.ReadTimeout):
        server.http.post("/Desk/wait", headers={"x-note": "leaves"}, timeout=0.3)
    found = server.operator.get("/invocations?service=Desk&handler=wait&limit=1").json()["invocations"][0]
    server.post(f"/restate/awakeables/{server.awakeable(found['id'])}/resolve", b'"here"')
    assert server.http.get(f"/restate/attach/{found['id']}").json() == "here"


def test_nothing_of_it_was_unforeseen(server: Server):
    """Runs last: no request ended in an error that nobody thought of."""
    said = server.said()
    assert "a request failed" not in said
    assert "AD005" not in said  # the store never failed
