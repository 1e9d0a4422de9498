"""MCP toolsets of ADK, over stdio and HTTP: listed in a step, each call a step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams, StreamableHTTPConnectionParams
from mcp import StdioServerParameters

from agentdur import Context, Service
from agentdur.integrations.google_adk import DurableRunner
from agentdur.sdk.exceptions import RetryableError
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.agents.mcp_tools_served import ToolsServed, tools_served
from tests.google_adk.world import (
    LEDGER,
    agent,
    ask,
    asked,
    calls,
    crash_everywhere,
    only_invocation,
    run,
    service_of,
    steps,
)
from tests.openai_agents import mcp_ledger
from tests.support.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("stage", ["memory"], indirect=True)]


def over_http(served: ToolsServed) -> McpToolset:
    def did(line: str) -> None:
        LEDGER[line] += 1

    served.did = did
    return McpToolset(connection_params=StreamableHTTPConnectionParams(url=served.url))


def over_stdio(ledger: Path) -> McpToolset:
    ledger.touch()
    server = StdioServerParameters(command=sys.executable, args=[str(mcp_ledger.__file__), str(ledger)])
    return McpToolset(connection_params=StdioConnectionParams(server_params=server, timeout=60))


def twice(root: Any) -> tuple[Service, list[int]]:
    """A handler that needs a second attempt."""
    runner, service, attempts = DurableRunner(app_name="app", agent=root), Service("Agents"), []

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> str:
        said = await run(runner, question)
        attempts.append(1)
        if len(attempts) == 1:
            raise RetryableError("once more")
        return said

    return service, attempts


async def test_listing_and_calls_are_steps_that_a_replay_does_not_repeat(stage: Stage, llm: ScriptedLLM):
    """The server is asked what it offers once, and is away when the second attempt runs."""
    both = [("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})]
    llm.replace([calls(*both), Turn(text="3 and 7")])
    async with tools_served() as served:
        toolset = over_http(served)
        service, attempts = twice(agent(tools=[toolset]))
        await stage.start(service)
        assert await ask(stage) == "3 and 7"
        await toolset.close()
    assert (len(attempts), asked(llm)) == (2, 2)
    assert LEDGER == {"add-1-2": 1, "add-3-4": 1}
    names = [name for _, name in steps(stage, await only_invocation(stage)) if name != "timestamp"]
    assert sorted(names) == [
        "llm:helper", "llm:helper", "mcp:helper/get tools from MCP server", "tool:helper/add",
        "tool:helper/add",
    ]  # fmt: skip


async def test_a_server_that_is_a_process(stage: Stage, llm: ScriptedLLM, tmp_path: Path):
    llm.replace([calls(("note", {"text": "a"})), Turn(text="noted")])
    toolset = over_stdio(tmp_path / "ledger.txt")
    service, _ = twice(agent(tools=[toolset]))
    await stage.start(service)
    assert await ask(stage) == "noted"
    await toolset.close()
    assert (tmp_path / "ledger.txt").read_text().split() == ["a"]
    said = str(llm.bodies()[-1]["messages"][-1]["content"])
    assert "noted a" in said


async def test_crashed_at_every_commit_what_a_server_did_is_done_once(stage: Stage, llm: ScriptedLLM):
    llm.replace([calls(("add", {"a": 1, "b": 2})), Turn(text="3")])
    async with tools_served() as served:
        toolset = over_http(served)
        await crash_everywhere(stage, llm, service_of(agent(tools=[toolset])), answer="3", turns=2)
        await toolset.close()
