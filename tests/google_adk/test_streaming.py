"""Live text of a run: what readers hear while the model speaks, and what the code sees."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.adk.agents.run_config import RunConfig, StreamingMode

from agentdur import Context, Service
from agentdur.integrations.google_adk import DurableRunner
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.google_adk.world import agent, book, calls, crash_everywhere, events, weather
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
STREAMED = RunConfig(streaming_mode=StreamingMode.SSE)
TRIP = [
    Turn(
        reasoning="Let me see.", text="I look.", chunk_chars=3,
        tool_calls=calls(("weather", {"city": "Oslo"}), ("book", {"city": "Oslo"})).tool_calls,
    ),
    Turn(text="Rain, but booked.", chunk_chars=4),
]  # fmt: skip


def streaming() -> Service:
    """A handler that tells what it saw: a fragment is marked."""
    runner, service = DurableRunner(app_name="app", agent=agent(tools=[weather, book])), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> list[str]:
        seen = []
        async for event in events(runner, question, run_config=STREAMED):
            text = "".join(part.text or "" for part in event.content.parts if not part.thought)
            seen.append(f"{'~' if event.partial else ''}{text}")
        return seen

    return service


SEEN = ["~I look.", "I look.", "", "~Rain, but booked.", "Rain, but booked."]


async def heard(stage: Stage, invocation: str) -> list[Any]:
    """What a reader of the invocation's stream hears, from its beginning to its end."""
    return [event.data async for event in stage.client.stream(invocation) if event.kind == "chunk"]


async def test_readers_hear_pieces_and_the_code_sees_one_fragment(stage: Stage, llm: ScriptedLLM):
    llm.replace(TRIP)
    await stage.start(streaming())
    sent = await stage.client.service_send(stage.services[0].handlers["ask"].fn, "go")
    told = await asyncio.wait_for(heard(stage, sent.invocation_id), 20)
    assert await stage.client.attach(sent.invocation_id) == SEEN
    said = "".join(piece["delta"] for piece in told if piece["type"] == "text")
    assert said == "I look.Rain, but booked."
    assert "".join(piece["delta"] for piece in told if piece["type"] == "reasoning") == "Let me see."
    kinds = [piece["type"] for piece in told]
    assert kinds[0] == "agent"
    assert kinds.count("finish") == 2
    assert {piece["name"] for piece in told if piece["type"] == "tool_result"} == {"weather", "book"}
    arguments = {
        piece["name"]: piece["delta"] for piece in told if piece["type"] == "tool_call" and piece["delta"]
    }
    assert arguments == {"weather": '{"city": "Oslo"}', "book": '{"city": "Oslo"}'}


@pytest.mark.slow
@IN_MEMORY
async def test_crashed_at_every_commit_the_code_sees_the_same(stage: Stage, llm: ScriptedLLM):
    llm.replace(TRIP)
    await crash_everywhere(stage, llm, streaming(), answer=SEEN, turns=2, at_once=2)
