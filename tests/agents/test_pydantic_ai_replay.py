"""What a replay of an agent of Pydantic AI makes is what the first attempt made: requests, messages, ids,
usage, spans; and people decide about exactly what they saw."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

pytest.importorskip("agentdur.integrations.pydantic_ai", exc_type=ImportError)

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, CallDeferred, ModelRetry, RunContext, durable_exec
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.usage import RunUsage

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.integrations.pydantic_ai import Durable, append_messages, load_messages
from agentdur.testing.scripted_llm import ScriptedLLM
from tests.agents.pydantic_ai_world import (
    CHAT,
    IN_MEMORY,
    World,
    called,
    journal,
    mine,
    model_server,
    turns_of,
)
from tests.support.stage import Stage, until

__all__ = ["model_server"]
pytestmark = IN_MEMORY


class Stumbles:
    """Fails the attempt once, at a place of the handler's choice."""

    def __init__(self) -> None:
        self.at: set[str] = set()

    def here(self, place: str) -> None:
        if place not in self.at:
            self.at.add(place)
            raise OSError(f"stumbled at {place}")


def talking(agent: Agent[Any, str], stumbles: Stumbles | None) -> VirtualObject:
    chat = VirtualObject("Chat")

    @chat.handler()
    async def say(ctx: ObjectContext, text: str) -> dict[str, Any]:
        history = await load_messages(ctx)
        result = await agent.run(text, message_history=history)
        if stumbles is not None:
            stumbles.here(f"after the run {len(history)}")
        await append_messages(ctx, result.new_messages())
        await ctx.run("told", lambda: None)  # what was written is committed, and compared by a replay
        if stumbles is not None:
            stumbles.here(f"after the state {len(history)}")
        used = result.usage() if callable(result.usage) else result.usage
        return {"output": result.output, "requests": used.requests, "run": result.new_messages()[0].run_id}

    return chat


TALK = [
    {"tool_calls": [called("look", "c1", at=""), called("look", "c2", at="sea")]},
    {"tool_calls": [called("look", "c3", at="land")]},
    {"text": "seen"},
]


async def talked(stage: Stage, llm: ScriptedLLM, stumbles: Stumbles | None) -> tuple[list[Any], list[Any]]:
    """Two turns of a conversation: what was answered, and what the model was asked."""
    llm.replace({"turns": TALK, "count": "since_last_user"})
    before = len(llm.bodies())
    agent = Agent(CHAT, name="scout", retries=3, capabilities=[Durable()])

    @agent.tool
    async def look(ctx: RunContext, at: str) -> dict[str, Any]:
        if not at:
            raise ModelRetry("where?")
        return {"at": at, "depth": 1.5}

    stage.fresh()
    await stage.start(talking(agent, stumbles))
    answers = []
    for text in (b'"one"', b'"two"'):
        answers.append(await stage.client.generic_call("Chat", "say", text, "k"))
    await stage.stop()
    return answers, llm.bodies()[before:]


async def test_the_next_request_is_the_same_with_and_without_a_replay(
    stage: Stage, model_server: ScriptedLLM
):
    """The handler fails after each run and after each write: what comes after is made from the journal."""
    plain, asked = await talked(stage, model_server, None)
    replayed, asked_again = await talked(stage, model_server, Stumbles())
    assert asked_again == asked
    assert [answer.split(b'"run"')[0] for answer in plain] == [a.split(b'"run"')[0] for a in replayed]


async def test_a_conversation_grows_by_what_is_new(stage: Stage, model_server: ScriptedLLM):
    """The tenth turn writes and journals as much as the second."""
    model_server.replace({"turns": [{"text": "yes"}], "count": "since_last_user"})
    agent = Agent(CHAT, name="scout", capabilities=[Durable()])
    await stage.start(talking(agent, None))
    for _ in range(10):
        await stage.client.generic_call("Chat", "say", b'"one more"', "k")
    sizes = []
    for row in sorted(mine(stage), key=lambda row: row.seq):
        entries = stage.store.journal(row.seq)
        sizes.append(sum(len(getattr(entry, "value", None) or b"") for _, entry in entries))
    assert len(sizes) == 10
    assert max(sizes[1:]) - min(sizes[1:]) < 50
    assert len(model_server.bodies()[-1]["messages"]) == 19


async def test_usage_of_an_agent_within_a_step_is_kept_by_a_replay(stage: Stage, model_server: ScriptedLLM):
    """Two such tools at once, and a replay after them: nothing is lost, nothing counted twice."""
    model_server.replace(
        [
            {
                "when": {"system": "You lead."},
                "tool_calls": [called("ask_writer", "w1"), called("ask_writer", "w2")],
            },
            {"when": {"system": "You lead."}, "text": "done"},
            {"when": {"system": "You write."}, "text": "written"},
        ]
    )
    writer = Agent(CHAT, name="writer", instructions="You write.", capabilities=[Durable()])
    boss = Agent(CHAT, name="boss", instructions="You lead.", capabilities=[Durable()])
    stumbles, seen = Stumbles(), []

    @boss.tool
    async def ask_writer(ctx: RunContext) -> str:
        return (await writer.run("write", usage=ctx.usage)).output

    service = Service("Agents")

    @service.handler()
    async def ask(ctx: Context, question: str) -> int:
        usage = RunUsage()
        await boss.run(question, usage=usage)
        seen.append((usage.requests, usage.input_tokens))
        stumbles.here("the end")
        return usage.requests

    await stage.start(service)
    assert await stage.client.service_call(ask, "?") == 4
    assert len(seen) == 2 and seen[0] == seen[1]
    assert turns_of(model_server) == {0: 1, 1: 1, 2: 2}


