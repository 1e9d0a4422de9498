"""Agents as data: they answer, call tools, hand over, call each other, and go on after a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from agentdur import Context, Service, TerminalError, current_context
from agentdur.agent import Agent, AgentRun, RemoteAgent, TooManyTurns, agent_tool, run_agent, serve_agent
from agentdur.core.errors import BadDefinition, NotInHandler
from agentdur.core.ports import Filter
from agentdur.testing.scripted_llm import Script, ScriptedLLM, ToolCall, Turn, When, requests
from agentdur.tools import ToolError, tool
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
MODEL = "openai/scripted"
ran: Counter[str] = Counter()


@tool
async def order(number: int) -> str:
    """Look an order up."""
    ran[f"order {number}"] += 1
    return f"order {number} is on its way"


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


def calls(*wanted: tuple[str, dict[str, Any]], when: When | None = None) -> Turn:
    return Turn(tool_calls=tuple(ToolCall(name=name, arguments=given) for name, given in wanted), when=when)


def asks(agent: Agent, **how: Any) -> Service:
    """A service that runs the agent on its input."""
    service = Service("Ask")

    @service.handler()
    async def run(ctx: Context, question: str) -> AgentRun:
        return await run_agent(ctx, agent, question, **how)

    return service


async def answer(stage: Stage, question: str = "hello?") -> AgentRun:
    run = stage.services[0].handlers["run"].fn
    result = await stage.client.service_call(run, question, idempotency_key="once")
    assert isinstance(result, AgentRun)
    return result


def asked(llm: ScriptedLLM) -> int:
    return len(list(requests(llm.ledger())))


async def steps(stage: Stage, service: str = "Ask") -> list[str]:
    """The names of the steps in the journals of that service, in order."""
    found = []
    for row in await stage.engine.list(Filter(service=service)):
        found += [entry.name for _, entry in stage.journal(row["id"]) if getattr(entry, "name", "")]
    return found


async def test_an_agent_answers_with_the_help_of_its_tools(stage: Stage, llm: ScriptedLLM):
    """The script answers only a conversation that begins with the agent's instructions."""
    kind = When(system="Be kind.")
    both = calls(("order", {"number": 7}), ("order", {"number": 8}), when=kind)
    llm.replace([both, Turn(text="Both are on their way.", when=kind)])
    await stage.start(asks(Agent(name="helper", model=MODEL, instructions="Be kind.", tools=[order])))
    run = await answer(stage)
    assert (run.text, run.output, run.agent, run.turns) == (
        "Both are on their way.", "Both are on their way.", "helper", 2,
    )  # fmt: skip
    assert [message["role"] for message in run.messages] == ["assistant", "tool", "tool", "assistant"]
    assert [message["content"] for message in run.messages[1:3]] == [
        "order 7 is on its way", "order 8 is on its way",
    ]  # fmt: skip
    assert run.usage.total_tokens > 0
    assert sorted(await steps(stage)) == ["llm:helper", "llm:helper", "tool:order", "tool:order"]


@IN_MEMORY
async def test_instructions_may_be_made_when_they_are_needed(stage: Stage, llm: ScriptedLLM):
    async def instructions() -> str:
        return await current_context().run("today", lambda: "It is Monday.")

    llm.replace([Turn(text="Monday", when=When(system="It is Monday."))])
    await stage.start(asks(Agent(name="helper", model=MODEL, instructions=instructions)))
    assert (await answer(stage)).text == "Monday"


class Verdict(BaseModel):
    """What a judge says."""

    good: bool
    why: str


@IN_MEMORY
async def test_an_answer_that_misfits_its_type_is_asked_for_again(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text='{"good": 3}'), Turn(text='{"good": true, "why": "short"}')])
    service = Service("Ask")
    judge = Agent(name="judge", model=MODEL, output=Verdict)

    @service.handler()
    async def run(ctx: Context, question: str) -> Verdict:
        found = (await run_agent(ctx, judge, question)).output
        assert isinstance(found, Verdict)
        return found

    await stage.start(service)
    assert await stage.client.service_call(run, "?") == Verdict(good=True, why="short")
    assert asked(llm) == 2


def desks() -> tuple[Agent, Agent]:
    """Two desks that hand over to each other."""
    billing = Agent(
        name="billing", model=MODEL, instructions="You know bills.", handoffs=lambda: [front],
        description="knows bills",
    )  # fmt: skip
    front = Agent(name="front", model=MODEL, instructions="You greet.", tools=[order], handoffs=[billing])
    return front, billing


