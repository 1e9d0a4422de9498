"""`needs_approval`: parked by ctx.approval and resumed in the same handler, or returned to the user."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from agents import Agent, Runner, RunState, function_tool

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.core.errors import ApprovalDecided
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Filter
from agentdur.integrations.openai_agents import Durability, DurableRunner
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.openai_agents.world import LEDGER, ask, asked, calls, crash_everywhere, service_of, weather
from tests.support.stage import Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


@function_tool(needs_approval=True)
async def pay(euros: int) -> str:
    """Pay."""
    LEDGER[f"pay {euros}"] += 1
    return f"paid {euros}"


CASHIER = Agent(name="Cashier", instructions="Pay.", tools=[pay, weather])
TWO_SUMS = [
    calls(("pay", {"euros": 7}), ("weather", {"city": "Oslo"}), ("pay", {"euros": 9})),
    Turn(text="Done."),
]


def outputs(llm: ScriptedLLM, request: int) -> list[str]:
    items = llm.bodies()[request]["input"]
    return [item["output"] for item in items if item.get("type") == "function_call_output"]


async def test_each_interruption_is_asked_about_and_the_run_goes_on_after_a_crash(
    stage: Stage, llm: ScriptedLLM
):
    LEDGER.clear()
    llm.replace(TWO_SUMS)
    await stage.start(service_of(CASHIER))
    asking = asyncio.ensure_future(ask(stage))
    seven, nine = sorted(await stage.questions(2), key=lambda q: q.payload["arguments"]["euros"])
    assert seven.question == "Cashier: run pay?"
    assert (seven.payload["agent"], seven.payload["tool"]) == ("Cashier", "pay")
    assert seven.payload["arguments"] == {"euros": 7}
    assert LEDGER == {"weather Oslo": 1}
    asking.cancel()
    await stage.restart()
    await stage.client.approve(seven.id, seven.digest)
    await stage.client.reject(nine.id, nine.digest, reason="too much")
    assert await ask(stage) == "Done."
    assert LEDGER == {"weather Oslo": 1, "pay 7": 1}
    assert asked(llm) == 2
    assert sorted(outputs(llm, 1)) == ["Not approved: too much", "paid 7", "rain in Oslo"]


@IN_MEMORY
async def test_edited_arguments_are_another_call_which_needs_an_approval_of_its_own(
    stage: Stage, llm: ScriptedLLM
):
    LEDGER.clear()
    llm.replace([calls(("pay", {"euros": 700})), Turn(text="I ask again.")])
    await stage.start(service_of(CASHIER))
    asking = asyncio.ensure_future(ask(stage))
    (question,) = await stage.questions(1)
    edited = {**question.payload, "arguments": {"euros": 7}}
    await stage.client.approve(question.id, question.digest, payload=edited)
    assert await asking == "I ask again."
    assert not LEDGER
    assert outputs(llm, 1) == ['Not approved with these arguments. Approvable arguments: {"euros": 7}']


@IN_MEMORY
async def test_nobody_answers_in_time_and_the_model_is_told(stage: Stage, llm: ScriptedLLM):
    LEDGER.clear()
    llm.replace([calls(("pay", {"euros": 7})), Turn(text="Pity.")])
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        how = Durability(approval_timeout=timedelta(milliseconds=20))
        return (await DurableRunner.run(CASHIER, question, durability=how)).final_output

    await stage.start(service)
    assert await ask(stage) == "Pity."
    assert not LEDGER
    assert outputs(llm, 1) == ["Nobody approved this call in time."]


@pytest.mark.slow
@IN_MEMORY
async def test_crashed_at_every_commit_an_approved_call_is_made_once(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("pay", {"euros": 7})), Turn(text="Done.")])

    async def with_approval() -> Any:
        asking = asyncio.ensure_future(ask(stage))
        try:
            while not asking.done():
                for question in await stage.client.approvals():
                    with contextlib.suppress(ApprovalDecided):  # by the one who asked before the crash
                        await stage.client.approve(question.id, question.digest)
                await asyncio.wait({asking}, timeout=0.01)
            return await asking
        finally:
            asking.cancel()

    await crash_everywhere(stage, llm, service_of(CASHIER), answer="Done.", turns=2, call=with_approval)


def ended_runs() -> tuple[VirtualObject, dict[str, Any]]:
    """A conversation whose runs end with their interruptions; the state of the run is in the object's."""
    desk = VirtualObject("Desk")
    how = Durability(approvals="return")

    @desk.handler()
    async def start(ctx: ObjectContext, question: str) -> list[dict[str, Any]]:
        result = await DurableRunner.run(CASHIER, question, durability=how)
        ctx.set("run", result.to_state().to_json())
        return [{"tool": i.name, "arguments": i.arguments} for i in result.interruptions]

    @desk.handler()
    async def go_on(ctx: ObjectContext, approve: bool) -> str:
        kept = await ctx.get("run", type_hint=dict)
        state = await RunState.from_json(CASHIER, kept)
        for item in state.get_interruptions():
            state.approve(item) if approve else state.reject(item, rejection_message="no")
        return str((await DurableRunner.run(CASHIER, state, durability=how)).final_output)

    return desk, {"start": start, "go_on": go_on}


async def test_a_run_may_end_with_its_interruptions_and_go_on_in_another_invocation(
    stage: Stage, llm: ScriptedLLM
):
    LEDGER.clear()
    llm.replace([calls(("pay", {"euros": 7})), Turn(text="Done.")])
    desk, handlers = ended_runs()
    await stage.start(desk)
    wanted = await stage.client.object_call(handlers["start"], "ada", "pay")
    assert [(w["tool"], json.loads(w["arguments"])) for w in wanted] == [("pay", {"euros": 7})]
    await stage.restart()
    assert await stage.client.object_call(handlers["go_on"], "ada", True) == "Done."
    assert LEDGER == {"pay 7": 1}
    assert asked(llm) == 2


@IN_MEMORY
async def test_a_cancelled_invocation_does_not_pay(stage: Stage, llm: ScriptedLLM):
    """The cancellation passes through the framework as itself."""
    LEDGER.clear()
    llm.replace([calls(("pay", {"euros": 7})), Turn(text="Done.")])
    seen: list[BaseException] = []
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        try:
            return (await Runner.run(CASHIER, question)).final_output
        except BaseException as error:
            seen.append(error)
            raise

    await stage.start(service)
    asking = asyncio.ensure_future(ask(stage))
    await stage.questions(1)
    (row,) = await stage.engine.list(Filter(service="Agents"))
    await stage.engine.operate("cancel", InvocationId(row["id"]))
    with pytest.raises(Exception, match="cancelled"):
        await asking
    await until(lambda: seen)
    assert [(type(e).__name__, getattr(e, "status_code", 0)) for e in seen] == [("TerminalError", 409)]
    assert not LEDGER
