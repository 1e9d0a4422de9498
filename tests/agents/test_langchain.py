"""LangChain agents and LangGraph graphs, durable by one line."""

from __future__ import annotations

import asyncio
import operator
import random
from collections import Counter
from typing import Annotated, Any, TypedDict

import pytest

from agentdur import Context, ObjectContext, Service, TerminalError, VirtualObject, current_context, step
from agentdur.core.errors import NotInHandler
from agentdur.core.ports import Filter
from agentdur.core.target import ObjectAddress
from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    ScriptedLLM,
    Status,
    ToolCall,
    Turn,
    When,
    requests,
)
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage, until

pytest.importorskip("langchain")
pytest.importorskip("langchain_openai")

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from agentdur.integrations.langchain import (
    Durable,
    answer_interrupts,
    append_messages,
    durable_model,
    load_messages,
)

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
ran: Counter[str] = Counter()
met: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()
    met.clear()


@tool
async def weather(city: str) -> str:
    """The weather of a city."""
    ran[f"weather {city}"] += 1
    return f"rain in {city}"


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    ran["add"] += 1
    return a + b


def calls(*wanted: tuple[str, dict[str, Any]]) -> Turn:
    return Turn(tool_calls=tuple(ToolCall(name=name, arguments=given) for name, given in wanted))


BOTH = [calls(("weather", {"city": "Oslo"}), ("add", {"a": 2, "b": 3})), Turn(text="Rain, and 5.")]


def model(**more: Any) -> ChatOpenAI:
    return ChatOpenAI(model="scripted", **more)


def asks(agent: Any) -> Service:
    service = Service("Ask")

    @service.handler()
    async def run(ctx: Context, question: str) -> str:
        result = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
        return str(result["messages"][-1].content)

    return service


async def answer(stage: Stage, question: str = "hello?") -> str:
    run = stage.services[0].handlers["run"].fn
    said = await stage.client.service_call(run, question, idempotency_key="once")
    assert isinstance(said, str)
    return said


def asked(llm: ScriptedLLM) -> int:
    return len(list(requests(llm.ledger())))


async def test_an_agent_is_durable_by_one_line(stage: Stage, llm: ScriptedLLM):
    llm.replace(BOTH)
    agent = create_agent(model(), [weather, add], middleware=[Durable("helper")])
    await stage.start(asks(agent))
    assert await answer(stage) == "Rain, and 5."
    (row,) = list(stage.store.list(Filter()))
    names = [entry.name for _, entry in stage.journal(row.spec.id) if getattr(entry, "name", "")]
    assert sorted(names) == ["llm:helper", "llm:helper", "tool:add", "tool:weather"]
    assert ran == {"weather Oslo": 1, "add": 1}


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_crashed_at_every_commit_each_answer_is_paid_once(
    stage: Stage, llm: ScriptedLLM, streamed: bool
):
    """A replay asks for nothing that is stored, whether the model's answer came whole or in pieces."""
    llm.replace(BOTH)
    agent = create_agent(model(streaming=streamed), [weather, add], middleware=[Durable("helper")])
    points, before = 0, 0

    def begin() -> None:
        nonlocal before
        ran.clear()
        before = asked(llm)

    async for point in every_boundary(stage, [asks(agent)], lambda: answer(stage), begin):
        points += 1
        assert point.answer == "Rain, and 5.", point
        assert 2 <= asked(llm) - before <= 3, point
        assert max(ran.values()) <= 2, point
    assert points >= 8


@tool
async def meet(name: str, other: str) -> str:
    """Wait for the other."""
    met.setdefault(name, asyncio.Event()).set()
    await asyncio.wait_for(met.setdefault(other, asyncio.Event()).wait(), 10)
    return "met"


