"""A coding agent operates runs by the Model Context Protocol: through the protocol's own client."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters

from agentdur.cli.admin_api import AdminApi
from agentdur.cli.mcp_server import server as serving
from agentdur.cli.mcp_tools import VALUE_LENGTH_MAX
from agentdur.cli.output import Exit
from tests.cli.conftest import Server
from tests.cli.test_serving import Ports, command, ended, free_ports, running

pytestmark = pytest.mark.slow

UNKNOWN = "inv_1cixoeqOzcLa6IRaXfbBYPAiNxd2EKgA9a"
READING = {
    "list_services", "list_runs", "read_run", "wait_for_run", "list_approvals", "read_approval", "read_state",
    "list_sessions", "query",
}  # fmt: skip
ACTING = {"cancel_run", "kill_run", "pause_run", "resume_run", "restart_run", "fork_run"}
DECIDING = {"approve", "reject"}


class Agent:
    """What a coding agent has: tools, and what they answer."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def tools(self) -> set[str]:
        return {tool.name for tool in (await self.client.list_tools()).tools}

    async def use(self, tool: str, **arguments: Any) -> Any:
        answer = await self.client.call_tool(tool, arguments)
        assert not answer.is_error, answer.content
        return answer.structured_content

    async def ended(self, run: str) -> bool:
        """Also while the server starts again, and is not there."""
        answer = await self.client.call_tool("wait_for_run", {"id": run, "seconds": 0.2})
        told = answer.structured_content or {}
        return bool(told.get("status") == "completed")

    async def refused(self, tool: str, **arguments: Any) -> str:
        answer = await self.client.call_tool(tool, arguments)
        assert answer.is_error, answer.structured_content
        (said,) = answer.content
        return str(said.text)  # type: ignore[union-attr]  # errors are texts


@pytest.fixture
async def agent(server: Server) -> AsyncIterator[Agent]:
    """An agent that may do everything; its client lives in one task, as it must."""
    ready: asyncio.Future[Agent] = asyncio.get_running_loop().create_future()
    closing = asyncio.Event()

    async def live() -> None:
        async with Client(serving(AdminApi(server.url), read_only=False, approve=True)) as client:
            ready.set_result(Agent(client))
            await closing.wait()

    task = asyncio.create_task(live())
    yield await ready
    closing.set()
    await task


@pytest.mark.parametrize(
    ("read_only", "approve", "tools"),
    [(True, False, READING), (False, False, READING | ACTING), (False, True, READING | ACTING | DECIDING)],
)
async def test_an_agent_has_the_tools_it_may_use(
    server: Server, read_only: bool, approve: bool, tools: set[str]
):
    async with Client(serving(AdminApi(server.url), read_only=read_only, approve=approve)) as client:
        listed = (await client.list_tools()).tools
        assert {tool.name for tool in listed} == tools
        assert {
            tool.name for tool in listed if tool.annotations and tool.annotations.read_only_hint
        } == READING
        assert all(tool.description for tool in listed)


async def test_runs_are_found_and_read(agent: Agent, server: Server):
    done, failed = server.finished("found"), server.send("broken")
    await agent.use("wait_for_run", id=failed)
    page = await agent.use("list_runs", service="Work", status=["failed"], newer_than="1h", limit=1)
    assert [one["id"] for one in page["runs"]] == [failed]
    assert page["runs"][0]["completion_failure"] == "[418] no way"
    run = await agent.use("read_run", id=done)
    assert (run["output"], run["journal_length"], run["next_entry"]) == ("found", 2, None)
    assert [entry["kind"] for entry in run["journal"]] == ["Input", "Output"]
    first = await agent.use("read_run", id=done, entries=1)
    assert ([entry["kind"] for entry in first["journal"]], first["next_entry"]) == (["Input"], 1)
    rest = await agent.use("read_run", id=done, from_entry=1)
    assert [entry["kind"] for entry in rest["journal"]] == ["Output"]


async def test_long_values_are_cut_and_say_so(agent: Agent, server: Server):
    run = await agent.use("read_run", id=server.finished("x" * 5000))
    assert run["output"]["characters"] == 5000
    assert len(run["output"]["beginning"]) == VALUE_LENGTH_MAX


