"""A deployment that never stops talking: the server keeps its memory and serves the next one."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import hypercorn.asyncio
import hypercorn.config
import pytest

from agentdur.core import journal as j
from agentdur.wire import messages as m
from agentdur.wire.codec import encode
from agentdur.wire.frames import pack
from tests.admin.side_by_side import agentdur_process
from tests.http.reference_server import free_ports

pytestmark = pytest.mark.slow
MANIFEST = "application/vnd.restate.endpointmanifest.v4+json"
GROWTH_MB_MAX = 100
"""Eight floods at once, most of them more than that, each, if it were kept."""
PIECE = bytes(256 * 1024)
FLOOD_BYTES_MAX = 100 * 1024 * 1024
ONCE = {"inactivityTimeout": 1000, "abortTimeout": 2000, "retryPolicyMaxAttempts": 1}
FLOODS = ("surplus", "too_large", "entries", "trickle")
AT_ONCE = 2


class Flood:
    """An endpoint whose handlers are named by what they do; `sent` is how much they got rid of, in bytes."""

    def __init__(self) -> None:
        self.over = False
        self.sent: dict[str, int] = dict.fromkeys((*FLOODS, "manifest"), 0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        handler = scope["path"].rpartition("/")[2]
        if handler == "discover":
            await self._discovered(scope, send)
            return
        reading = asyncio.ensure_future(_read(receive))
        try:
            kind = dict(scope["headers"])[b"content-type"]
            await _head(send, kind)
            if handler == "fine":
                await send(
                    {"type": "http.response.body", "body": _said(j.Output(result=j.Success(b"1")), m.End())}
                )
                return
            for piece in self._pieces(handler):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self.sent[handler] += len(piece)
                if self.over or (reading.done() and reading.result() == "gone"):
                    return
                await asyncio.sleep(0.05 if handler == "trickle" else 0)
        finally:
            reading.cancel()

    def _pieces(self, handler: str) -> Iterator[bytes]:
        """Endless, for all the server knows."""
        count = FLOOD_BYTES_MAX // len(PIECE)
        if handler == "surplus":
            yield _said(j.Output(result=j.Success(b"1")), m.End())
            yield from (PIECE for _ in range(count))
        elif handler == "too_large":  # one message over the limit of its size
            yield pack(0x0411, b"")[:4] + (64 * 1024 * 1024).to_bytes(4, "big")
            yield from (PIECE for _ in range(count))
        elif handler == "entries":  # more steps than a journal may have
            for number in range(1, 2**20):
                yield _said(j.Run(completion=number, name="x" * 1000))
        else:  # a message that is never complete
            yield pack(0x0411, b"")[:4] + (1024 * 1024).to_bytes(4, "big")
            while True:
                yield b"\0"

    async def _discovered(self, scope: Any, send: Any) -> None:
        await _head(send, MANIFEST.encode())
        if "endless" in scope["path"]:
            for _ in range(FLOOD_BYTES_MAX // len(PIECE)):
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                self.sent["manifest"] += len(PIECE)
        handlers = [{"name": "fine"}, *({"name": name, **ONCE} for name in FLOODS)]
        said = {
            "protocolMode": "BIDI_STREAM", "minProtocolVersion": 5, "maxProtocolVersion": 7,
            "services": [{"name": "Flood", "ty": "SERVICE", "handlers": handlers}],
        }  # fmt: skip
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})


async def _read(receive: Any) -> str:
    while (message := await receive())["type"] == "http.request":
        if not message.get("more_body", False):
            return "read"
    return "gone"


async def _head(send: Any, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})


def _said(*words: Any) -> bytes:
    return b"".join(encode(word, 7) for word in words)


@contextmanager
def flooding() -> Iterator[tuple[Flood, int]]:
    """The endpoint on a loop of its own, over HTTP/2 and HTTP/1.1."""
    flood, over = Flood(), threading.Event()
    (port,) = free_ports(1)
    config = hypercorn.config.Config()
    config.bind, config.errorlog = [f"127.0.0.1:{port}"], None

    async def until_over() -> None:
        await asyncio.to_thread(over.wait)

    async def main() -> None:
        app: Any = flood
        await hypercorn.asyncio.serve(app, config, shutdown_trigger=until_over)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    try:
        yield flood, port
    finally:
        flood.over = True
        over.set()
        thread.join(20)


def peak_mb(pid: int) -> float:
    """The most that the process ever had in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@pytest.mark.parametrize("http1", [False, True], ids=["http2", "http1"])
def test_the_server_s_memory_is_bounded_whatever_a_deployment_says(http1: bool, tmp_path: Path):
    with (
        flooding() as (flood, port),
        agentdur_process(tmp_path, "journal-length-limit=2000") as (process, admin_port, ingress_port),
    ):
        admin = httpx.Client(base_url=f"http://127.0.0.1:{admin_port}", timeout=120)
        ingress = httpx.Client(base_url=f"http://127.0.0.1:{ingress_port}", timeout=120)
        uri = f"http://127.0.0.1:{port}"
        registered = admin.post("/deployments", json={"uri": uri, "use_http_11": http1})
        assert registered.status_code == 201, registered.text
        assert ingress.post("/Flood/fine").status_code == 200
        before = peak_mb(process.pid)
        endless = admin.post("/deployments", json={"uri": f"{uri}/endless", "use_http_11": http1})
        assert endless.status_code == 500
        running = [
            ingress.post(f"/Flood/{name}/send").json()["invocationId"]
            for name in FLOODS
            for _ in range(AT_ONCE)
        ]
        for invocation in running:
            deadline = time.monotonic() + 300
            while (status := admin.get(f"/invocations/{invocation}").json()["status"]) not in (
                "completed", "paused",
            ):  # fmt: skip
                assert time.monotonic() < deadline, f"{invocation} is {status}"
                assert ingress.post("/Flood/fine").status_code == 200
                time.sleep(0.2)
        assert ingress.post("/Flood/fine").status_code == 200
        grown = peak_mb(process.pid) - before
        assert grown < GROWTH_MB_MAX, f"{grown:.0f} MB more; sent {flood.sent}"
        print(f"{grown:.0f} MB more; sent {flood.sent}")
        assert flood.sent["surplus"] > 1024 * 1024, "nothing flooded"
