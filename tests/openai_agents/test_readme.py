"""The program in the SDK's own README, taken from the package that is installed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from importlib.metadata import distribution
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.integrations.openai_agents import SyncRun, install
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.openai_agents.world import ask, asked, only_invocation, steps
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
HAIKU = "Code within the code"


def hello_world() -> str:
    text = distribution("openai-agents").read_text("METADATA") or ""
    block: str = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    assert "Runner.run_sync(agent" in block
    return block


def run(source: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "README", "exec"), {"__name__": "__main__"})
    return printed.getvalue().strip()


async def test_unchanged_it_runs_outside_of_handlers_where_that_is_allowed(llm: ScriptedLLM):
    llm.replace([Turn(text=HAIKU)])
    undo = install(allow_ephemeral=True)
    try:
        assert await asyncio.to_thread(run, hello_world()) == HAIKU
    finally:
        undo()


@IN_MEMORY
async def test_unchanged_it_is_refused_in_a_handler_and_durable_with_its_call_awaited(
    stage: Stage, llm: ScriptedLLM
):
    llm.replace([Turn(text=HAIKU)])
    service = Service("Agents")

    @service.handler("ask")
    async def handler(ctx: Context, question: str) -> str:
        with pytest.raises(SyncRun):
            run(hello_world())
        awaited = hello_world().replace("Runner.run_sync(", "await Runner.run(")
        body = "".join(f"    {line}\n" for line in awaited.splitlines())
        names: dict[str, Any] = {}
        exec(f"async def program():\n{body}    return result.final_output", names)
        return str(await names["program"]())

    await stage.start(service)
    assert await ask(stage) == HAIKU
    assert asked(llm) == 1
    assert [name for _, name in steps(stage, await only_invocation(stage))] == ["llm:Assistant"]
