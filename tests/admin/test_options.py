"""Options of this process's services, set by an operator in place of what the code says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentdur import App, Service, Workflow
from agentdur.admin.app import create_admin
from agentdur.core.ids import InvocationId
from agentdur.ingress.app import create_ingress
from tests.admin.conftest import World, quick, step

CHANGE = {"public": False, "abort_timeout": "3m", "journal_retention": "2h"}


async def options(world: World, service: str = "Work") -> Any:
    return (await world.http.get(f"/services/{service}")).json()


async def test_what_is_set_is_shown_and_the_revision_stays(world: World):
    before = await options(world)
    given = await world.http.patch("/services/Work", json=CHANGE)
    assert given.status_code == 200
    assert given.json() == await options(world)
    assert await options(world) == {
        **before, **CHANGE, "handlers": [{**one, "public": False} for one in before["handlers"]],
    }  # fmt: skip
    assert (await world.http.patch("/services/Work", json={})).json() == given.json()


async def test_what_is_set_holds_for_the_next_invocation(world: World):
    kept = (await world.client.service_send(quick, "a")).invocation_id
    await world.client.attach(InvocationId(kept))
    await world.http.patch("/services/Work", json={"journal_retention": "0s"})
    gone = (await world.client.service_send(quick, "b")).invocation_id
    await world.until(gone, None)
    assert await world.status(kept) == "completed"


async def test_what_is_private_is_refused_by_the_ingress(world: World):
    ingress = httpx.ASGITransport(create_ingress(world.client._engine))
    async with httpx.AsyncClient(transport=ingress, base_url="http://ingress") as http:
        for public, answer in ((False, 400), (True, 200)):
            await world.http.patch("/services/Work", json={"public": public})
            assert (await http.post("/Work/quick", json="x")).status_code == answer


async def test_a_handlers_own_word_counts_before_that_of_its_service(world: World):
    await world.http.patch("/services/Work", json={"inactivity_timeout": "9s"})
    catalog = world.client._engine.catalog
    assert catalog.services["Work"].handlers["quick"].options.inactivity_timeout_ms == 9000
    assert catalog.services["Work"].handlers[step.__name__].options.inactivity_timeout_ms == 1000


async def test_only_workflows_keep_their_completion(world: World):
    body = {"workflow_completion_retention": "5h"}
    assert (await world.http.patch("/services/Work", json=body)).status_code == 400
    given = await world.http.patch("/services/Signup", json=body)
    assert given.json()["workflow_completion_retention"] == "5h"


@pytest.mark.parametrize(
    ("service", "change", "answer"),
    [
        ("Nobody", CHANGE, 404),
        ("agentdur.Budget", CHANGE, 400),
        ("Work", {**CHANGE, "idempotency_retention": "soon"}, 422),
        ("Work", {**CHANGE, "public": "perhaps"}, 422),
        ("Work", {**CHANGE, "workflow_completion_retention": "1h"}, 400),
    ],
)
async def test_what_cannot_be_set_changes_nothing(
    world: World, service: str, change: dict[str, Any], answer: int
):
    before = await options(world)
    assert (await world.http.patch(f"/services/{service}", json=change)).status_code == answer
    assert await options(world) == before


@asynccontextmanager
async def started(store: Path, *services: Any) -> Any:
    """The admin API of a process that serves these on that store."""
    async with App(services).running(f"sqlite:///{store}") as engine:
        transport = httpx.ASGITransport(create_admin(engine, deployments=engine.deployments))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as http:
            yield http


def declared(text: str = "Says it again.", **given: Any) -> Service:
    """The same service as the last process had, but for what is given."""
    service = Service("Kept", **given)

    @service.handler()
    async def echo(ctx: Any, text: str) -> str:
        return text

    echo.__doc__ = text
    return service


async def test_what_is_set_outlives_the_process_until_the_code_says_something_else(tmp_path: Path):
    store, other = tmp_path / "store.db", Workflow("Other")

    @other.main()
    async def run(ctx: Any) -> None: ...

    async with started(store, declared()) as http:
        await http.patch("/services/Kept", json={"abort_timeout": "3m", "public": False})
    async with started(store, declared("Other words."), other) as http:
        kept = (await http.get("/services/Kept")).json()
        assert (kept["abort_timeout"], kept["public"]) == ("3m", False)
        await http.patch("/services/Kept", json={"public": True})
    async with started(store, other) as http:
        assert (await http.get("/services/Kept")).status_code == 404
    async with started(store, declared()) as http:
        kept = (await http.get("/services/Kept")).json()
        assert (kept["abort_timeout"], kept["public"]) == ("3m", True)
    async with started(store, declared(journal_retention=timedelta(hours=3))) as http:
        kept = (await http.get("/services/Kept")).json()
        assert (kept["abort_timeout"], kept["journal_retention"]) == ("10m", "3h")
