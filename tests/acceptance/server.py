"""A real `agentdur serve` in a process of its own, and the ways to talk to it: HTTP, raw bytes, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
AGENT = Path(__file__).parent / "desk_agent.py"
UP_WITHIN_S = 30.0
JSON = {"content-type": "application/json"}


class Server:
    """One process at a time on one store; started again, it keeps its ports."""

    def __init__(self, folder: Path, *options: str, agent: Path = AGENT, store: str = "a.db") -> None:
        self.folder, self.options, self.agent = folder, options, agent
        self.store = f"sqlite:///{folder / store}"
        self.ingress, self.admin = free_ports()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.ingress}", timeout=30, trust_env=False)
        self.operator = httpx.Client(base_url=f"http://127.0.0.1:{self.admin}", timeout=30, trust_env=False)
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """`agentdur …` as an operator of this server would type it; `more` goes into the environment."""
        environ = environment() | {"AGENTDUR_ADMIN_PORT": str(self.admin), **more}
        return subprocess.run(
            [sys.executable, "-m", "agentdur.cli", *arguments], cwd=self.folder, env=environ, text=True,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def start(self) -> None:
        """Until it answers; AssertionError with its log when it does not come up."""
        ports = ("--ingress-port", str(self.ingress), "--admin-port", str(self.admin))
        arguments = ("serve", str(self.agent), "--store", self.store, *ports, *self.options)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agentdur.cli", *arguments], cwd=self.folder, env=environment(),
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                self.http.get("/restate/health").raise_for_status()
                self.operator.get("/health").raise_for_status()
                return
            time.sleep(0.05)
        raise AssertionError(self.said())

    def said(self) -> str:
        """Its log."""
        return self.log.read_text()

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self, seconds: float = 30) -> int:
        """Its exit code, when it has ended."""
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.signal()
        return self.ended()

    def restart(self) -> None:
        """Stop in order, start again."""
        assert self.stop() == 0
        self.start()

    def close(self) -> None:
        """Whatever it does, it is gone afterwards."""
        self.http.close()
        self.operator.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    # -- talking

    def post(self, path: str, content: bytes | str = b"", **headers: str) -> httpx.Response:
        """A JSON body, or none."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, content=content, headers={**(JSON if content else {}), **given})

    def send(self, path: str, content: bytes | str = b"") -> str:
        """The id of a new invocation."""
        return str(self.post(f"{path}/send", content).raise_for_status().json()["invocationId"])

    def look(self, invocation: str) -> dict[str, Any]:
        """What the admin API says of it."""
        found: dict[str, Any] = self.operator.get(f"/invocations/{invocation}").raise_for_status().json()
        return found

    def becomes(self, invocation: str, status: str) -> dict[str, Any]:
        """The invocation, when it has this status."""
        return until(lambda: found if (found := self.look(invocation))["status"] == status else None)

    def awakeable(self, invocation: str) -> str:
        """The id of the awakeable that the step `ask` told."""
        journal = until(lambda: [e for e in self.look(invocation)["journal"] if e.get("of") == "Run"])
        return str(journal[0]["value"])

    def raw(self, request: bytes, *, wait: bool = True) -> bytes:
        """Bytes as they are; what comes back until the server closes or is silent, b"" without `wait`."""
        with socket.create_connection(("127.0.0.1", self.ingress), timeout=5) as connection:
            connection.sendall(request)
            answer = b""
            while wait and b"\r\n\r\n" not in answer:
                piece = connection.recv(65536)
                if not piece:
                    break
                answer += piece
            return answer


def free_ports() -> tuple[int, int]:
    """Two that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def environment() -> dict[str, str]:
    """Ours, without settings; the package is found wherever the process runs."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AGENTDUR_")}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), environ.get("PYTHONPATH", "")])
    return environ


def until(found: Callable[[], T | None], seconds: float = 20) -> T:
    """What `found` finds in the end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.03)
    raise AssertionError("it did not come to that")


@contextlib.contextmanager
def serving(folder: Path, *options: str, **more: Any) -> Iterator[Server]:
    """A server that is up; gone at the end of the block."""
    server = Server(folder, *options, **more)
    try:
        server.start()
        yield server
    finally:
        server.close()
