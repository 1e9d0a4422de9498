"""Real processes, real SIGKILL: a chat is served, killed in the middle of an answer, and served again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn, requests
from tests.sessions.site import Event, Site
from tests.sessions.test_routes import Reader

pytestmark = pytest.mark.slow
PATIENCE_S = 90.0
ROOT = Path(__file__).parents[2]
SCRIPT = [
    Turn(text="Let me look that up. ", chunk_chars=4, chunk_delay_ms=60,
         tool_calls=(ToolCall(name="order", arguments={"number": 7}),)),
    Turn(text="It has left the warehouse and will be there soon.", chunk_chars=6, chunk_delay_ms=60),
]  # fmt: skip


class Served:
    """`agentdur serve examples/agents/chat.py`, as often as it is started."""

    def __init__(self, folder: Path, llm: ScriptedLLM) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {
            **os.environ, "AGENT_MODEL": "openai/scripted", "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": llm.base_url, "OPENAI_API_BASE": llm.base_url, "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self.folder = folder
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agentdur.cli", "serve", str(ROOT / "examples/agents/chat.py"),
            "--store", f"sqlite:///{self.folder / 'chat.db'}", "--ingress-port", str(self.port),
            "--admin-port", "0", cwd=self.folder, env=self.environment, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)
        assert b"serves support" in line, line

    def site(self) -> Site:
        made = Site(f"http://127.0.0.1:{self.port}")
        made.http.timeout = httpx.Timeout(PATIENCE_S)
        return made

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def served(folder: Path, llm: ScriptedLLM) -> AsyncIterator[Served]:
    made = Served(folder, llm)
    await made.start()
    try:
        yield made
    finally:
        if made.process.returncode is None:
            await made.kill()


def held(events: list[Event]) -> str:
    """The text that a reader holds: chunks of runs that are void are dropped."""
    runs: dict[int, str] = {}
    for event in events:
        data: dict[str, Any] = event["data"]
        if event["event"] == "void":
            runs.pop(data["run"], None)
        elif event["event"] == "chunk" and data["data"].get("type") == "text":
            runs[data["run"]] = runs.get(data["run"], "") + data["data"]["delta"]
    return "".join(runs.values())


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("moment", "under_way"), [("Let me", 0), ("will be", 1)])
async def test_killed_in_the_middle_of_an_answer_it_is_read_to_its_end(
    tmp_path: Path, llm: ScriptedLLM, moment: str, under_way: int
):
    """The reader drops what is void and goes on with its last event's id; only the model call under way is
    made again; what is read is what is remembered."""
    llm.replace(SCRIPT)
    async with served(tmp_path, llm) as server:
        web = server.site()
        await web.http.post("/sessions/support/s/messages?wait=false", json={"content": "7?", "id": "m"})
        reader = Reader(web, "GET", "/sessions/support/s/stream")
        await until(lambda: moment in held(reader.events))
        await server.kill()
        await reader.task
        await web.http.aclose()
        await server.start()
        web = server.site()  # its connections are those of a new client
        reader.begin(web)
        again = asyncio.ensure_future(
            web.http.post("/sessions/support/s/messages", json={"content": "7?", "id": "m"})
        )
        await until(lambda: reader.count("end"))
        await reader.leave()
        reply = (await again).json()
        shown = (await web.http.get("/sessions/support/s/messages")).json()["messages"]
        await web.http.aclose()
    remembered = "".join(m["message"]["content"] or "" for m in shown if m["message"]["role"] == "assistant")
    assert held(reader.events) == remembered == "".join(turn.text or "" for turn in SCRIPT)
    assert reply["text"] == SCRIPT[1].text
    assert [m["message"]["role"] for m in shown] == ["user", "assistant", "tool", "assistant"]
    asked = Counter(entry.turn for entry in requests(llm.ledger()))
    assert asked == {**dict.fromkeys(range(2), 1), under_way: 2}
