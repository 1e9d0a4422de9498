"""`Runner.run_streamed` in a handler: deltas go out live, the code sees the journaled answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from agents import Agent, Runner
from agents.result import RunResultStreaming

from agentdur import Context, Service
from agentdur.sdk.exceptions import RetryableError
from agentdur.testing.scripted_llm import DropMidStream, ScriptedLLM, Turn
from tests.openai_agents.test_approvals import pay
from tests.openai_agents.test_many_agents import ROUND_TRIP, circle
from tests.openai_agents.world import LEDGER, ask, asked, calls, crash_everywhere, weather
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
TRAVELLER = Agent(name="Traveller", instructions="Plan.", tools=[weather])
CITIES = [
    Turn(
        reasoning="Look first.",
        text="I look.",
        tool_calls=calls(("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})).tool_calls,
    ),
    Turn(text="Go to Rome, it is dry.", chunk_chars=3),
]


def streamed(agent: Agent[Any], seen: list[list[str]], attempts: int = 1) -> Service:
    """A handler that streams, and keeps what it saw in each attempt; the first ones end early."""
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        mine: list[str] = []
        seen.append(mine)
        result = Runner.run_streamed(agent, question)
        assert isinstance(result, RunResultStreaming)
        async for event in result.stream_events():
            mine.append(described(event))
        if len(seen) < attempts:
            raise RetryableError("once more")
        return result.final_output

    return service


def described(event: Any) -> str:
    if event.type == "raw_response_event":
        return f"{event.data.type} {getattr(event.data, 'delta', '')}".strip()
    return str(getattr(event, "name", event.type))


@IN_MEMORY
async def test_the_code_sees_the_same_events_on_a_replay(stage: Stage, llm: ScriptedLLM):
    llm.replace(CITIES)
    seen: list[list[str]] = []
    await stage.start(streamed(TRAVELLER, seen, attempts=2))
    assert await ask(stage) == "Go to Rome, it is dry."
    assert asked(llm) == 2
    first, again = seen
    assert first == again
    texts = [line for line in first if line.startswith("response.output_text.delta")]
    assert texts == [
        "response.output_text.delta I look.",
        "response.output_text.delta Go to Rome, it is dry.",
    ]
    assert "response.reasoning_summary_text.delta Look first." in first
    assert 'response.function_call_arguments.delta {"city":"Oslo"}' in first
    assert [first.count(name) for name in ("tool_called", "tool_output", "message_output_created")] == [
        2,
        2,
        2,
    ]


async def heard(stage: Stage, invocation: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What a reader of the stream is told until its end: the live chunks, and what became of them."""
    chunks: list[dict[str, Any]] = []
    kinds: list[str] = []
    async for event in stage.client.stream(invocation):
        kinds.append(event.kind)
        if event.kind == "chunk":
            chunks.append(event.data)
    return chunks, kinds


def joined(chunks: Sequence[dict[str, Any]], kind: str) -> str:
    return "".join(chunk.get("delta", "") for chunk in chunks if chunk["type"] == kind)


@IN_MEMORY
async def test_deltas_go_out_while_the_model_speaks(stage: Stage, llm: ScriptedLLM):
    """In agentdur's own words: text, reasoning, calls, results, and the end of each answer."""
    llm.replace(CITIES)
    seen: list[list[str]] = []
    service = streamed(TRAVELLER, seen)
    await stage.start(service)
    sent = await stage.client.service_send(service.handlers["ask"].fn, "go")
    chunks, kinds = await asyncio.wait_for(heard(stage, sent.invocation_id), 20)
    assert joined(chunks, "text") == "I look.Go to Rome, it is dry."
    assert joined(chunks, "reasoning") == "Look first."
    assert joined(chunks, "tool_call") == '{"city":"Oslo"}{"city":"Rome"}'
    results = [(c["name"], c["content"]) for c in chunks if c["type"] == "tool_result"]
    assert sorted(results) == [("weather", "rain in Oslo"), ("weather", "rain in Rome")]
    assert [c["reason"] for c in chunks if c["type"] == "finish"] == ["tool_calls", "stop"]
    assert [c["name"] for c in chunks if c["type"] == "agent"] == ["Traveller"]
    assert "void" not in kinds


@IN_MEMORY
async def test_a_stream_that_breaks_off_is_void_for_its_readers(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="Whole answer.", chunk_chars=2, faults=(DropMidStream(after_chunks=6),))])
    seen: list[list[str]] = []
    service = streamed(Agent(name="A"), seen)
    await stage.start(service)
    sent = await stage.client.service_send(service.handlers["ask"].fn, "go")
    text = ""
    async for event in stage.client.stream(sent.invocation_id):
        if event.kind == "void":
            text = ""
        elif event.kind == "chunk" and event.data["type"] == "text":
            text += event.data["delta"]
    assert text == "Whole answer."
    assert await stage.client.attach(sent.invocation_id) == "Whole answer."
    assert asked(llm) == 2


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize("agent", ["tools", "circle"])
async def test_crashed_at_every_commit_a_streamed_run_answers_the_same(
    stage: Stage, llm: ScriptedLLM, agent: str
):
    seen: list[list[str]] = []
    if agent == "tools":
        llm.replace(CITIES)
        service = streamed(TRAVELLER, seen)
        await crash_everywhere(stage, llm, service, answer="Go to Rome, it is dry.", turns=2, at_once=2)
    else:
        llm.replace(ROUND_TRIP)
        await crash_everywhere(stage, llm, streamed(circle(), seen), answer="Have a nice trip.", turns=4)
    whole = max(seen, key=len)
    assert all(mine == whole[: len(mine)] for mine in seen)


@IN_MEMORY
async def test_a_streamed_run_is_parked_and_its_events_go_on(stage: Stage, llm: ScriptedLLM):
    LEDGER.clear()
    llm.replace([calls(("pay", {"euros": 7})), Turn(text="Done.")])
    seen: list[list[str]] = []
    await stage.start(streamed(Agent(name="Cashier", tools=[pay]), seen))
    asking = asyncio.ensure_future(ask(stage))
    await stage.questions()
    asking.cancel()
    await stage.restart()
    await stage.decide()
    assert await ask(stage) == "Done."
    assert LEDGER == {"pay 7": 1}
    assert asked(llm) == 2
    assert "tool_output" in seen[-1]
    assert seen[-1][-1] == "message_output_created"
