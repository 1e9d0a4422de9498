"""Deployments and the options of their services, through the admin API, as the reference answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentdur import App, Service
from agentdur.admin.app import create_admin
from agentdur.admin.rules import own_rules
from agentdur.admin.settings import AdminSettings
from agentdur.core import journal as j
from agentdur.core.access import Access, Role, read_tokens, written_token
from agentdur.core.catalog import IN_PROCESS
from agentdur.core.ids import InvocationId, encode_id, ulid
from agentdur.core.ports import Request
from agentdur.runtime.owner import Engine
from agentdur.runtime.remote.transport import Address
from agentdur.wire import messages as m
from tests.http.serving import lent
from tests.remote.scripted import until
from tests.remote.test_bad_peers import Peer, call, said

pytestmark = pytest.mark.slow

NOWHERE = Address("http", "127.0.0.1", 9, http1=True)
UNKNOWN = encode_id("dp", ulid(1_700_000_000_000, bytes(10)))
own = Service("Own")


@own.handler()
async def hello(ctx: Any) -> str:
    return "here"


def manifest(name: str = "Far", **service: Any) -> dict[str, Any]:
    handlers = [{"name": "a"}, {"name": "b", "journalRetention": 60_000, "ingressPrivate": True}]
    far = {"name": name, "ty": "SERVICE", "journalRetention": 3_600_000, "handlers": handlers, **service}
    flow = {"name": "Flow", "ty": "WORKFLOW", "handlers": [{"name": "run", "ty": "WORKFLOW"}]}
    return {
        "protocolMode": "REQUEST_RESPONSE", "minProtocolVersion": 5, "maxProtocolVersion": 7,
        "services": [far, flow],
    }  # fmt: skip


class Desk:
    """The admin API of a server, and two endpoints that can be registered with it."""

    def __init__(self, http: httpx.AsyncClient, engine: Engine, peers: list[Peer], uris: list[str]) -> None:
        self.http, self.engine, self.peers, self.uris = http, engine, peers, uris

    async def register(self, number: int = 0, *, prefix: str = "", **body: Any) -> httpx.Response:
        given = {"uri": self.uris[number], "use_http_11": True, **body}
        return await self.http.post(f"{prefix}/deployments", json=given)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    peers = [Peer(), Peer()]
    for peer in peers:
        peer.manifest = manifest()
    with lent(peers[0]) as one, lent(peers[1]) as two:
        async with App([own]).running("memory://") as engine:
            app = create_admin(engine, deployments=engine.deployments)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as http:
                yield Desk(http, engine, peers, [f"http://127.0.0.1:{port}" for port in (one, two)])


async def test_what_is_sent_along_is_told_to_an_admin_only(desk: Desk):
    id = (await desk.register(additional_headers={"authorization": "Bearer s3cret"})).json()["id"]
    tokens = {role: f"adt_{role}_0123456789abcdef" for role in ("operator", "admin")}
    known = read_tokens("".join(written_token(role, role, token) for role, token in tokens.items()))
    settings = AdminSettings(access=Access(lambda: known, own_rules(Role.ADMIN), Role.OPERATOR))
    app = create_admin(desk.engine, settings, deployments=desk.engine.deployments)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as http:
        for role, told in (("operator", False), ("admin", True)):
            for path in ("/deployments", f"/deployments/{id}"):
                given = await http.get(path, headers={"authorization": f"Bearer {tokens[role]}"})
                assert (given.status_code, "s3cret" in given.text) == (200, told), (role, path)
                assert "authorization" in given.text


async def test_what_is_registered_is_shown_and_served(desk: Desk):
    answer = await desk.register(metadata={"team": "blue"}, additional_headers={"x-a": "b"})
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"deployments/{made['id']}"
    assert (made["min_protocol_version"], made["max_protocol_version"]) == (5, 7)
    shown = (await desk.http.get(f"/deployments/{made['id']}")).json()
    created = shown.pop("created_at")
    assert created.endswith("000000Z")
    assert shown == {
        "id": made["id"], "uri": desk.uris[0] + "/", "protocol_type": "RequestResponse",
        "http_version": "HTTP/1.1", "additional_headers": {"x-a": "b"}, "metadata": {"team": "blue"},
        "min_protocol_version": 5, "max_protocol_version": 7, "services": made["services"],
    }  # fmt: skip
    listed = (await desk.http.get("/deployments")).json()["deployments"]
    assert [one["services"] for one in listed] == [
        [{"name": "Own", "revision": 1}],
        [{"name": "Far", "revision": 1}, {"name": "Flow", "revision": 1}],
    ]
    far = (await desk.http.get("/services/Far")).json()
    assert (far["deployment_id"], far["revision"], far["inactivity_timeout"]) == (made["id"], 1, "0s")
    assert [(h["name"], h["public"], h.get("journal_retention")) for h in far["handlers"]] == [
        ("a", True, None), ("b", False, "1m"),
    ]  # fmt: skip
    assert (await call(desk.engine, "Far", "a")).result == j.Success(b'"done"')


async def test_registering_again_by_version_of_the_api(desk: Desk):
    """Up to v2 a known address is replaced unless told otherwise; later versions leave it as it is."""
    first = (await desk.register()).json()
    again = await desk.register(prefix="/v3")
    assert (again.status_code, again.json()["services"][0]["revision"]) == (200, 1)
    forced = await desk.register(prefix="/v4", force=True)
    assert (forced.status_code, forced.json()["services"][0]["revision"]) == (200, 2)
    old = await desk.register(prefix="/v2")
    assert (old.status_code, old.json()["services"][0]["revision"]) == (201, 3)
    assert {one.json()["id"] for one in (again, forced, old)} == {first["id"]}


async def test_a_dry_run_tells_everything_and_keeps_nothing(desk: Desk):
    answer = await desk.register(dry_run=True)
    assert answer.status_code == 201
    assert (await desk.http.get(f"/deployments/{answer.json()['id']}")).status_code == 404
    assert (await desk.http.get("/services/Far")).status_code == 404


async def test_a_service_belongs_to_one_side(desk: Desk):
    """The process that serves a name keeps it, whatever else wants it."""
    desk.peers[0].manifest = manifest("Own")
    answer = await desk.register(breaking=True, force=True)
    assert (answer.status_code, answer.json()["restate_code"]) == (409, "META0006")
    assert "this process" in answer.json()["message"]
    assert (await call(desk.engine, "Own", "hello")).result == j.Success(b'"here"')


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"uri": "/relative"}, 400),
    ({"uri": "localhost:9080"}, 400),
    ({"arn": "arn:aws:lambda:eu-central-1:1:function:f:1"}, 400),
    ({"force": True}, 422),
    ({"uri": 7}, 422),
    ({"uri": "http://localhost:1", "additional_headers": {"content-type": "x"}}, 400),
    ({"uri": "http://localhost:1", "additional_headers": {"x y": "x"}}, 400),
    ({"uri": "http://localhost:1", "additional_headers": {"x": "a\r\nb: c"}}, 400),
]


@pytest.mark.parametrize(("body", "status"), REFUSED, ids=str)
async def test_what_is_no_registration_is_refused(desk: Desk, body: dict[str, Any], status: int):
    answer = await desk.http.post("/deployments", json=body)
    assert answer.status_code == status, answer.text
    assert [one["id"] for one in (await desk.http.get("/deployments")).json()["deployments"]] == [IN_PROCESS]


@pytest.mark.slow
async def test_an_endpoint_that_is_not_there_is_told_with_its_code(desk: Desk):
    answer = await desk.http.post("/deployments", json={"uri": "http://127.0.0.1:9"})
    assert (answer.status_code, answer.json()["restate_code"]) == (500, "META0003")
    over_http2 = await desk.http.post("/deployments", json={"uri": desk.uris[0]})
    assert (over_http2.status_code, over_http2.json()["restate_code"]) == (500, "META0014")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_unknown_and_unreadable_ids(desk: Desk, method: str):
    unknown = await desk.http.request(method, f"/deployments/{UNKNOWN}", json={})
    assert (unknown.status_code, unknown.json()["restate_code"]) == (404, None)
    unreadable = await desk.http.request(method, "/deployments/dp_x", json={})
    assert (unreadable.status_code, unreadable.headers["content-type"][:10]) == (400, "text/plain")


async def test_removing_asks_for_force(desk: Desk):
    made = (await desk.register()).json()["id"]
    assert (await desk.http.delete(f"/deployments/{made}")).status_code == 501
    assert (await desk.http.delete(f"/deployments/{made}?force=true")).status_code == 202
    assert (await desk.http.get(f"/deployments/{made}")).status_code == 404
    assert [one["name"] for one in (await desk.http.get("/services")).json()["services"]] == ["Own"]


@pytest.mark.slow
async def test_a_deployment_is_removed_when_it_is_drained(desk: Desk):
    """Not while it is the newest, and not while something waits that began there."""
    first = (await desk.register()).json()["id"]
    invocation = await paused(desk)

    async def remove() -> tuple[int, str]:
        answer = await desk.http.delete(f"/deployments/{first}?drained=true")
        return answer.status_code, answer.text

    status, text = await remove()
    assert status == 409
    assert "new calls of Far, Flow go there" in text
    await desk.register(1)
    status, text = await remove()
    assert status == 409
    assert invocation in text
    await desk.http.patch(f"/invocations/{invocation}/resume")
    await desk.engine.attach(invocation)
    assert await remove() == (202, "")
    assert (await desk.http.get(f"/deployments/{first}")).status_code == 404


# -- changing a deployment


async def test_a_deployment_that_moves_keeps_its_services(desk: Desk):
    """Without `overwrite` only the address changes; with it the services are those of the new manifest."""
    made = (await desk.register()).json()["id"]
    desk.peers[1].manifest = manifest("New")
    moved = await desk.http.patch(
        f"/deployments/{made}", json={"uri": desk.uris[1], "use_http_11": True, "dry_run": True}
    )
    assert (moved.status_code, moved.json()["uri"]) == (200, desk.uris[1] + "/")
    assert (await desk.http.get(f"/deployments/{made}")).json()["uri"] == desk.uris[0] + "/"
    for overwrite, names in ((False, ["Far", "Flow"]), (True, ["New", "Flow"])):
        body = {"uri": desk.uris[1], "use_http_11": True, "overwrite": overwrite}
        moved = await desk.http.patch(f"/deployments/{made}", json=body)
        assert [one["name"] for one in moved.json()["services"]] == names
        assert {one["revision"] for one in moved.json()["services"]} == {1}
    assert (await call(desk.engine, "New", "a")).result == j.Success(b'"done"')
    assert desk.peers[0].asked == []
    assert (await desk.http.get("/services/Far")).status_code == 404


async def test_headers_may_change_and_nothing_at_all_changes_nothing(desk: Desk):
    made = (await desk.register(additional_headers={"x-a": "b"})).json()["id"]
    before = (await desk.http.get(f"/deployments/{made}")).json()
    desk.peers[0].discovery = (404, "text/plain")  # it is not asked
    for nothing in ({}, {"overwrite": True}):
        assert (await desk.http.patch(f"/deployments/{made}", json=nothing)).json() == before
    desk.peers[0].discovery = Peer().discovery
    changed = await desk.http.patch(f"/deployments/{made}", json={"additional_headers": {"x-c": "d"}})
    assert changed.json() == before | {"additional_headers": {"x-c": "d"}}


async def test_a_deployment_that_speaks_other_versions_now_is_another_one(desk: Desk):
    made = (await desk.register()).json()["id"]
    desk.peers[1].manifest = manifest() | {"maxProtocolVersion": 6}
    refused = await desk.http.patch(
        f"/deployments/{made}", json={"uri": desk.uris[1], "use_http_11": True, "overwrite": True}
    )
    assert (refused.status_code, refused.json()["restate_code"]) == (400, "META0016")
    await desk.register(1)
    taken = await desk.http.patch(f"/deployments/{made}", json={"uri": desk.uris[1], "use_http_11": True})
    assert taken.status_code == 400


# -- the options of a service


async def test_an_operator_sets_options_until_the_next_registration(desk: Desk):
    """The service's own values are replaced; what a handler says for itself stays. A restart keeps them."""
    await desk.register()
    body = {"journal_retention": "2h", "idempotency_retention": "PT3H", "abort_timeout": "7s", "other": 1}
    shown = (await desk.http.patch("/services/Far", json=body)).json()
    assert (shown["journal_retention"], shown["idempotency_retention"]) == ("2h", "3h")
    assert (shown["abort_timeout"], shown["revision"]) == ("7s", 1)
    assert [h.get("journal_retention") for h in shown["handlers"]] == [None, "1m"]
    private = (await desk.http.patch("/services/Far", json={"public": False})).json()
    assert (private["public"], [h["public"] for h in private["handlers"]]) == (False, [False, False])
    assert private["journal_retention"] == "2h"
    public = (await desk.http.patch("/services/Far", json={"public": True})).json()
    assert [h["public"] for h in public["handlers"]] == [True, False]
    assert (await desk.http.patch("/services/Far", json={})).json() == public
    flow = await desk.http.patch("/services/Flow", json={"workflow_completion_retention": "5h"})
    assert flow.json()["workflow_completion_retention"] == "5h"
    stored = desk.engine.store.deployments()
    desk.engine.deployments.load(stored)
    assert (await desk.http.get("/services/Far")).json() == public
    await desk.register(force=True)
    assert (await desk.http.get("/services/Far")).json()["journal_retention"] == "1h"


