"""MCP servers of agents, over stdio and HTTP: listed in a step, each call a step."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from agents import Agent, Runner
from agents.mcp import MCPServer, MCPServerStdio, MCPServerStreamableHttp
from mcp.server import MCPServer as Serving

from agentdur import Context, Service
from agentdur.sdk.exceptions import RetryableError
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.openai_agents.world import ask, asked, calls, crash_everywhere, only_invocation, service_of, steps
from tests.support.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("stage", ["memory"], indirect=True)]
TWO_NOTES = [calls(("note", {"text": "a"}), ("note", {"text": "b"})), Turn(text="noted both")]


@asynccontextmanager
async def over_stdio(folder: Path) -> AsyncIterator[tuple[MCPServer, Path]]:
    """A process of its own."""
    script, ledger = Path(__file__).with_name("mcp_ledger.py"), folder / "ledger.txt"
    ledger.touch()
    params: Any = {"command": sys.executable, "args": [str(script), str(ledger)]}
    async with MCPServerStdio(params, name="ledger", client_session_timeout_seconds=60) as server:
        yield server, ledger


@asynccontextmanager
async def over_http(folder: Path) -> AsyncIterator[tuple[MCPServer, Path]]:
    """A server on a port of this machine."""
    serving, ledger = Serving("ledger"), folder / "ledger.txt"
    ledger.touch()

    @serving.tool()
    def note(text: str) -> str:
        """Write a line down."""
        with ledger.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
        return f"noted {text}"

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(serving.streamable_http_app(), log_config=None)
    web = uvicorn.Server(config)
    running = asyncio.ensure_future(web.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    try:
        async with MCPServerStreamableHttp({"url": url}, name="ledger") as server:
            yield server, ledger
    finally:
        web.should_exit = True
        await running


TRANSPORTS = pytest.mark.parametrize("transport", [over_stdio, over_http], ids=["stdio", "http"])


@TRANSPORTS
async def test_listing_and_calls_are_steps_that_a_replay_does_not_repeat(
    stage: Stage, llm: ScriptedLLM, tmp_path: Path, transport: Any
):
    llm.replace(TWO_NOTES)
    async with transport(tmp_path) as (server, ledger):
        agent = Agent(name="Clerk", mcp_servers=[server])
        attempts: list[int] = []
        service = Service("Agents")

        @service.handler("ask")
        async def run(ctx: Context, question: str) -> Any:
            attempts.append(1)
            result = await Runner.run(agent, question)
            if len(attempts) == 1:
                raise RetryableError("once more")
            return result.final_output

        await stage.start(service)
        assert await ask(stage) == "noted both"
        assert sorted(ledger.read_text().split()) == ["a", "b"]
    assert len(attempts) == 2
    assert asked(llm) == 2
    names = [name for _, name in steps(stage, await only_invocation(stage))]
    assert sorted(names) == [
        "llm:Clerk", "llm:Clerk", "mcp:ledger/list_tools", "mcp:ledger/list_tools",
        "tool:Clerk/note", "tool:Clerk/note",
    ]  # fmt: skip
    outputs = [i["output"] for i in llm.bodies()[1]["input"] if i.get("type") == "function_call_output"]
    assert ["noted a" in str(outputs[0]), "noted b" in str(outputs[1])] == [True, True]


async def test_crashed_at_every_commit_what_an_mcp_server_did_is_done_once(
    stage: Stage, llm: ScriptedLLM, tmp_path: Path
):
    llm.replace([calls(("note", {"text": "a"})), Turn(text="noted")])
    async with over_http(tmp_path) as (server, ledger):
        agent = Agent(name="Clerk", mcp_servers=[server])
        points = await crash_everywhere(stage, llm, service_of(agent), answer="noted", turns=2)
        lines = ledger.read_text().split()
        assert points <= len(lines) <= points + 3, "but for the call that was under way"
