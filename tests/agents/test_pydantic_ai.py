"""Agents of Pydantic AI in handlers: what is journaled, what is refused, what stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("agentdur.integrations.pydantic_ai", exc_type=ImportError)

from pydantic_ai import Agent, FunctionToolset, ModelRetry, RunContext
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.models import infer_model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.usage import UsageLimits

from agentdur import Context, Service, TerminalError
from agentdur.core.errors import NotInHandler
from agentdur.integrations.pydantic_ai import Durable, durable
from agentdur.integrations.pydantic_ai_errors import BadToolOptions, InlineToolNotAsync, ToolsetWithoutId
from agentdur.sdk.step import current_context
from agentdur.testing.scripted_llm import ScriptedLLM, Status, requests
from tests.agents.pydantic_ai_world import (
    CHAT,
    IN_MEMORY,
    World,
    called,
    journal,
    model_server,
    turns_of,
)
from tests.support.stage import Stage

__all__ = ["model_server"]
pytestmark = IN_MEMORY


def served(ask: Callable[[Context, str], Any]) -> Service:
    service = Service("Agents")
    service.handler(name="ask")(ask)
    return service


async def answered(stage: Stage, ask: Callable[[Context, str], Any]) -> Any:
    await stage.start(served(ask))
    shown = await stage.client.generic_call("Agents", "ask", b'"?"')
    return shown.decode().strip('"')


def steps(stage: Stage) -> list[tuple[str, str]]:
    return [(entry["name"], entry.get("branch", "")) for entry in journal(stage) if entry["kind"] == "Run"]


async def test_the_steps_have_the_framework_s_names_and_branches_of_their_own(
    stage: Stage, model_server: ScriptedLLM
):
    model_server.replace([{"tool_calls": [called("look", "c1", at="x")]}, {"text": "seen"}])
    agent = Agent(CHAT, name="scout", capabilities=[Durable()])

    @agent.tool_plain
    def look(at: str) -> str:
        return at * 3

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    assert await answered(stage, ask) == "seen"
    assert steps(stage) == [
        ("scout__model.request", "agent:scout/model"),
        ("scout__function_toolset__<agent>.call_tool:look", "agent:scout/tool:c1"),
        ("scout__model.request", "agent:scout/model#1"),
    ]
    metas = [entry["meta"] for entry in journal(stage) if entry.get("meta")]
    assert metas[0]["model"] == "scripted" and metas[0]["prompt_tokens"] > 0
    assert metas[1] == {"tool": "look", "tool_call_id": "c1"}


async def test_two_tools_that_wait_for_each_other_both_end(stage: Stage, model_server: ScriptedLLM):
    calls = [called("meet", "a", fellow="b"), called("meet", "b", fellow="a")]
    model_server.replace([{"tool_calls": calls}, {"text": "met"}])
    world, agent = World(), Agent(CHAT, name="pair", capabilities=[Durable()])

    @agent.tool
    async def meet(ctx: RunContext, fellow: str) -> str:
        await world.together(ctx.tool_call_id, fellow)
        return "met"

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    assert await answered(stage, ask) == "met"


async def test_a_tool_that_wants_another_try_does_not_disturb_the_one_beside_it(
    stage: Stage, model_server: ScriptedLLM
):
    first = [called("picky", "p1", city="x"), called("slow", "s1")]
    model_server.replace(
        [{"tool_calls": first}, {"tool_calls": [called("picky", "p2", city="Oslo")]}, {"text": "ok"}]
    )
    world, agent = World(), Agent(CHAT, name="picky", capabilities=[Durable()])

    @agent.tool
    async def picky(ctx: RunContext, city: str) -> str:
        world.did(ctx.tool_call_id)
        if len(city) < 2:
            raise ModelRetry("a whole name, please")
        return city

    @agent.tool
    async def slow(ctx: RunContext) -> str:
        await asyncio.sleep(0.05)
        world.did(ctx.tool_call_id)
        return "slowly"

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    assert await answered(stage, ask) == "ok"
    assert world.lines == ["p1", "s1", "p2"]
    said = [message for message in model_server.bodies()[1]["messages"] if message["role"] == "tool"]
    assert "a whole name, please" in said[0]["content"] and said[1]["content"] == "slowly"


async def test_outside_of_a_handler_a_run_is_refused(model_server: ScriptedLLM, stage: Stage):
    agent = Agent(CHAT, name="lost", capabilities=[Durable()])
    plain = Agent(CHAT, name="lost")
    for one in (agent, durable(plain)):
        with pytest.raises(NotInHandler):
            await one.run("?")
        with pytest.raises(NotInHandler):
            async with one.run_stream("?"):
                pass
        with pytest.raises(NotInHandler):
            async with one.iter("?"):
                pass
    assert not requests(model_server.ledger())
    free = Agent(CHAT, name="free", capabilities=[Durable(allow_ephemeral=True)])
    assert (await free.run("?")).output == "hello"


async def test_a_model_is_given_as_a_name_as_an_instance_and_to_the_run(
    stage: Stage, model_server: ScriptedLLM
):
    instance, other = infer_model(CHAT), infer_model("openai-chat:other")
    agent = Agent(instance, name="many", capabilities=[Durable()])

    async def ask(ctx: Context, question: str) -> str:
        await agent.run(question)
        await agent.run(question, model=other)
        await agent.run(question, model="openai-chat:third")
        with agent.override(model=other):
            await agent.run(question)
        return "done"

    assert await answered(stage, ask) == "done"
    assert [body["model"] for body in model_server.bodies()] == ["scripted", "other", "third", "other"]
    assert [name for name, _ in steps(stage)] == [
        "many__model.request",
        "many__model.request.openai:other",
        "many__model.request.openai-chat:third",
        "many__model.request.openai:other",
    ]


async def test_a_fallback_model_asks_the_next_one_within_the_step(stage: Stage, model_server: ScriptedLLM):
    model_server.replace(
        [
            {"when": {"model": "bad"}, "text": "never", "faults": [Status(status=500, times=None)]},
            {"when": {"model": "good"}, "text": "from the other"},
        ]
    )
    fallback = FallbackModel(infer_model("openai-chat:bad"), infer_model("openai-chat:good"))
    agent = Agent(fallback, name="safe", capabilities=[Durable()])

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    assert await answered(stage, ask) == "from the other"
    assert [entry.model for entry in requests(model_server.ledger())] == ["bad", "good"]
    assert len(steps(stage)) == 1


async def test_tools_that_come_with_the_run_are_steps_too(stage: Stage, model_server: ScriptedLLM):
    model_server.replace([{"tool_calls": [called("extra", "e1"), called("own", "o1")]}, {"text": "both"}])
    agent = Agent(CHAT, name="open", capabilities=[Durable()])
    extra = FunctionToolset(id="extras")

    @extra.tool_plain(name="extra")
    def more() -> str:
        return "more"

    class Own(AbstractToolset[Any]):
        """A toolset of the user's own."""

        inner = FunctionToolset[Any](id="inner")
        id = "own"

        async def get_tools(self, ctx: Any) -> Any:
            return await self.inner.get_tools(ctx)

        async def call_tool(self, name: str, tool_args: Any, ctx: Any, tool: Any) -> Any:
            return await self.inner.call_tool(name, tool_args, ctx, tool)

    Own.inner.add_function(lambda: "own", name="own")

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question, toolsets=[extra, Own()])).output

    assert await answered(stage, ask) == "both"
    names = {name for name, _ in steps(stage)}
    assert "open__function_toolset__extras.call_tool:extra" in names
    assert "open__function_toolset__own.call_tool:own" in names


