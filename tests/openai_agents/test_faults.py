"""What providers do to those who ask: each fault on the wire, plain and streamed, and how often it is asked
again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from agents import Agent, ModelSettings, Runner

from agentdur import Context, Service, TerminalError
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Filter
from agentdur.llm import Budget, budget
from agentdur.runtime.views import entry_view
from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    DropMidStream,
    ErrorEvent,
    Fault,
    Garbage,
    Hang,
    ScriptedLLM,
    Status,
    ToolCall,
    Turn,
)
from tests.openai_agents.world import LEDGER, ask, asked, weather
from tests.support.stage import Stage

pytestmark = pytest.mark.parametrize("stage", ["memory"], indirect=True)
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])


def service_for(streamed: bool, agent: Agent[Any]) -> Service:
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        if not streamed:
            return (await Runner.run(agent, question)).final_output
        result = Runner.run_streamed(agent, question)
        async for _ in result.stream_events():
            pass
        return result.final_output

    return service


@STREAMED
@pytest.mark.parametrize(
    "fault",
    [
        Status(status=500), Status(status=408), Status(status=409), Status(status=503), DropBeforeHeaders(),
        DropMidStream(), Garbage(), ErrorEvent(),
    ],
    ids=["500", "408", "409", "503", "no answer", "cut", "garbage", "error event"],
)  # fmt: skip
async def test_a_fault_that_passes_is_asked_again_once(
    stage: Stage, llm: ScriptedLLM, fault: Fault, streamed: bool
):
    llm.replace([Turn(text="ok then", faults=(fault,))])
    await stage.start(service_for(streamed, Agent(name="A")))
    assert await ask(stage) == "ok then"
    assert asked(llm) == 2
    assert {entry.retry_count for entry in llm.ledger()} == {0}


@STREAMED
async def test_an_answer_that_was_cut_off_is_asked_for_once(stage: Stage, llm: ScriptedLLM, streamed: bool):
    """The SDK takes it for an error (an older one only where it is streamed). The next one would be as long,
    so the run ends; a stream tells what it was, and it counts."""
    llm.replace([Turn(text="Once upon", finish_reason="length")])
    service, spent = Service("Agents"), []

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> str:
        async with budget(ctx, Budget(calls=9)) as account:
            try:
                if not streamed:
                    return str((await Runner.run(Agent(name="A"), question)).final_output)
                result = Runner.run_streamed(Agent(name="A"), question)
                async for _ in result.stream_events():
                    pass
                return str(result.final_output)
            except TerminalError as ended:
                return type(ended).__name__
            finally:
                spent.append(account.spent.calls)

    await stage.start(service)
    wanted = {"ModelBehaviorError"} if streamed else {"ModelRefused", "Once upon"}
    assert await ask(stage) in wanted
    assert (asked(llm), spent == [1] or not streamed) == (1, True)
    if streamed:
        (note,) = await notes(stage)
        assert note["finish_reason"] == "length"


async def notes(stage: Stage) -> list[dict[str, Any]]:
    """What the model steps said about themselves."""
    (row,) = await stage.engine.list(Filter())
    shown = [entry_view(entry) for _, entry in stage.journal(row["id"])]
    return [entry["meta"] for entry in shown if "model" in entry.get("meta", {})]


@STREAMED
@pytest.mark.parametrize(
    "fault",
    [
        Status(status=400, times=None), Status(status=401, times=None),
        Status(status=429, code="insufficient_quota", message="insufficient_quota", times=None),
    ],
    ids=["400", "401", "quota"],
)  # fmt: skip
async def test_a_refusal_is_asked_once_and_ends_the_invocation(
    stage: Stage, llm: ScriptedLLM, fault: Status, streamed: bool
):
    llm.replace([Turn(text="never", faults=(fault,))])
    await stage.start(service_for(streamed, Agent(name="A")))
    with pytest.raises(TerminalError) as refused:
        await ask(stage)
    assert refused.value.status_code == fault.status
    assert (refused.value.metadata or {})["kind"] == "model_refused"
    assert asked(llm) == 1


@STREAMED
async def test_busy_providers_are_left_alone_as_long_as_they_say(
    stage: Stage, llm: ScriptedLLM, streamed: bool
):
    llm.replace([Turn(text="ok then", faults=(Status(status=429, retry_after_s=0.5),))])
    await stage.start(service_for(streamed, Agent(name="A")))
    assert await ask(stage) == "ok then"
    first, second = [entry.time_ms for entry in llm.ledger() if entry.event == "received"]
    assert second - first >= 500


@STREAMED
async def test_a_model_that_never_answers_is_asked_again_after_the_deadline_of_its_settings(
    stage: Stage, llm: ScriptedLLM, streamed: bool
):
    if not hasattr(ModelSettings(), "timeout"):
        pytest.skip("this version of the SDK has no deadline in its settings")
    llm.replace([Turn(text="ok then", faults=(Hang(),))])
    agent = Agent(name="A", model_settings=ModelSettings(timeout=0.3))
    await stage.start(service_for(streamed, agent))
    began = time.monotonic()
    assert await ask(stage) == "ok then"
    assert time.monotonic() - began >= 0.3
    assert asked(llm) == 2


@STREAMED
async def test_arguments_that_are_no_json_are_told_to_the_model(
    stage: Stage, llm: ScriptedLLM, streamed: bool
):
    LEDGER.clear()
    broken = Turn(tool_calls=(ToolCall(name="weather", arguments='{"city": "Os'),))
    llm.replace([broken, Turn(text="sorry")])
    await stage.start(service_for(streamed, Agent(name="A", tools=[weather])))
    assert await ask(stage) == "sorry"
    assert not LEDGER
    assert asked(llm) == 2


@STREAMED
async def test_a_cancelled_invocation_hangs_up_and_is_told_as_a_cancellation(
    stage: Stage, llm: ScriptedLLM, streamed: bool
):
    """In the middle of a model's answer."""
    llm.replace([Turn(text="never", faults=(Hang(),))])
    await stage.start(service_for(streamed, Agent(name="A")))
    asking = asyncio.ensure_future(ask(stage))
    while not asked(llm):
        await asyncio.sleep(0.005)
    (row,) = await stage.engine.list(Filter(service="Agents"))
    await stage.engine.operate("cancel", InvocationId(row["id"]))
    with pytest.raises(TerminalError, match="cancelled") as ended:
        await asking
    assert ended.value.status_code == 409
    while llm.ledger()[-1].outcome is None:
        await asyncio.sleep(0.005)
    assert llm.ledger()[-1].outcome in ("client_gone", "hang")
