"""What can go wrong under an agent of Pydantic AI, on the wire and in its tools."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

pytest.importorskip("agentdur.integrations.pydantic_ai", exc_type=ImportError)

from pydantic_ai import Agent, RunContext
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.models import infer_model
from pydantic_ai.models.fallback import FallbackModel

from agentdur import Context, Service, TerminalError
from agentdur.integrations.pydantic_ai import Durable
from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    DropMidStream,
    EmptyChoices,
    Fault,
    Garbage,
    Hang,
    ScriptedLLM,
    Status,
    requests,
)
from tests.agents.pydantic_ai_world import CHAT, IN_MEMORY, World, called, model_server, turns_of
from tests.support.cancelling import cancel, ended_cancelled
from tests.support.stage import Stage, until

__all__ = ["model_server"]
pytestmark = IN_MEMORY


def streaming(agent: Agent[Any, str]) -> Callable[[Context, str], Any]:
    async def ask(ctx: Context, question: str) -> str:
        async with agent.run_stream(question) as result:
            return "".join([delta async for delta in result.stream_text(delta=True)])

    return ask


def running(agent: Agent[Any, str]) -> Callable[[Context, str], Any]:
    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    return ask


async def answered(stage: Stage, ask: Callable[[Context, str], Any]) -> str:
    service = Service("Agents")
    service.handler(name="ask")(ask)
    await stage.start(service)
    shown = await stage.client.generic_call("Agents", "ask", b'"?"')
    return shown.decode().strip('"')


LOST: list[Fault] = [Status(status=500), DropBeforeHeaders(), Garbage(), Hang()]


@pytest.mark.parametrize("fault", [*LOST, EmptyChoices(), DropMidStream()], ids=lambda f: type(f).__name__)
async def test_a_lost_answer_is_asked_for_again_and_nothing_else_is(
    stage: Stage, model_server: ScriptedLLM, fault: Fault
):
    model_server.replace(
        [{"tool_calls": [called("look", "c1")]}, {"text": "a rather long answer", "faults": [fault]}]
    )
    world = World()
    agent = Agent(CHAT, name="patient", capabilities=[Durable(model_timeout=timedelta(seconds=1.5))])
    agent.tool(_looking(world), name="look")
    assert await answered(stage, running(agent)) == "a rather long answer"
    assert turns_of(model_server) == {0: 1, 1: 2}
    assert world.lines == ["c1"]
    assert {entry.retry_count for entry in requests(model_server.ledger())} == {0}


@pytest.mark.parametrize("fault", [*LOST, DropMidStream()], ids=lambda f: type(f).__name__)
async def test_a_lost_stream_is_asked_for_again_and_its_text_is_told_once(
    stage: Stage, model_server: ScriptedLLM, fault: Fault
):
    model_server.replace(
        [{"tool_calls": [called("look", "c1")]}, {"text": "a rather long answer", "faults": [fault]}]
    )
    world = World()
    agent = Agent(CHAT, name="patient", capabilities=[Durable(model_timeout=timedelta(seconds=1.5))])
    agent.tool(_looking(world), name="look")
    assert await answered(stage, streaming(agent)) == "a rather long answer"
    assert turns_of(model_server) == {0: 1, 1: 2}
    assert world.lines == ["c1"]


async def test_a_busy_provider_is_asked_when_it_said(stage: Stage, model_server: ScriptedLLM):
    model_server.replace([{"text": "now", "faults": [Status(status=429, retry_after_s=0.4)]}])
    agent = Agent(CHAT, name="polite", capabilities=[Durable()])
    began = time.monotonic()
    assert await answered(stage, running(agent)) == "now"
    assert time.monotonic() - began >= 0.4
    assert turns_of(model_server) == {0: 2}


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_what_the_provider_refuses_ends_the_invocation_at_once(
    stage: Stage, model_server: ScriptedLLM, status: int
):
    fault = Status(status=status, message="certainly not", times=None)
    model_server.replace([{"text": "never", "faults": [fault]}])
    agent = Agent(CHAT, name="refused", capabilities=[Durable()])
    with pytest.raises(TerminalError, match="certainly not") as ended:
        await answered(stage, running(agent))
    assert ended.value.status_code == status
    assert (ended.value.metadata or {})["kind"] == "model_refused"
    assert turns_of(model_server) == {0: 1}


async def test_a_refusal_is_caught_as_the_framework_has_it(stage: Stage, model_server: ScriptedLLM):
    model_server.replace([{"text": "never", "faults": [Status(status=401, message="no key", times=None)]}])
    agent = Agent(CHAT, name="refused", capabilities=[Durable()])

    async def ask(ctx: Context, question: str) -> str:
        try:
            return (await agent.run(question)).output
        except ModelHTTPError as error:
            assert isinstance(error, ModelAPIError)
            assert isinstance(error, TerminalError)
            assert error.model_name == "scripted"
            return f"caught {error.status_code}"

    assert await answered(stage, ask) == "caught 401"


async def test_a_spent_quota_is_no_reason_to_wait(stage: Stage, model_server: ScriptedLLM):
    spent = Status(status=429, code="insufficient_quota", message="pay first", times=None)
    model_server.replace([{"text": "never", "faults": [spent]}])
    agent = Agent(CHAT, name="poor", capabilities=[Durable()])
    with pytest.raises(TerminalError, match="pay first"):
        await answered(stage, running(agent))
    assert turns_of(model_server) == {0: 1}


async def test_when_every_fallback_refuses_the_invocation_ends(stage: Stage, model_server: ScriptedLLM):
    fault = Status(status=400, message="no", times=None)
    model_server.replace([{"text": "never", "faults": [fault]}])
    models = FallbackModel(infer_model("openai-chat:one"), infer_model("openai-chat:two"))
    agent = Agent(models, name="alone", capabilities=[Durable()])
    with pytest.raises(TerminalError):
        await answered(stage, running(agent))
    assert turns_of(model_server) == {0: 2}


async def test_an_unknown_tool_and_broken_arguments_are_told_to_the_model(
    stage: Stage, model_server: ScriptedLLM
):
    model_server.replace(
        [
            {"tool_calls": [called("nothing", "n1")]},
            {"tool_calls": [{"name": "look", "id": "l1", "arguments": '{"at": '}]},
            {"tool_calls": [called("look", "l2", at=["not", "text"])]},
            {"tool_calls": [called("look", "l3", at="there")]},
            {"text": "found"},
        ]
    )
    world = World()
    agent = Agent(CHAT, name="lenient", retries=5, capabilities=[Durable()])

    @agent.tool
    def look(ctx: RunContext, at: str) -> str:
        world.did(ctx.tool_call_id)
        return at

    assert await answered(stage, running(agent)) == "found"
    assert world.lines == ["l3"]
    assert turns_of(model_server) == dict.fromkeys(range(5), 1)


async def test_a_model_that_never_gets_it_right_ends_the_invocation_once(
    stage: Stage, model_server: ScriptedLLM
):
    model_server.replace([{"tool_calls": [called("nothing", f"n{n}")]} for n in range(4)])
    agent = Agent(CHAT, name="strict", retries=1, capabilities=[Durable()])
    caught: list[bool] = []

    async def ask(ctx: Context, question: str) -> str:
        try:
            return (await agent.run(question)).output
        except UnexpectedModelBehavior as error:
            caught.append(isinstance(error, TerminalError))
            raise

    with pytest.raises(TerminalError):
        await answered(stage, ask)
    assert caught == [True]


@pytest.mark.parametrize("returned", [object(), {"at": {1, object()}}], ids=["object", "nested"])
async def test_a_tool_that_returns_what_has_no_json_ends_the_invocation_and_says_so(
    stage: Stage, model_server: ScriptedLLM, returned: Any
):
    model_server.replace([{"tool_calls": [called("odd", "o1")]}])
    world = World()
    agent = Agent(CHAT, name="odd", capabilities=[Durable()])

    @agent.tool
    def odd(ctx: RunContext) -> Any:
        world.did(ctx.tool_call_id)
        return returned

    with pytest.raises(TerminalError, match="AD0032"):
        await answered(stage, running(agent))
    assert world.lines == ["o1"]


async def test_ten_megabytes_from_a_tool_are_journaled_and_told(stage: Stage, model_server: ScriptedLLM):
    model_server.replace([{"tool_calls": [called("big", "b1")]}, {"text": "a lot"}])
    agent = Agent(CHAT, name="big", capabilities=[Durable()])
    agent.tool_plain(lambda: "x" * 10_000_000, name="big")
    assert await answered(stage, running(agent)) == "a lot"
    (told,) = [m for m in model_server.bodies()[-1]["messages"] if m["role"] == "tool"]
    assert len(told["content"]) == 10_000_000


async def test_a_cancelled_invocation_stops_its_agent_and_closes_the_request(
    stage: Stage, model_server: ScriptedLLM
):
    model_server.replace([{"text": "late", "delay_ms": 60_000}])
    agent = Agent(CHAT, name="stopped", capabilities=[Durable()])
    service = Service("Agents")
    service.handler(name="ask")(running(agent))
    await stage.start(service)
    sent = await stage.client.generic_send("Agents", "ask", b'"?"')
    await until(lambda: turns_of(model_server)[0] == 1, "the request")
    await cancel(stage, sent)
    await ended_cancelled(stage, sent)
    await until(
        lambda: requests(model_server.ledger())[-1].outcome == "client_gone", "the end of the request"
    )
    assert turns_of(model_server) == {0: 1}


def _looking(world: World) -> Any:
    def look(ctx: RunContext) -> str:
        world.did(ctx.tool_call_id)
        return "seen"

    return look
