"""Models of Google's own API: the same stories, through google-genai."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.google_llm import Gemini
from google.genai import types

from agentdur import Context, Service, TerminalError
from agentdur.integrations.google_adk import DurableRunner
from agentdur.runtime.views import entry_view
from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    DropMidStream,
    Garbage,
    ScriptedLLM,
    Status,
    ToolCall,
    Turn,
)
from tests.google_adk.world import (
    ask,
    asked,
    book,
    calls,
    crash_everywhere,
    events,
    only_invocation,
    run,
    service_of,
    steps,
    weather,
)
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
STREAMED = RunConfig(streaming_mode=StreamingMode.SSE)
MODEL = "gemini-2.5-flash"
TRIP = [calls(("weather", {"city": "Oslo"}), ("book", {"city": "Oslo"})), Turn(text="Rain. Booked.")]


@pytest.fixture(autouse=True)
async def google(llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Where google-genai finds the model."""
    monkeypatch.setenv("GOOGLE_API_KEY", "any")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", llm.url)
    yield


def gemini(model: Any = MODEL, **more: Any) -> LlmAgent:
    return LlmAgent(name="helper", model=model, instruction="Help.", **more)


@IN_MEMORY
async def test_calls_without_ids_get_some_that_a_replay_knows(stage: Stage, llm: ScriptedLLM):
    """The model is given as a name; its answer is priced."""
    llm.replace(TRIP)
    await stage.start(service_of(gemini(tools=[weather, book])))
    assert await ask(stage) == "Rain. Booked."
    invocation = await only_invocation(stage)
    labels = [
        branch.rpartition("/")[2] for branch, name in steps(stage, invocation) if name.startswith("tool:")
    ]
    assert len(set(labels)) == 2
    assert all(label.startswith("tool:adk-") for label in labels)
    metas = [entry_view(entry).get("meta") or {} for _, entry in stage.journal(invocation)]
    models = [meta for meta in metas if meta.get("model")]
    assert [meta["model"] for meta in models] == [MODEL, MODEL]
    assert all(meta["prompt_tokens"] > 0 for meta in models)
    assert all(meta["cost"] is None or meta["cost"] > 0 for meta in models)


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize("config", [RunConfig(), STREAMED], ids=["plain", "streamed"])
async def test_crashed_at_every_commit_each_answer_is_paid_once(
    stage: Stage, llm: ScriptedLLM, config: RunConfig
):
    llm.replace(TRIP)
    runner, service = DurableRunner(app_name="app", agent=gemini(tools=[weather, book])), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        return await run(runner, question, run_config=config)

    await crash_everywhere(stage, llm, service, answer="Rain. Booked.", turns=2, at_once=2)


@IN_MEMORY
@pytest.mark.parametrize("config", [RunConfig(), STREAMED], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    "fault", [Status(status=500), Status(status=429), Garbage(), DropBeforeHeaders()],
    ids=lambda fault: type(fault).__name__ + str(getattr(fault, "status", "")),
)  # fmt: skip
async def test_a_failed_request_is_made_again_by_the_journals_owner_alone(
    stage: Stage, llm: ScriptedLLM, fault: Any, config: RunConfig
):
    """The client was told to retry by itself: it does not."""
    llm.replace([Turn(text="hello", faults=(fault,))])
    retrying = Gemini(model=MODEL, retry_options=types.HttpRetryOptions(initial_delay=0.01, attempts=5))
    runner, service = DurableRunner(app_name="app", agent=gemini(retrying)), Service("Agents")
    tries: list[int] = []

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        tries.append(1)
        return await run(runner, question, run_config=config)

    await stage.start(service)
    assert await ask(stage) == "hello"
    assert (asked(llm), len(tries)) == (2, 2)


@IN_MEMORY
async def test_a_stream_that_breaks_off_is_heard_again(stage: Stage, llm: ScriptedLLM):
    fault = DropMidStream(after_chunks=2)
    llm.replace([Turn(text="hello there, whoever you are", faults=(fault,), chunk_chars=4)])
    runner, service = DurableRunner(app_name="app", agent=gemini()), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        return await run(runner, question, run_config=STREAMED)

    await stage.start(service)
    assert await ask(stage) == "hello there, whoever you are"
    assert asked(llm) == 2


@IN_MEMORY
async def test_a_refusal_is_the_end(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="hello", faults=(Status(status=400),))])
    await stage.start(service_of(gemini()))
    with pytest.raises(TerminalError) as ended:
        await ask(stage)
    assert (ended.value.metadata or {})["kind"] == "model_refused"
    assert asked(llm) == 1


@IN_MEMORY
async def test_a_malformed_call_is_an_error_event(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(tool_calls=(ToolCall(name="weather", arguments="<<"),))])
    runner, service = DurableRunner(app_name="app", agent=gemini(tools=[weather])), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> list[str]:
        heard = [event.error_code async for event in events(runner, question)]
        return [code for code in heard if code]

    await stage.start(service)
    assert await ask(stage) == ["MALFORMED_FUNCTION_CALL"]
