"""Where budgets and limits meet what is special in a framework."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import Agent as OpenAIAgent
from agents import OpenAIProvider, RunConfig, Runner
from agents.models.interface import Model as OpenAIModel
from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.google_llm import Gemini
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent, RunContext
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel as FrameworksTestModel

from agentdur import Context, Service, TerminalError
from agentdur.integrations import langchain
from agentdur.llm import Budget, budget, limits
from agentdur.llm.limiter import LIMITER
from agentdur.testing.scripted_llm import ScriptedLLM, Status, ToolCall, Turn, When
from tests.frameworks.world import (
    CHEAP,
    DESKS,
    LED,
    MODEL,
    OTHER,
    TEN,
    TRIP,
    WRITTEN,
    Ask,
    Desk,
    adk_ask,
    led,
    models,
    pydantic_ai,
    pydantic_family,
    says,
    within,
)
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

pytestmark = pytest.mark.parametrize("stage", ["memory"], indirect=True)
NO_WAY = Budget(tokens=1, on_limit="anthropic/claude-haiku-4-5")


async def ask(stage: Stage, key: str = "once") -> Any:
    raw = await stage.client.generic_call("Desk", "ask", json.dumps("go").encode(), None, key)
    return json.loads(raw)


async def refused(stage: Stage, run: Ask, limit: Budget) -> str:
    """The code with which the invocation ends."""
    await stage.start(within(run, limit))
    with pytest.raises(TerminalError) as ended:
        await ask(stage)
    return (ended.value.metadata or {})["agentdur_code"]


@pytest.mark.parametrize("desk", DESKS[1:3], ids=lambda desk: desk.name)
async def test_a_model_that_nobody_can_go_on_with_is_refused_before_anything_is_spent(
    stage: Stage, llm: ScriptedLLM, *, desk: Desk
):
    """Clients of one provider know no other; the first call says so, not the one at the limit."""
    assert await refused(stage, desk.helper(None), NO_WAY) == "AD0110"
    assert models(llm) == []


async def test_the_openai_sdk_goes_on_with_whatever_the_provider_of_its_run_knows(
    stage: Stage, llm: ScriptedLLM
):
    """OpenAI's own provider knows nothing of others; by default there is LiteLLM."""
    agent: Any = OpenAIAgent(name="helper", model="scripted")

    async def run(question: str) -> str:
        only = RunConfig(model_provider=OpenAIProvider())
        return str((await Runner.run(agent, question, run_config=only)).final_output)

    assert await refused(stage, run, NO_WAY) == "AD0110"
    assert models(llm) == []


class Own(BaseLlm):
    """A model of the user's, which may not care what it is called."""

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        raise AssertionError("not asked")
        yield


@pytest.mark.parametrize(
    "model", [Gemini(model="gemini-2.5-flash"), Own(model="mine")], ids=["gemini", "own"]
)
async def test_adk_goes_on_within_a_provider_of_its_own_clients(stage: Stage, llm: ScriptedLLM, model: Any):
    assert await refused(stage, adk_ask(LlmAgent(name="a", model=model)), NO_WAY) == "AD0110"


async def test_langchain_goes_on_with_models_that_have_a_name(stage: Stage, llm: ScriptedLLM):
    model = GenericFakeChatModel(messages=iter([AIMessage("hello")]))
    judge = langchain.durable_model(model, "judge")

    async def run(question: str) -> str:
        return str((await judge.ainvoke(question)).content)

    assert await refused(stage, run, Budget(calls=1, on_limit="cheap")) == "AD0110"


async def test_pydantic_ai_goes_on_with_models_of_a_provider_or_registered_ones(
    stage: Stage, llm: ScriptedLLM
):
    llm.replace([says("cheap", model="other")])
    made = FrameworksTestModel(custom_output_text="dear")
    cheap = OpenAIChatModel("other")
    known: dict[str, Any] = {"cheap": cheap}

    def agent(models: dict[str, Any]) -> Ask:
        durable: Any = pydantic_ai.Durable(models=models)
        plain = Agent(made, name="plain", capabilities=[durable])

        async def run(question: str) -> str:
            return " ".join([(await plain.run(question)).output for _ in range(2)])

        return run

    limit = Budget(calls=1, on_limit="cheap")
    assert await refused(stage, agent({}), limit) == "AD0110"
    await stage.close()
    stage.fresh()
    await stage.start(within(agent(known), limit))
    assert (await ask(stage))["said"] == "dear cheap"


