"""The whole of it: a file, the command in a process of its own, and callers outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from agentdur.core.errors import AddressInUse
from agentdur.server.serving import _listen

pytestmark = pytest.mark.slow

AGENT = """
from agentdur import App, Context, Service

greeter = Service("Greeter")

@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return await ctx.run("greeting", lambda: f"{word} {{name}}")

@greeter.handler()
async def wait(ctx: Context) -> str:
    _, future = ctx.awakeable()
    return await future

app = App([greeter])
"""
UP_WITHIN_S = 30.0


class Ports(NamedTuple):
    ingress: int
    admin: int


def free_ports() -> Ports:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return Ports(one.getsockname()[1], other.getsockname()[1])


def write_agent(folder: Path, word: str) -> Path:
    file = folder / "agent.py"
    file.write_text(AGENT.replace("{word}", word).replace("{{name}}", "{name}"))
    return file


def command(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AGENTDUR_")}
    environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "agentdur.cli", *arguments], cwd=folder, env=environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def running(how: str, file: Path, ports: Ports) -> Iterator[subprocess.Popen[str]]:
    """`agentdur serve` or `dev` on this file, until the block ends; killed when it does not stop."""
    options = ["--ingress-port", str(ports.ingress), "--admin-port", str(ports.admin)]
    process = command(how, str(file), *options, "--store", "sqlite:///agent.db", folder=file.parent)
    try:
        until_up(process, ports)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until_up(process: subprocess.Popen[str], ports: Ports) -> None:
    deadline = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        try:
            httpx.get(f"http://127.0.0.1:{ports.admin}/health").raise_for_status()
            httpx.get(f"http://127.0.0.1:{ports.ingress}/restate/health").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server did not come up")


def greet(ports: Ports, name: str = "Ada") -> str:
    answer = httpx.post(f"http://127.0.0.1:{ports.ingress}/Greeter/greet", json=name)
    return str(answer.raise_for_status().json())


def ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(30)


def test_a_file_is_served_operated_and_stopped(tmp_path: Path):
    ports = free_ports()
    with running("serve", write_agent(tmp_path, "hello"), ports) as server:
        assert greet(ports) == "hello Ada"
        admin = f"http://127.0.0.1:{ports.admin}"
        listed = command("invocations", "--admin-url", admin, "list", "--json", folder=tmp_path)
        found = json.loads(listed.communicate(timeout=30)[0])
        assert [(one["target"], one["status"]) for one in found] == [("Greeter/greet", "completed")]
        status = command("status", "--admin-url", admin, folder=tmp_path)
        assert f"ingress at http://127.0.0.1:{ports.ingress}" in status.communicate(timeout=30)[0]
        document = httpx.get(f"{admin}/services/Greeter/openapi").raise_for_status().json()
        assert "/restate/call/Greeter/greet" in document["paths"]
        assert ended(server) == 0


def test_what_waits_when_it_is_stopped_goes_on_when_it_is_started_again(tmp_path: Path):
    file, ports = write_agent(tmp_path, "hello"), free_ports()
    with running("serve", file, ports) as server:
        sent = httpx.post(f"http://127.0.0.1:{ports.ingress}/Greeter/wait/send").json()["invocationId"]
        assert ended(server) == 0
    ports = free_ports()
    with running("serve", file, ports) as server:
        found = httpx.get(f"http://127.0.0.1:{ports.admin}/invocations/{sent}").raise_for_status().json()
        assert found["status"] in ("running", "suspended", "ready")
        assert ended(server) == 0


def test_dev_serves_what_is_in_the_file_now(tmp_path: Path):
    ports = free_ports()
    file = write_agent(tmp_path, "hello")
    with running("dev", file, ports) as supervisor:
        assert greet(ports) == "hello Ada"
        write_agent(tmp_path, "good morning")
        deadline = time.monotonic() + UP_WITHIN_S
        said = ""
        while said != "good morning Ada" and time.monotonic() < deadline:
            time.sleep(0.1)
            try:
                said = greet(ports)
            except httpx.HTTPError:
                continue  # the old process drains, the new one is not up yet
        assert said == "good morning Ada"
        assert ended(supervisor) == 0


def test_a_port_that_is_taken_ends_it_with_one_line(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = ("--ingress-port", port, "--admin-port", "0", "--store", "memory://")
        server = command("serve", str(write_agent(tmp_path, "x")), *options, folder=tmp_path)
        _, said = server.communicate(timeout=30)
    assert server.returncode == 1
    assert port in said
    assert "Traceback" not in said


def test_who_connects_early_waits_and_who_wants_the_same_port_is_told():
    """Whoever has read that a server serves is not refused by it."""
    with _listen("127.0.0.1", 0, "ingress_port") as early:
        host, port = early.getsockname()
        socket.create_connection((host, port), timeout=5).close()
        with pytest.raises(AddressInUse, match="admin_port"):
            _listen(host, port, "admin_port")
