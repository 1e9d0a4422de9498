"""The servers that are loaded: each side is one or two processes on loopback, on free ports.

python -m benchmarks.servers agentdur|limit|restate-handler --dir DIR --port P [--admin P]
"""

from __future__ import annotations

import glob
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence

START_SECONDS_MAX = 60.0


class Server:
    """Processes that serve `work` at `port`; started on creation, answers when created."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = open(os.path.join(directory, "out.log"), "ab")  # noqa: SIM115 - as long as the processes
        self.processes: list[subprocess.Popen[bytes]] = []
        try:
            self.begin()
        except BaseException:
            self.stop()
            raise

    def begin(self) -> None:
        """Start, and wait until it answers."""
        raise NotImplementedError

    @property
    def pids(self) -> list[int]:
        """Whose processor time counts."""
        return [process.pid for process in self.processes]

    def spawn(self, argv: Sequence[str], environment: dict[str, str] | None = None) -> None:
        """One more process."""
        self.processes.append(
            subprocess.Popen(
                argv, stdout=self.log, stderr=self.log, env={**os.environ, **(environment or {})}
            )
        )

    def spawn_module(self, module: str, *more: str) -> None:
        """A process of a module of this directory."""
        self.spawn([sys.executable, "-m", f"benchmarks.{module}", *more])

    def wait_for(self, url: str) -> None:
        """Until it is answered."""
        end = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < end:
            for process in self.processes:
                if process.poll() is not None:
                    raise SystemExit(f"a server ended with {process.returncode}: see {self.log.name}")
            try:
                urllib.request.urlopen(url, timeout=2).close()
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"{url} does not answer: see {self.log.name}")

    def stop(self) -> None:
        """All of them."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.log.close()


class Agentdur(Server):
    """One process, as `agentdur serve` runs it: its own ingress, a SQLite file, all defaults."""

    def begin(self) -> None:
        self.admin = free_port()
        ports = str(self.port), str(self.admin)
        self.spawn_module("serve", "agentdur", self.directory, *ports, *self.settings())
        self.wait_for(f"http://127.0.0.1:{self.port}/restate/health")

    def settings(self) -> list[str]:
        """`name=value` of those that are no defaults."""
        return []


class Unmeasured(Agentdur):
    """The same without metrics."""

    def settings(self) -> list[str]:
        """No metrics."""
        return ["metrics=false"]


class Traced(Agentdur):
    """The same, and it sends all its spans to a collector, whose processor time is not counted."""

    def settings(self) -> list[str]:
        """Where the collector is."""
        self._collector = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.telemetry", "--collect"], stdout=subprocess.PIPE, text=True
        )
        assert self._collector.stdout is not None
        return [f"otel_endpoint=http://127.0.0.1:{int(self._collector.stdout.readline())}"]

    def stop(self) -> None:
        """The collector last."""
        super().stop()
        self._collector.kill()
        self._collector.wait()


class Limit(Server):
    """The limit behind a bare ASGI app, on the same web server."""

    def begin(self) -> None:
        self.spawn_module("serve", "limit", self.directory, str(self.port))
        self.wait_for(f"http://127.0.0.1:{self.port}/")


class Restate(Server):
    """restate-server with its defaults, and a handler process on hypercorn."""

    def begin(self) -> None:
        admin, handlers = free_port(), free_port()
        self.spawn(
            [find_restate(), "--base-dir", os.path.join(self.directory, "data"), "--no-logo"],
            {
                "DO_NOT_TRACK": "1", "RUST_LOG": "error", "RESTATE_LISTEN_MODE": "tcp",
                "RESTATE_BIND_IP": "127.0.0.1", "RESTATE_BIND_PORT": str(free_port()),
                "RESTATE_ADVERTISED_HOST": "127.0.0.1", "RESTATE_NODE_NAME": "bench",
                "RESTATE_INGRESS__BIND_PORT": str(self.port), "RESTATE_ADMIN__BIND_PORT": str(admin),
            },
        )  # fmt: skip
        self.spawn_module("serve_restate", str(handlers))
        self.wait_for(f"http://127.0.0.1:{admin}/health")
        self.wait_for(f"http://127.0.0.1:{self.port}/restate/health")
        self._register(f"http://127.0.0.1:{admin}/deployments", f"http://127.0.0.1:{handlers}")

    @staticmethod
    def _register(admin: str, uri: str) -> None:
        data = json.dumps({"uri": uri}).encode()
        end = time.monotonic() + START_SECONDS_MAX
        while True:
            request = urllib.request.Request(admin, data, {"content-type": "application/json"})
            try:
                urllib.request.urlopen(request, timeout=10).close()
                return
            except OSError as error:  # it does not listen yet
                if time.monotonic() > end:
                    raise SystemExit(f"registration failed: {error}") from error
                time.sleep(0.1)


def find_restate() -> str:
    """RESTATE_SERVER (a binary), or the npm package's below this directory; else ''."""
    given = os.environ.get("RESTATE_SERVER", "")
    if given:
        return given
    found = glob.glob("node_modules/@restatedev/restate-server-*/bin/restate-server")
    return os.path.abspath(found[0]) if found else ""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
