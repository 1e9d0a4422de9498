"""What models and tools do wrong, met by an agent that talks to a model server over HTTP."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, RunOptions, Service, TerminalError
from agentdur.agent import Agent, run_agent
from agentdur.core.errors import NotInHandler
from agentdur.llm import ToolCall as Asked
from agentdur.runtime.owner import Knobs
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn, requests
from agentdur.tools import Tool, ToolKey, run_tools, tool, tool_key
from tests.agents.test_tools import calls
from tests.support.stage import Ledger, Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
QUICK: RunOptions[Any] = RunOptions(max_attempts=2, initial_retry_interval=timedelta(milliseconds=1))
LIMIT = 1000


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(options=QUICK)
async def broken() -> str:
    raise OSError("no paper")


@tool(options=QUICK, timeout=timedelta(milliseconds=20))
async def hanging() -> str:
    await asyncio.sleep(3600)
    return "never"


@tool(options=QUICK, timeout=timedelta(milliseconds=20))
def hanging_thread() -> str:
    threading.Event().wait(0.5)
    return "too late"


@tool(inline=True, timeout=timedelta(milliseconds=20))
async def hanging_inline() -> str:
    await asyncio.sleep(3600)
    return "never"


@tool
def large(megabytes: int) -> str:
    return "é" * (megabytes * 1024 * 512)


@tool(inline=True)
async def large_inline() -> str:
    return "x" * (LIMIT + 1)


@tool
def largest() -> str:
    return "x" * LIMIT


TOOLS = [add, broken, hanging, hanging_thread, hanging_inline, large, large_inline, largest]


async def answered(stage: Stage, llm: ScriptedLLM, turn: Turn, tools: list[Tool] = TOOLS) -> str:
    """What the model is told in the second turn, which is also the last."""
    llm.replace([turn, Turn(text="done")])
    service = Service("Desk")
    clerk = Agent(name="clerk", model="openai/scripted", tools=tools)

    @service.handler()
    async def run(ctx: Context) -> list[dict[str, Any]]:
        return (await run_agent(ctx, clerk, "Work!")).messages

    await stage.start(service, knobs=Knobs(tool_answer=LIMIT))
    _, told, last = await stage.client.service_call(run)
    assert (told["role"], last["content"]) == ("tool", "done")
    assert [entry.message_count for entry in requests(llm.ledger())] == [1, 3]
    return str(told["content"])


@IN_MEMORY
@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("nonsense", {}), "Error: there is no tool 'nonsense'"),
        (("add", {"a": 1}), "b: Field required"),
        (("add", {"a": 1, "b": "two"}), "b: Input should be a valid integer"),
        (("broken", {}), "Error: OSError('no paper')"),
        (("hanging", {}), "no answer within 0:00:00.020000"),
        (("hanging_thread", {}), "no answer within 0:00:00.020000"),
        (("hanging_inline", {}), "no answer within 0:00:00.020000"),
        (("large", {"megabytes": 10}), f"has 10485760 bytes, the limit is {LIMIT} (tool-answer-limit)"),
        (("large_inline", {}), f"has {LIMIT + 1} bytes"),
    ],
)
async def test_what_goes_wrong_is_told_to_the_model_and_it_goes_on(
    stage: Stage, llm: ScriptedLLM, call: tuple[str, Any], told: str
):
    name, arguments = call
    turn = Turn(tool_calls=(ToolCall(name=name, arguments=arguments),))
    content = await answered(stage, llm, turn)
    assert content.startswith("Error: ") and told in content
    assert len(content) < 500


@IN_MEMORY
async def test_arguments_that_are_no_json_are_told_to_the_model(stage: Stage, llm: ScriptedLLM):
    turn = Turn(tool_calls=(ToolCall(name="add", arguments='{"a": 1, "b"'),))
    assert "Invalid JSON" in await answered(stage, llm, turn)


@IN_MEMORY
async def test_an_answer_at_the_limit_is_told_whole(stage: Stage, llm: ScriptedLLM):
    turn = Turn(tool_calls=(ToolCall(name="largest"),))
    assert await answered(stage, llm, turn) == "x" * LIMIT


@IN_MEMORY
async def test_what_cannot_be_written_down_is_told_in_the_author_s_words(stage: Stage, llm: ScriptedLLM):
    """The conversation goes on; the tool is not run again."""
    ledger = Ledger()

    @tool
    def opaque() -> Any:
        ledger.write("ran")
        return {"lock": threading.Lock()}

    heard = await answered(stage, llm, Turn(tool_calls=(ToolCall(name="opaque"),)), [opaque])
    assert heard.startswith("Error: the tool ran")
    assert "AD0032" in heard and "lock" in heard
    assert ledger.count("ran") == 1


async def test_calls_with_one_id_are_told_apart(stage: Stage):
    """Some models number their calls anew in each turn, or not at all."""
    ledger = Ledger()
    keys = Ledger()

    @tool
    async def note(n: int, key: ToolKey) -> str:
        keys.write(key)
        return ledger.write(f"{n}")

    service = Service("Desk")

    @service.handler()
    async def run(ctx: Context) -> list[str]:
        found = []
        for turn in range(2):
            twice = [Asked(id="call", name="note", arguments=f'{{"n": {turn * 2 + n}}}') for n in range(2)]
            found += [message["content"] for message in await run_tools(ctx, twice, [note])]
        await ctx.run("end", lambda: None)
        return found

    await stage.start(service)
    sent = await stage.client.service_send(run)
    assert await stage.client.attach(sent.invocation_id) == ["0", "1", "2", "3"]
    assert len(keys.counts) == 4
    branches = {e.branch for _, e in stage.journal(sent.invocation_id) if getattr(e, "branch", "")}
    assert branches == {"tool:call", "tool:call#1", "tool:call#2", "tool:call#3"}


@IN_MEMORY
async def test_the_key_of_a_call_is_the_same_in_each_try_and_for_no_other_call(stage: Stage):
    keys = Ledger()

    @tool(options=QUICK)
    def moody(n: int) -> str:
        keys.write(tool_key())
        if keys.count(tool_key()) < 2:
            raise OSError("again")
        return "well"

    service = Service("Desk")

    @service.handler()
    async def run(ctx: Context) -> list[Any]:
        return await run_tools(ctx, calls(("moody", {"n": 1}), ("moody", {"n": 2})), [moody])

    await stage.start(service)
    await stage.client.service_call(run)
    assert sorted(keys.counts.values()) == [2, 2]


def test_outside_of_a_tool_there_is_no_key():
    with pytest.raises(NotInHandler):
        tool_key()


# Without a journal


async def test_outside_of_handlers_tools_run_only_for_those_who_ask_for_it():
    wanted = calls(("add", {"a": 1, "b": 2}))
    with pytest.raises(NotInHandler):
        await run_tools(None, wanted, [add])
    (message,) = await run_tools(None, wanted, [add], allow_ephemeral=True)
    assert message == {"role": "tool", "tool_call_id": "call_0", "content": "3"}


async def test_without_a_journal_failures_are_told_and_nobody_can_approve():
    @tool(approval=True)
    async def pay(key: ToolKey) -> str:
        return key

    @tool
    async def fatal() -> str:
        raise TerminalError("closed", 402)

    wanted = calls(("broken", {}), ("hanging", {}), ("pay", {}), ("nonsense", {}), ("add", {"a": 1}))
    answers = await run_tools(None, wanted, [add, broken, hanging, pay], allow_ephemeral=True)
    told = [message["content"] for message in answers]
    assert told[0] == "Error: OSError('no paper')"
    assert "TimeoutError" in told[1] and "nobody can be asked" in told[2]
    assert "no tool" in told[3] and "Field required" in told[4]
    with pytest.raises(TerminalError, match="closed"):
        await run_tools(None, calls(("fatal", {})), [fatal], allow_ephemeral=True)
