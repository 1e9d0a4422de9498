"""An agent's run in OpenTelemetry's words for generative AI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.agent import Agent, run_agent
from agentdur.telemetry.genai import provider
from agentdur.telemetry.span import CLIENT, INTERNAL, Span
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn
from agentdur.tools import tool
from tests.agents.conftest import llm
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Stage
from tests.telemetry.world import keeping

__all__ = ["llm"]

QUESTION = "What does a lamp cost in Oslo?"
PLAY = [
    Turn(tool_calls=(ToolCall(name="price", arguments={"article": "lamp"}),)),
    Turn(text="A lamp costs 42 crowns."),
]


@tool
async def price(article: str) -> str:
    """The price of an article."""
    return f"{article}: 42"


seller = Agent(name="seller", model="openai/gpt-5-mini", instructions="Be brief.", tools=[price])
desk = Service("Desk")


@desk.handler()
async def ask(ctx: Context, question: str) -> str:
    return str((await run_agent(ctx, seller, question)).output)


@pytest.fixture
def play(llm: ScriptedLLM) -> Iterator[ScriptedLLM]:
    llm.replace(PLAY)
    yield llm


async def asked(stage: Stage, **how: Any) -> list[Span]:
    telemetry, kept = keeping(**how)
    await stage.start(desk, observer=telemetry)
    assert await stage.client.service_call(ask, QUESTION) == PLAY[1].text
    telemetry.drain()
    return kept.spans


@IN_MEMORY_AT_ONCE
@pytest.mark.slow
async def test_model_and_tool_steps_follow_the_conventions(stage: Stage, play: ScriptedLLM):
    spans = await asked(stage)
    first, tool_span, second, _ = spans
    about = dict(first.attributes)
    assert (first.name, first.kind) == ("chat openai/gpt-5-mini", CLIENT)
    assert about["gen_ai.operation.name"] == "chat"
    assert about["gen_ai.provider.name"] == "openai"
    assert about["gen_ai.request.model"] == "openai/gpt-5-mini"
    assert "gpt-5-mini" in str(about["gen_ai.response.model"])
    assert about["gen_ai.agent.name"] == "seller"
    assert about["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert isinstance(about["gen_ai.usage.input_tokens"], int)
    assert isinstance(about["gen_ai.usage.output_tokens"], int)
    assert dict(second.attributes)["gen_ai.response.finish_reasons"] == ("stop",)
    of_tool = dict(tool_span.attributes)
    assert (tool_span.name, tool_span.kind) == ("execute_tool price", INTERNAL)
    assert of_tool["gen_ai.operation.name"] == "execute_tool"
    assert (of_tool["gen_ai.tool.name"], of_tool["gen_ai.agent.name"]) == ("price", "seller")
    assert of_tool["gen_ai.tool.call.id"]
    said = repr(spans)
    for private in (QUESTION, "crowns", "lamp: 42", "Be brief", '"article"'):
        assert private not in said


@IN_MEMORY_AT_ONCE
async def test_what_was_said_is_there_when_it_may_be(stage: Stage, play: ScriptedLLM):
    first, tool_span, second, whole = await asked(stage, content="all")
    told = json.loads(dict(first.attributes)["gen_ai.input.messages"])  # type: ignore[arg-type]  # text
    assert [message["role"] for message in told] == ["system", "user"]
    assert told[1]["parts"] == [{"type": "text", "content": QUESTION}]
    (said,) = json.loads(dict(first.attributes)["gen_ai.output.messages"])  # type: ignore[arg-type]  # text
    (call,) = said["parts"]
    assert (call["type"], call["name"], said["finish_reason"]) == ("tool_call", "price", "tool_calls")
    of_tool = dict(tool_span.attributes)
    assert json.loads(str(of_tool["gen_ai.tool.call.arguments"])) == {"article": "lamp"}
    assert "lamp: 42" in str(of_tool["gen_ai.tool.call.result"])
    told = json.loads(dict(second.attributes)["gen_ai.input.messages"])  # type: ignore[arg-type]  # text
    assert told[-1]["parts"][0]["type"] == "tool_call_response"
    assert QUESTION in str(dict(whole.attributes)["agentdur.input"])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/gpt-5", "openai"), ("gpt-5", "openai"), ("claude-opus-4", "anthropic"), ("ours", ""),
        ("bedrock/anthropic.claude", "aws.bedrock"), ("mistral/large", "mistral_ai"), ("groq/llama", "groq"),
    ],
)  # fmt: skip
def test_providers_have_the_names_of_the_conventions(model: str, name: str):
    assert provider(model) == name
