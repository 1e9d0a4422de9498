"""Watching a run: its entries and its record as they are committed, once each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from agentdur import Context, Service
from agentdur.admin.app import create_admin
from agentdur.core.ids import InvocationId
from agentdur.runtime.owner import Engine
from tests.admin.conftest import World, step
from tests.sessions.site import read_events
from tests.support.fixtures import stage
from tests.support.serving import served
from tests.support.stage import Stage

PATIENCE_SECONDS = 10
__all__ = ["stage"]


@asynccontextmanager
async def following(world: World, invocation: str, **how: Any) -> AsyncIterator[AsyncIterator[Any]]:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        served(create_admin(engine_of(world))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
        http.stream("GET", f"/invocations/{invocation}/live", **how) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield read_events(answer.aiter_lines())


def engine_of(world: World) -> Engine:
    engine = world.client._engine
    assert isinstance(engine, Engine)
    return engine


async def all_of(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


def rows_of(events: list[Any]) -> list[Any]:
    return [row for event in events if event["event"] == "rows" for row in event["data"]]


async def test_a_run_that_has_ended_is_told_whole_and_then_it_is_over(world: World):
    sent = await world.client.service_send(step)
    await world.client.attach(sent.invocation_id)
    async with following(world, sent.invocation_id) as events:
        told = await all_of(events)
    assert [event["event"] for event in told] == ["rows", "run", "end"]
    assert [row["kind"] for row in told[0]["data"]] == ["Input", "Run", "Completion", "Output"]
    assert told[1]["data"]["status"] == "completed"
    assert "output" not in told[1]["data"], "it is the last entry"


@pytest.mark.slow
async def test_what_is_known_is_not_told_again(world: World):
    sent = await world.client.service_send(step)
    await world.client.attach(sent.invocation_id)
    async with following(world, sent.invocation_id, params={"after": 1}) as events:
        assert [row["index"] for row in rows_of(await all_of(events))] == [2, 3]
    async with following(world, sent.invocation_id, headers={"last-event-id": "2"}) as events:
        assert [row["index"] for row in rows_of(await all_of(events))] == [3]


async def test_a_run_is_followed_to_its_end_without_asking_again(world: World):
    """Whoever watches is woken by the commit: the heartbeat is longer than this test's patience."""
    id = await world.started("running")
    async with following(world, id) as events:
        first = await anext(events)
        assert [row["kind"] for row in first["data"]] == ["Input"]
        assert (await anext(events))["data"]["status"] == "running"
        answered = await world.http.post(f"/invocations/{id}/signals/17", json={"value": "yes"})
        assert answered.status_code == 202
        rest = await all_of(events)
    assert [row["kind"] for row in rows_of(rest)] == ["Signal", "Output"]
    assert rest[-1]["event"] == "end"
    assert rest[-2]["data"]["completion_result"] == "success"


async def test_a_failed_attempt_is_told_with_its_next_try(world: World):
    id = await world.started("backing-off")
    async with following(world, id) as events:
        while (event := await anext(events))["event"] != "run":
            pass
        assert event["data"]["status"] == "backing-off"
        assert "not yet" in event["data"]["last_failure"]["message"]
        assert event["data"]["next_retry_at"]
        first = event["data"]["failed_attempts"][0]
        assert (first["attempt"], first["code"], first["message"]) == (1, 500, "not yet")


async def test_failed_attempts_can_be_asked_for_by_route_and_in_sql(world: World):
    id, well = await world.started("backing-off"), await world.started("completed")
    told = (await world.http.get(f"/invocations/{id}/attempts")).json()
    assert told["failed"] == len(told["attempts"]) >= 1
    first = told["attempts"][0]
    assert (first["number"], first["attempt"], first["code"], first["message"]) == (1, 1, 500, "not yet")
    assert first["started_at"] <= first["ended_at"] < first["next_retry_at"]
    query = f"SELECT number, error_message, next_retry_at FROM attempts WHERE invocation_id = '{id}'"
    accept = {"accept": "application/json"}
    rows = (await world.http.post("/query", json={"query": query}, headers=accept)).json()["rows"]
    assert (rows[0]["number"], rows[0]["error_message"]) == (1, "not yet")
    assert rows[0]["next_retry_at"] == first["next_retry_at"]
    assert (await world.http.get(f"/invocations/{well}/attempts")).json() == {"failed": 0, "attempts": []}


@pytest.mark.slow
async def test_nobody_is_left_watching(world: World):
    id = await world.started("running")
    async with following(world, id) as events:
        await anext(events)
        assert InvocationId(id) in engine_of(world).machine.watches
    async with asyncio.timeout(PATIENCE_SECONDS):
        while engine_of(world).machine.watches:  # the server finds out by itself
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("route", ["live", "rows", "attempts", "entries/0"])
async def test_an_unknown_run_is_404_and_a_bad_id_400(world: World, route: str):
    unknown = await world.http.get(f"/invocations/inv_1cixoeqOzcLa6IRaXfbBYPAiNxd2EKgA9a/{route}")
    assert unknown.status_code == 404
    assert (await world.http.get(f"/invocations/inv_nonsense/{route}")).status_code == 400
    assert not engine_of(world).machine.watches