async def test_a_custom_model_of_the_openai_sdk_goes_on_with_one_of_the_runs_provider(
    stage: Stage, llm: ScriptedLLM
):
    """Nobody knows what such a model would make of another name; the provider of the run does."""
    llm.replace([Turn(text="cheap", usage=TEN, when=When(model="other"))])

    class Never(OpenAIModel):
        """A model that is not asked."""

        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("not asked")

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("not asked")

    never: Any = Never()
    agent: Any = OpenAIAgent(name="helper", model=never)
    service = Service("Desk")

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> str:
        async with budget(ctx, Budget(seconds=0.001, on_limit=OTHER)):
            await ctx.run("a while", lambda: None)
            return str((await Runner.run(agent, question)).final_output)

    await stage.start(service)
    assert await ask(stage) == "cheap"


async def test_the_cheaper_model_may_be_named_without_its_provider(stage: Stage, llm: ScriptedLLM):
    llm.replace([*CHEAP, *TRIP])
    for desk in DESKS[:3]:
        await stage.start(within(desk.helper(None), Budget(tokens=5, on_limit="other")))
        assert (await ask(stage))["said"] == "cheap", desk.name
        await stage.close()
        stage.fresh()


async def test_what_the_provider_does_not_count_is_counted_by_its_length(stage: Stage, llm: ScriptedLLM):
    """LangChain asks servers of one's own for no usage when it streams."""
    llm.replace([Turn(text="hello " * 40)])
    agent: Any = create_agent(
        ChatOpenAI(model="scripted", streaming=True, stream_usage=False), [],
        middleware=[langchain.Durable("streamer")],
    )  # fmt: skip

    async def run(question: str) -> str:
        result = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
        return str(result["messages"][-1].content)

    await stage.start(within(run, Budget(tokens=10_000)))
    found = await ask(stage)
    assert found["calls"] == 1
    assert 60 <= found["tokens"] <= 1000
    await stage.restart()
    assert await ask(stage, "again") == found


# -- Pydantic AI: agents within steps, and fallbacks


@pytest.mark.parametrize("calls", [2, 3, 9])
async def test_an_agent_within_a_tools_step_spends_from_the_budget_around_it(
    stage: Stage, llm: ScriptedLLM, *, calls: int
):
    llm.replace(led(DESKS[1]))
    await stage.start(within(pydantic_family(inline=False), Budget(calls=calls)))
    found = await ask(stage)
    spent = min(calls, 4)
    said = "rain and snow" if calls > 3 else f"calls: {calls} of {calls}"
    assert (found["said"], found["calls"], len(models(llm))) == (said, spent, spent)


@pytest.mark.slow
@pytest.mark.parametrize("calls", [3, 9])
async def test_crashed_at_every_commit_such_an_agents_answers_count_once(
    stage: Stage, llm: ScriptedLLM, *, calls: int
):
    """Those of a step that has a result; those of one that was cut off are asked for again."""
    llm.replace(led(DESKS[1]))
    service = within(pydantic_family(inline=False), Budget(calls=calls))
    spent, said = min(calls, 4), "rain and snow" if calls > 3 else "calls: 3 of 3"
    async for point in every_boundary(stage, [service], lambda: ask(stage)):
        assert (point.answer["said"], point.answer["calls"]) == (said, spent), point
        assert point.answer["tokens"] == 10 * spent, point


async def test_what_a_failed_tool_has_spent_is_spent(stage: Stage, llm: ScriptedLLM):
    """The tool's agent came to the limit within its step; whoever catches that asks no more, after a replay
    neither."""
    llm.replace(led(DESKS[1]))
    run = pydantic_family(inline=False)
    service, failing = Service("Desk"), [1]

    def fail_once() -> None:
        if failing:
            failing.pop()
            raise RuntimeError("once more")

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> list[int]:
        spent = []
        async with budget(ctx, Budget(calls=2)) as account:
            for _ in range(2):
                try:
                    await run(question)
                except TerminalError:
                    spent.append(account.spent.calls)
                await ctx.run("a replay", fail_once)
        return spent

    await stage.start(service)
    assert await ask(stage) == [2, 2]
    assert len(models(llm)) == 2


