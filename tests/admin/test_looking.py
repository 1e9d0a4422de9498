"""Looking: the server, its services, its invocations."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from agentdur.admin.app import create_admin
from agentdur.admin.door import outward
from agentdur.admin.settings import AdminSettings
from agentdur.core.catalog import Catalog
from tests.admin.conftest import World, quick, step
from tests.http.memory_engine import MemoryEngine, as_engine

# The server


async def test_health_is_empty_and_good(world: World):
    given = await world.http.get("/health")
    assert (given.status_code, given.content) == (200, b"")


async def test_the_version_says_what_clients_choose_by():
    engine = as_engine(MemoryEngine(Catalog(), {}))
    settings = AdminSettings(ingress_endpoint="http://here:1/", version="1.2.3")
    transport = httpx.ASGITransport(create_admin(engine, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as http:
        version = (await http.get("/version")).json()
    assert version["version"] == "1.2.3"
    assert version["ingress_endpoint"] == "http://here:1/"
    assert (version["min_admin_api_version"], version["max_admin_api_version"]) == (2, 4)
    assert set(version["features"].values()) == {False}


@pytest.mark.parametrize("prefix", ["", "/v2", "/v3", "/v4"])
async def test_every_route_exists_under_every_supported_version(world: World, prefix: str):
    assert (await world.http.get(f"{prefix}/health")).status_code == 200
    assert (await world.http.get(f"{prefix}/services/Work")).json()["name"] == "Work"


async def test_an_older_version_is_refused_as_text_and_one_that_never_was_is_not_there(world: World):
    given = await world.http.get("/v1/services")
    assert (given.status_code, "between V2 and V4" in given.text) == (400, True)
    assert given.headers["content-type"].startswith("text/plain")
    for path in ("/v5/health", "/v0/services", "/v10/services"):
        given = await world.http.get(path)
        assert (given.status_code, given.content) == (404, b"")


async def test_head_is_get_without_the_body(world: World):
    for path in ("/health", "/version", "/services", "/services/Nobody"):
        get, head = await world.http.get(path), await world.http.head(path)
        assert (head.status_code, head.content, head.headers) == (get.status_code, b"", get.headers)
    assert (await world.http.head("/services/Work/state")).status_code == 400


@pytest.mark.parametrize(("accepted", "packed"), [
    ("gzip", True), ("br, GZIP;q=0.5", True), ("", False), ("br", False), ("gzip;q=0", False),
])  # fmt: skip
async def test_what_is_worth_it_is_compressed_for_who_takes_it(world: World, accepted: str, packed: bool):
    headers = {"accept-encoding": accepted}
    plain = await world.http.get("/services", headers={"accept-encoding": "identity"})
    given = await world.http.get("/services", headers=headers)
    assert given.json() == plain.json()
    assert ("content-encoding" in given.headers) is packed
    if packed:
        assert int(given.headers["content-length"]) < len(plain.content) / 2
    small = await world.http.get("/version/nowhere", headers=headers)
    assert "content-encoding" not in small.headers


async def test_a_stream_begins_at_once_also_for_who_takes_gzip():
    """A browser is told that it is connected before anything happens."""
    said: list[str] = []

    async def send(message: Any) -> None:
        said.append(message["type"])

    scope = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", b"gzip")]}
    _, outgoing = outward(scope, send)
    await outgoing({"type": "http.response.start", "status": 200, "headers": []})
    assert said == ["http.response.start"]
    await outgoing({"type": "http.response.body", "body": b"x" * 5000, "more_body": True})
    assert said == ["http.response.start", "http.response.body"]


async def test_what_is_not_there_is_answered_with_nothing(world: World):
    nowhere, wrong_method = await world.http.get("/nowhere"), await world.http.post("/services")
    assert (nowhere.status_code, nowhere.content) == (404, b"")
    assert (wrong_method.status_code, wrong_method.content) == (405, b"")
    assert wrong_method.headers["allow"] == "GET"


async def test_the_api_describes_itself(world: World):
    document = (await world.http.get("/openapi")).json()
    assert document["openapi"].startswith("3.1")
    cancel = document["paths"]["/invocations/{id}/cancel"]["patch"]
    assert set(cancel["responses"]) == {"200", "4XX"}
    assert "HTTPValidationError" not in str(document)
    assert (await world.http.get("/docs")).status_code == 200


# Services


async def test_services_are_listed_with_their_handlers(world: World):
    services = (await world.http.get("/services")).json()["services"]
    assert {one["name"]: one["ty"] for one in services} == {
        "Work": "Service", "Room": "VirtualObject", "Signup": "Workflow",
    }  # fmt: skip
    signup = next(one for one in services if one["name"] == "Signup")
    assert signup["workflow_completion_retention"] == "1d"
    assert signup["handlers"][0]["ty"] == "Workflow"


async def test_a_service_shows_its_options_and_a_handler_those_that_differ(world: World):
    service = (await world.http.get("/services/Work")).json()
    assert service["inactivity_timeout"] == "5s"
    assert service["metadata"] == {"team": "blue"}
    assert service["retry_policy"] == {
        "initial_interval": "500ms", "exponentiation_factor": 2.0, "max_attempts": 70, "max_interval": "1m",
        "on_max_attempts": "Pause",
    }  # fmt: skip
    handlers = {one["name"]: one for one in service["handlers"]}
    assert handlers["step"]["inactivity_timeout"] == "1s"
    assert "inactivity_timeout" not in handlers["quick"]
    assert handlers["quick"]["retry_policy"] == {"max_attempts": None}
    assert "ty" not in handlers["quick"]


async def test_a_handler_shows_what_goes_in_and_out(world: World):
    shown = (await world.http.get("/services/Work/handlers/quick")).json()
    assert shown["input_description"] == "JSON string"
    assert shown["input_json_schema"] == {"type": "string"}
    assert shown["documentation"] == "Says it again."
    assert (await world.http.get("/services/Work/handlers/step")).json()["input_description"] == "none"
    assert len((await world.http.get("/services/Work/handlers")).json()["handlers"]) == 4


async def test_unknown_services_and_handlers_are_404(world: World):
    for path in ("/services/Nobody", "/services/Nobody/handlers", "/services/Nobody/openapi"):
        given = await world.http.get(path)
        assert given.status_code == 404
        assert "The requested service 'Nobody' does not exist" in given.json()["message"]
    assert (await world.http.get("/services/Work/handlers/nothing")).status_code == 404


async def test_the_document_of_a_service_comes_from_the_ingress(world: World):
    assert (await world.http.get("/services/Work/openapi")).json()["info"] == {"title": "Work"}


# Invocations


async def test_an_invocation_is_described_with_its_journal(world: World):
    sent = await world.client.service_send(step)
    await world.client.attach(sent.invocation_id)
    found = (await world.http.get(f"/invocations/{sent.invocation_id}")).json()
    assert (found["target"], found["status"], found["output"]) == ("Work/step", "completed", "one")
    assert [entry["kind"] for entry in found["journal"]] == ["Input", "Run", "Completion", "Output"]


async def test_an_unknown_invocation_is_404_and_a_bad_id_400(world: World):
    assert (await world.http.get("/invocations/inv_1cixoeqOzcLa6IRaXfbBYPAiNxd2EKgA9a")).status_code == 404
    assert (await world.http.get("/invocations/inv_nonsense")).status_code == 400


async def test_invocations_are_listed_newest_first_and_filtered(world: World):
    for text in ("a", "b"):
        await world.client.service_call(quick, text)
    scheduled, pending = await world.started("scheduled"), await world.started("pending")

    async def listed(**filters: object) -> list[str]:
        given = await world.http.get("/invocations", params=filters)  # type: ignore[arg-type]  # plain words
        assert given.status_code == 200
        return [one["id"] for one in given.json()["invocations"]]

    everything = await listed()
    assert len(everything) == 5
    assert everything[0] == pending
    assert await listed(limit=2) == everything[:2]
    assert await listed(status="scheduled") == [scheduled]
    assert await listed(status="scheduled,pending") == [pending, scheduled]
    assert await listed(status=["scheduled", "pending"]) == [pending, scheduled]
    assert len(await listed(service="Work")) == 3
    assert len(await listed(service="Room", key="k")) == 2
    assert await listed(handler="step") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "status=odd"])
async def test_a_filter_that_makes_no_sense_is_refused_as_text(world: World, query: str):
    given = await world.http.get(f"/invocations?{query}")
    assert given.status_code == 400
    assert given.headers["content-type"].startswith("text/plain")
