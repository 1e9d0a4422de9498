"""Pages of other sites, at the admin port: no route of it does what they ask."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from fastapi import FastAPI

from agentdur import App
from agentdur.admin.app import create_admin
from agentdur.admin.settings import AdminSettings
from agentdur.core.catalog import Catalog
from agentdur.core.visitors import Visitors
from agentdur.server.frontends import operators_guests
from tests.admin.conftest import World, room, signup, work
from tests.http.memory_engine import MemoryEngine, as_engine
from tests.support.routes import every_route

EVIL = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}


def changing(admin: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path with something in it) of every route that is not a GET."""
    for route in every_route(admin):
        for method in (route.methods or set()) - {"GET", "HEAD"}:
            yield method, route.path.replace("{", "").replace("}", "")


async def test_no_route_changes_anything_for_a_page_of_another_site():
    app = App([work, room, signup])
    async with app.running("memory://") as engine:
        admin = create_admin(engine, deployments=engine.deployments, guests=operators_guests(app, engine))
        found = sorted(changing(admin))
        assert len(found) > 25
        assert {("POST", "/query"), ("POST", "/approvals/id/approve")} <= set(found)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(admin), base_url="http://localhost:9070"
        ) as http:
            for prefix in ("", "/v2", "/v4"):
                for method, path in found:
                    for headers in (EVIL, {"origin": "null"}, {"sec-fetch-site": "same-site"}):
                        given = await http.request(method, prefix + path, headers=headers)
                        assert (given.status_code, given.headers["x-agentdur-error"]) == (403, "AD0230"), path


async def test_nothing_has_happened_after_the_refusal(world: World):
    running = await world.started("running")
    given = await world.http.patch(f"/invocations/{running}/kill", headers=EVIL)
    assert given.status_code == 403
    assert given.json()["message"].startswith("[AD0230] a page of 'https://evil.example' sent this.")
    assert await world.status(running) == "running"
    own = {"origin": "http://admin", "sec-fetch-site": "same-origin"}
    assert (await world.http.patch(f"/invocations/{running}/kill", headers=own)).status_code == 200


async def test_a_name_that_leads_here_from_elsewhere_is_no_way_in():
    settings = AdminSettings(visitors=Visitors(hosts=frozenset({"ops.example"})))
    transport = httpx.ASGITransport(create_admin(as_engine(MemoryEngine(Catalog(), {})), settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9070") as http:
        for path, status in (("/health", 200), ("/v4/services", 200), ("/nowhere", 404)):
            for host in ("localhost:9070", "ops.example", "127.0.0.1"):
                assert (await http.get(path, headers={"host": host})).status_code == status
            theirs = await http.get(path, headers={"host": "evil.example:9070"})
            assert (theirs.status_code, theirs.headers["x-agentdur-error"]) == (403, "AD0231")
            assert "'evil.example:9070' is none of this server's names" in theirs.json()["message"]