async def test_a_toolset_without_an_id_is_refused(stage: Stage, model_server: ScriptedLLM):
    agent = Agent(CHAT, name="open", capabilities=[Durable()])

    async def ask(ctx: Context, question: str) -> str:
        try:
            await agent.run(question, toolsets=[FunctionToolset()])
        except ToolsetWithoutId as refused:
            return refused.code
        return "it ran"

    assert await answered(stage, ask) == "AD0168"


async def test_a_tool_says_how_it_is_retried_and_how_long_it_may_take(
    stage: Stage, model_server: ScriptedLLM
):
    model_server.replace([{"tool_calls": [called("flaky", "f1")]}, {"text": "in the end"}])
    world, agent = World(), Agent(CHAT, name="patient", capabilities=[Durable()])

    @agent.tool(metadata={"agentdur": {"max_attempts": 3, "initial_retry_interval": 0.001, "timeout": 0.2}})
    async def flaky(ctx: RunContext) -> str:
        world.did(ctx.tool_call_id)
        if len(world.lines) == 1:
            raise OSError("the first time")
        if len(world.lines) == 2:
            await asyncio.sleep(30)
        return "well"

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    assert await answered(stage, ask) == "in the end"
    assert world.lines == ["f1"] * 3
    assert turns_of(model_server) == {0: 1, 1: 1}


