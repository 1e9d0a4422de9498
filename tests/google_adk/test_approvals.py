"""Tools that a person has to agree to: asked by an approval, about the exact call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from google.adk.tools.function_tool import FunctionTool
from google.adk.tools.long_running_tool import LongRunningFunctionTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from agentdur import Context, ObjectContext, Service, VirtualObject
from agentdur.integrations.google_adk import Durability, DurableRunner
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.google_adk.world import (
    LEDGER,
    agent,
    ask,
    asked,
    calls,
    crash_everywhere,
    events,
    run,
    service_of,
)
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


async def cancel(number: int) -> str:
    """Cancel a booking."""
    LEDGER[f"cancel {number}"] += 1
    return f"{number} is cancelled"


def pay(amount: int, tool_context: ToolContext) -> dict[str, Any]:
    """Pay; large amounts need a word from somebody."""
    answer = tool_context.tool_confirmation
    if answer is None and amount > 100:
        tool_context.request_confirmation(hint="How much of it?", payload={"amount": amount})
        return {"status": "pending"}
    LEDGER["pay"] += 1
    if answer is not None and not answer.confirmed:
        return {"status": "refused"}
    return {"paid": answer.payload["amount"] if answer is not None else amount}


def careful(**how: Any) -> Service:
    tools = [FunctionTool(cancel, require_confirmation=lambda number: number > 10), pay]
    return service_of(agent(tools=tools), durability=Durability(**how))


ONE = [calls(("cancel", {"number": 17})), Turn(text="Done.")]


def told(llm: ScriptedLLM) -> str:
    """What the model was told of the tools last."""
    return " ".join(str(m["content"]) for m in llm.bodies()[-1]["messages"] if m["role"] == "tool")


async def test_a_person_agrees_after_a_restart(stage: Stage, llm: ScriptedLLM):
    """Nothing is asked of the model, and nothing done, before; waiting costs nothing."""
    llm.replace(ONE)
    await stage.start(careful())
    asking = asyncio.ensure_future(ask(stage))
    (question,) = await stage.questions()
    assert question.question == "helper: run cancel?"
    assert question.payload["arguments"] == {"number": 17}
    assert question.payload["call_id"].startswith("call_")
    assert (asked(llm), LEDGER) == (1, {})
    asking.cancel()
    await stage.restart()
    await stage.decide()
    assert await ask(stage) == "Done."
    assert (asked(llm), LEDGER) == (2, {"cancel 17": 1})


@asynccontextmanager
async def deciding(stage: Stage, approved: bool, **said: Any) -> AsyncIterator[None]:
    """Somebody who decides whatever there is to decide."""

    async def decide() -> None:
        while True:
            with suppress(Exception):
                for asked_for in await stage.client.approvals():
                    choose = stage.client.approve if approved else stage.client.reject
                    await choose(asked_for.id, asked_for.digest, **said)
            await asyncio.sleep(0.005)

    person = asyncio.ensure_future(decide())
    try:
        yield
    finally:
        person.cancel()


@dataclass(frozen=True)
class Said:
    """What a person says, what is done then, and what the model is told of it."""

    approved: bool
    how: dict[str, Any]
    did: dict[str, int]
    heard: str


ANSWERS = {
    "yes": Said(True, {}, {"cancel 17": 1}, "17 is cancelled"),
    "no": Said(False, {"reason": "too late"}, {}, "rejected: too late"),
    "edited": Said(True, {"payload": {"arguments": {"number": 71}}}, {"cancel 71": 1}, "71 is cancelled"),
}


@IN_MEMORY
@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS)
async def test_what_the_person_says_is_what_happens(stage: Stage, llm: ScriptedLLM, said: Said):
    llm.replace(ONE)
    await stage.start(careful())
    async with deciding(stage, said.approved, **said.how):
        assert await ask(stage) == "Done."
    assert said.did == LEDGER
    assert said.heard in told(llm)


@IN_MEMORY
async def test_small_matters_are_not_asked(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("cancel", {"number": 7}), ("pay", {"amount": 5})), Turn(text="Done.")])
    await stage.start(careful())
    assert await ask(stage) == "Done."
    assert LEDGER == {"cancel 7": 1, "pay": 1}


@IN_MEMORY
async def test_nobody_in_time_is_a_no(stage: Stage, llm: ScriptedLLM):
    llm.replace(ONE)
    await stage.start(careful(approval_timeout=timedelta(milliseconds=1)))
    assert await ask(stage) == "Done."
    assert LEDGER == {}
    assert "nobody approved it in time" in told(llm)


@IN_MEMORY
async def test_a_tool_that_asks_by_itself_gets_its_answer(stage: Stage, llm: ScriptedLLM):
    """With a payload of the approver's."""
    llm.replace([calls(("pay", {"amount": 500})), Turn(text="Paid.")])
    await stage.start(careful())
    asking = asyncio.ensure_future(ask(stage))
    (question,) = await stage.questions()
    assert (question.payload["hint"], question.payload["payload"]) == ("How much of it?", {"amount": 500})
    await stage.decide(payload={"payload": {"amount": 120}})
    assert await asking == "Paid."
    assert "120" in told(llm)
    assert LEDGER == {"pay": 1}