@pytest.mark.parametrize(
    ("service", "body", "status"),
    [
        ("Nobody", {}, 404),
        ("Far", {"workflow_completion_retention": "5h"}, 400),
        ("Far", {"journal_retention": "soon"}, 422),
        ("Far", {"public": "perhaps"}, 422),
    ],
)
async def test_options_that_cannot_be_set(desk: Desk, service: str, body: dict[str, Any], status: int):
    await desk.register()
    answer = await desk.http.patch(f"/services/{service}", json=body)
    assert answer.status_code == status, answer.text


# -- invocations and deployments


async def paused(desk: Desk) -> InvocationId:
    """An invocation that stored an entry at the first deployment, and stands still."""
    words = said(j.Sleep(wake_at=0, completion=1), m.Error(message="stop", behavior="pause"))
    desk.peers[0].answers = [(200, {}, words)]
    target = desk.engine.catalog.target("Far", "a")
    assert target is not None
    invocation, receipt = desk.engine.send(Request(target=target))
    await receipt

    async def status() -> str:
        return str((await desk.http.get(f"/invocations/{invocation}")).json()["status"])

    async with asyncio.timeout(10):
        while await status() != "paused":
            await asyncio.sleep(0.005)
    return invocation


async def test_what_has_begun_stays_where_it_began_unless_it_is_moved(desk: Desk):
    first = (await desk.register()).json()["id"]
    invocation = await paused(desk)
    second = (await desk.register(1)).json()["id"]
    route = f"/invocations/{invocation}/resume?deployment="
    for wrong in (UNKNOWN, "dp_x"):
        assert (await desk.http.patch(route + wrong)).status_code == 400
    assert (await desk.http.patch(route + "latest")).status_code == 200
    assert (await desk.engine.attach(invocation)).result == j.Success(b'"done"')
    assert (len(desk.peers[0].asked), len(desk.peers[1].asked)) == (1, 1)
    assert (await desk.http.get(f"/invocations/{invocation}")).json()["deployment_id"] == second
    assert first != second


