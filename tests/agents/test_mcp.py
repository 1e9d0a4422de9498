"""Tools of MCP servers: the MCP SDK's own, in processes of their own, over stdio and streamable HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from agentdur import Context, Service  # mcp is optional
from agentdur.core.errors import BadDefinition
from agentdur.core.ports import Filter
from agentdur.tools import run_tools
from agentdur.tools.mcp import McpServer
from tests.agents.test_tools import calls
from tests.http.reference_server import free_ports
from tests.support.stage import Stage

pytestmark = pytest.mark.slow
IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
DESK = Path(__file__).parent / "mcp_servers/desk.py"


class Desk:
    """A server, and what it wrote down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port: int | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def server(self) -> McpServer:
        if self.port is not None:
            return McpServer(name="desk", url=f"http://127.0.0.1:{self.port}/mcp", headers={"x-from": "test"})
        return McpServer(name="desk", command=[sys.executable, str(DESK), str(self.folder)])

    def ledger(self) -> list[str]:
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def serve(self) -> None:
        if self.port is None:
            (self.port,) = free_ports(1)
        self.process = subprocess.Popen(
            [sys.executable, str(DESK), str(self.folder), str(self.port)], stderr=subprocess.DEVNULL
        )

    async def open(self) -> McpServer:
        """With a session that is open: to start a server takes seconds, and has no part in the story."""
        server = self.server()
        deadline = time.monotonic() + 60
        while True:
            try:
                await server._session().offered()
                return server
            except Exception:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(params=["stdio", "http"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("desk"))
    if request.param == "http":
        made.serve()
    yield made
    made.stop()


@pytest.fixture
async def servers() -> AsyncIterator[list[McpServer]]:
    made: list[McpServer] = []
    yield made
    for server in made:
        await server.aclose()


def worker(server: McpServer, *wanted: tuple[str, Any], **how: Any) -> tuple[Any, Service]:
    service = Service("Worker")

    @service.handler()
    async def run(ctx: Context) -> list[str]:
        tools = await server.tools(ctx, **how)
        return [message["content"] for message in await run_tools(ctx, calls(*wanted), tools)]

    return run, service


async def told(stage: Stage, server: McpServer, *wanted: tuple[str, Any], **how: Any) -> list[str]:
    run, service = worker(server, *wanted, **how)
    await stage.start(service)
    answer: list[str] = await stage.client.service_call(run)
    return answer


async def test_its_tools_are_found_and_called(stage: Stage, desk: Desk, servers: list[McpServer]):
    """Both in one session; what does not fit, or fails, is told to the model in the server's words."""
    servers.append(server := await desk.open())
    wanted = [("add", {"a": 1, "b": 2}), ("add", {"a": "x"}), ("add", "{"), ("add", [1]), ("fail", {})]
    good, misfit, broken, no_object, failed = await told(stage, server, *wanted)
    assert good == "3"
    assert misfit.startswith("Error: ") and "b" in misfit
    assert "Invalid JSON" in broken and "object" in no_object
    assert failed == "Error: Error executing tool fail"
    assert desk.ledger() == ["add 1 2"]


@IN_MEMORY
async def test_discovery_and_each_call_are_one_step(stage: Stage, desk: Desk, servers: list[McpServer]):
    """After a crash nothing of it is asked again, not even what there is."""
    servers.append(server := await desk.open())
    service = Service("Worker")

    @service.handler()
    async def run(ctx: Context) -> Any:
        tools = await server.tools(ctx, only=["add"], prefix="desk.")
        spec = tools[0].spec["function"]
        message = await run_tools(ctx, calls(("desk_add", {"a": 1, "b": 2})), tools)
        return [spec["name"], spec["description"], sorted(spec["parameters"]["properties"]), message]

    await stage.start(service)
    name, about, parameters, (message,) = await stage.client.service_call(run)
    assert (name, about, parameters) == ("desk_add", "Add two numbers.", ["a", "b"])
    assert message["content"] == "3"
    (shown,) = await stage.engine.list(Filter(service="Worker"))
    journal = (await stage.engine.describe(shown["id"]) or {})["journal"]
    steps = [(e["name"], e.get("branch", "")) for e in journal if e["kind"] == "Run"]
    assert steps == [("mcp:desk", ""), ("tool:desk_add", "tool:call_0")]


@IN_MEMORY
async def test_a_server_that_dies_is_called_again(stage: Stage, tmp_path: Path, servers: list[McpServer]):
    """The session is dropped, the step is retried with another one, which starts the server again."""
    desk = Desk(tmp_path)
    servers.append(server := await desk.open())
    assert await told(stage, server, ("die_once", {})) == ["alive"]
    assert desk.ledger() == ["die", "die"]


@IN_MEMORY
async def test_a_server_that_is_not_there_yet_is_waited_for(
    stage: Stage, tmp_path: Path, servers: list[McpServer]
):
    """The handler is tried again as its policy says: what is not known yet is nobody's failure."""
    desk = Desk(tmp_path)
    (desk.port,) = free_ports(1)
    servers.append(server := desk.server())
    run, service = worker(server, ("add", {"a": 1, "b": 2}))
    await stage.start(service)
    sent = await stage.client.service_send(run)
    await stage.until_status(sent.invocation_id, "backing-off")
    desk.serve()
    try:
        assert await stage.client.attach(sent.invocation_id) == ["3"]
    finally:
        desk.stop()


@IN_MEMORY
async def test_what_destroys_is_not_called_again_without_asking(
    stage: Stage, tmp_path: Path, servers: list[McpServer]
):
    """The server says so of its tool; it died after the effect, and a person says what became of it."""
    desk = Desk(tmp_path)
    servers.append(server := await desk.open())
    (desk.folder / "die").touch()
    run, service = worker(server, ("shred", {"paper": "will"}))
    await stage.start(service)
    sent = await stage.client.service_send(run)
    (question,) = await stage.questions()
    assert "shred may have had its effect" in question.question
    await stage.decide(payload={"result": "gone, I looked"})
    assert await stage.client.attach(sent.invocation_id) == ["gone, I looked"]
    (line,) = desk.ledger()
    assert line == f"shred will {question.payload['key']}"


async def test_what_a_server_asks_is_answered_by_a_person_days_later(
    stage: Stage, desk: Desk, servers: list[McpServer]
):
    """The handler dies in between; the server knows from its own sealed state where it was."""
    servers.append(server := await desk.open())
    run, service = worker(server, ("label", {}))
    await stage.start(service)
    sent = await stage.client.service_send(run)
    (question,) = await stage.questions()
    assert (question.question, question.payload["server"]) == ("Whose desk is it?", "desk")
    assert "name" in question.payload["schema"]["properties"]
    await stage.restart()
    await server.aclose()
    await stage.decide(payload=question.payload | {"content": {"name": "Ada"}})
    assert await stage.client.attach(sent.invocation_id) == ["Ada's desk"]
    assert desk.ledger() == ["label Ada"]


@IN_MEMORY
async def test_a_person_may_decline(stage: Stage, tmp_path: Path, servers: list[McpServer]):
    servers.append(server := await Desk(tmp_path).open())
    run, service = worker(server, ("label", {}))
    await stage.start(service)
    sent = await stage.client.service_send(run)
    await stage.decide(False)
    (answer,) = await stage.client.attach(sent.invocation_id)
    assert answer.startswith("Error: ")


@IN_MEMORY
async def test_approval_rules_go_by_the_server_s_names(
    stage: Stage, tmp_path: Path, servers: list[McpServer]
):
    desk = Desk(tmp_path)
    servers.append(server := await desk.open())
    rules = {"add": lambda arguments: arguments["a"] > 10}
    run, service = worker(server, ("add", {"a": 1, "b": 2}), ("add", {"a": 11, "b": 2}), approval=rules)
    await stage.start(service)
    sent = await stage.client.service_send(run)
    (question,) = await stage.questions()
    assert question.payload["arguments"] == {"a": 11, "b": 2}
    await stage.decide(False, reason="large")
    small, large = await stage.client.attach(sent.invocation_id)
    assert (small, large.rpartition(" ")[2]) == ("3", "large")


@IN_MEMORY
async def test_a_tool_that_is_not_there_is_the_author_s_mistake(
    stage: Stage, tmp_path: Path, servers: list[McpServer]
):
    servers.append(server := await Desk(tmp_path).open())
    run, service = worker(server, only=["subtract"])
    await stage.start(service)
    sent = await stage.client.service_send(run)
    shown = await stage.until_status(sent.invocation_id, "backing-off")
    assert "has no tool subtract" in shown["last_failure"]["message"]


@pytest.mark.parametrize("how", [{}, {"command": ["x"], "url": "http://x"}])
def test_a_server_is_at_one_place(how: dict[str, Any]):
    with pytest.raises(BadDefinition, match="one of them"):
        McpServer(name="desk", **how)
