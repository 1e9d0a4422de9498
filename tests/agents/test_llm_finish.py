"""Why an answer ended, and what becomes of one that ended too early."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest

from agentdur import Context, Service
from agentdur.agent import Agent, run_agent
from agentdur.llm import Budget, ModelAnswer, budget, completion
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn, Usage
from agentdur.tools import tool
from tests.agents.llm_world import HI, IN_MEMORY, MODEL, metas
from tests.support.stage import Stage

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
ran: list[str] = []


class City(TypedDict):
    """A form."""

    city: str


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@tool
def erase(what: str = "everything") -> str:
    """Erase something."""
    ran.append(what)
    return "erased"


def called(arguments: Any) -> tuple[ToolCall, ...]:
    return (ToolCall(name="erase", arguments=arguments, id="c1"),)


@IN_MEMORY
@STREAMED
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "tool_calls"])
async def test_the_reason_is_in_the_answer_the_note_and_the_stream(
    stage: Stage, llm: ScriptedLLM, *, stream: bool, reason: Any
):
    """And the same after a crash, from the journal."""
    calls = called({"what": "it"}) if reason == "tool_calls" else ()
    llm.replace([Turn(text="well", finish_reason=reason, tool_calls=calls)])
    service, seen = Service("Chat"), []

    @service.handler()
    async def ask(ctx: Context) -> list[Any]:
        answer: ModelAnswer = await completion(ctx, MODEL, HI, stream=stream)
        seen.append(answer.finish_reason)
        if len(seen) == 1:
            raise RuntimeError("once more")
        return [answer.finish_reason, answer.cut, [call.cut for call in answer.tool_calls]]

    await stage.start(service)
    sent = await stage.client.service_send(ask)
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert shown["output"] == [reason, reason in ("length", "content_filter"), [False] * len(calls)]
    assert seen == [reason, reason]
    (note,) = metas(shown)
    assert note["finish_reason"] == reason
    if stream:
        chunks = [said.data async for said in stage.client.stream(sent.invocation_id) if said.data]
        assert [chunk["reason"] for chunk in chunks if chunk.get("type") == "finish"] == [reason]


@IN_MEMORY
@STREAMED
async def test_what_nobody_counted_is_counted_alike_by_a_replay(
    stage: Stage, llm: ScriptedLLM, *, stream: bool
):
    """By the lengths, which the answer in the journal says to be a guess."""
    llm.replace([Turn(text="hello " * 40, usage=Usage(prompt_tokens=0, completion_tokens=0))])
    service, seen = Service("Chat"), []

    @service.handler()
    async def ask(ctx: Context) -> list[Any]:
        async with budget(ctx, Budget(tokens=10_000)) as account:
            answer: ModelAnswer = await completion(ctx, MODEL, HI, stream=stream)
        seen.append([answer.usage.guessed, answer.usage.total_tokens, account.spent.tokens])
        if len(seen) == 1:
            raise RuntimeError("once more")
        return seen

    await stage.start(service)
    first, second = await stage.client.service_call(ask)
    assert first == second
    guessed, total, spent = first
    assert guessed and 60 <= total == spent


@IN_MEMORY
@STREAMED
@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize("arguments", ['{"what": "my di', ""], ids=["torn", "nothing yet"])
async def test_a_call_that_was_cut_off_is_not_run_and_the_model_is_told(
    stage: Stage, llm: ScriptedLLM, *, stream: bool, reason: Any, arguments: str
):
    """No arguments yet would pass for none, which erases everything."""
    llm.replace([
        Turn(tool_calls=called(arguments), finish_reason=reason),
        Turn(tool_calls=called({"what": "it"})),
        Turn(text="done"),
    ])  # fmt: skip
    agent = Agent(name="eraser", model=MODEL, tools=[erase])
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (await run_agent(ctx, agent, "go", stream=stream)).text

    await stage.start(service)
    assert await stage.client.service_call(ask) == "done"
    assert ran == ["it"]
    told = [message["content"] for message in llm.bodies()[1]["messages"] if message["role"] == "tool"]
    assert len(told) == 1
    assert "cut off" in told[0]


@IN_MEMORY
async def test_calls_before_the_cut_are_whole(stage: Stage, llm: ScriptedLLM):
    """Only the last one may be torn; and one whose arguments are whole is run."""
    both = (*called({"what": "a"}), ToolCall(name="erase", arguments='{"wh', id="c2"))
    llm.replace([Turn(tool_calls=both, finish_reason="length"), Turn(text="done")])
    agent = Agent(name="eraser", model=MODEL, tools=[erase])
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        return (await run_agent(ctx, agent, "go")).text

    await stage.start(service)
    assert await stage.client.service_call(ask) == "done"
    assert ran == ["a"]


@IN_MEMORY
@STREAMED
async def test_an_answer_in_a_form_that_was_cut_off_is_asked_for_in_fewer_words(
    stage: Stage, llm: ScriptedLLM, *, stream: bool
):
    llm.replace([Turn(text='{"city": "Os', finish_reason="length"), Turn(text='{"city": "Oslo"}')])
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> Any:
        answer = await completion(ctx, MODEL, HI, response_format=City, stream=stream)
        return answer.parsed(City)["city"]

    await stage.start(service)
    assert await stage.client.service_call(ask) == "Oslo"
    assert "cut off" in llm.bodies()[1]["messages"][-1]["content"]