async def test_what_was_spent_in_a_step_that_fails_is_spent_after_a_replay_too(
    stage: Stage, llm: ScriptedLLM
):
    """The tool's agent has answered, and then the tool fails for good: its failure tells what that cost."""
    asked = Turn(
        tool_calls=(ToolCall(name="writer", arguments={"topic": "rain"}),), usage=TEN, when=When(system=LED)
    )
    llm.replace([asked, says("wet", system=WRITTEN)])
    durable: Any = pydantic_ai.Durable()
    writer = Agent("openai-chat:scripted", name="writer", instructions=WRITTEN, capabilities=[durable])
    boss = Agent("openai-chat:scripted", name="boss", instructions=LED, capabilities=[durable])
    service, seen = Service("Desk"), []

    @boss.tool(name="writer")
    async def write(ctx: RunContext, topic: str) -> str:
        await writer.run(topic, usage=ctx.usage)
        raise TerminalError("out of paper")

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> list[Any]:
        async with budget(ctx, Budget(calls=9)) as account:
            with pytest.raises(TerminalError, match="out of paper"):
                await boss.run(question)
        seen.append([account.spent.calls, account.spent.tokens])
        if len(seen) == 1:
            raise RuntimeError("once more")
        return seen

    await stage.start(service)
    assert await ask(stage) == [[2, 20]] * 2
    assert len(models(llm)) == 2


@pytest.mark.parametrize(
    "limit", [Budget(calls=9, shared=True), Budget(calls=9, on_limit="approve")], ids=["shared", "approve"]
)
async def test_budgets_that_cannot_be_asked_within_a_step_are_refused_there(
    stage: Stage, llm: ScriptedLLM, *, limit: Budget
):
    llm.replace(led(DESKS[1]))
    assert await refused(stage, pydantic_family(inline=False), limit) == "AD0111"
    assert models(llm) == ["scripted"]


async def test_an_agent_within_a_step_of_the_users_is_refused_under_a_budget(stage: Stage, llm: ScriptedLLM):
    """Nothing would count it; without a budget it runs as ever."""
    llm.replace(TRIP)
    helper = DESKS[1].helper(None)
    service = Service("Desk")

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> str:
        said = str(await ctx.run("alone", lambda: helper(question)))
        async with budget(ctx, Budget(calls=9)):
            return said + str(await ctx.run("within", lambda: helper(question)))

    await stage.start(service)
    with pytest.raises(TerminalError) as ended:
        await ask(stage)
    assert (ended.value.metadata or {})["agentdur_code"] == "AD0111"
    assert len(models(llm)) == 2


async def test_an_agent_within_a_step_goes_on_with_a_cheaper_model(stage: Stage, llm: ScriptedLLM):
    cheap = [says("cheap", model="other"), *[says("cheap", model="other", at=1)]]
    llm.replace([*cheap, *led(DESKS[1])])
    await stage.start(within(pydantic_family(inline=False), Budget(calls=1, on_limit=OTHER)))
    assert (await ask(stage))["said"] == "cheap"
    assert models(llm) == ["scripted", "other", "other", "other"]


async def test_fallback_models_wait_by_their_own_limits_and_the_one_that_answers_counts(
    stage: Stage, llm: ScriptedLLM
):
    llm.replace([Turn(text="never", when=When(model="scripted")), says("cheap", model="other")])
    llm.add_faults(Status(status=500, times=None), turn=0)
    limits(MODEL, requests_per_minute=9)
    limits(OTHER, requests_per_minute=9, tokens_per_minute=5000)
    both = FallbackModel(OpenAIChatModel("scripted"), OpenAIChatModel("other"))
    durable: Any = pydantic_ai.Durable()
    agent = Agent(both, name="both", capabilities=[durable])

    async def run(question: str) -> str:
        return (await agent.run(question)).output

    await stage.start(within(run, Budget(calls=9)))
    found = await ask(stage)
    assert (found["said"], found["calls"], found["tokens"]) == ("cheap", 1, 10)
    assert [len(LIMITER._limits[name]._calls) for name in (MODEL, OTHER)] == [1, 1]
    assert LIMITER._limits[OTHER]._spent == 10
