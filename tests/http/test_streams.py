"""Streams over HTTP: the events' form, who may read what, clients that leave or take nothing."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from agentdur import App, Context, Service, Workflow, WorkflowContext
from agentdur.client import Client
from agentdur.config import Settings
from agentdur.core.errors import StoreFull
from agentdur.ingress.app import create_ingress
from agentdur.ingress.protocol import OneWrite
from agentdur.ingress.settings import DEFAULTS, IngressSettings
from agentdur.runtime.owner import Engine
from agentdur.runtime.remote.deployments import Asked
from agentdur.sdk.stream import stream
from tests.support.listening import Listener
from tests.support.speaking import Speaker, text
from tests.support.stage import until

pytestmark = pytest.mark.slow


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Door:
    """A server in the loop of the test."""

    def __init__(self, engine: Engine, port: int) -> None:
        self.engine, self.port = engine, port
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False)

    async def send(self, path: str, body: Any = None) -> str:
        answer = (
            await self.http.post(f"{path}/send", json=body) if body else await self.http.post(f"{path}/send")
        )
        return str(answer.raise_for_status().json()["invocationId"])

    @property
    def readers(self) -> int:
        return len(self.engine.machine.streams.readers)


@asynccontextmanager
async def door(*services: Any, settings: IngressSettings = DEFAULTS, **knobs: Any) -> AsyncIterator[Door]:
    async with (
        App(services).running("memory://", settings=Settings(**knobs)) as engine,
        listening(create_ingress(engine, settings)) as port,
    ):
        made = Door(engine, port)
        try:
            yield made
        finally:
            await made.http.aclose()


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=OneWrite, lifespan="off", log_config=None, access_log=False)
    server = _Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started)
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task
        sock.close()


def short() -> Any:
    service = Service("Short")

    @service.handler()
    async def run(ctx: Context) -> str:
        ctx.stream({"a": "line\nbreak \u2028 é"})
        return await ctx.run("step", step)

    async def step() -> str:
        stream("one")
        return "done"

    return service


async def test_the_events_are_server_sent_events():
    async with door(short()) as there:
        invocation = await there.send("/Short/run")
        answer = await there.http.get(
            f"/restate/invocation/{invocation}/stream", headers={"origin": "https://a.page"}
        )
        assert answer.status_code == 200
        headers = answer.headers
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-store"
        assert headers["x-restate-id"] == invocation
        assert headers["access-control-allow-origin"] == "https://a.page"
        begin, *events, rest = answer.text.split("\n\n")
        assert begin == "retry: 500"
        assert rest == ""
        found = []
        for event in events:
            match = re.fullmatch(r"id: ([\w.\-]+)\nevent: (\w+)\ndata: ([^\n]+)", event)
            assert match is not None, event
            found.append((match[2], json.loads(match[3])))
        assert found[0] == (
            "chunk",
            {"step": "stream", "branch": "", "run": 1, "attempt": 0, "data": {"a": "line\nbreak \u2028 é"}},
        )
        assert [kind for kind, _ in found] == ["chunk", "chunk", "commit", "end"]
        assert found[-1][1]["data"] == {"status": "success", "value": "done"}
        assert there.readers == 0


async def test_a_reader_says_where_it_goes_on_and_a_browser_is_told_that_there_is_nothing_more():
    async with door(short()) as there:
        path = f"/restate/stream/{await there.send('/Short/run')}"
        first = await heard_at(there, path)
        second = first.events[0].id
        by_query = await heard_at(there, f"{path}?x=1&after={second}")
        by_header = await heard_at(there, f"{path}?after=0.0", {"last-event-id": second})
        assert by_query.kinds == by_header.kinds == first.kinds[1:]
        over = await there.http.get(path, headers={"last-event-id": first.events[-1].id})
        assert (over.status_code, over.content) == (204, b"")
        for bad in ("x", "1.2.3.x", "é"):
            assert (await there.http.get(path, params={"after": bad})).status_code == 400


async def heard_at(there: Door, path: str, headers: dict[str, str] | None = None) -> Listener:
    heard = Listener()
    answer = await there.http.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    for event in re.findall(r"id: (\S+)\nevent: (\w+)\ndata: (.+)\n\n", answer.text):
        heard.hear(parsed(*event))
    return heard


def parsed(name: str, kind: Any, data: str) -> Any:
    from_json = json.loads(data)
    return _Event(name, kind, from_json["step"], from_json["run"], from_json["data"])


class _Event:
    def __init__(self, name: str, kind: str, step: str, run: int, data: Any) -> None:
        self.id, self.kind, self.step, self.run, self.data = name, kind, step, run, data


async def test_who_asks_for_what_is_not_there_is_answered_as_elsewhere():
    unknown = "inv_1ktAoXAEBvTc1x3zRqupotmrIAcgHwboGJ"
    async with door(short(), stream_readers_limit=1) as there:
        missing = await there.http.get(f"/restate/invocation/{unknown}/stream")
        output = await there.http.get(f"/restate/invocation/{unknown}/output")
        assert (missing.status_code, missing.json()) == (output.status_code, output.json())
        invocation = await there.send("/Short/run")
        path = f"/restate/invocation/{invocation}/stream"
        assert (await there.http.get("/restate/invocation/nonsense/stream")).status_code == 400
        assert (await there.http.get("/restate/stream")).status_code == 404
        for method in ("POST", "HEAD", "PUT"):
            assert (await there.http.request(method, path)).status_code == 405
        await there.http.get(f"/restate/attach/{invocation}")
        held = there.engine.stream(invocation)  # type: ignore[arg-type]  # an id as text
        busy = await there.http.get(path)
        assert busy.status_code == 429
        assert "stream-readers-limit" in busy.json()["message"]
        held.close()
        await there.engine.operate("purge-journal", invocation)  # type: ignore[arg-type]  # an id as text
        gone = await there.http.get(path)
        assert (gone.status_code, gone.json()["source"]) == (410, "ingress")
        assert (await there.http.get(f"/restate/attach/{invocation}")).status_code == 200
        there.engine.machine.writer.die(StoreFull("as told"))
        assert (await there.http.get(path)).status_code == 503


async def test_a_workflow_s_stream_is_found_by_its_key():
    flow = Workflow("Flow")

    @flow.main()
    async def run(ctx: WorkflowContext) -> str:
        ctx.stream("step by step")
        return ctx.key()

    async with door(flow, short()) as there:
        await there.http.post("/Flow/k%20ey/run/send")
        by_key = await heard_at(there, "/restate/workflow/Flow/k%20ey/stream")
        assert [e.data for e in by_key.events] == ["step by step", {"status": "success", "value": "k ey"}]
        await there.http.post("/Short/run/send", headers={"idempotency-key": "once"})
        assert (await heard_at(there, "/restate/invocation/Short/run/once/stream")).kinds[-1] == "end"


async def test_a_client_follows_and_a_heartbeat_says_that_the_server_is_there():
    speaker = Speaker()
    settings = IngressSettings(stream_heartbeat_ms=10)
    async with door(speaker.service, settings=settings) as there, Client(there.url) as client:
        sent = await client.service_send(speaker.talk, None)
        async with there.http.stream("GET", f"/restate/stream/{sent.invocation_id}") as raw:
            pieces = raw.aiter_text()
            seen = ""
            while seen.count(": still here\n\n") < 2:
                seen += await anext(pieces)
        events = client.stream(sent.invocation_id)
        heard = Listener()
        for word in ("a ", "b"):
            speaker.let(word)
            heard.hear(await anext(events))
        speaker.let(None)
        async for event in events:
            heard.hear(event)
        assert heard.of("talk") == [text("a b")]
        assert heard.end == {"status": "success", "value": "a b"}
        assert [e async for e in client.stream(sent.invocation_id, heard.after)] == []


async def test_a_client_that_leaves_frees_everything():
    speaker = Speaker()
    async with door(speaker.service) as there:
        invocation = await there.send("/Speaker/talk")
        speaker.let("word")
        async with there.http.stream("GET", f"/restate/stream/{invocation}") as raw:
            async for piece in raw.aiter_text():
                if "chunk" in piece:
                    break
            assert there.readers == 1
        await until(lambda: there.readers == 0, "the reader's end")
        assert not there.engine.machine.streams.channels
        speaker.let(None)


@pytest.mark.slow
async def test_a_client_that_takes_nothing_is_cut_and_the_step_does_not_wait():
    speaker = Speaker()
    settings = IngressSettings(stream_stall_ms=200)
    async with door(speaker.service, settings=settings, stream_size_limit=64 * 1024 * 1024) as there:
        invocation = await there.send("/Speaker/talk")
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port, limit=1024)
        writer.write(f"GET /restate/stream/{invocation} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await until(lambda: there.readers == 1)
        block = "x" * 1_000_000
        for _ in range(20):  # more than the buffers of both sides of a socket may hold
            speaker.let(block)
        await until(speaker.words.empty, "the step's last word")
        await until(lambda: there.readers == 0, "the cut")
        speaker.let(None)
        answer = await there.http.get(f"/restate/attach/{invocation}")
        assert len(answer.content) > 20_000_000
        try:
            while await reader.read(65536):
                """What was on the way."""
        except ConnectionError:
            """It was cut, not closed."""
        writer.close()


@pytest.mark.slow
async def test_of_an_endpoint_s_handlers_the_entries_are_read_and_steps_have_no_live_chunks():
    async with listening(App([short()]).endpoint()) as port, door() as there:
        await there.engine.deployments.register(Asked(uri=f"http://127.0.0.1:{port}", http1=True))
        invocation = await there.send("/Short/run")
        heard = await heard_at(there, f"/restate/stream/{invocation}")
        assert [(e.kind, e.data) for e in heard.events] == [
            ("chunk", {"a": "line\nbreak \u2028 é"}),
            ("end", {"status": "success", "value": "done"}),
        ]