async def test_a_tool_that_never_works_ends_the_invocation_when_its_tries_are_over(
    stage: Stage, model_server: ScriptedLLM
):
    model_server.replace([{"tool_calls": [called("broken", "b1")]}])
    world = World()
    options = {"max_attempts": 2, "initial_retry_interval": 0.001}
    agent = Agent(CHAT, name="patient", capabilities=[Durable(tool_options=options)])

    @agent.tool
    def broken(ctx: RunContext) -> str:
        world.did(ctx.tool_call_id)
        raise OSError("always")

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    await stage.start(served(ask))
    with pytest.raises(TerminalError, match="always"):
        await stage.client.generic_call("Agents", "ask", b'"?"')
    assert world.lines == ["b1", "b1"]


@pytest.mark.parametrize(
    ("metadata", "refusal"),
    [
        ({"agentdur": {"tries": 3}}, BadToolOptions),
        ({"agentdur": {"timeout": "soon"}}, BadToolOptions),
        ({"agentdur": 3}, BadToolOptions),
        ({"agentdur": False}, InlineToolNotAsync),
    ],
)
async def test_options_that_do_not_fit_are_refused_by_name(
    stage: Stage, model_server: ScriptedLLM, metadata: dict[str, Any], refusal: type[Exception]
):
    model_server.replace([{"tool_calls": [called("tool", "t1")]}])
    agent = Agent(CHAT, name="strict", capabilities=[Durable()])

    @agent.tool_plain(metadata=metadata)
    def tool() -> str:
        return "it ran"

    async def ask(ctx: Context, question: str) -> str:
        try:
            return (await agent.run(question)).output
        except refusal as refused:
            assert "'tool'" in str(refused)
            return "refused"

    assert await answered(stage, ask) == "refused"


async def test_an_inline_tool_may_use_the_context(stage: Stage, model_server: ScriptedLLM):
    calls = [called("roll", "r1"), called("roll", "r2")]
    model_server.replace([{"tool_calls": calls}, {"text": "rolled"}])
    agent = Agent(CHAT, name="dice", capabilities=[Durable()])

    @agent.tool(metadata={"agentdur": False})
    async def roll(ctx: RunContext) -> int:
        return await current_context().run("roll", lambda: 4)

    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    assert await answered(stage, ask) == "rolled"
    assert ("roll", "agent:dice/inline:r1") in steps(stage)
    assert ("roll", "agent:dice/inline:r2") in steps(stage)


async def test_a_usage_limit_ends_the_run_for_good_and_can_be_caught_as_before(
    stage: Stage, model_server: ScriptedLLM
):
    model_server.replace([{"tool_calls": [called("more", f"m{n}")]} for n in range(5)])
    agent = Agent(CHAT, name="thrifty", capabilities=[Durable()])
    agent.tool_plain(lambda: "more", name="more")
    caught: list[str] = []

    async def ask(ctx: Context, question: str) -> str:
        try:
            return (await agent.run(question, usage_limits=UsageLimits(request_limit=2))).output
        except UsageLimitExceeded as error:
            caught.append(type(error).__name__)
            raise

    await stage.start(served(ask))
    with pytest.raises(TerminalError, match="request_limit"):
        await stage.client.generic_call("Agents", "ask", b'"?"')
    assert caught == ["UsageLimitExceeded"]
    assert turns_of(model_server) == {0: 1, 1: 1}


async def test_agents_in_gather_and_in_turn_have_places_of_their_own(stage: Stage, model_server: ScriptedLLM):
    agent = Agent(CHAT, name="twin", capabilities=[Durable()])

    async def ask(ctx: Context, question: str) -> str:
        both = await asyncio.gather(agent.run("one"), agent.run("two"))
        last = await agent.run("three")
        return " ".join(result.output for result in (*both, last))

    assert await answered(stage, ask) == "hello hello hello"
    places = [branch.rpartition("/")[0] for _, branch in steps(stage)]
    assert len(set(places)) == 3 and places[-1] == "agent:twin"