OVER = ("transfer_to_billing", {"reason": "a bill"})
DESKS = [
    calls(OVER, ("order", {"number": 1}), OVER, when=When(system="You greet.")),
    Turn(text="You owe nothing.", when=When(system="You know bills."), at=1),
]


async def test_an_agent_hands_over_and_the_other_answers(stage: Stage, llm: ScriptedLLM):
    """Tools of the same turn are run, and every call of the turn has its answer."""
    llm.replace(DESKS)
    front, _ = desks()
    await stage.start(asks(front))
    run = await answer(stage)
    assert (run.agent, run.text, run.turns) == ("billing", "You owe nothing.", 2)
    first, *told, _ = run.messages
    assert [call["id"] for call in first["tool_calls"]] == [message["tool_call_id"] for message in told]
    assert [message["content"] for message in told] == [
        '{"assistant": "billing"}',
        "order 1 is on its way",
        '{"error": "one hand-over at a time: the first of this turn counts"}',
    ]
    assert ran == {"order 1": 1}


@IN_MEMORY
async def test_a_hand_over_between_processes_is_a_call(stage: Stage, llm: ScriptedLLM):
    llm.replace(DESKS)
    _, billing = desks()
    away = RemoteAgent(name="billing", service="Billing", description="knows bills")
    front = Agent(name="front", model=MODEL, instructions="You greet.", tools=[order], handoffs=[away])
    await stage.start(asks(front), serve_agent(billing, "Billing"))
    run = await answer(stage)
    assert (run.agent, run.text, run.turns) == ("billing", "You owe nothing.", 2)
    assert await steps(stage, "Billing") == ["llm:billing"]
    assert [message["role"] for message in run.messages] == ["assistant", "tool", "tool", "tool", "assistant"]


@IN_MEMORY
async def test_who_is_no_agent_is_told_from_one(stage: Stage, llm: ScriptedLLM):
    parrot = Service("billing")

    @parrot.handler(name="run")
    async def speak(ctx: Context, call: dict[str, Any]) -> str:
        return "hello"

    llm.replace(DESKS)
    away = RemoteAgent(name="billing")
    front = Agent(name="front", model=MODEL, instructions="You greet.", tools=[order], handoffs=[away])
    await stage.start(asks(front), parrot)
    with pytest.raises(TerminalError, match="agent 'billing' did not answer an AgentRun"):
        await answer(stage)


def panel(*experts: Agent | RemoteAgent) -> Agent:
    return Agent(name="chair", model=MODEL, instructions="Ask all.", tools=[agent_tool(e) for e in experts])


PANEL = [
    calls(("anna", {"message": "a?"}), ("bert", {"message": "b?"}), when=When(system="Ask all.")),
    Turn(text="They agree.", when=When(system="Ask all.")),
    calls(("order", {"number": 3}), when=When(last_user="a?")),
    Turn(text="yes, says anna", when=When(last_user="a?")),
    Turn(text='{"good": true, "why": "bert"}', when=When(last_user="b?")),
]


def experts() -> list[Agent]:
    return [
        Agent(name="anna", model=MODEL, tools=[order]),
        Agent(name="bert", model=MODEL, output=Verdict, description="a judge"),
    ]


async def test_agents_are_tools_of_other_agents_and_their_cost_is_counted(stage: Stage, llm: ScriptedLLM):
    llm.replace(PANEL)
    await stage.start(asks(panel(*experts())))
    run = await answer(stage)
    assert [message["content"] for message in run.messages[1:3]] == [
        "yes, says anna", '{"good":true,"why":"bert"}',
    ]  # fmt: skip
    assert (run.turns, asked(llm)) == (2, 5)
    own = [message for message in run.messages if message["role"] == "assistant"]
    assert len(own) == 2
    assert run.usage.prompt_tokens == sum(await prompt_tokens(stage))


async def prompt_tokens(stage: Stage) -> list[int]:
    """What each answered model call noted."""
    (row,) = await stage.engine.list(Filter(service="Ask"))
    shown = await stage.engine.describe(row["id"])
    assert shown is not None
    return [e["meta"]["prompt_tokens"] for e in shown["journal"] if "prompt_tokens" in e.get("meta", {})]


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize("script", [DESKS, PANEL], ids=["hand-over", "agents as tools"])
async def test_crashed_at_every_boundary_each_answer_is_paid_once(
    stage: Stage, llm: ScriptedLLM, script: Sequence[Turn]
):
    """A model call or tool that was under way at the crash may run again; none that was stored does."""
    llm.replace(script)
    agent = desks()[0] if script is DESKS else panel(*experts())
    service = asks(agent)
    await stage.start(service)
    undisturbed = await answer(stage)
    await stage.close()
    points, seen = 0, asked(llm)

    def begin() -> None:
        nonlocal seen
        ran.clear()
        seen = asked(llm)

    async for point in every_boundary(stage, [service], lambda: answer(stage), begin):
        points += 1
        run = point.answer
        assert (run.text, run.agent, run.turns) == (undisturbed.text, undisturbed.agent, undisturbed.turns)
        stored = [name for name in await steps(stage) if name.startswith("llm:")]
        assert len(stored) == (2 if script is DESKS else 5)
        assert asked(llm) - seen <= len(stored) + 2, point  # those under way at the crash: two agents at most
        assert max(ran.values()) <= 2, point
    assert points >= 8


