"""Outside of handlers, inside of steps, and other places where a run cannot be durable: said loudly."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from agents import Agent, MaxTurnsExceeded, RunConfig, RunHooks, Runner, function_tool

from agentdur import Context, RunOptions, Service, TerminalError
from agentdur.core.errors import NotInHandler
from agentdur.integrations.openai_agents import Durability, DurableRunner, inline, install, retried
from agentdur.sdk.exceptions import RetryableError
from agentdur.sdk.step import current_context
from agentdur.testing.scripted_llm import Script, ScriptedLLM, Turn
from tests.openai_agents.world import LEDGER, ask, asked, calls, service_of, weather
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
HELLO = Agent(name="Hello", instructions="Say hello.")


async def test_outside_of_a_handler_a_run_is_refused_unless_it_may_be_ephemeral(llm: ScriptedLLM):
    with pytest.raises(NotInHandler):
        await Runner.run(HELLO, "hi")
    with pytest.raises(NotInHandler):
        Runner.run_streamed(HELLO, "hi")
    with pytest.raises(NotInHandler):
        await DurableRunner.run(HELLO, "hi")
    assert asked(llm) == 0
    how = Durability(allow_ephemeral=True)
    assert (await DurableRunner.run(HELLO, "hi", durability=how)).final_output == "hello"
    undo = install(allow_ephemeral=True)
    assert (await Runner.run(HELLO, "hi")).final_output == "hello"
    undo()
    with pytest.raises(NotInHandler):
        await Runner.run(HELLO, "hi")


@IN_MEMORY
async def test_a_handler_does_not_wait_for_run_sync(stage: Stage, llm: ScriptedLLM):
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> str:
        try:
            Runner.run_sync(HELLO, question)
        except Exception as error:
            return f"{getattr(error, 'code', '')} {error}"
        return "?"

    await stage.start(service)
    assert (await ask(stage)).startswith("AD0160 ")
    assert asked(llm) == 0


def delegating(mark: bool) -> Agent[Any]:
    """An agent with a tool that runs an agent in its body."""

    @function_tool
    async def delegate(task: str) -> str:
        """Give it to somebody else."""
        return str((await Runner.run(HELLO, task)).final_output)

    return Agent(name="Boss", instructions="Delegate.", tools=[inline(delegate) if mark else delegate])


DELEGATION = [
    calls(("delegate", {"task": "x"}), when={"system": "Delegate."}),
    Turn(text="done", when={"system": "Delegate."}, at=1),
    Turn(text="hello", when={"system": "Say hello."}),
]


@IN_MEMORY
async def test_an_agent_run_in_a_tools_step_is_told_to_be_inline(stage: Stage, llm: ScriptedLLM):
    """It does not become words for the model."""
    llm.replace(DELEGATION)
    service = Service("Agents")
    agent = delegating(False)
    agent_tool_options = RunOptions[Any](max_attempts=1)
    how = Durability(tool_options=agent_tool_options)

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        return (await DurableRunner.run(agent, question, durability=how)).final_output

    await stage.start(service)
    with pytest.raises(TerminalError, match=r"Runner\.run inside a step"):
        await ask(stage)
    assert asked(llm) == 1


@IN_MEMORY
async def test_inline_tools_use_the_context_and_run_agents(stage: Stage, llm: ScriptedLLM):
    llm.replace(DELEGATION)
    await stage.start(service_of(delegating(True)))
    assert await ask(stage) == "done"
    assert asked(llm) == 3


@IN_MEMORY
@pytest.mark.parametrize("what", ["approval", "inline tool"])
async def test_who_waits_for_somebody_waits_in_no_memory(stage: Stage, llm: ScriptedLLM, what: str):
    @function_tool(needs_approval=what == "approval")
    async def wait() -> str:
        """Wait for somebody."""
        if what == "approval":
            return "agreed"
        return "agreed" if await current_context().approval("well?") else "no"

    agent = Agent(name="A", tools=[wait if what == "approval" else inline(wait)])
    service = Service("Agents")

    @service.handler("ask", inactivity_timeout=timedelta(0))
    async def run(ctx: Context, question: str) -> Any:
        return (await Runner.run(agent, question)).final_output

    llm.replace([calls(("wait", {})), Turn(text="ok")])
    await stage.start(service)
    sent = await stage.client.service_send(run, "go")
    await stage.questions()
    await stage.until_status(sent.invocation_id, "suspended")
    await stage.decide()
    assert await stage.client.attach(sent.invocation_id) == "ok"
    assert llm.bodies()[1]["input"][-1]["output"] == "agreed"
    assert asked(llm) == 2


@IN_MEMORY
async def test_an_inline_tool_that_is_late_is_told_so_in_the_frameworks_words(stage: Stage, llm: ScriptedLLM):
    @function_tool(timeout=0.05)
    async def wait() -> str:
        """Wait for somebody."""
        await current_context().awakeable()[1]
        return "?"

    llm.replace([calls(("wait", {})), Turn(text="too late")])
    await stage.start(service_of(Agent(name="A", tools=[inline(wait)])))
    assert await ask(stage) == "too late"
    assert "timed out after 0.05 seconds" in llm.bodies()[1]["input"][-1]["output"]


@IN_MEMORY
async def test_a_tool_that_is_late_in_its_step_stays_late_on_a_replay(stage: Stage, llm: ScriptedLLM):
    @function_tool(timeout=0.05)
    async def slow() -> str:
        """Slow at first."""
        LEDGER["slow"] += 1
        await asyncio.sleep(30 if LEDGER["slow"] == 1 else 0)
        return "in time"

    LEDGER.clear()
    attempts: list[int] = []
    service = Service("Agents")
    agent = Agent(name="A", tools=[slow])

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        attempts.append(1)
        result = await Runner.run(agent, question)
        if len(attempts) == 1:
            raise RetryableError("once more")
        return result.final_output

    llm.replace([calls(("slow", {})), Turn(text="ok")])
    await stage.start(service)
    assert await ask(stage) == "ok"
    assert LEDGER["slow"] == 1
    assert len(attempts) == 2
    assert asked(llm) == 2
    assert "timed out" in llm.bodies()[1]["input"][-1]["output"]


@IN_MEMORY
async def test_what_a_tool_raises_is_told_to_the_model_and_what_agentdur_raises_is_not(
    stage: Stage, llm: ScriptedLLM
):
    @function_tool
    def broken() -> str:
        """Never works."""
        LEDGER["broken"] += 1
        raise ValueError("no")

    @function_tool
    def shaky() -> str:
        """Works the second time."""
        LEDGER["shaky"] += 1
        if LEDGER["shaky"] == 1:
            raise RetryableError("not yet")
        return "fine"

    LEDGER.clear()
    llm.replace([calls(("broken", {}), ("shaky", {})), Turn(text="ok")])
    await stage.start(service_of(Agent(name="A", tools=[broken, shaky])))
    assert await ask(stage) == "ok"
    assert LEDGER == {"broken": 1, "shaky": 2}
    told = [i["output"] for i in llm.bodies()[-1]["input"] if i.get("type") == "function_call_output"]
    assert told[1] == "fine"
    assert "error" in told[0].lower()


@IN_MEMORY
async def test_a_tools_terminal_error_ends_the_invocation(stage: Stage, llm: ScriptedLLM):
    @function_tool
    def stop() -> str:
        """Ends it."""
        raise TerminalError("over", 418)

    llm.replace([calls(("stop", {})), Turn(text="never")])
    await stage.start(service_of(Agent(name="A", tools=[stop])))
    with pytest.raises(TerminalError, match="over") as ended:
        await ask(stage)
    assert ended.value.status_code == 418
    assert asked(llm) == 1


@IN_MEMORY
async def test_a_tool_whose_errors_are_raised_is_retried_by_its_options(stage: Stage, llm: ScriptedLLM):
    @function_tool(failure_error_function=None)
    def flaky() -> str:
        """Works the third time."""
        LEDGER["flaky"] += 1
        if LEDGER["flaky"] < 3:
            raise OSError("down")
        return "up"

    LEDGER.clear()
    llm.replace([calls(("flaky", {})), Turn(text="ok")])
    options: RunOptions[Any] = RunOptions(max_attempts=5)
    await stage.start(service_of(Agent(name="A", tools=[retried(flaky, options)])))
    assert await ask(stage) == "ok"
    assert LEDGER["flaky"] == 3


@IN_MEMORY
async def test_too_many_turns_are_the_frameworks_exception_and_terminal(stage: Stage, llm: ScriptedLLM):
    llm.replace(Script(turns=(calls(("weather", {"city": "Oslo"})),), after_last="repeat"))
    agent = Agent(name="A", tools=[weather])
    caught: list[BaseException] = []
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        try:
            return (await Runner.run(agent, question, max_turns=2)).final_output
        except MaxTurnsExceeded as error:
            caught.append(error)
            raise

    await stage.start(service)
    with pytest.raises(TerminalError, match="Max turns"):
        await ask(stage)
    assert len(caught) == 1
    assert asked(llm) == 2


@IN_MEMORY
async def test_an_error_handler_of_the_run_answers_instead(stage: Stage, llm: ScriptedLLM):
    llm.replace(Script(turns=(calls(("weather", {"city": "Oslo"})),), after_last="repeat"))
    handlers = {"max_turns": lambda data: "I gave up."}
    service = service_of(Agent(name="A", tools=[weather]), max_turns=1, error_handlers=handlers)
    await stage.start(service)
    assert await ask(stage) == "I gave up."


class Counting(RunHooks[Any]):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def on_llm_end(self, *_: Any) -> None:
        self.seen.append("llm")

    async def on_tool_end(self, *_: Any) -> None:
        self.seen.append("tool")


@IN_MEMORY
async def test_hooks_are_code_of_the_handler_and_run_again_on_a_replay(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("weather", {"city": "Oslo"})), Turn(text="ok")])
    hooks = Counting()
    attempts: list[int] = []
    service = Service("Agents")
    agent = Agent(name="A", tools=[weather])

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        attempts.append(1)
        result = await Runner.run(agent, question, hooks=hooks, run_config=RunConfig(workflow_name="w"))
        if len(attempts) == 1:
            raise RetryableError("once more")
        return [result.final_output, result.context_wrapper.usage.requests]

    await stage.start(service)
    assert await ask(stage) == ["ok", 2]
    assert hooks.seen == ["llm", "tool", "llm"] * 2
    assert asked(llm) == 2
