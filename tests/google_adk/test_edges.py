"""Cancelled, parked, left alone: what happens at the edges of a run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from google.adk.tools.function_tool import FunctionTool

from agentdur import Context, Service, TerminalError, current_context
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Filter
from agentdur.integrations.google_adk import DurableRunner, inline
from agentdur.testing.scripted_llm import Hang, ScriptedLLM, Turn, When
from tests.google_adk.test_many_agents import TRIP, planner
from tests.google_adk.world import LEDGER, agent, ask, asked, calls, only_invocation, run, service_of
from tests.support.stage import Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


@IN_MEMORY
async def test_a_cancelled_invocation_hangs_up_and_no_callback_makes_anything_of_it(
    stage: Stage, llm: ScriptedLLM
):
    """In the middle of a model's answer."""
    told: list[Any] = []

    def hear(callback_context: Any, llm_request: Any, error: Exception) -> None:
        told.append(error)

    llm.replace([Turn(text="never", faults=(Hang(),))])
    await stage.start(service_of(agent(on_model_error_callback=hear)))
    asking = asyncio.ensure_future(ask(stage))
    await until(lambda: asked(llm) == 1, "the question")
    await stage.engine.operate("cancel", InvocationId(await only_invocation(stage)))
    with pytest.raises(TerminalError, match="cancelled") as ended:
        await asking
    assert ended.value.status_code == 409
    assert told == []
    await until(lambda: llm.ledger()[-1].outcome in ("client_gone", "hang"), "the hanging up")


@IN_MEMORY
@pytest.mark.parametrize("mode", ["tools", "sub_agents"])
async def test_a_cancellation_is_no_news_for_the_model(stage: Stage, llm: ScriptedLLM, mode: str):
    """The inner agents' models are being asked; ADK would word what goes wrong there."""
    hanging = [
        Turn(text="x", when=When(system=text), faults=(Hang(times=None),)) for text in ("weather", "food")
    ]
    llm.replace([*TRIP.turns[:2], *hanging])
    await stage.start(service_of(planner(mode)))
    asking = asyncio.ensure_future(ask(stage))
    await until(lambda: asked(llm) == 3, "both inner agents asking")
    await stage.engine.operate("cancel", InvocationId(await only_invocation(stage)))
    with pytest.raises(TerminalError, match="cancelled") as ended:
        await asking
    assert ended.value.status_code == 409
    assert asked(llm) == 3


@IN_MEMORY
async def test_a_cancelled_question_cancels_the_tool(stage: Stage, llm: ScriptedLLM):
    async def pay(euros: int) -> str:
        """Pay."""
        LEDGER["paid"] += euros
        return "paid"

    seen: list[BaseException] = []
    tools = [FunctionTool(pay, require_confirmation=True)]
    runner, service = DurableRunner(app_name="app", agent=agent(tools=tools)), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        try:
            return await run(runner, question)
        except BaseException as error:
            seen.append(error)
            raise

    llm.replace([calls(("pay", {"euros": 7})), Turn(text="Done.")])
    await stage.start(service)
    asking = asyncio.ensure_future(ask(stage))
    await stage.questions()
    (row,) = await stage.engine.list(Filter(service="Agents"))
    await stage.engine.operate("cancel", InvocationId(row["id"]))
    with pytest.raises(TerminalError, match="cancelled"):
        await asking
    await until(lambda: seen)
    assert [(type(e).__name__, getattr(e, "status_code", 0)) for e in seen] == [("TerminalError", 409)]
    assert LEDGER == {}


@IN_MEMORY
@pytest.mark.parametrize("what", ["confirmation", "inline tool"])
async def test_who_waits_for_somebody_waits_in_no_memory(stage: Stage, llm: ScriptedLLM, what: str):
    async def wait() -> str:
        """Wait for somebody."""
        if what == "confirmation":
            return "agreed"
        return "agreed" if await current_context().approval("well?") else "no"

    tool = FunctionTool(wait, require_confirmation=True) if what == "confirmation" else inline(wait)
    runner, service = DurableRunner(app_name="app", agent=agent(tools=[tool])), Service("Agents")

    @service.handler("ask", inactivity_timeout=timedelta(0))
    async def handle(ctx: Context, question: str) -> str:
        return await run(runner, question)

    llm.replace([calls(("wait", {})), Turn(text="ok")])
    await stage.start(service)
    sent = await stage.client.service_send(handle, "go")
    await stage.questions()
    await stage.until_status(sent.invocation_id, "suspended")
    await stage.decide()
    assert await stage.client.attach(sent.invocation_id) == "ok"
    assert "agreed" in str(llm.bodies()[1]["messages"][-1]["content"])
    assert asked(llm) == 2
