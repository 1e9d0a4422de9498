"""What readers of an invocation see of an agent of Pydantic AI, while it runs and afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("agentdur.integrations.pydantic_ai", exc_type=ImportError)

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import FunctionToolResultEvent, PartDeltaEvent

from agentdur import Context, Service
from agentdur.core.ports import Filter
from agentdur.integrations.pydantic_ai import Durable, durable
from agentdur.testing.scripted_llm import DropMidStream, ScriptedLLM
from tests.agents.pydantic_ai_world import CHAT, IN_MEMORY, World, called, model_server, turns_of
from tests.support.stage import Stage

__all__ = ["model_server"]
pytestmark = IN_MEMORY
LONG = "It rains in Bergen, as it does on most days of the year."


def scout(world: World, capability: Durable[Any] | None) -> Agent[Any, str]:
    agent = Agent(CHAT, name="scout", capabilities=[capability] if capability is not None else [])

    @agent.tool
    def look(ctx: RunContext, at: str) -> str:
        world.did(ctx.tool_call_id)
        return f"rain in {at}"

    return agent


def script(**more: Any) -> list[dict[str, Any]]:
    return [{"tool_calls": [called("look", "c1", at="bergen")]}, {"text": LONG, **more}]


async def streamed(stage: Stage, ask: Any) -> list[Any]:
    """All events of one invocation, read while it runs."""
    service = Service("Agents")
    service.handler(name="ask")(ask)
    await stage.start(service)
    sent = await stage.client.generic_send("Agents", "ask", b'"?"')

    async def read() -> list[Any]:
        return [event async for event in stage.client.stream(sent.invocation_id)]

    return await asyncio.wait_for(read(), 20)


def kept(events: list[Any]) -> list[dict[str, Any]]:
    """The chunks a reader ends with: those of a void attempt are dropped."""
    chunks: list[tuple[tuple[str, str, int], Any]] = []
    for event in events:
        place = (event.step, event.branch, event.run)
        if event.kind == "void":
            chunks = [chunk for chunk in chunks if chunk[0] != place]
        elif event.kind == "chunk":
            chunks.append((place, event.data))
    return [data for _, data in chunks]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text")


@pytest.mark.parametrize("how", ["run_stream", "stream=True", "handler"])
async def test_text_calls_and_results_are_told_in_their_order(
    stage: Stage, model_server: ScriptedLLM, how: str
):
    model_server.replace(script())
    deltas: list[Any] = []

    async def seen(ctx: Any, events: Any) -> None:
        async for event in events:
            if isinstance(event, PartDeltaEvent | FunctionToolResultEvent):
                deltas.append(event)

    agent = scout(World(), None if how == "handler" else Durable(stream=how == "stream=True"))

    async def ask(ctx: Context, question: str) -> str:
        if how == "run_stream":
            async with agent.run_stream(question) as result:
                return str(await result.get_output())
        if how == "handler":
            return str((await durable(agent).run(question, event_stream_handler=seen)).output)
        return str((await agent.run(question)).output)

    chunks = kept(await streamed(stage, ask))
    kinds = [chunk["type"] for chunk in chunks]
    assert list(dict.fromkeys(kinds)) == ["tool_call", "finish", "tool_result", "text"]
    assert text_of(chunks) == LONG
    (result,) = [chunk for chunk in chunks if chunk["type"] == "tool_result"]
    assert result == {
        "type": "tool_result", "id": "c1", "name": "look", "content": "rain in bergen", "failed": False,
    }  # fmt: skip
    finish = chunks[-1]
    assert (finish["type"], finish["reason"], finish["model"]) == ("finish", "stop", "scripted")
    assert finish["usage"]["completion_tokens"] > 0
    if how == "handler":
        assert len(deltas) > 2  # live pieces, and the tool's result


async def test_a_stream_that_breaks_off_is_void_and_the_text_is_told_once(
    stage: Stage, model_server: ScriptedLLM
):
    model_server.replace(script(faults=[DropMidStream(after_chunks=3)], chunk_delay_ms=20))
    agent = scout(World(), Durable(stream=True))

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    events = await streamed(stage, ask)
    assert turns_of(model_server) == {0: 1, 1: 2}
    assert text_of(kept(events)) == LONG
    assert "void" in [event.kind for event in events]


async def test_who_comes_late_reads_the_same_from_the_journal(stage: Stage, model_server: ScriptedLLM):
    model_server.replace(script())
    agent = scout(World(), Durable(stream=True))

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    live = await streamed(stage, ask)
    await stage.restart()
    (row,) = await stage.engine.list(Filter(internal=False))
    late = [event async for event in stage.client.stream(row["id"])]
    assert text_of(kept(late)) == text_of(kept(live)) == LONG