@IN_MEMORY
async def test_tools_of_one_turn_run_at_the_same_time(stage: Stage, llm: ScriptedLLM):
    """Each waits until the other has begun."""
    there = {"name": "a", "other": "b"}
    llm.replace([calls(("meet", there), ("meet", {"name": "b", "other": "a"})), Turn(text="done")])
    await stage.start(asks(create_agent(model(), [meet], middleware=[Durable()])))
    assert await answer(stage) == "done"


class Verdict(BaseModel):
    """What a judge says."""

    good: bool
    why: str


@IN_MEMORY
async def test_structured_answers_have_their_type_again_after_a_replay(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("Verdict", {"good": True, "why": "short"}))])
    agent = create_agent(model(), [], response_format=ToolStrategy(Verdict), middleware=[Durable()])
    service = Service("Ask")
    attempts = 0

    @service.handler()
    async def run(ctx: Context, question: str) -> str:
        nonlocal attempts
        result = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
        attempts += 1
        if attempts == 1:
            raise RuntimeError("once more")
        assert isinstance(result["structured_response"], Verdict)
        return str(result["structured_response"].why)

    await stage.start(service)
    assert await answer(stage) == "short"
    assert (attempts, asked(llm)) == (2, 1)


@IN_MEMORY
async def test_a_model_outside_of_agents_gives_structured_output_too(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text='{"good": true, "why": "short"}')])
    judge = durable_model(model(), "judge").with_structured_output(Verdict)
    service = Service("Ask")

    @service.handler()
    async def run(ctx: Context, question: str) -> str:
        found = await judge.ainvoke(question)
        assert isinstance(found, Verdict)
        return found.why

    await stage.start(service)
    assert await answer(stage) == "short"


class Facts(TypedDict):
    found: Annotated[list[str], operator.add]


@step
async def look_up(what: str) -> str:
    ran[what] += 1
    await asyncio.sleep(random.random() / 50)  # nodes overtake each other
    return f"{what}!"


def fan() -> Any:
    """Three nodes at the same time, joined by a fourth that asks a model."""
    builder: Any = StateGraph(Facts)
    judge = durable_model(model(), "judge")

    def node(name: str) -> Any:
        async def look(state: Facts) -> Facts:
            return {"found": [await look_up(name)]}

        return look

    async def join(state: Facts) -> Facts:
        said = await judge.ainvoke(" ".join(sorted(state["found"])))
        return {"found": [str(said.content)]}

    for name in "abc":
        builder.add_node(name, node(name))
        builder.add_edge(START, name)
    builder.add_node("join", join)
    builder.add_edge(["a", "b", "c"], "join")
    builder.add_edge("join", END)
    return builder.compile()


@pytest.mark.slow
@IN_MEMORY
async def test_parallel_nodes_of_a_graph_go_on_where_they_were(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="all found", when=When(last_user="a! b! c!"))])
    graph = fan()
    service = Service("Ask")

    @service.handler()
    async def run(ctx: Context, question: str) -> str:
        return str((await graph.ainvoke({"found": []}))["found"][-1])

    points = 0
    async for point in every_boundary(stage, [service], lambda: answer(stage), ran.clear):
        points += 1
        assert point.answer == "all found", point
        assert max(ran.values()) <= 2, point
    assert points >= 6


def reviewed() -> Service:
    """An agent whose tool is reviewed by a person."""
    review = HumanInTheLoopMiddleware(interrupt_on={"weather": True})
    agent = create_agent(
        model(), [weather], middleware=[review, Durable()], checkpointer=InMemorySaver()
    )  # fmt: skip
    service = Service("Ask")

    @service.handler()
    async def run(ctx: Context, question: str) -> str:
        config = {"configurable": {"thread_id": ctx.request().id}}
        given = {"messages": [{"role": "user", "content": question}]}
        result = await answer_interrupts(agent, given, config)
        return str(result["messages"][-1].content)

    return service