@pytest.mark.parametrize(("deployment", "place"), [("latest", 1), ("keep", 0), ("first", 0)])
async def test_a_restarted_one_begins_where_it_is_told_to(desk: Desk, deployment: str, place: int):
    ids = {"first": (await desk.register()).json()["id"]}
    invocation = await paused(desk)
    await desk.http.patch(f"/invocations/{invocation}/resume")
    await desk.engine.attach(invocation)
    await desk.register(1)
    for peer in desk.peers:
        peer.asked.clear()
    wanted = ids.get(deployment, deployment)
    again = await desk.http.patch(f"/invocations/{invocation}/restart-as-new?deployment={wanted}")
    new = again.json()["new_invocation_id"]
    assert (await desk.engine.attach(InvocationId(new))).result == j.Success(b'"done"')
    await until(lambda: len(desk.peers[place].asked) == 1)
    assert desk.peers[1 - place].asked == []


async def test_this_process_is_shown_as_a_deployment_that_nobody_changes(desk: Desk):
    """Clients look up the deployment of each service, and read what they get."""
    own_id = (await desk.http.get("/services/Own")).json()["deployment_id"]
    shown = await desk.http.get(f"/deployments/{own_id}")
    assert [one["name"] for one in shown.json()["services"]] == ["Own"]
    assert (shown.json()["min_protocol_version"], shown.json()["max_protocol_version"]) == (5, 7)
    for method, path, body in (
        ("PATCH", f"/deployments/{own_id}", {"uri": desk.uris[0]}), ("PUT", f"/v2/deployments/{own_id}", {}),
        ("DELETE", f"/deployments/{own_id}?force=true", None), ("DELETE", f"/deployments/{own_id}", None),
    ):  # fmt: skip
        answer = await desk.http.request(method, path, json=body)
        assert (answer.status_code, "this process" in answer.json()["message"]) == (400, True)
    assert (await desk.http.get(f"/deployments/{own_id}")).json() == shown.json()


async def test_values_of_this_process_and_of_who_is_not_there_are_not_converted(desk: Desk):
    await desk.register(0)
    for service, status in (("Own", 400), ("Nobody", 404)):
        given = await desk.http.post(f"/internal/services/{service}/serdes/encode/x", content=b"abc")
        assert (given.status_code, service in given.json()["message"]) == (status, True)
    deployment = (await desk.http.get("/services/Far")).json()["deployment_id"]
    desk.engine.deployments.all[deployment].address = NOWHERE
    given = await desk.http.post("/internal/services/Far/serdes/encode/x", content=b"abc")
    assert (given.status_code, given.headers["x-agentdur-error"]) == (500, "AD0217")
