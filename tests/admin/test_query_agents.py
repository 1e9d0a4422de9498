"""What agents ask models and people, as tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from agentdur import App, Context, Service
from agentdur.admin.app import create_admin
from agentdur.sdk.client import EngineClient
from agentdur.sdk.note import note
from agentdur.sessions import chat
from tests.support.stage import until_it_is

writer = Service("Writer")


@writer.handler()
async def write(ctx: Context, words: int) -> str:
    def ask_model() -> str:
        note(model="m-1", prompt_tokens=words, completion_tokens=2, cost=0.5, latency_ms=30)
        return "text"

    for _ in range(2):
        await ctx.run("draft", ask_model)
    await ctx.run("save", lambda: "saved")
    return "done"


@writer.handler()
async def publish(ctx: Context, title: str) -> bool:
    return bool(await ctx.approval(f"Publish {title}?", {"title": title}, timeout=timedelta(hours=1)))


async def talk(ctx: Any, messages: list[dict[str, Any]]) -> str:
    """Says it again."""
    return str(messages[-1]["content"])


parrot = chat(talk, name="Parrot")


class Desk:
    def __init__(self, client: EngineClient, http: httpx.AsyncClient) -> None:
        self.client, self._http = client, http

    async def ask(self, sql: str) -> list[dict[str, Any]]:
        """The rows."""
        answer = await self._http.post("/query", json={"query": sql}, headers={"accept": "application/json"})
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with App([writer, parrot]).running("memory://") as engine:
        admin = httpx.ASGITransport(create_admin(engine))
        async with httpx.AsyncClient(transport=admin, base_url="http://admin") as http:
            yield Desk(EngineClient(engine), http)


async def test_each_model_call_is_a_row_and_an_invocation_says_their_sum(desk: Desk):
    await desk.client.service_call(write, 100)
    calls = await desk.ask('SELECT * FROM llm_calls ORDER BY "index"')
    assert [(c["model"], c["step"], c["input_tokens"], c["cost"]) for c in calls] == [
        ("m-1", "draft", 100, 0.5)
    ] * 2
    assert calls[0]["latency"] == "PT0.03S"
    (row,) = await desk.ask(
        "SELECT llm_calls, input_tokens, output_tokens, cost, attempts FROM sys_invocation"
    )
    assert row == {"llm_calls": 2, "input_tokens": 200, "output_tokens": 4, "cost": 1.0, "attempts": 1}


async def test_an_approval_is_a_row_before_and_after_it_is_decided(desk: Desk):
    sent = await desk.client.service_send(publish, "News")
    listed = "SELECT id, status, question, payload_json, approved, by FROM approvals"
    await until_it_is(lambda: _count(desk, listed), 1)
    (asked,) = await desk.ask(listed)
    assert asked["status"] == "pending" and asked["question"] == "Publish News?"
    assert asked["payload_json"] == '{"title":"News"}'
    (found,) = await desk.client.approvals()
    await desk.client.approve(found.id, found.digest, by="ann")
    assert await desk.client.attach(sent.invocation_id)
    (decided,) = await desk.ask("SELECT *, deadline - asked_at AS time FROM approvals")
    assert decided["status"] == "approved" and decided["approved"] is True and decided["by"] == "ann"
    assert decided["invocation_id"] == sent.invocation_id
    assert decided["time"] == "PT3600S"


async def test_a_session_is_a_row(desk: Desk):
    await desk.client.object_call(parrot.turn, "s-1", "hello")
    (session,) = await desk.ask("SELECT * FROM sessions")
    assert (session["service_name"], session["session"]) == ("Parrot", "s-1")
    assert (session["turns"], session["messages"]) == (1, 2)


async def test_what_waits_says_on_what(desk: Desk):
    await desk.client.service_send(publish, "News")
    await until_it_is(
        lambda: _count(desk, "SELECT 1 FROM sys_invocation WHERE waiting_on LIKE 'signal approval/%'"), 1
    )


async def _count(desk: Desk, sql: str) -> int:
    return len(await desk.ask(sql))