@pytest.mark.skipif(not hasattr(durable_exec, "replay_scope"), reason="newer versions know of replays")
async def test_no_span_is_sent_twice(stage: Stage, model_server: ScriptedLLM):
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    model_server.replace([{"tool_calls": [called("look", "c1")]}, {"text": "seen"}])
    agent = Agent(CHAT, name="scout", capabilities=[Durable()])
    agent.instrument = InstrumentationSettings(tracer_provider=provider)
    agent.tool_plain(lambda: "x", name="look")
    stumbles, service = Stumbles(), Service("Agents")

    @service.handler()
    async def ask(ctx: Context, question: str) -> str:
        result = await agent.run(question)
        stumbles.here("the end")
        stumbles.here("the end again")
        return result.output

    await stage.start(service)
    assert await stage.client.service_call(ask, "?") == "seen"
    names = sorted(span.name for span in spans.get_finished_spans())
    assert names == ["chat scripted", "chat scripted", "execute_tool look", "invoke_agent scout"]


def paying(world: World, capability: Durable[Any]) -> Service:
    agent, service = Agent(CHAT, name="payer", capabilities=[capability]), Service("Agents")

    @agent.tool(requires_approval=True)
    async def pay(ctx: RunContext, amount: int) -> str:
        world.did(f"paid {amount}")
        return f"paid {amount}"

    @service.handler()
    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    return service


PAY = [{"tool_calls": [called("pay", "p1", amount=3)]}, {"text": "over"}]


async def test_a_person_sees_the_arguments_and_may_change_them(stage: Stage, model_server: ScriptedLLM):
    model_server.replace(PAY)
    world = World()
    await stage.start(paying(world, Durable()))
    sent = await stage.client.generic_send("Agents", "ask", b'"?"')
    (asked,) = await stage.questions()
    assert (asked.tool, asked.payload) == ("pay", {"amount": 3})
    await stage.restart()
    await stage.decide(payload={"amount": 2}, by="ann")
    assert await stage.client.attach(sent.invocation_id) == "over"
    assert world.lines == ["paid 2"]
    assert turns_of(model_server) == {0: 1, 1: 1}


@pytest.mark.parametrize("late", [False, True])
async def test_what_is_not_approved_is_not_run_and_the_model_is_told(
    stage: Stage, model_server: ScriptedLLM, late: bool
):
    model_server.replace(PAY)
    world, timeout = World(), timedelta(milliseconds=1) if late else None
    await stage.start(paying(world, Durable(approval_timeout=timeout)))
    sent = await stage.client.generic_send("Agents", "ask", b'"?"')
    if not late:
        await stage.decide(approved=False, reason="too much")
    assert await stage.client.attach(sent.invocation_id) == "over"
    assert world.lines == []
    (told,) = [m for m in model_server.bodies()[-1]["messages"] if m["role"] == "tool"]
    assert late or told["content"] == "too much"


def shown(stage: Stage) -> list[Any]:
    """What is told about calls that are made elsewhere."""
    return [entry["value"] for entry in journal(stage) if "awakeable" in str(entry.get("value"))]


async def test_a_call_that_is_made_elsewhere_waits_for_its_result(stage: Stage, model_server: ScriptedLLM):
    model_server.replace([{"tool_calls": [called("ship", "s1", to="Oslo")]}, {"text": "shipped"}])
    agent, service = Agent(CHAT, name="shipper", capabilities=[Durable()]), Service("Agents")

    @agent.tool_plain
    async def ship(to: str) -> str:
        raise CallDeferred

    @service.handler()
    async def ask(ctx: Context, question: str) -> str:
        return (await agent.run(question)).output

    await stage.start(service)
    sent = await stage.client.generic_send("Agents", "ask", b'"?"')
    await until(lambda: shown(stage), "the call")
    (told,) = shown(stage)
    assert (told["tool"], told["payload"]) == ("ship", {"to": "Oslo"})
    await stage.restart()
    await stage.client.resolve_awakeable(told["awakeable"], {"parcel": 9})
    assert await stage.client.attach(sent.invocation_id) == "shipped"
    (answer,) = [m for m in model_server.bodies()[-1]["messages"] if m["role"] == "tool"]
    assert '"parcel":9' in answer["content"]


async def test_a_run_with_a_timeout_of_its_own_is_refused(stage: Stage, model_server: ScriptedLLM):
    agent, service = Agent(CHAT, name="late", capabilities=[Durable()]), Service("Agents")

    @service.handler()
    async def ask(ctx: Context, question: str) -> str:
        try:
            return (await agent.run(question, timeout=5)).output
        except TypeError:
            return "AD0167"  # versions before run timeouts
        except Exception as refused:
            return str(getattr(refused, "code", refused))

    await stage.start(service)
    assert await stage.client.service_call(ask, "?") == "AD0167"