@pytest.mark.slow
@IN_MEMORY
async def test_two_questions_at_once_crashed_at_every_commit(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("cancel", {"number": 17}), ("pay", {"amount": 500})), Turn(text="Done.")])

    async def decided() -> Any:
        async with deciding(stage, True):
            return await ask(stage)

    await crash_everywhere(stage, llm, careful(), answer="Done.", turns=2, at_once=2, call=decided)


@IN_MEMORY
async def test_returned_to_the_code_as_adk_does(stage: Stage, llm: ScriptedLLM):
    """The run ends with ADK's request; the next one brings the answer, days later if need be."""
    llm.replace([*ONE, Turn(text="Never.", at=9)])
    tools = [FunctionTool(cancel, require_confirmation=True)]
    durability = Durability(approvals="return")
    runner = DurableRunner(app_name="app", agent=agent(tools=tools), durability=durability)
    talk = VirtualObject("Talk")

    @talk.handler()
    async def say(ctx: ObjectContext, text: str) -> str | None:
        async for event in events(runner, text):
            for call in event.get_function_calls():
                if call.name == "adk_request_confirmation":
                    ctx.set("wanted", call.id)
                    return None
        return "not asked"

    @talk.handler()
    async def agree(ctx: ObjectContext) -> str:
        answer = types.FunctionResponse(
            id=await ctx.get("wanted"), name="adk_request_confirmation", response={"confirmed": True}
        )
        return await run(runner, types.Content(role="user", parts=[types.Part(function_response=answer)]))

    await stage.start(talk)
    assert await stage.client.object_call(say, "ada", "Cancel 17") is None
    assert LEDGER == {}
    await stage.restart()
    assert await stage.client.object_call(agree, "ada") == "Done."
    assert LEDGER == {"cancel 17": 1}


@IN_MEMORY
async def test_a_long_running_tool_waits_in_the_handler(stage: Stage, llm: ScriptedLLM):
    """The run ends; the handler waits for whoever completes an awakeable, and lets the agent go on."""

    def order(item: str) -> dict[str, str]:
        """Order something; it takes days."""
        LEDGER[item] += 1
        return {"status": "ordered"}

    llm.replace([calls(("order", {"item": "boots"})), Turn(text="They are there.")])
    runner = DurableRunner(app_name="app", agent=agent(tools=[LongRunningFunctionTool(order)]))
    service, waiting = Service("Agents"), []

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        call_id = ""
        async for event in events(runner, question):
            for call in event.get_function_calls():
                call_id = call.id if call.id in (event.long_running_tool_ids or ()) else call_id
        name, arrived = ctx.awakeable()
        waiting.append(name)
        answer = types.FunctionResponse(id=call_id, name="order", response={"status": await arrived})
        return await run(runner, types.Content(role="user", parts=[types.Part(function_response=answer)]))

    await stage.start(service)
    asking = asyncio.ensure_future(ask(stage))
    while not waiting:
        await asyncio.sleep(0.005)
    asking.cancel()
    await stage.restart()
    await stage.client.resolve_awakeable(waiting[0], "arrived")
    assert await ask(stage) == "They are there."
    assert (LEDGER, asked(llm)) == ({"boots": 1}, 3)
    assert "arrived" in told(llm)
