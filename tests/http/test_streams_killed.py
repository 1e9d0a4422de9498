"""Readers over HTTP whose server is killed and whose connection is dropped, at every event: kill -9 of real
processes, and in the end the text that the journal has."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agentdur.client import Client
from tests.acceptance.server import environment, serving
from tests.http.stream_world import texts_of
from tests.support.listening import Listener

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
KILLS_OF_ONE = 6


class World:
    """Servers one after another; connections made while none is up wait for the next one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pid, self.kills = folder, 0, 0
        self.port = 0
        self._process: asyncio.subprocess.Process

    @asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = listening.getsockname()[1]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.http.stream_world", str(self.folder / "a.db"),
            str(listening.fileno()), cwd=ROOT, env=environment(), pass_fds=(listening.fileno(),),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield self
        finally:
            with suppress(ProcessLookupError):
                if self.pid:
                    os.kill(self.pid, signal.SIGKILL)
                self._process.kill()
            await self._process.wait()
            listening.close()

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"start\n")
        self.pid = int(await self._line())

    async def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert await self._line() == "dead"
        self.pid, self.kills = 0, self.kills + 1

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}")


async def some(client: Client, invocation: str, heard: Listener, most: int) -> None:
    """So many events of one connection, at most."""
    events = client.stream(invocation, heard.after)
    async for event in events:
        heard.hear(event)
        most -= 1
        if not most or heard.end is not None:
            break
    await events.aclose()  # type: ignore[attr-defined]  # an async generator, seen as an iterator


def check(heard: Listener) -> None:
    """What was heard of each step is what the step's result, which is in the journal, says."""
    assert heard.end["status"] == "success", heard.end
    said = {step: texts_of(heard.of(step)) for step in ("draft", "left", "right", "thread")}
    assert said == heard.end["value"]
    assert heard.of("stream") == [{"type": "status", "text": "begins"}, {"type": "status", "text": "ends"}]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path).open() as made:
        await made.start()
        yield made


async def sent_to(client: Client) -> str:
    return (await client.generic_send("Tales", "tell", b"")).invocation_id


async def test_a_connection_is_dropped_after_every_event(world: World):
    async with world.client() as client:
        heard, connections = Listener(), 0
        invocation = await sent_to(client)
        while heard.end is None:
            await some(client, invocation, heard, 1)
            connections += 1
        check(heard)
        assert connections == len(heard.events) > 10


async def test_a_connection_is_dropped_once_at_each_event(world: World):
    async with world.client() as client:
        number, ended = 1, False
        while not ended:
            heard = Listener()
            invocation = await sent_to(client)
            await some(client, invocation, heard, number)
            ended = heard.end is not None
            while heard.end is None:
                await some(client, invocation, heard, 10_000)
            check(heard)
            number += 1
        assert number > 10


async def test_a_server_is_killed_once_at_each_event(world: World):
    """The client reconnects by itself."""
    number, ended = 1, False
    while not ended:
        heard = Listener()
        async with world.client() as client:
            invocation = await sent_to(client)
            left = number
            async for event in client.stream(invocation):
                heard.hear(event)
                left -= 1
                if heard.end is not None:
                    ended = left >= 0
                elif not left:
                    await world.kill()
                    await world.start()
        check(heard)
        number += 1
    assert world.kills > 10


async def test_servers_are_killed_again_and_again_while_many_listen(world: World):
    """Whenever some more was heard, as often as is good for a story that shall end."""
    chance = random.Random("again")

    async def listen(client: Client, invocation: str, heard: Listener) -> None:
        while heard.end is None:
            await some(client, invocation, heard, chance.choice((1, 3, 1000)))

    async def kill(all_heard: list[Listener]) -> None:
        for _ in range(KILLS_OF_ONE):
            before, more = events_of(all_heard), chance.randrange(1, 16)
            while events_of(all_heard) < before + more and any(heard.end is None for heard in all_heard):
                await asyncio.sleep(0.001)
            await world.kill()
            await world.start()

    async with world.client() as client:
        for _ in range(4):
            invocation = await sent_to(client)
            all_heard = [Listener() for _ in range(4)]
            listening = (listen(client, invocation, heard) for heard in all_heard)
            await asyncio.gather(kill(all_heard), *listening)
            for heard in all_heard:
                check(heard)


def events_of(all_heard: list[Listener]) -> int:
    return sum(len(heard.events) for heard in all_heard)


def test_a_server_that_stops_ends_its_streams_in_order_and_its_readers_come_back(tmp_path: Path):
    world = ROOT / "tests" / "http" / "stream_world.py"
    with serving(tmp_path, "--set=shutdown-timeout=20s", agent=world) as server:
        invocation = server.send("/Tales/wait")

        async def listen() -> Listener:
            heard = Listener()
            async with Client(f"http://127.0.0.1:{server.ingress}") as client:
                async for event in client.stream(invocation):
                    heard.hear(event)
                    if event.data == "waiting":
                        await asyncio.to_thread(server.restart)
                        await client.generic_send("Tales", "go", json.dumps(invocation).encode())
            return heard

        heard = asyncio.run(asyncio.wait_for(listen(), PATIENCE_S))
        assert heard.kinds == ["chunk", "end"]
        assert heard.end["value"] == "went"


NODE = shutil.which("node")
BROWSER = """
const [url] = process.argv.slice(2)
const runs = new Map()
const events = new EventSource(url)
events.addEventListener('chunk', e => {
  const c = JSON.parse(e.data); runs.set(c.run, [...(runs.get(c.run) ?? []), c])
  console.log(JSON.stringify({ heard: e.lastEventId }))
})
events.addEventListener('void', e => { runs.delete(JSON.parse(e.data).run) })
events.addEventListener('end', e => {
  events.close()
  console.log(JSON.stringify({ end: JSON.parse(e.data).data, chunks: [...runs.values()].flat() }))
})
"""


def node_has_event_source() -> bool:
    if NODE is None:
        return False
    asked = [
        NODE,
        "--experimental-eventsource",
        "-e",
        "process.exit(typeof EventSource === 'function' ? 0 : 1)",
    ]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not node_has_event_source(), reason="needs node with an EventSource")
async def test_a_browser_s_event_source_comes_back_by_itself(world: World, tmp_path: Path):
    """The one of the web platform, as node has it: nobody here wrote it."""
    script = tmp_path / "reader.mjs"
    script.write_text(BROWSER)
    async with world.client() as client:
        invocation = await sent_to(client)
    url = f"http://127.0.0.1:{world.port}/restate/invocation/{invocation}/stream"
    assert NODE is not None
    reader = await asyncio.create_subprocess_exec(
        NODE, "--experimental-eventsource", "--no-warnings", str(script), url, stdout=asyncio.subprocess.PIPE
    )
    assert reader.stdout is not None
    lines, end = 0, None
    while end is None:
        said = json.loads(await reader.stdout.readline())
        lines, end = lines + 1, said.get("end")
        if lines in (2, 4, 7):
            await world.kill()
            await world.start()
    assert await reader.wait() == 0
    assert world.kills == 3
    assert texts_by_step(said["chunks"]) == end["value"]


def texts_by_step(chunks: list[dict[str, Any]]) -> dict[str, str]:
    steps = {chunk["step"] for chunk in chunks} - {"stream"}
    return {step: texts_of([c["data"] for c in chunks if c["step"] == step]) for step in steps}
