"""Those who read an invocation along are told what its tools answered, and what people are asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, RunOptions, Service
from agentdur.tools import ToolError, run_tools, tool
from tests.agents.test_tools import calls
from tests.support.stage import Stage

QUICK: RunOptions[Any] = RunOptions(max_attempts=2, initial_retry_interval=timedelta(milliseconds=1))


@tool
def fine(n: int) -> dict[str, int]:
    return {"n": n}


@tool
def picky() -> str:
    raise ToolError("not today")


@tool(options=QUICK)
def broken() -> str:
    raise OSError("no paper")


@tool(inline=True)
async def within() -> str:
    return "inline"


@tool(approval=True)
def asked(n: int) -> str:
    return f"did {n}"


@pytest.mark.parametrize("again", [False, True], ids=["live", "from the journal"])
async def test_each_answer_is_told_once(stage: Stage, again: bool):
    """Whether it came from a step or not, and the same to those who read it later."""
    wanted = calls(
        ("fine", {"n": 1}), ("picky", {}), ("broken", {}), ("within", {}), ("asked", {"n": 2}), ("none", {})
    )
    service = Service("Desk")

    @service.handler()
    async def run(ctx: Context) -> Any:
        return await run_tools(ctx, wanted, [fine, picky, broken, within, asked], stream=True)

    await stage.start(service)
    sent = await stage.client.service_send(run)
    (question,) = await stage.questions()
    if again:
        await stage.restart()
    await stage.decide()
    messages = await stage.client.attach(sent.invocation_id)
    chunks = [e.data async for e in stage.client.stream(sent.invocation_id) if e.kind == "chunk"]
    results = {chunk["id"]: chunk for chunk in chunks if chunk["type"] == "tool_result"}
    assert len([chunk for chunk in chunks if chunk["type"] == "tool_result"]) == len(wanted)
    assert [results[m["tool_call_id"]]["content"] for m in messages] == [m["content"] for m in messages]
    assert [results[one.id]["failed"] for one in wanted] == [False, True, True, False, False, True]
    (approval,) = [chunk for chunk in chunks if chunk["type"] == "approval"]
    assert (approval["id"], approval["tool"]) == (question.id, "asked")
    assert (approval["payload"], approval["digest"]) == (question.payload, question.digest)