async def test_runs_are_paused_resumed_cancelled_and_forked(agent: Agent, server: Server):
    waiting = server.send("wait")
    for tool, status in (("pause_run", "paused"), ("resume_run", "running")):
        await agent.use(tool, id=waiting)
        assert (await agent.use("read_run", id=waiting))["status"] == status
    assert (await agent.use("wait_for_run", id=waiting, seconds=0.1))["status"] == "running"
    await agent.use("cancel_run", id=waiting)
    assert (await agent.use("wait_for_run", id=waiting))["completion_failure"] == "[409] cancelled"
    forked = await agent.use("restart_run", id=server.finished("forked"))
    new = await agent.use("wait_for_run", id=forked["new_run"])
    assert (new["output"], new["restarted_from"]) == ("forked", forked["old_run"])
    edited = await agent.use("fork_run", id=forked["old_run"], results={"0": "otherwise"})
    new = await agent.use("wait_for_run", id=edited["new_run"])
    assert (new["output"], new["restarted_from"]) == ("otherwise", forked["old_run"])


async def test_a_question_is_decided_by_who_has_read_it(agent: Agent, server: Server):
    run = server.post("Desk/ask/send", 25)["invocationId"]
    async with asyncio.timeout(20):
        while not (mine := [one for one in (await agent.use("list_approvals"))["approvals"]
                            if one["invocation"] == run]):  # fmt: skip
            await asyncio.sleep(0.02)
    question = await agent.use("read_approval", id=mine[0]["id"])
    assert "[AD0121]" in await agent.refused("approve", id=question["id"], digest="guessed")
    await agent.use(
        "approve", id=question["id"], digest=question["digest"], payload={"amount": 5}, reason="less"
    )
    output = (await agent.use("wait_for_run", id=run))["output"]
    assert output == {"approved": True, "payload": {"amount": 5}, "by": "mcp", "reason": "less"}
    assert "[AD0120]" in await agent.refused("reject", id=question["id"], digest=question["digest"])


async def test_services_state_and_sessions_are_read(agent: Agent, server: Server):
    server.post("Room/mcp/enter", 7)
    server.chat("Helper", "mcp", "hello")
    desk = next(one for one in (await agent.use("list_services"))["services"] if one["name"] == "Desk")
    assert desk["handlers"][0]["input_json_schema"] == {"type": "integer"}
    assert (await agent.use("read_state", service="Room", key="mcp"))["state"] == {"n": "7"}
    assert "mcp" in {one["id"] for one in (await agent.use("list_sessions"))["sessions"]}


async def test_sql_reads_and_only_reads(agent: Agent, server: Server):
    done = server.finished("asked")
    sql = f"select target, status from sys_invocation where id = '{done}'"
    assert (await agent.use("query", sql=sql))["rows"] == [{"target": "Work/quick", "status": "completed"}]
    assert "[AD02" in await agent.refused("query", sql="delete from sys_invocation")


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("read_run", {"id": UNKNOWN}, "[AD0015]"),
        ("read_run", {"id": "inv_x"}, "[AD0020]"),
        ("read_run", {"id": "../services"}, "[AD0212]"),
        ("cancel_run", {"id": UNKNOWN}, "[AD0015]"),
        ("restart_run", {"id": UNKNOWN}, "[AD0015]"),
        ("fork_run", {"id": UNKNOWN, "results": {"0": 1}}, "[AD0015]"),
        ("fork_run", {"id": UNKNOWN}, "say what is edited"),
        ("fork_run", {"id": UNKNOWN, "turn": 3}, "say what is edited"),
        ("fork_run", {"id": UNKNOWN, "model": "large"}, "say what is edited"),
        ("read_approval", {"id": "apr_x"}, "[AD0122]"),
        ("read_state", {"service": "Work", "key": "k"}, "[AD0020]"),
        ("list_runs", {"newer_than": "soon"}, "[AD0213]"),
        ("list_runs", {"status": ["odd"]}, "validation error"),
        ("list_runs", {"limit": 1000}, "validation error"),
        ("wait_for_run", {"id": UNKNOWN, "seconds": 600}, "validation error"),
        ("restart_run", {"id": UNKNOWN, "from_entry": -1}, "validation error"),
        ("explode", {}, "explode"),
    ],
)
async def test_what_makes_no_sense_is_told_and_changes_nothing(
    agent: Agent, tool: str, arguments: dict[str, Any], said: str
):
    try:
        assert said in await agent.refused(tool, **arguments)
    except Exception as error:
        if tool != "explode":  # an unknown tool is an error of the protocol
            raise
        assert said in str(error)


