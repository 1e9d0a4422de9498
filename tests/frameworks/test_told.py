"""What is found out beside an answer (why it ended, what was used), whichever framework asks: in the note, in
the stream, in the budget, and the same from the journal."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent as OpenAIAgent
from agents import Runner
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.lite_llm import LiteLlm
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent

from agentdur import Context, Service
from agentdur.core.ports import Filter
from agentdur.integrations import langchain
from agentdur.llm import Budget, budget
from agentdur.runtime.views import entry_view
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, Usage
from tests.frameworks.world import MODEL, TEN, Ask, adk_ask, pydantic_ai
from tests.support.stage import Stage

pytestmark = pytest.mark.parametrize("stage", ["memory"], indirect=True)
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
UNCOUNTED = Usage(prompt_tokens=0, completion_tokens=0)


def _openai(stream: bool) -> Ask:
    agent: Any = OpenAIAgent(name="speaker", model="scripted")

    async def ask(question: str) -> str:
        if not stream:
            return str((await Runner.run(agent, question)).final_output)
        result = Runner.run_streamed(agent, question)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    return ask


def _pydantic(stream: bool) -> Ask:
    durable: Any = pydantic_ai.Durable(stream=stream)
    agent = Agent("openai-chat:scripted", name="speaker", capabilities=[durable])

    async def ask(question: str) -> str:
        return (await agent.run(question)).output

    return ask


def _langchain(stream: bool) -> Ask:
    model = ChatOpenAI(model="scripted", streaming=stream, stream_usage=True)
    agent: Any = create_agent(model, [], middleware=[langchain.Durable("speaker")])

    async def ask(question: str) -> str:
        result = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
        return str(result["messages"][-1].content)

    return ask


def _adk(stream: bool) -> Ask:
    how = RunConfig(streaming_mode=StreamingMode.SSE if stream else StreamingMode.NONE)
    agent = LlmAgent(name="speaker", model=LiteLlm(model=MODEL))
    return adk_ask(agent, run_config=how)


SPEAKERS: dict[str, Callable[[bool], Ask]] = {
    "openai-agents": _openai, "pydantic-ai": _pydantic, "langchain": _langchain, "google-adk": _adk,
}  # fmt: skip
SILENT = {"langchain"}
"""Whose streams only its own callbacks hear."""


REFUSES = "openai-agents"
"""Takes no answer that was cut off: see tests/openai_agents/test_faults.py."""


def replayed(ask: Ask) -> tuple[Service, list[Any]]:
    """A handler that asks under a budget, and fails when it has seen the answer: what it sees then comes from
    the journal."""
    service, seen = Service("Desk"), []

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> str:
        async with budget(ctx, Budget(tokens=10_000)) as account:
            said = await ask(question)
        seen.append((said, account.spent.calls, account.spent.tokens))
        if len(seen) == 1:
            raise RuntimeError("once more")
        return said

    return service, seen


async def played(stage: Stage, service: Service) -> tuple[str, dict[str, Any]]:
    """The invocation, and the note of its one model step."""
    await stage.start(service)
    sent = await stage.client.generic_send("Desk", "ask", json.dumps("go").encode())
    await stage.until_status(sent.invocation_id, "completed")
    rows = stage.store.list(Filter(internal=False))
    shown = [entry_view(entry) for row in rows for _, entry in stage.journal(row.spec.id)]
    (note,) = [entry["meta"] for entry in shown if "model" in entry.get("meta", {})]
    return sent.invocation_id, note


@STREAMED
@pytest.mark.parametrize(
    ("name", "reason"),
    [*((name, "stop") for name in SPEAKERS), *((name, "length") for name in SPEAKERS if name != REFUSES)],
)
async def test_the_reason_for_its_end_is_in_the_note_and_the_stream(
    stage: Stage, llm: ScriptedLLM, *, name: str, stream: bool, reason: Any
):
    llm.replace([Turn(text="well", finish_reason=reason, usage=TEN)])
    service, seen = replayed(SPEAKERS[name](stream))
    invocation, note = await played(stage, service)
    assert note["finish_reason"] == reason
    assert seen == [("well", 1, 10)] * 2
    if stream and name not in SILENT:
        told = [event.data async for event in stage.client.stream(invocation) if event.kind == "chunk"]
        assert [piece["reason"] for piece in told if piece["type"] == "finish"] == [reason]


@STREAMED
@pytest.mark.parametrize("name", SPEAKERS)
async def test_what_nobody_counted_is_counted_alike_by_a_replay(
    stage: Stage, llm: ScriptedLLM, *, name: str, stream: bool
):
    """By the lengths, which are not known any more when the answer comes from the journal."""
    llm.replace([Turn(text="hello " * 40, usage=UNCOUNTED)])
    service, seen = replayed(SPEAKERS[name](stream))
    _, note = await played(stage, service)
    assert seen[0] == seen[1]
    _, calls, tokens = seen[0]
    assert calls == 1
    assert 60 <= tokens == note["prompt_tokens"] + note["completion_tokens"]
