"""A real Restate server with the comparison's services, when its binary is at hand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

BINARY = Path("@restatedev") / f"restate-server-linux-{'arm64' if os.uname().machine == 'aarch64' else 'x64'}"
STARTS_WITHIN_S = 300
"""On a busy machine, a process that imports every provider takes a minute."""
HANDLERS = """
import asyncio, sys
sys.path[:0] = [{root!r}]
import hypercorn.asyncio, hypercorn.config, restate, restate.serde
from tests.http.both_services import services
config = hypercorn.config.Config()
config.bind = ["127.0.0.1:{port}"]
restate.BytesSerde = restate.serde.BytesSerde
asyncio.run(hypercorn.asyncio.serve(restate.app(services(restate)), config))
"""


def find_binary() -> str | None:
    """`RESTATE_SERVER`, else the npm package in a node_modules folder of this folder or one above."""
    if named := os.environ.get("RESTATE_SERVER"):
        return named
    for folder in Path(__file__).resolve().parents:
        found = folder / "node_modules" / BINARY / "bin" / "restate-server"
        if found.exists():
            return str(found)
    return None


@contextmanager
def reference_server(binary: str, data: Path) -> Iterator[int]:
    """Yields the ingress port of a server whose services are registered."""
    ingress, admin, node, handlers = free_ports(4)
    environment = os.environ | {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BASE_DIR": str(data / "restate"),
        "RESTATE_DEFAULT_NUM_PARTITIONS": "1",
        "DO_NOT_TRACK": "1",
    }
    code = HANDLERS.format(root=str(Path(__file__).resolve().parents[2]), port=handlers)
    with ExitStack() as stack:
        log = stack.enter_context((data / "log").open("wb"))
        for command in ([binary, "--node-name", "reference"], [sys.executable, "-c", code]):
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)  # what it keeps is not needed any more
        wait_until_up(f"http://127.0.0.1:{admin}/health", f"http://127.0.0.1:{handlers}/health")
        registered = httpx.post(
            f"http://127.0.0.1:{admin}/deployments", json={"uri": f"http://127.0.0.1:{handlers}"}, timeout=30
        )
        registered.raise_for_status()
        wait_until_up(f"http://127.0.0.1:{ingress}/restate/health")
        yield ingress


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask first, then insist."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on; taken together, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until_up(*urls: str) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    for url in urls:
        while not _up(url):
            assert time.monotonic() < deadline, f"{url} did not come up"
            time.sleep(0.1)


def _up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code < 500
    except httpx.HTTPError:
        return False
