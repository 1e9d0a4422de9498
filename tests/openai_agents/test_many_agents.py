"""Several agents: hand-offs (also in circles), agents as tools, guardrails that ask models of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    RunContextWrapper,
    Runner,
    input_guardrail,
    output_guardrail,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

from agentdur import Context, Service, TerminalError
from agentdur.core.ids import InvocationId
from agentdur.testing.scripted_llm import Hang, ScriptedLLM, Turn
from tests.openai_agents.world import (
    ask,
    asked,
    book,
    calls,
    crash_everywhere,
    only_invocation,
    says,
    service_of,
    steps,
    weather,
)
from tests.support.stage import Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


def circle() -> Agent[Any]:
    """Two agents that may hand over to each other."""
    greeter = Agent(name="Greeter", instructions="You greet.")
    clerk = Agent(name="Clerk", instructions="You book.", tools=[book], handoffs=[greeter])
    greeter.handoffs = [clerk]
    return greeter


ROUND_TRIP = [
    calls(("transfer_to_clerk", {}), when={"system": "You greet."}, at=0),
    calls(("book", {"city": "Oslo"}), when={"system": "You book."}, at=1),
    calls(("transfer_to_greeter", {}), when={"system": "You book."}, at=2),
    says("Have a nice trip.", system="You greet.", at=3),
]


@IN_MEMORY
async def test_agents_hand_over_in_a_circle_and_the_last_one_is_the_users_own_object(
    stage: Stage, llm: ScriptedLLM
):
    llm.replace(ROUND_TRIP)
    greeter = circle()
    last: list[Any] = []
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        result = await Runner.run(greeter, question)
        last.append(result.last_agent)
        return result.final_output

    await stage.start(service)
    assert await ask(stage) == "Have a nice trip."
    assert last == [greeter]
    assert last[0] is greeter
    names = [name for _, name in steps(stage, await only_invocation(stage))]
    assert names == ["llm:Greeter", "llm:Clerk", "tool:Clerk/book", "llm:Clerk", "llm:Greeter"]


@pytest.mark.slow
@IN_MEMORY
async def test_crashed_at_every_commit_the_circle_is_walked_once(stage: Stage, llm: ScriptedLLM):
    llm.replace(ROUND_TRIP)
    await crash_everywhere(stage, llm, service_of(circle()), answer="Have a nice trip.", turns=4)


def manager() -> Agent[Any]:
    """An agent whose tools are agents."""
    meteo = Agent(name="Meteo", instructions="You know weather.", tools=[weather])
    gourmet = Agent(name="Gourmet", instructions="You know food.")
    return Agent(
        name="Manager",
        instructions="You plan.",
        tools=[
            meteo.as_tool(tool_name="ask_meteo", tool_description="Weather."),
            gourmet.as_tool(tool_name="ask_gourmet", tool_description="Food."),
        ],
    )


TRIP = [
    calls(("ask_meteo", {"input": "w"}), ("ask_gourmet", {"input": "f"}), when={"system": "You plan."}),
    says("Boots and fish.", system="You plan.", at=1),
    calls(("weather", {"city": "Bergen"}), when={"system": "You know weather."}),
    says("rain", system="You know weather.", at=1),
    says("fish", system="You know food."),
]


@IN_MEMORY
async def test_agents_as_tools_make_their_own_steps_within_the_call(stage: Stage, llm: ScriptedLLM):
    llm.replace(TRIP)
    await stage.start(service_of(manager()))
    assert await ask(stage) == "Boots and fish."
    assert asked(llm) == 5
    found = steps(stage, await only_invocation(stage))
    inner = [branch for branch, name in found if name in ("llm:Meteo", "tool:Meteo/weather")]
    assert len(inner) == 3
    assert all("/tool:call_" in branch and "/run:Meteo/" in branch for branch in inner)
    assert not any("Executor" in branch or "_run" in branch for branch, _ in found), found


@pytest.mark.slow
@IN_MEMORY
async def test_crashed_at_every_commit_agents_as_tools_answer_the_same(stage: Stage, llm: ScriptedLLM):
    llm.replace(TRIP)
    points = await crash_everywhere(
        stage, llm, service_of(manager()), answer="Boots and fish.", turns=5, at_once=2
    )
    assert points >= 12


@IN_MEMORY
async def test_a_cancellation_is_no_news_for_the_model(stage: Stage, llm: ScriptedLLM):
    """The inner agent's model is being asked; the tool around it has a function that words errors."""
    llm.replace(
        [TRIP[0], *TRIP[1:2], Turn(text="x", when={"system": "You know"}, faults=(Hang(times=None),))]
    )
    await stage.start(service_of(manager()))
    asking = asyncio.ensure_future(ask(stage))
    await until(lambda: asked(llm) == 3, "both inner agents asking")
    await stage.engine.operate("cancel", InvocationId(await only_invocation(stage)))
    with pytest.raises(TerminalError, match="cancelled") as ended:
        await asking
    assert ended.value.status_code == 409
    assert asked(llm) == 3


