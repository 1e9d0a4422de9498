"""What is left of budgets: shared accounts as a table, those of one handler beside its model calls."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agentdur import Context, Service
from agentdur.admin.app import create_admin
from agentdur.core.book import ACCOUNTS, Amounts, Book, Hold, Limits
from agentdur.core.ids import InvocationId
from agentdur.core.target import ObjectAddress
from agentdur.llm import Budget, budget, completion
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, Usage
from tests.agents.conftest import llm
from tests.support.stage import Stage, until_it_is

__all__ = ["llm"]

MODEL = "openai/scripted"
house = Service("House")


@house.handler()
async def spend(ctx: Context, calls: int) -> str:
    """Under an account of the house, and a budget of its own within; a child spends from the account."""
    async with budget(ctx, Budget(tokens=100, calls=9, name="house"), key="house"):
        async with budget(ctx, Budget(calls=5, seconds=60, name="mine")):
            for _ in range(calls):
                await completion(ctx, MODEL, [{"role": "user", "content": "hi"}])
        await ctx.service_call(child, None)
    return "done"


@house.handler()
async def child(ctx: Context, _: None) -> str:
    return (await completion(ctx, MODEL, [{"role": "user", "content": "hi"}])).text


@pytest.fixture
async def stage(tmp_path: Path, llm: ScriptedLLM) -> AsyncIterator[Stage]:
    made = Stage("memory", tmp_path)
    llm.replace([Turn(text="hello", usage=Usage(prompt_tokens=6, completion_tokens=4))])
    await made.start(house)
    yield made
    await made.close()


async def test_what_is_left_of_an_account_is_a_row_for_each_of_its_limits(stage: Stage):
    admin = httpx.ASGITransport(create_admin(stage.engine))
    async with httpx.AsyncClient(transport=admin, base_url="http://admin") as http:

        async def rows(sql: str = "SELECT * FROM budgets ORDER BY unit") -> list[dict[str, Any]]:
            given = await http.post("/query", json={"query": sql}, headers={"accept": "application/json"})
            assert given.status_code == 200, given.text
            found: list[dict[str, Any]] = given.json()["rows"]
            return found

        await stage.client.service_call(spend, 2)

        async def left() -> list[Any]:
            return [(one["unit"], one["spent"], one["held"], one["remaining"]) for one in await rows()]

        await until_it_is(left, [("calls", 3, 0, 6), ("tokens", 30, 0, 70)])
        began = [one.pop("began_at") for one in await rows()]
        assert all(began)
        assert await rows("SELECT account, name, allowed, on_limit, raises FROM budgets") == [
            {"account": "house", "name": "house", "allowed": allowed, "on_limit": "fail", "raises": 0}
            for allowed in (9, 100)
        ]  # fmt: skip
        (one,) = (await http.get("/budgets")).json()["budgets"]
        assert one.pop("began_at") == began[0]
        assert one == {
            "account": "house", "name": "house", "on_limit": "fail", "raises": 0,
            "limits": [
                {"unit": "calls", "allowed": 9, "spent": 3, "held": 0, "left": 6},
                {"unit": "tokens", "allowed": 100, "spent": 30, "held": 0, "left": 70},
            ],
        }  # fmt: skip
        asked = await http.get("/budgets", params={"account": ["nobody's", "house", "house"]})
        assert [one["account"] for one in asked.json()["budgets"]] == ["house"]
        assert (await http.get("/budgets", params={"limit": 0})).status_code == 400
        held = "SELECT account FROM budgets WHERE unit = 'tokens' AND allowed - spent - held < 71"
        assert await rows(held) == [{"account": "house"}]


async def test_a_model_call_says_what_was_left_and_a_callee_under_what_it_was_called(stage: Stage):
    sent = await stage.client.service_send(spend, 2)
    run = await stage.until_status(sent.invocation_id, "completed")
    told = [row["meta"]["budgets"] for row in run["journal"] if "budgets" in row.get("meta", {})]
    began = told[0][0].pop("began")
    told[1][0].pop("began")
    mine = {"depth": 1, "name": "mine", "limits": {"calls": 5, "seconds": 60}, "on_limit": "fail"}
    assert told == [
        [{**mine, "spent": {"calls": calls, "tokens": 10 * calls, "cost": 0.0}}] for calls in (1, 2)
    ]  # fmt: skip
    assert began > 0
    (called,) = [row["invocation_id"] for row in run["journal"] if row.get("of") == "CallId"
                 and not row["invocation_id"].startswith("agentdur")][-1:]  # fmt: skip
    listed = await stage.engine.describe(InvocationId(called)) or {}
    assert listed["target"] == "House/child", listed
    assert listed["journal"][0]["budgets"] == [{"account": "house", "name": "house"}]


async def test_calls_under_way_hold_what_they_may_cost_until_they_could_not_run_any_more(stage: Stage):
    """One hold is of a call that ended without telling."""
    now = int(time.time() * 1000)
    book = Book(
        Limits(tokens=100, name="day"), now, Amounts(2, 30, 0.1),
        {"live": Hold(Amounts(1, 40), now + 60_000), "lost": Hold(Amounts(1, 9), now - 1)}, {"tokens": 50}, 1,
    )  # fmt: skip
    at = ObjectAddress(ACCOUNTS, "day")
    await stage.engine.edit_state(at, {"book": msgspec.json.encode(book)}, None)
    admin = httpx.ASGITransport(create_admin(stage.engine))
    async with httpx.AsyncClient(transport=admin, base_url="http://admin") as http:
        (one,) = (await http.get("/budgets")).json()["budgets"]
    assert one["raises"] == 1
    assert one["limits"] == [{"unit": "tokens", "allowed": 150, "spent": 30, "held": 40, "left": 120}]
    (row,) = (await stage.engine.query("SELECT allowed, spent, held, remaining FROM budgets")).rows
    assert tuple(row) == (150, 30, 49, 120)


async def test_a_limit_of_nothing_is_used_up(stage: Stage):
    book = Book(Limits(calls=0, name="none"))
    await stage.engine.edit_state(ObjectAddress(ACCOUNTS, "none"), {"book": msgspec.json.encode(book)}, None)
    admin = httpx.ASGITransport(create_admin(stage.engine))
    async with httpx.AsyncClient(transport=admin, base_url="http://admin") as http:
        (one,) = (await http.get("/budgets")).json()["budgets"]
    assert one["limits"] == [{"unit": "calls", "allowed": 0, "spent": 0, "held": 0, "left": 0}]
