"""Models that misbehave and tools that break: retried by one owner, or told, or the end."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from pydantic import BaseModel

from agentdur import Context, RunOptions, Service, TerminalError
from agentdur.integrations.google_adk import Durability, DurableRunner
from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    DropMidStream,
    EmptyChoices,
    Garbage,
    Hang,
    NoFinish,
    ScriptedLLM,
    Status,
    ToolCall,
    Turn,
    requests,
)
from tests.google_adk.world import LEDGER, agent, ask, asked, calls, events, run, service_of, weather
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
STREAMED = RunConfig(streaming_mode=StreamingMode.SSE)
QUICKLY = Durability(model_timeout=timedelta(milliseconds=300))


def once(fault: Any) -> list[Turn]:
    """The first request meets the fault."""
    return [Turn(text="hello", faults=(fault,))]


@IN_MEMORY
@pytest.mark.parametrize(
    "fault",
    [
        Status(status=500), Status(status=429), Status(status=503), Garbage(), EmptyChoices(),
        DropBeforeHeaders(), Hang(),
    ],
    ids=lambda fault: type(fault).__name__ + str(getattr(fault, "status", "")),
)  # fmt: skip
async def test_a_failed_request_is_made_again_by_the_journals_owner_alone(
    stage: Stage, llm: ScriptedLLM, fault: Any
):
    """Two requests on the wire, each of an attempt of its own."""
    llm.replace(once(fault))
    runner, service = DurableRunner(app_name="app", agent=agent(), durability=QUICKLY), Service("Agents")
    tries: list[int] = []

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        tries.append(1)
        return await run(runner, question)

    await stage.start(service)
    assert await ask(stage) == "hello"
    assert (asked(llm), len(tries)) == (2, 2)
    assert not any(entry.retry_count for entry in requests(llm.ledger()))


@IN_MEMORY
@pytest.mark.parametrize(
    "fault", [DropMidStream(after_chunks=2), NoFinish(after_chunks=2), Status(status=500), Garbage()],
    ids=lambda fault: type(fault).__name__,
)  # fmt: skip
async def test_a_broken_stream_is_heard_again(stage: Stage, llm: ScriptedLLM, fault: Any):
    """What ends without a reason to finish is no answer, though ADK would take it for one."""
    llm.replace([Turn(text="hello there, whoever you are", faults=(fault,), chunk_chars=4)])
    runner, service = DurableRunner(app_name="app", agent=agent()), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        return await run(runner, question, run_config=STREAMED)

    await stage.start(service)
    assert await ask(stage) == "hello there, whoever you are"
    assert asked(llm) == 2


@IN_MEMORY
async def test_a_time_to_wait_is_kept(stage: Stage, llm: ScriptedLLM):
    llm.replace(once(Status(status=429, retry_after_s=0.25)))
    await stage.start(service_of(agent()))
    began = time.monotonic()
    assert await ask(stage) == "hello"
    assert time.monotonic() - began >= 0.25


@IN_MEMORY
@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_refusal_is_the_end(stage: Stage, llm: ScriptedLLM, status: int):
    llm.replace(once(Status(status=status)))
    await stage.start(service_of(agent()))
    with pytest.raises(TerminalError) as ended:
        await ask(stage)
    assert (ended.value.status_code, (ended.value.metadata or {})["kind"]) == (status, "model_refused")
    assert asked(llm) == 1


@IN_MEMORY
async def test_a_refusal_may_be_answered_by_a_callback(stage: Stage, llm: ScriptedLLM):
    def sorry(callback_context: Any, llm_request: Any, error: Exception) -> LlmResponse:
        assert isinstance(error, TerminalError)
        return LlmResponse(content=types.Content(role="model", parts=[types.Part(text="Sorry.")]))

    llm.replace(once(Status(status=400)))
    await stage.start(service_of(agent(on_model_error_callback=sorry)))
    assert await ask(stage) == "Sorry."


@IN_MEMORY
async def test_an_unknown_tool_and_wrong_arguments_are_told_to_the_model(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("whether", {})), calls(("weather", {"town": "Oslo"})), Turn(text="I see.")])
    await stage.start(service_of(agent(tools=[weather])))
    assert await ask(stage) == "I see."
    said = [str(m["content"]) for m in llm.bodies()[-1]["messages"] if m["role"] == "tool"]
    assert "no tool with that name" in said[0]
    assert "mandatory" in said[1]
    assert LEDGER == {}


@IN_MEMORY
@pytest.mark.parametrize("config", [RunConfig(), STREAMED], ids=["plain", "streamed"])
async def test_arguments_that_are_no_json_are_an_error_event(
    stage: Stage, llm: ScriptedLLM, config: RunConfig
):
    """As ADK has it: no tool runs, and the code sees why."""
    llm.replace([Turn(tool_calls=(ToolCall(name="weather", arguments='{"city": <<'),))])
    runner, service = DurableRunner(app_name="app", agent=agent(tools=[weather])), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> list[str]:
        return [
            event.error_code
            async for event in events(runner, question, run_config=config)
            if event.error_code
        ]

    await stage.start(service)
    assert await ask(stage) == ["MALFORMED_FUNCTION_CALL"]
    assert (LEDGER, asked(llm)) == ({}, 1)


def broken(city: str) -> str:
    """Never works."""
    LEDGER["broken"] += 1
    raise ValueError(f"no {city}")


@IN_MEMORY
async def test_a_tool_that_raises_is_tried_again_and_then_ends_the_invocation(stage: Stage, llm: ScriptedLLM):
    """What its fellow of the same turn did is not done again."""
    llm.replace([calls(("broken", {"city": "Oslo"}), ("weather", {"city": "Oslo"})), Turn(text="Never.")])
    how = Durability(
        tool_options=RunOptions(max_attempts=2, initial_retry_interval=timedelta(milliseconds=1))
    )
    await stage.start(service_of(agent(tools=[broken, weather]), durability=how))
    with pytest.raises(TerminalError, match="no Oslo"):
        await ask(stage)
    assert LEDGER == {"broken": 2, "weather Oslo": 1}
    assert asked(llm) == 1


@IN_MEMORY
async def test_a_callback_tells_the_model_of_a_tool_that_raises(stage: Stage, llm: ScriptedLLM):
    def told(tool: Any, args: Any, tool_context: Any, error: Exception) -> dict[str, str]:
        return {"error": f"it did not work: {error}"}

    llm.replace([calls(("broken", {"city": "Oslo"})), Turn(text="I see.")])
    how = Durability(tool_options=RunOptions(max_attempts=1))
    await stage.start(service_of(agent(tools=[broken], on_tool_error_callback=told), durability=how))
    assert await ask(stage) == "I see."
    assert "it did not work" in str(llm.bodies()[-1]["messages"][-1]["content"])


class Verdict(BaseModel):
    """What a judge says."""

    good: bool


@IN_MEMORY
async def test_an_answer_that_does_not_fit_and_too_many_calls_end_the_invocation(
    stage: Stage, llm: ScriptedLLM
):
    """With ADK's own classes: asked again, the journal would give the same."""
    llm.replace([Turn(text='{"good": "perhaps"}')])
    await stage.start(service_of(agent(output_schema=Verdict, output_key="verdict")))
    with pytest.raises(TerminalError, match="good"):
        await ask(stage)
    await stage.close()
    stage.fresh()
    llm.replace([calls(("weather", {"city": "Oslo"})), Turn(text="Never.")])
    runner, service = DurableRunner(app_name="app", agent=agent(tools=[weather])), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        return await run(runner, question, run_config=RunConfig(max_llm_calls=1))

    await stage.start(service)
    with pytest.raises(TerminalError, match="1") as ended:
        await ask(stage)
    assert (ended.value.metadata or {})["kind"] == "LlmCallsLimitExceededError"


@IN_MEMORY
async def test_results_without_a_json_form_are_told_as_text(stage: Stage, llm: ScriptedLLM):
    """The same words on the first run as on a replay."""

    class Odd:
        """No data."""

        def __repr__(self) -> str:
            return "an odd thing"

    def fetch() -> Any:
        """Fetch it."""
        return {"thing": Odd(), "when": Verdict(good=True), "image": types.Part.from_text(text="pixels")}

    llm.replace([calls(("fetch", {})), Turn(text="Odd.")])
    await stage.start(service_of(agent(tools=[fetch])))
    assert await ask(stage) == "Odd."
    said = str(llm.bodies()[-1]["messages"][-1]["content"])
    assert "an odd thing" in said and "good" in said