@IN_MEMORY
async def test_a_run_has_an_end(stage: Stage, llm: ScriptedLLM):
    again = calls(("order", {"number": 1}))
    llm.replace(Script(turns=(again,), after_last="repeat"))
    await stage.start(asks(Agent(name="helper", model=MODEL, tools=[order], turns_max=3)))
    with pytest.raises(TerminalError, match="no answer after 3 turns") as ended:
        await answer(stage)
    assert (ended.value.metadata or {})["kind"] == TooManyTurns.KIND
    assert asked(llm) == 3


@IN_MEMORY
async def test_what_arrives_meanwhile_is_put_before_the_next_model_call(stage: Stage, llm: ScriptedLLM):
    """The hook is told the conversation, and what it adds becomes part of the run."""
    said: list[int] = []

    async def steer(conversation: list[dict[str, Any]]) -> list[dict[str, Any]]:
        said.append(len(conversation))
        return [{"role": "user", "content": "in French!"}] if len(said) == 2 else []

    llm.replace([calls(("order", {"number": 1})), Turn(text="oui", when=When(last_user="in French!"), at=1)])
    await stage.start(asks(Agent(name="helper", model=MODEL, tools=[order]), before_model=steer))
    run = await answer(stage)
    assert run.text == "oui"
    assert said == [1, 3]
    assert [message["role"] for message in run.messages] == ["assistant", "tool", "user", "assistant"]


@IN_MEMORY
async def test_a_tool_that_fails_is_told_to_the_model(stage: Stage, llm: ScriptedLLM):
    @tool
    async def broken() -> str:
        """Always fails."""
        raise ToolError("out of paper")

    llm.replace([calls(("broken", {}), ("unknown", {})), Turn(text="sorry")])
    await stage.start(asks(Agent(name="helper", model=MODEL, tools=[broken])))
    run = await answer(stage)
    assert [message["content"] for message in run.messages[1:3]] == [
        "Error: out of paper", "Error: there is no tool 'unknown'. The tools are: broken.",
    ]  # fmt: skip


@IN_MEMORY
async def test_cancelled_the_agents_it_called_stop_too(stage: Stage, llm: ScriptedLLM):
    llm.replace([
        calls(("anna", {"message": "a?"}), when=When(system="Ask all.")),
        Turn(text="late", when=When(last_user="a?"), delay_ms=60_000),
    ])  # fmt: skip
    service = asks(panel(Agent(name="anna", model=MODEL)))
    await stage.start(service)
    sent = await stage.client.service_send(service.handlers["run"].fn, "x")
    await until(lambda: asked(llm) == 2, "the request of the agent that is a tool")
    await stage.engine.operate("cancel", sent.invocation_id)
    with pytest.raises(TerminalError) as ended:
        await stage.client.attach(sent.invocation_id)
    assert ended.value.status_code == 409
    await until(lambda: list(requests(llm.ledger()))[1].outcome == "client_gone", "the closed connection")


async def test_outside_of_a_handler_nothing_runs_unless_that_is_wanted(llm: ScriptedLLM):
    llm.replace([calls(("order", {"number": 7})), Turn(text="On its way.")])
    helper = Agent(name="helper", model=MODEL, tools=[order])
    with pytest.raises(NotInHandler):
        await run_agent(None, helper, "hello")
    assert (asked(llm), ran) == (0, {})
    run = await run_agent(None, helper, "hello", stream=True, allow_ephemeral=True)
    assert (run.text, run.turns, ran) == ("On its way.", 2, {"order 7": 1})


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": "two words"}, "no name for an agent"),
        ({"name": "x" * 60}, "no name for an agent"),
        ({"tools": [order, order]}, "two tools are named order"),
        ({"turns_max": 0}, "turns_max is at least 1"),
    ],
)
def test_what_no_model_could_be_told_is_refused_where_it_is_declared(wrong: dict[str, Any], why: str):
    with pytest.raises(BadDefinition, match=why):
        Agent(**{"name": "helper", "model": MODEL} | wrong)
