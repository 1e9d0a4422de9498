"""What pages show in sums: the overview, and the keys of objects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentdur import App, ObjectContext, TerminalError, VirtualObject, Workflow, WorkflowContext
from agentdur.admin.app import create_admin
from agentdur.observe.redaction import hiding
from agentdur.sdk.client import EngineClient
from agentdur.sdk.note import note
from tests.support.stage import until_it_is

NASTY = "it's \\' % _ \"key\" --"
desk, vote = VirtualObject("Desk"), Workflow("Vote")


@desk.handler()
async def turn(ctx: ObjectContext, words: int) -> None:
    def ask_model() -> str:
        note(model="m-1", prompt_tokens=words, completion_tokens=2, cost=words / 100)
        return "text"

    await ctx.run("llm:writer", ask_model)
    ctx.set("said", words)


@desk.handler()
async def hold(ctx: ObjectContext) -> None:
    await ctx.signal("go")


@desk.handler()
async def fail(ctx: ObjectContext) -> None:
    raise TerminalError("no")


@vote.main()
async def run(ctx: WorkflowContext) -> str:
    return await ctx.promise("result", type_hint=str).value()


class House:
    def __init__(self, client: EngineClient, http: httpx.AsyncClient) -> None:
        self.client, self.http = client, http

    async def get(self, path: str, **query: Any) -> Any:
        """What is answered."""
        given = await self.http.get(path, params=query)
        assert given.status_code == 200, given.text
        return given.json()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with App([desk, vote]).running("memory://") as engine:
        admin = httpx.ASGITransport(create_admin(engine))
        async with httpx.AsyncClient(transport=admin, base_url="http://admin") as http:
            yield House(EngineClient(engine), http)


async def test_the_overview_of_a_server_on_which_nothing_was_done_is_empty(house: House):
    assert await house.get("/overview") == {
        "window": "1d", "bucket_seconds": 1800, "statuses": {}, "ended": [], "spend": [],
        "by_agent": [], "by_service": [], "by_model": [], "by_session": [], "by_invocation": [],
    }  # fmt: skip
    assert (await house.http.get("/overview?window=2d")).status_code == 400


async def test_the_overview_adds_up_what_ended_and_what_it_cost(house: House):
    for key, words in (("a", 10), ("b", 90)):
        await house.client.object_call(turn, key, words)
    failed = await house.client.object_send(fail, "a")
    await house.client.object_send(hold, "c")
    with pytest.raises(TerminalError):
        await house.client.attach(failed.invocation_id)

    async def statuses() -> dict[str, int]:
        return dict((await house.get("/overview"))["statuses"])

    await until_it_is(statuses, {"suspended": 1})  # it is in memory, and waits for somebody
    sums = await house.get("/overview", window="1h")
    assert (sum(one["success"] for one in sums["ended"]), sum(one["failure"] for one in sums["ended"])) == (
        2,
        1,
    )
    assert sums["by_service"] == [{"service": "Desk", "cost": 1.0, "tokens": 104, "calls": 2}]
    assert sums["by_agent"] == [{"agent": "writer", "cost": 1.0, "tokens": 104, "calls": 2}]
    assert sums["by_model"] == [{"model": "m-1", "cost": 1.0, "tokens": 104, "calls": 2}]
    assert [(one["key"], one["cost"]) for one in sums["by_session"]] == [("b", 0.9), ("a", 0.1)]
    assert [one["target"] for one in sums["by_invocation"]] == ["Desk/b/turn", "Desk/a/turn"]
    assert sum(one["calls"] for one in sums["spend"]) == 2


async def test_a_key_is_found_by_what_is_in_it_whatever_that_is(house: House):
    for key in (NASTY, "other"):
        await house.client.object_call(turn, key, 1)
    for part in ("'", "\\'", "%", NASTY, "' OR 1=1 --"):
        found = await house.get("/objects", contains=part)
        assert [one["key"] for one in found["objects"]] == ([NASTY] if part in NASTY else []), part
    assert (await house.get("/objects", service="Vote"))["objects"] == []
    assert (await house.get("/objects", service="Desk' OR ''='"))["objects"] == []
    assert (await house.get("/objects/Desk", object_key=NASTY))["key"] == NASTY


async def test_keys_say_who_holds_them_and_how_many_wait_those_first_for_which_most_do(house: House):
    await house.client.object_call(turn, "quiet", 1)
    holder = await house.client.object_send(hold, "busy")
    waiting = [await house.client.object_send(turn, "busy", n) for n in range(2)]

    async def listed() -> list[tuple[Any, ...]]:
        objects = (await house.get("/objects"))["objects"]
        return [tuple(one[name] for name in ("key", "holder", "waiting", "values")) for one in objects]

    await until_it_is(listed, [("busy", holder.invocation_id, 2, 0), ("quiet", None, 0, 1)])
    about = await house.get("/objects/Desk", object_key="busy")
    assert about["holder"] == holder.invocation_id
    assert [one["id"] for one in about["inbox"]] == [one.invocation_id for one in waiting]
    assert await house.get("/objects", limit=1) | {"objects": []} == {"objects": [], "more": True}


async def test_what_a_promise_was_given_is_a_payload(house: House):
    await house.client.workflow_send(run, "w")

    async def promises() -> list[Any]:
        return list((await house.get("/objects/Vote", object_key="w"))["promises"])

    await until_it_is(promises, [{"key": "result", "completed": False, "value": None, "failure": None}])
    await house.http.post("/services/Vote/promises/result?object_key=w", json={"value": "yes"})

    async def completed() -> bool:
        return bool((await promises())[0]["completed"])

    await until_it_is(completed, True)
    assert (await promises())[0]["value"] == '"yes"'
    with hiding():
        assert (await promises())[0]["value"]["redacted"] is True
