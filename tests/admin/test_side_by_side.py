"""A real Restate server and ours are asked the same: clients of the admin API must not see a difference.

Where a difference is meant, the story leaves that request out and `tests/admin/test_deployments.py` has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.side_by_side import Both, Peer, Place, Side, agentdur, restate
from tests.http.reference_server import find_binary
from tests.http.serving import lent

BINARY = find_binary()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no restate-server: npm install @restatedev/restate-server"),
]
NOBODY = "inv_1cixoeqOzcLa6IRaXfbBYPAiNxd2EKgA9a"
NOWHERE = "dp_16O17gUnleQOERNwYTpo4Fj"
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    assert BINARY is not None
    peer = Peer()
    folders: list[Path] = [tmp_path_factory.mktemp(name) for name in ("theirs", "ours")]
    with restate(BINARY, folders[0]) as theirs, agentdur(folders[1]) as ours, lent(peer) as port:
        endpoint = f"http://127.0.0.1:{port}"
        yield Both(Side(*theirs, endpoint), Side(*ours, endpoint), peer)


def told_by(both: Both, story: Callable[[Side], None]) -> None:
    """Both sides tell it, and tell it alike."""
    told = []
    for side in both:
        side.story, side.seen = [], []
        story(side)
        told.append(side.story)
    theirs, ours = told
    assert len(ours) == len(theirs)
    different = [
        (one[0], one[1:], other[1:]) for one, other in zip(theirs, ours, strict=True) if one != other
    ]
    assert not different, "\n".join(f"{what}\n  theirs {a}\n  ours   {b}" for what, a, b in different)


def manifest(*services: dict[str, Any], versions: tuple[Any, Any] = (5, 7), **more: Any) -> dict[str, Any]:
    low, high = versions
    return {
        "protocolMode": "REQUEST_RESPONSE", "minProtocolVersion": low, "maxProtocolVersion": high,
        "services": list(services), **more,
    }  # fmt: skip


def serving(name: str, *handlers: dict[str, Any], ty: str = "SERVICE", **more: Any) -> dict[str, Any]:
    return {"name": name, "ty": ty, "handlers": list(handlers) or [{"name": "ok"}], **more}


# -- discovery

KIND = "application/vnd.restate.endpointmanifest.v{}+json"
ANSWERS: list[tuple[int, str]] = [
    *((200, KIND.format(n)) for n in (1, 2, 3, 4, 5)),
    (200, KIND.format(4) + "; charset=utf-8"), (200, "application/json"), (200, ""),
    *((status, KIND.format(4)) for status in (201, 301, 400, 401, 404, 418)),
]  # fmt: skip


@pytest.mark.parametrize(("status", "kind"), ANSWERS)
def test_what_an_endpoint_answers_when_it_is_asked(both: Both, status: int, kind: str):
    name = f"answers{status}{abs(hash(kind))}"
    place = both.peer.places[name] = Place(manifest(serving(name)))
    place.status, place.kind = status, kind
    told_by(both, lambda side: side.register(name) and None)


WHOLES: list[Any] = [
    *(manifest(serving("Ranged"), versions=each) for each in (
        (6, 5), (0, 5), (-1, 5), (5, 2**31), (5, 2**31 - 1), (1, 4), (8, 9), (7, 7), (1, 5), (7, 9), (5.0, 7),
        ("5", 7),
    )),
    manifest(serving("Top"), unknown=1), manifest(serving("Deep", unknown=1)),
    manifest(serving("Deeper", {"name": "ok", "unknown": 1})), manifest(serving("Mode"), protocolMode=None),
    manifest(serving("Mode"), protocolMode="WHAT"), manifest(services=None), manifest(), b"{no", b"",
    manifest(serving("Dup", {"name": "a"}), serving("Dup", {"name": "b"})),
    manifest(serving("Small"), lambdaCompression="zstd"),
    manifest(serving("Small"), lambdaCompression="gzip"),
    manifest(serving("Streams"), protocolMode="BIDI_STREAM"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WHOLES)))
def test_manifests_as_a_whole(both: Both, number: int):
    both.peer.places[f"whole{number}"] = Place(WHOLES[number])
    told_by(both, lambda side: side.register(f"whole{number}") and None)


NAMES = ["1a", "_", "__", "_a", "a-b", "a.b", "a b", "é", "restatefoo", "Restate", "openapi", "OpenApi",
         "openapix", "a/b", ""]  # fmt: skip
SCHEMAS: list[Any] = [
    {"type": "string"}, {"type": "nope"}, True, False, "x", [], {}, None, {"type": ["string", "null"]},
    {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}}, {"$ref": "#/$defs/B"}, {"pattern": "("},
    {"type": 5}, {"anyOf": [{"type": "string"}, {"type": "null"}]}, {"title": "Foo", "type": "object"},
]  # fmt: skip
CONTENT_TYPES = ["foo", "application/json", "*/*", "text/*", "a/b/c", "application/json; charset=utf-8", "*",
                 "", "application/*+json", " text/plain", "TEXT/Plain"]  # fmt: skip
SERVICES: list[dict[str, Any]] = [
    *(serving(name) for name in NAMES),
    *(serving(f"H{n}", {"name": name}) for n, name in enumerate(NAMES)),
    *(
        serving(f"T{ty}{kind}", {"name": "ok"} | ({"ty": kind} if kind else {}), ty=ty)
        for ty in ("SERVICE", "VIRTUAL_OBJECT", "WORKFLOW", "OTHER", None)
        for kind in (None, "WORKFLOW", "EXCLUSIVE", "SHARED", "X")
    ),
    serving("Two", {"name": "a", "ty": "WORKFLOW"}, {"name": "b", "ty": "WORKFLOW"}, ty="WORKFLOW"),
    {"name": "Empty", "ty": "SERVICE", "handlers": []}, {"name": "Without", "ty": "SERVICE"},
    serving("Twice", {"name": "a", "documentation": "x"}, {"name": "a", "documentation": "y"}),
    serving("Kept", {"name": "a", "ty": "WORKFLOW", "idempotencyRetention": 1000}, ty="WORKFLOW"),
    serving("Kept2", {"name": "a", "workflowCompletionRetention": 1000}),
    serving("Private", {"name": "a", "ingressPrivate": False}, ingressPrivate=True),
    serving("Hidden", {"name": "a", "ingressPrivate": True}, {"name": "b"}, ingressPrivate=True),
    *(serving("Ms", inactivityTimeout=ms) for ms in (-5, 5.5, "5", 2**64)),
    serving("Told", {"name": "x", "documentation": "d", "metadata": {"c": "d"}}, metadata={"a": "b"}),
    serving("Numbered", metadata={"a": 1}), serving("Nulls", {"name": "x", "ty": None, "input": None}),
    *(
        serving(f"In{n}", {"name": "a", "input": {"required": True, "contentType": kind}})
        for n, kind in enumerate(CONTENT_TYPES)
    ),
    *(
        serving(
            f"Out{n}{empty}", {"name": "a", "output": {"setContentTypeIfEmpty": empty, "contentType": kind}}
        )
        for n, kind in enumerate(CONTENT_TYPES) for empty in (True, False)
    ),
    *(
        serving(f"{side.title()}Schema{n}", {"name": "a", side: {
            "contentType": "application/json", "jsonSchema": schema,
            **({"required": True} if side == "input" else {"setContentTypeIfEmpty": True}),
        }})
        for n, schema in enumerate(SCHEMAS) for side in ("input", "output")
    ),
    *(
        serving(f"Io{n}", {"name": "a"} | io) for n, io in enumerate((
            {"input": {}, "output": {}}, {"input": {"required": False, "contentType": "application/json"}},
            {"output": {"jsonSchema": {"type": "string"}}}, {"input": {"jsonSchema": {"type": "string"}}},
            {"output": {"setContentTypeIfEmpty": True}}, {"input": {"contentType": "*/*"}},
        ))
    ),
    serving(
        "Options", {"name": "a", "abortTimeout": 1234, "inactivityTimeout": 77, "idempotencyRetention": 5000,
                    "journalRetention": 60000, "enableLazyState": True, "retryPolicyMaxAttempts": 3},
        abortTimeout=60000, inactivityTimeout=2000, journalRetention=7200000, idempotencyRetention=8000,
        retryPolicyInitialInterval=10, retryPolicyMaxInterval=20, retryPolicyMaxAttempts=0,
        retryPolicyExponentiationFactor=1.5, retryPolicyOnMaxAttempts="KILL",
    ),
    serving(
        "Flow", {"name": "run", "ty": "WORKFLOW", "workflowCompletionRetention": 9000},
        {"name": "s", "retryPolicyInitialInterval": 5}, ty="WORKFLOW", enableLazyState=True,
    ),
    serving(
        "Keyed", {"name": "x", "retryPolicyOnMaxAttempts": "KILL"}, {"name": "z", "ty": "SHARED"},
        {"name": "y", "retryPolicyMaxAttempts": 5, "retryPolicyExponentiationFactor": 3}, ty="VIRTUAL_OBJECT",
    ),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(SERVICES)))
def test_services_and_handlers_as_they_are_declared(both: Both, number: int):
    """The status and the code when it is refused; all that is shown of it when it is not."""
    name = f"service{number}"
    both.peer.places[name] = Place(manifest(SERVICES[number]))
    told_by(both, lambda side: side.register(name) and None)


# -- deployments


def test_the_life_of_a_deployment(both: Both):
    handlers = ({"name": "a", "journalRetention": 60000}, {"name": "b", "ingressPrivate": True})
    both.peer.places["life"] = Place(manifest(serving("Life", *handlers, journalRetention=HOUR_MS)))
    both.peer.places["life"].headers = {"x-restate-server": "restate-sdk-python/1.3.0"}
    both.peer.places["life2"] = Place(manifest(serving("Life2")))
    both.peer.places["life3"] = Place(manifest(serving("Life3"), versions=(5, 6)))

    def story(side: Side) -> None:
        dry = side.register("life", dry_run=True).json()["id"]
        side.ask("GET", f"/deployments/{dry}")
        made = side.register("life", additional_headers={"X-Up": "C"}, metadata={"k": "v"}).json()["id"]
        one = f"/deployments/{made}"
        for path in (one, "/services/Life", "/services/Life/handlers", "/services/Life/handlers/a",
                     "/services/Life/handlers/no", "/services/No", "/services/No/handlers"):  # fmt: skip
            side.ask("GET", path)
        for prefix in ("", "/v2", "/v3", "/v4"):
            for force in (None, False, True):
                side.register("life", prefix=prefix, force=force)
            side.register("life", prefix=prefix, force=True, dry_run=True)
            side.ask("GET", one)
            side.ask("PUT", f"{prefix}{one}", json={})
        again = {"use_http_11": True}
        for change in (
            {}, {"overwrite": True}, {"dry_run": True}, {"additional_headers": {"X-N": "1"}},
            {"additional_headers": {}}, again, {"uri": "nope"}, {"arn": "arn:aws:lambda:x"}, {"metadata": {}},
            {"uri": f"{side.endpoint}/life2", "dry_run": True, **again}, {"uri": f"{side.endpoint}/life2"},
            {"uri": f"{side.endpoint}/life2", **again},
            {"uri": f"{side.endpoint}/life2", "overwrite": True, **again},
            {"uri": f"{side.endpoint}/life3", **again}, {"uri": f"{side.endpoint}/nothere", **again},
        ):  # fmt: skip
            side.ask("PATCH", one, json=change)
            side.ask("GET", one)
        side.ask("PUT", f"/v2{one}", json={"uri": f"{side.endpoint}/life", **again})
        for service in ("Life", "Life2"):
            side.ask("GET", f"/services/{service}")
        for query in ("", "?force=false", "?force=x", "?force=true"):
            side.ask("DELETE", f"{one}{query}")
        for method in ("GET", "PATCH"):
            side.ask(method, one, **({} if method == "GET" else {"json": {}}))
            side.ask(method, "/deployments/dp_x", **({} if method == "GET" else {"json": {}}))
        side.ask("DELETE", f"{one}?force=true")
        side.ask("GET", "/services/Life")

    told_by(both, story)


def test_what_a_service_is_may_change_only_knowingly(both: Both):
    one, other = serving("Kind"), serving("Kind", ty="VIRTUAL_OBJECT")
    both.peer.places |= {"kind": Place(manifest(one)), "kind2": Place(manifest(other))}

    def story(side: Side) -> None:
        side.register("kind")
        side.register("kind2")
        side.register("kind2", breaking=True)
        side.register("kind", force=True)
        side.ask("GET", "/services/Kind")
        side.register("kind2", prefix="/v2")

    told_by(both, story)


def test_bodies_that_make_no_sense(both: Both):
    both.peer.places["sense"] = Place(manifest(serving("Sense")))

    def story(side: Side) -> None:
        uri = f"{side.endpoint}/sense"
        json_kind = {"content-type": "application/json"}
        for given in (
            {"content": b"{no", "headers": json_kind}, {"content": b"{}"}, {},
            *({"content": b"{}", "headers": {"content-type": kind}} for kind in (
                "text/plain", "application/json; charset=utf-8", "application/foo+json")),
            *({"json": body} for body in (
                [], {}, {"uri": None}, {"uri": "x"}, {"uri": "/x"}, {"uri": "localhost:9"}, {"arn": "x"},
                {"uri": "http://127.0.0.1:9"}, {"uri": uri, "force": "x"}, {"uri": uri},
                {"uri": uri, "additional_headers": {"x": 1}}, {"uri": uri, "auth": {"Foo": {}}},
                {"arn": "arn:aws:lambda:eu-central-1:123456789012:function:f"}, {"uri": uri, "arn": "x"},
                {"uri": uri, "use_http_11": True, "unknown": 1, "dry_run": True},
                {"uri": uri, "use_http_11": True, "metadata": {"a": 1}, "dry_run": True},
                {"uri": f"{side.endpoint}/nothere", "use_http_11": True},
            )),
        ):  # fmt: skip
            side.ask("POST", "/deployments", **given)

    told_by(both, story)


def test_the_path_and_the_query_of_an_address_are_kept(both: Both):
    """What each server asks of the endpoint is looked at, too."""
    place = both.peer.places["deep"] = Place(manifest(serving("Deep")))
    asked = []
    for side in both:
        place.asked.clear()
        uri = f"{side.endpoint}/deep?tenant=a%20b&x=1"
        assert side.ask("POST", "/deployments", json={"uri": uri, "use_http_11": True}).status_code == 201
        side.send("/Deep/ok/send")
        deadline = time.monotonic() + 20
        while len(place.asked) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        asked.append([(path, sorted(set(headers) - {"content-length", "transfer-encoding", "connection"}))
                      for path, headers in place.asked])  # fmt: skip
    theirs, ours = asked
    assert theirs == ours
    assert [path for path, _ in ours] == [
        "discover?tenant=a%20b&x=1", "invoke/Deep/ok?tenant=a%20b&x=1",
    ]  # fmt: skip


def test_the_options_of_services(both: Both):
    both.peer.places["cfg"] = Place(manifest(
        serving("Cfg", {"name": "a", "journalRetention": 60000}, {"name": "b"}, abortTimeout=60000),
        serving("CfgW", {"name": "run", "ty": "WORKFLOW"}, ty="WORKFLOW"),
        {"name": "CfgE", "ty": "SERVICE", "handlers": []}, protocolMode="BIDI_STREAM",
    ))  # fmt: skip

    def story(side: Side) -> None:
        side.register("cfg")
        for change in (
            {}, {"public": False}, {"public": True}, {"journal_retention": "2h"},
            {"journal_retention": "PT3H"}, {"journal_retention": "1d 3s"}, {"journal_retention": "soon"},
            {"journal_retention": 5},
            {"journal_retention": None}, {"idempotency_retention": "0s"}, {"inactivity_timeout": "3m"},
            {"abort_timeout": "500ms"}, {"abort_timeout": "1month"}, {"abort_timeout": "100y"},
            {"abort_timeout": "-5s"}, {"abort_timeout": "1.5s"}, {"abort_timeout": ""},
            {"workflow_completion_retention": "5h"}, {"public": "x"}, {"unknown": 1},
        ):  # fmt: skip
            for name in ("Cfg", "CfgW", "CfgE", "No"):
                side.ask("PATCH", f"/services/{name}", json=change)
        side.ask("PATCH", "/services/Cfg", content=b"{}")
        side.ask("PATCH", "/services/Cfg", content=b"{", headers={"content-type": "application/json"})
        side.register("cfg", force=True)

    told_by(both, story)


def test_values_are_converted_by_the_endpoint(both: Both):
    """What each server asks of the endpoint is looked at, too."""
    for name in ("serdes", "serdes500"):
        both.peer.places[name] = Place(manifest(serving(name.capitalize())))
    asked = []

    def story(side: Side) -> None:
        path = "/internal/services"
        for name in ("serdes", "serdes500"):
            side.register(name)
        both.peer.places["serdes"].asked.clear()
        for service, rest in (
            ("Serdes", "encode/a"), ("Serdes", "decode/a"), ("Serdes", "explode/a"), ("Serdes", "encode"),
            ("Serdes", "encode/a/b"), ("Serdes500", "encode/a"), ("Nobody", "encode/a"),
        ):  # fmt: skip
            headers = {"content-type": "application/x-of-its-own"}
            given = side.ask("POST", f"{path}/{service}/serdes/{rest}", content=b"abc", headers=headers)
            side.story.append(("content", rest, given.content if given.is_success else b""))
        side.ask("GET", f"{path}/Serdes/serdes/encode/a")
        asked.append([
            (where, headers["x-restate-serdes-protocol"], headers.get("content-type"))
            for where, headers in both.peer.places["serdes"].asked
        ])  # fmt: skip

    told_by(both, story)
    theirs, ours = asked
    assert theirs == ours
    assert [where for where, *_ in ours] == [
        "serdes/Serdes/encode/a", "serdes/Serdes/decode/a", "serdes/Serdes/encode/a/b",
    ]  # fmt: skip
