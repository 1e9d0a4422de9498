"""Forks: a new invocation with the journal of another, and other values in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentdur import App, Context, Service
from agentdur.admin.app import create_admin
from agentdur.runtime.owner import Engine

desk = Service("Desk")
looked: list[str] = []


@desk.handler()
async def answer(ctx: Context, question: str) -> str:
    """Looks something up, waits to be told how, and answers."""
    found = await ctx.run("look", look, question)
    tone = await ctx.signal("tone", type_hint=str)
    return f"{found}, {tone}"


def look(question: str) -> str:
    looked.append(question)
    return f"about {question}"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    looked.clear()
    async with App([desk]).running("memory://") as made:
        yield made


@pytest.fixture
async def http(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_admin(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        yield client


async def asked(http: httpx.AsyncClient, question: str = "tea") -> str:
    """One that has looked it up, in entry 2, and waits to be told how to say it."""
    given = await http.post("/invocations", json={"service": "Desk", "handler": "answer", "input": question})
    id = str(given.json()["id"])
    async with asyncio.timeout(10):
        while len((await rows(http, id))["rows"]) < 3:
            await asyncio.sleep(0.005)
    return id


async def rows(http: httpx.AsyncClient, id: str) -> Any:
    return (await http.get(f"/invocations/{id}/rows")).json()


async def told(http: httpx.AsyncClient, id: str, tone: str = "kindly") -> str:
    await http.post(f"/invocations/{id}/signals/tone", json={"value": tone})
    async with asyncio.timeout(10):
        while (shown := await rows(http, id))["run"]["status"] != "completed":
            await asyncio.sleep(0.005)
    return str(shown["rows"][-1]["value"])


async def fork(http: httpx.AsyncClient, id: str, **body: Any) -> str:
    given = await http.post(f"/invocations/{id}/fork", json=body)
    assert given.status_code == 200, given.text
    return str(given.json()["new_invocation_id"])


async def test_a_fork_runs_on_with_another_result_of_a_step(http: httpx.AsyncClient):
    old = await asked(http)
    assert await told(http, old) == "about tea, kindly"
    new = await fork(http, old, **{"from": 2, "edits": {"2": "about coffee"}})
    assert await told(http, new, "briefly") == "about coffee, briefly"
    assert looked == ["tea"], "the step was not run again"
    shown = await rows(http, new)
    assert shown["run"]["restarted_from"] == old
    assert shown["rows"][2]["meta"] == {"edited": True}
    assert (await rows(http, old))["rows"][-1]["value"] == "about tea, kindly"


async def test_a_fork_begins_again_with_another_input(http: httpx.AsyncClient):
    old = await asked(http)
    await told(http, old)
    new = await fork(http, old, edits={"0": "cake"})
    assert await told(http, new) == "about cake, kindly"
    assert looked == ["tea", "cake"]


async def test_a_signal_may_have_said_something_else(http: httpx.AsyncClient):
    old = await asked(http)
    await told(http, old)
    signal = next(row["index"] for row in (await rows(http, old))["rows"] if row["kind"] == "Signal")
    new = await fork(http, old, **{"from": signal, "edits": {signal: "loudly"}})
    assert await told(http, new, "too late") == "about tea, loudly"


async def test_one_that_is_paused_is_forked_and_stays_as_it_is(http: httpx.AsyncClient):
    old = await asked(http)
    async with asyncio.timeout(10):
        while len((await rows(http, old))["rows"]) < 3:
            await asyncio.sleep(0.005)
    refused = await http.post(f"/invocations/{old}/fork", json={"from": 2})
    assert refused.status_code == 409, "it runs"
    await http.patch(f"/invocations/{old}/pause")
    async with asyncio.timeout(10):
        while (await rows(http, old))["run"]["status"] != "paused":
            await asyncio.sleep(0.005)
    new = await fork(http, old, **{"from": 2, "edits": {"2": "about coffee"}})
    assert await told(http, new) == "about coffee, kindly"
    assert (await rows(http, old))["run"]["status"] == "paused"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"from": 2, "edits": {"1": "x"}}, 400),  # what the handler did is its own
        ({"from": 1, "edits": {"2": "x"}}, 400),  # behind the last one that is kept
        ({"from": 2, "edits": {"99": "x"}}, 400),
        ({"from": 99}, 400),
        ({"from": 2, "edits": {"x": "x"}}, 422),
        ({"from": -1}, 422),
        ({"from": 2, "edit": {}}, 422),
        ({"from": 2, "deployment": "nowhere"}, 400),
    ],
)
async def test_what_cannot_be_forked_is_refused_and_nothing_begins(
    http: httpx.AsyncClient, body: dict[str, Any], status: int
):
    old = await asked(http)
    await told(http, old)
    given = await http.post(f"/invocations/{old}/fork", json=body)
    assert given.status_code == status, given.text
    assert [one["id"] for one in (await http.get("/invocations")).json()["invocations"]] == [old]