@IN_MEMORY
@pytest.mark.parametrize(
    ("said", "wanted", "done"),
    [
        ({}, "It rains.", {"weather Oslo": 1}),
        ({"approved": False, "reason": "not now"}, "Fine.", {}),
        (
            {"approved": True, "payload": {"name": "weather", "args": {"city": "Bergen"}}},
            "It rains.",
            {"weather Bergen": 1},
        ),
    ],
    ids=["approved", "rejected", "edited"],
)
async def test_a_person_reviews_a_tool_and_may_take_days(
    stage: Stage, llm: ScriptedLLM, said: dict[str, Any], wanted: str, done: dict[str, int]
):
    """The process dies while it waits; the graph's memory is filled again by the replay."""
    llm.replace([calls(("weather", {"city": "Oslo"})), Turn(text=wanted)])
    service = reviewed()
    await stage.start(service)
    sent = await stage.client.service_send(service.handlers["run"].fn, "?", idempotency_key="once")
    await stage.questions()
    await stage.restart(reviewed())
    await stage.decide(**said)
    assert await stage.client.attach(sent.invocation_id) == wanted
    assert dict(ran) == done
    assert asked(llm) == 2


@IN_MEMORY
async def test_a_tool_that_interrupts_is_asked_again_with_the_answer(stage: Stage, llm: ScriptedLLM):
    @tool
    async def ask_user(question: str) -> str:
        """Ask the user."""
        ran["ask_user"] += 1
        return str(interrupt({"q": question})["payload"])

    llm.replace([calls(("ask_user", {"question": "size?"})), Turn(text="ok")])
    agent = create_agent(model(), [ask_user], middleware=[Durable()], checkpointer=InMemorySaver())
    service = Service("Ask")

    @service.handler()
    async def run(ctx: Context, question: str) -> str:
        config = {"configurable": {"thread_id": ctx.request().id}}
        given = {"messages": [{"role": "user", "content": question}]}
        result = await answer_interrupts(agent, given, config)
        return str(result["messages"][-2].content)

    await stage.start(service)
    sent = await stage.client.service_send(run, "?")
    await stage.decide(payload="XL")
    assert await stage.client.attach(sent.invocation_id) == "XL"
    assert ran == {"ask_user": 2}


@IN_MEMORY
async def test_a_command_of_a_tool_updates_the_graph_after_a_replay_too(stage: Stage, llm: ScriptedLLM):
    @tool
    async def enough(tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
        """Say something and stop."""
        said = ToolMessage("that is enough", tool_call_id=tool_call_id)
        return Command(update={"messages": [said]}, goto="__end__")

    llm.replace([calls(("enough", {})), Turn(text="ok")])
    agent = create_agent(model(), [enough], middleware=[Durable()])
    service = Service("Ask")
    attempts = 0

    @service.handler()
    async def run(ctx: Context, question: str) -> str:
        nonlocal attempts
        result = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
        attempts += 1
        if attempts == 1:
            raise RuntimeError("once more")
        return str(result["messages"][-2].content)

    await stage.start(service)
    assert await answer(stage) == "that is enough"
    assert (attempts, asked(llm)) == (2, 2)


@IN_MEMORY
async def test_a_bad_day_of_the_provider(stage: Stage, llm: ScriptedLLM):
    """One owner of retries: the client's own are off, and a Retry-After is kept."""
    llm.replace([Turn(text="hello")])
    llm.add_faults(Status(status=429, retry_after_s=0.01), Status(status=500), DropBeforeHeaders(), turn=0)
    await stage.start(asks(create_agent(model(), [], middleware=[Durable()])))
    assert await answer(stage) == "hello"
    assert {entry.retry_count for entry in requests(llm.ledger())} <= {0, None}
    assert asked(llm) == 4


@IN_MEMORY
async def test_a_refusal_ends_the_run_at_once(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="hello")])
    llm.add_faults(Status(status=400, message="no such thing"), turn=0)
    await stage.start(asks(create_agent(model(), [], middleware=[Durable()])))
    with pytest.raises(TerminalError, match="no such thing") as ended:
        await answer(stage)
    assert (ended.value.status_code, asked(llm)) == (400, 1)