async def test_a_run_in_the_wrong_state_is_left_alone(agent: Agent, server: Server):
    done, waiting = server.finished("done"), server.send("wait")
    for tool in ("cancel_run", "kill_run", "pause_run", "resume_run"):
        assert "[AD0016]" in await agent.refused(tool, id=done)
    assert "[AD0016]" in await agent.refused("restart_run", id=waiting)
    assert "[AD0020]" in await agent.refused("restart_run", id=done, from_entry=99)
    await agent.use("kill_run", id=waiting)


def test_a_server_that_may_nothing_and_everything_is_a_usage_error(agentdur: Any):
    told = agentdur("mcp", "--read-only", "--approve")
    assert (told.code, "[AD0213]" in told.err) == (Exit.USAGE, True)


# With real processes

BROKEN = """
from agentdur import App, Context, Service

shop = Service("Shop")

@shop.handler()
async def order(ctx: Context, number: int) -> str:
    found = await ctx.run("look", lambda: f"order {number}")
    total = await ctx.run("add", lambda: 1 / 0)
    return f"{found}: {total}"

app = App([shop])
"""


@asynccontextmanager
async def over_stdio(ports: Ports) -> AsyncIterator[Agent]:
    arguments = ["-m", "agentdur.cli", "mcp", "--admin-url", f"http://127.0.0.1:{ports.admin}"]
    root = str(Path(__file__).parents[2])
    place = StdioServerParameters(command=sys.executable, args=arguments, env={"PYTHONPATH": root})
    async with Client(place) as client:
        yield Agent(client)


@asynccontextmanager
async def developed(file: Path) -> AsyncIterator[Ports]:
    """`agentdur dev` on the file; it is asked to end, so that it takes its child with it."""
    ports = free_ports()
    with running("dev", file, ports) as supervisor:
        try:
            yield ports
        finally:
            await asyncio.to_thread(ended, supervisor)


@pytest.mark.slow
async def test_an_agent_finds_why_a_run_fails_mends_the_code_and_forks(tmp_path: Path):
    """`agentdur dev` serves the file that the coding agent edits; it talks to `agentdur mcp` over stdio."""
    file = tmp_path / "agent.py"
    file.write_text(BROKEN)
    async with asyncio.timeout(100), developed(file) as ports, over_stdio(ports) as agent:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.ingress}") as http:
            run = (await http.post("/Shop/order/send", json=7)).raise_for_status().json()["invocationId"]
        assert "approve" not in await agent.tools()
        while not (await agent.use("list_runs", status=["backing-off"]))["runs"]:
            await asyncio.sleep(0.05)
        failing = await agent.use("read_run", id=run)
        assert "division by zero" in json.dumps(failing["last_failure"])
        assert failing["journal"][2]["value"] == "order 7"
        file.write_text(BROKEN.replace("1 / 0", "25"))
        while not await agent.ended(run):
            await agent.client.call_tool("resume_run", {"id": run})
        assert (await agent.use("read_run", id=run))["output"] == "order 7: 25"
        forked = await agent.use("restart_run", id=run, from_entry=2)
        assert (await agent.use("wait_for_run", id=forked["new_run"]))["output"] == "order 7: 25"
        assert (await agent.use("read_run", id=forked["new_run"]))["journal"][2]["value"] == "order 7"


@pytest.mark.slow
async def test_an_agent_comes_over_http(server: Server, tmp_path: Path):
    port = free_ports().admin
    process = command("mcp", "--admin-url", server.url, "--http", str(port), folder=tmp_path)
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            while True:
                try:
                    await http.get(f"http://127.0.0.1:{port}/mcp")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                assert await Agent(client).tools() == READING | ACTING
    finally:
        process.kill()
        process.communicate()