class Verdict(BaseModel):
    """What the guard says."""

    homework: bool


GUARD = Agent(name="Guard", instructions="Is it homework?", output_type=Verdict)


@input_guardrail
async def no_homework(ctx: RunContextWrapper[None], agent: Agent[Any], given: Any) -> GuardrailFunctionOutput:
    """Asks a model whether it is homework."""
    result = await Runner.run(GUARD, given, context=ctx.context)
    return GuardrailFunctionOutput(
        output_info=result.final_output, tripwire_triggered=result.final_output.homework
    )


def guarded() -> Service:
    """A handler that says so when a guardrail trips."""
    agent = Agent(name="Tutor", instructions="You help.", input_guardrails=[no_homework])
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        try:
            return (await Runner.run(agent, question)).final_output
        except InputGuardrailTripwireTriggered as tripped:
            return f"refused: {tripped.guardrail_result.output.output_info.homework}"

    return service


GUARDED = [
    says('{"homework": true}', system="Is it homework?", last_user="2 + 2"),
    says('{"homework": false}', system="Is it homework?"),
    Turn(text="Never heard.", when={"system": "You help.", "last_user": "2 + 2"}, delay_ms=2000),
    says("Of course.", system="You help."),
]


@IN_MEMORY
async def test_a_guardrail_that_asks_a_model_is_journaled_and_trips(stage: Stage, llm: ScriptedLLM):
    llm.replace(GUARDED)
    await stage.start(guarded())
    assert await ask(stage, "help", "a") == "Of course."
    assert asked(llm) == 2
    assert await ask(stage, "2 + 2", "b") == "refused: True"


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize(("question", "answer"), [("help", "Of course."), ("2 + 2", "refused: True")])
async def test_crashed_at_every_commit_a_guardrail_says_the_same(
    stage: Stage, llm: ScriptedLLM, question: str, answer: str
):
    llm.replace(GUARDED)
    await crash_everywhere(
        stage, llm, guarded(), answer=answer, turns=2, at_once=2, call=lambda: ask(stage, question)
    )


@output_guardrail
async def no_numbers(ctx: RunContextWrapper[None], agent: Agent[Any], output: Any) -> GuardrailFunctionOutput:
    """Trips at digits."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=any(c.isdigit() for c in str(output)))


@IN_MEMORY
async def test_a_tripped_guardrail_nobody_catches_ends_the_invocation(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="42")])
    await stage.start(service_of(Agent(name="Teller", output_guardrails=[no_numbers])))
    with pytest.raises(TerminalError, match="tripwire"):
        await ask(stage)
    assert asked(llm) == 1


class Named(BaseModel):
    """A structured output."""

    city: str


@IN_MEMORY
@pytest.mark.parametrize("how", ["name", "instance", "chat instance", "run name", "run instance"])
async def test_a_model_is_journaled_however_it_is_given(stage: Stage, llm: ScriptedLLM, how: str):
    """As a name, as an instance the user made, or as the run's override of either; with the client's own
    retries off, also in a client that the user made."""
    client = AsyncOpenAI(max_retries=5)
    chat = OpenAIChatCompletionsModel("chat", client)
    mine = OpenAIResponsesModel("mine", client)
    given: dict[str, Any] = {
        "name": {"model": "named"},
        "instance": {"model": mine},
        "chat instance": {"model": chat},
    }
    agent = Agent(
        name="A", instructions="Say a city.", output_type=Named, **given.get(how, {"model": "other"})
    )
    override: dict[str, Any] = {"run name": "named", "run instance": mine}
    settings = {"run_config": RunConfig(model=override[how])} if how in override else {}
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        return (await Runner.run(agent, question, **settings)).final_output.city

    llm.replace([{"text": '{"city": "Oslo"}', "faults": [{"kind": "status", "status": 500, "times": 2}]}])
    await stage.start(service)
    assert await ask(stage) == "Oslo"
    received = [entry for entry in llm.ledger() if entry.event == "received"]
    assert len(received) == 3
    assert {entry.retry_count for entry in received} == {0}
    wanted = {
        "name": "named",
        "instance": "mine",
        "chat instance": "chat",
        "run name": "named",
        "run instance": "mine",
    }
    assert {entry.model for entry in received} == {wanted[how]}
    assert [name for _, name in steps(stage, await only_invocation(stage))] == ["llm:A"]
    assert client.max_retries == 5
