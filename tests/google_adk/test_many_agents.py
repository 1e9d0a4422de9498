"""Several agents: hand-overs, sub-agents, agents as tools, and ADK's workflows, crashed at every commit."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from google.adk.agents import LlmAgent, LoopAgent, ParallelAgent, SequentialAgent
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.exit_loop_tool import exit_loop
from google.adk.workflow import START, JoinNode, Workflow

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.core import journal as j
from agentdur.core.ports import Filter
from agentdur.integrations.google_adk import DurableRunner
from agentdur.testing.scripted_llm import Script, ScriptedLLM, Turn
from tests.google_adk.world import (
    LEDGER,
    agent,
    ask,
    book,
    calls,
    crash_everywhere,
    events,
    only_invocation,
    run,
    says,
    service_of,
    steps,
    weather,
)
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


def script(*turns: Turn) -> Script:
    return Script(turns=turns)


HANDED_OVER = script(
    says("You are welcome.", system="You book", last_user="Thanks", at=2),
    calls(("transfer_to_agent", {"agent_name": "bookings"}), when={"system": "You greet"}, at=0),
    calls(("book", {"city": "Oslo"}), when={"system": "You book"}, at=0),
    says("It is booked.", system="You book", at=1),
)


def desk() -> LlmAgent:
    bookings = agent("bookings", "You book.", description="Books trips.", tools=[book])
    return agent("reception", "You greet.", sub_agents=[bookings])


@pytest.mark.slow
@IN_MEMORY
async def test_a_hand_over_survives_every_crash(stage: Stage, llm: ScriptedLLM):
    llm.replace(HANDED_OVER)
    await crash_everywhere(stage, llm, service_of(desk()), answer="It is booked.", turns=3)


@IN_MEMORY
async def test_the_next_turn_goes_to_the_agent_that_has_the_word(stage: Stage, llm: ScriptedLLM):
    """The session is in the object, and ADK finds there who spoke last."""
    llm.replace(HANDED_OVER)
    runner, talk = DurableRunner(app_name="app", agent=desk()), VirtualObject("Agents")

    @talk.handler()
    async def say(ctx: ObjectContext, text: str) -> str:
        return await run(runner, text)

    await stage.start(talk)
    assert await stage.client.object_call(say, "ada", "Book Oslo") == "It is booked."
    await stage.restart()
    assert await stage.client.object_call(say, "ada", "Thanks") == "You are welcome."


TRIP = script(
    calls(("meteo", {"request": "w"}), ("gourmet", {"request": "f"}), when={"system": "You plan"}, at=0),
    says("Boots and fish.", system="You plan", at=1),
    calls(("weather", {"city": "Bergen"}), when={"system": "You know weather"}, at=0),
    says("rain", system="You know weather", at=1),
    says("fish", system="You know food"),
)


def planner(mode: str) -> LlmAgent:
    more = {"mode": "single_turn"} if mode == "sub_agents" else {}
    meteo = agent("meteo", "You know weather.", description="Weather.", tools=[weather], **more)
    gourmet = agent("gourmet", "You know food.", description="Food.", **more)
    if mode == "sub_agents":
        return agent("planner", "You plan.", sub_agents=[meteo, gourmet])
    return agent("planner", "You plan.", tools=[AgentTool(meteo), AgentTool(gourmet)])


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize("mode", ["tools", "sub_agents"])
async def test_agents_in_agents_at_the_same_time(stage: Stage, llm: ScriptedLLM, mode: str):
    """Their steps are steps of their own, wherever the crash falls."""
    llm.replace(TRIP)
    service = service_of(planner(mode))
    await crash_everywhere(stage, llm, service, answer="Boots and fish.", turns=5, at_once=2)


@IN_MEMORY
async def test_the_steps_of_an_agent_in_a_tool_are_in_the_branch_of_the_call(stage: Stage, llm: ScriptedLLM):
    llm.replace(TRIP)
    await stage.start(service_of(planner("tools")))
    assert await ask(stage) == "Boots and fish."
    found = steps(stage, await only_invocation(stage))
    (branch,) = [branch for branch, name in found if name == "tool:meteo/weather"]
    places = branch.split("/")
    assert [place.partition(":")[0] for place in places] == ["run", "tool", "run", "tool"]
    assert (places[0], places[2]) == ("run:planner", "run:meteo")


WRITTEN = script(
    says("1. flour", system="Outline", last_user="go"),
    says("Flour, at length.", system="Write"),
)


@pytest.mark.slow
@IN_MEMORY
async def test_one_after_another(stage: Stage, llm: ScriptedLLM):
    """What one leaves in the state under its output_key, the next one reads in its instruction."""
    llm.replace(WRITTEN)
    outline = agent("outline", "Outline.", output_key="outline")
    root = SequentialAgent(name="writers", sub_agents=[outline, agent("writer", "Write: {outline}")])
    await crash_everywhere(stage, llm, service_of(root), answer="Flour, at length.", turns=2)
    assert any("Write: 1. flour" in str(body) for body in llm.bodies())


REVIEWED = script(
    calls(("weather", {"city": "Oslo"}), when={"system": "Reviewer a"}, at=0),
    says("a says rain", system="Reviewer a", at=1),
    says("b says fine", system="Reviewer b"),
    says("c says so", system="Reviewer c"),
    says("All agree.", system="You sum up"),
)


def reviewers() -> SequentialAgent:
    three = [agent(n, f"Reviewer {n}.", tools=[weather] if n == "a" else [], output_key=n) for n in "abc"]
    both = ParallelAgent(name="review", sub_agents=three)
    return SequentialAgent(name="all", sub_agents=[both, agent("sum", "You sum up: {a} {b} {c}")])


@pytest.mark.slow
@IN_MEMORY
async def test_at_the_same_time_and_kept_in_a_session(stage: Stage, llm: ScriptedLLM):
    """Whoever of them is first: the events of the session are the same on every attempt, and so is what the
    handler makes of them one by one."""
    llm.replace(REVIEWED)
    runner, talk = DurableRunner(app_name="app", agent=reviewers()), VirtualObject("Agents")

    @talk.handler()
    async def say(ctx: ObjectContext, text: str) -> str:
        said = ""
        async for event in events(runner, text):
            said = await ctx.run(f"heard {event.author}", lambda author=event.author: author)
        assert said == "sum"
        return str(event.content.parts[0].text)

    points = 0
    async for point in every_boundary(
        stage, [talk], lambda: stage.client.object_call(say, "ada", "go", idempotency_key="once"),
        LEDGER.clear,
    ):  # fmt: skip
        points += 1
        assert point.answer == "All agree.", point
        assert LEDGER["weather Oslo"] <= 2
        (row,) = [row for row in await stage.engine.list(Filter()) if row["target"].startswith("Agents")]
        entries = [entry for _, entry in stage.journal(row["id"])]
        written = [e.key for e in entries if isinstance(e, j.SetState) and e.key.startswith("adk:event:")]
        assert len(written) == len(set(written)) == 7, point
    assert points >= 10


@pytest.mark.slow
@IN_MEMORY
async def test_again_and_again_until_one_says_it_is_good(stage: Stage, llm: ScriptedLLM):
    llm.replace(
        script(
            says("waves", system="Poem", at=0),
            says("waves, waves", system="Poem", at=1),
            says("longer", system="Judge", at=0),
            calls(("exit_loop", {}), when={"system": "Judge"}, at=1),
        )
    )
    poet = agent("poet", "Poem.", output_key="poem")
    judge = agent("judge", "Judge.", tools=[exit_loop])
    root = LoopAgent(name="loop", sub_agents=[poet, judge], max_iterations=5)
    await crash_everywhere(stage, llm, service_of(root), answer="waves, waves", turns=4)


@pytest.mark.slow
@IN_MEMORY
async def test_a_graph_of_nodes(stage: Stage, llm: ScriptedLLM):
    """Agents that are nodes, two of them at the same time, and a function between."""
    llm.replace(
        script(
            says("rain", system="You know weather"), says("fish", system="You know food"),
            says("Boots and fish.", system="You sum up"),
        )
    )  # fmt: skip
    join = JoinNode(name="join")
    meteo, gourmet = agent("meteo", "You know weather."), agent("gourmet", "You know food.")
    last = agent("last", "You sum up.")
    flow = Workflow(name="flow", edges=[(START, (meteo, gourmet), join), (join, last)])
    runner, service = DurableRunner(app_name="app", node=flow), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        return await run(runner, question)

    await crash_everywhere(stage, llm, service, answer="Boots and fish.", turns=3, at_once=2)


@pytest.mark.slow
@IN_MEMORY
async def test_whoever_is_quicker_this_time_the_order_is_what_it_was(stage: Stage, llm: ScriptedLLM):
    """Agents that take another while on each attempt: the handler hears them as it heard them first."""
    llm.replace(script(says("1", system="Reviewer a"), says("2", system="Reviewer b")))
    chance = random.Random(7)

    async def dawdle(callback_context: Any) -> None:
        await asyncio.sleep(chance.random() * 0.02)

    two = [agent(n, f"Reviewer {n}.", after_model_callback=None, before_agent_callback=dawdle) for n in "ab"]
    for one in two:
        one.after_model_callback = lambda callback_context, llm_response: dawdle(callback_context)
    runner = DurableRunner(app_name="app", agent=ParallelAgent(name="both", sub_agents=two))
    talk = VirtualObject("Agents")

    @talk.handler()
    async def say(ctx: ObjectContext, text: str) -> list[str]:
        heard = []
        async for event in events(runner, text):
            heard.append(await ctx.run(f"heard {event.author}", lambda author=event.author: author))
        return heard

    async for point in every_boundary(
        stage, [talk], lambda: stage.client.object_call(say, "ada", "go", idempotency_key="once")
    ):
        assert sorted(point.answer) == ["a", "b"], point