@IN_MEMORY
async def test_cancelled_the_agent_hangs_up(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="late", delay_ms=60_000)])
    service = asks(create_agent(model(), [], middleware=[Durable()]))
    await stage.start(service)
    sent = await stage.client.service_send(service.handlers["run"].fn, "x")
    await until(lambda: asked(llm) == 1, "the request")
    await stage.engine.operate("cancel", sent.invocation_id)
    with pytest.raises(TerminalError) as ended:
        await stage.client.attach(sent.invocation_id)
    assert ended.value.status_code == 409
    await until(lambda: next(iter(requests(llm.ledger()))).outcome == "client_gone", "the closed connection")


@IN_MEMORY
async def test_an_agent_inside_a_tool_has_steps_of_its_own(stage: Stage, llm: ScriptedLLM):
    inner = create_agent(model(), [weather], middleware=[Durable("inner")])

    @tool
    async def expert(question: str) -> str:
        """Ask an expert."""
        result = await inner.ainvoke({"messages": [{"role": "user", "content": question}]})
        await current_context().run("log", lambda: None)
        return str(result["messages"][-1].content)

    llm.replace([
        Turn(tool_calls=(ToolCall(name="weather", arguments={"city": "Oslo"}),), when=When(last_user="sub")),
        Turn(text="wet", when=When(last_user="sub")),
        calls(("expert", {"question": "sub"})),
        Turn(text="It is wet."),
    ])  # fmt: skip
    await stage.start(asks(create_agent(model(), [expert], middleware=[Durable("outer", inline=["expert"])])))
    assert await answer(stage) == "It is wet."
    (row,) = list(stage.store.list(Filter()))
    names = [entry.name for _, entry in stage.journal(row.spec.id) if getattr(entry, "name", "")]
    assert names == ["llm:outer", "llm:inner", "tool:weather", "llm:inner", "log", "llm:outer"]


@IN_MEMORY
async def test_a_conversation_is_kept_message_by_message(stage: Stage, llm: ScriptedLLM):
    """A turn writes what is new, and a tool call keeps its pair."""
    llm.replace([*BOTH[:1], Turn(text="Rain."), Turn(text="Still rain.", at=2)])
    agent = create_agent(model(), [weather, add], middleware=[Durable()])
    chat = VirtualObject("Chat")

    @chat.handler()
    async def say(ctx: ObjectContext, text: str) -> int:
        known = [*await load_messages(ctx), HumanMessage(text)]
        result = await agent.ainvoke({"messages": known})
        return await append_messages(ctx, result["messages"][len(known) - 1 :])

    await stage.start(chat)
    assert await stage.client.object_call(say, "ada", "weather?") == 5
    assert await stage.client.object_call(say, "ada", "and now?") == 7
    values = stage.store.values(ObjectAddress("Chat", "ada"))
    assert len(values) == 8


async def test_outside_of_a_handler_it_does_not_run_unnoticed(llm: ScriptedLLM):
    llm.replace([Turn(text="hello")])
    question = {"messages": [{"role": "user", "content": "?"}]}
    with pytest.raises(NotInHandler):
        await create_agent(model(), [], middleware=[Durable()]).ainvoke(question)
    with pytest.raises(NotInHandler):
        await durable_model(model()).ainvoke("?")
    allowed = create_agent(model(), [], middleware=[Durable(allow_ephemeral=True)])
    assert (await allowed.ainvoke(question))["messages"][-1].content == "hello"


async def test_a_synchronous_run_is_refused(llm: ScriptedLLM):
    with pytest.raises(NotInHandler, match="use ainvoke"):
        create_agent(model(), [], middleware=[Durable()]).invoke({"messages": [("user", "?")]})