@pytest.mark.parametrize("query", ["after=-2", f"after={10**30}", "after=x", "limit=0", "limit=501"])
async def test_a_place_that_no_journal_has_is_refused(world: World, query: str):
    sent = await world.client.service_send(step)
    assert (await world.http.get(f"/invocations/{sent.invocation_id}/rows?{query}")).status_code == 400
    assert (await world.http.get(f"/invocations/{sent.invocation_id}/entries/{10**30}")).status_code == 400


async def test_rows_can_be_asked_for_again_and_again(world: World):
    sent = await world.client.service_send(step)
    await world.client.attach(sent.invocation_id)
    given = (await world.http.get(f"/invocations/{sent.invocation_id}/rows", params={"after": 2})).json()
    assert given["run"]["status"] == "completed"
    assert [row["index"] for row in given["rows"]] == [3]


async def test_the_step_that_failed_is_named_by_its_entry(stage: Stage):
    """So that a page shows the error where it happened."""
    service = Service("Bank")

    @service.handler()
    async def ask(ctx: Context) -> None:
        await ctx.run("first", lambda: 1)
        await ctx.run("second", _offline)

    await stage.start(service)
    sent = await stage.client.service_send(ask)
    described: dict[str, Any] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "last_failure" not in described:
            await asyncio.sleep(0.005)
            described = await stage.engine.describe(InvocationId(sent.invocation_id)) or {}
    failed = described["journal"][described["last_failure_entry"]]
    assert (failed["kind"], failed["name"]) == ("Run", "second")


def _offline() -> None:
    raise ConnectionError("nobody is there")


async def test_a_large_payload_is_a_preview_and_whole_when_asked_for(world: World):
    text = "x" * 9000
    given = await world.http.post("/invocations", json={"service": "Work", "handler": "quick", "input": text})
    id = given.json()["id"]
    await world.client.attach(id)
    rows = (await world.http.get(f"/invocations/{id}/rows")).json()["rows"]
    assert rows[0]["value"]["bytes"] == 9002
    assert (await world.http.get(f"/invocations/{id}/entries/0")).json()["value"] == text
    beyond = await world.http.get(f"/invocations/{id}/entries/9")
    assert (beyond.status_code, beyond.json()["message"][:8]) == (404, "[AD0225]")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"service": "Nobody", "handler": "quick"}, 404),
        ({"service": "Work", "handler": "none"}, 404),
        ({"service": "Room", "handler": "enter"}, 400),
        ({"handler": "quick"}, 422),
        ({"service": "Work", "handler": "quick", "delay_seconds": -1}, 422),
    ],
)
async def test_what_cannot_be_started_is_refused(world: World, body: dict[str, Any], status: int):
    given = await world.http.post("/invocations", json=body)
    assert given.status_code == status, given.text
    assert (await world.http.get("/invocations")).json()["invocations"] == []


async def test_a_start_may_be_delayed_and_idempotent(world: World):
    body = {
        "service": "Work", "handler": "quick", "input": "x", "delay_seconds": 3600, "idempotency_key": "k",
    }  # fmt: skip
    first, second = [(await world.http.post("/invocations", json=body)).json()["id"] for _ in range(2)]
    assert first == second
    assert await world.status(first) == "scheduled"


async def test_an_awakeable_is_rejected_with_a_message(world: World):
    id = await world.started("running")
    await world.http.post(f"/invocations/{id}/signals/17", json={"failure": "no one came"})
    await world.until(id, "completed")
    assert "no one came" in (await world.http.get(f"/invocations/{id}")).json()["completion_failure"]
    reserved = await world.http.post(f"/invocations/{id}/signals/1", json={"value": 1})
    assert reserved.status_code == 400


async def test_a_promise_is_settled_once(world: World):
    where = {"object_key": "ada"}
    for status in (202, 409):
        given = await world.http.post(
            "/services/Signup/promises/mail", params=where, json={"value": "opened"}
        )
        assert given.status_code == status, given.text
    plain = await world.http.post("/services/Work/promises/mail", params=where, json={"value": 1})
    nobody = await world.http.post("/services/Nobody/promises/mail", params=where, json={"value": 1})
    assert (plain.status_code, nobody.status_code) == (400, 404)


async def test_messages_that_are_not_stored_are_told_so(world: World):
    given = await world.http.get("/conversations/0123")
    assert (given.status_code, given.json()["message"][:8]) == (404, "[AD0226]")
