"""The Restate SDK for Python, driven by agentdur: every operation, each mode, kill -9 on both sides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agentdur.wire.identity import Signer
from tests.http.reference_server import free_ports, stop, wait_until_up
from tests.support import warm
from tests.support.patience import until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
MODES = {"http2": ("1m", False), "request and response": ("1m", True), "always leaving": ("0ms", False)}


class World:
    """`agentdur serve` and an SDK's endpoint, each a process that can be killed."""

    def __init__(self, folder: Path, inactivity: str, more: tuple[str, ...] = (), **environment: str) -> None:
        self.more = more
        """More options of the server's command."""
        self.folder, self.inactivity, self.environment = folder, inactivity, os.environ | environment
        self.ingress_port, self.admin_port, self.port = free_ports(3)
        self.log = (folder / "log").open("ab")
        self.server, self.handlers = self.start_server(), self.start_handlers()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.ingress_port}", timeout=60)
        self.admin = httpx.Client(base_url=f"http://127.0.0.1:{self.admin_port}", timeout=60)

    def start_server(self) -> warm.Process:
        arguments = [
            "serve", "tests/remote/native.py", "--store", f"sqlite:///{self.folder}/store.db",
            "--ingress-port", str(self.ingress_port),
            "--admin-port", str(self.admin_port), "--set", f"inactivity-timeout={self.inactivity}",
            "--set", "default-retry-policy-initial-interval=50ms", *self.more,
        ]  # fmt: skip
        return warm.start(arguments, self.log, self.environment)

    def start_handlers(self) -> warm.Process:
        """In this one process: with workers, those would outlive its SIGKILL."""
        command = [sys.executable, "-m", "hypercorn", "tests.remote.sdk_services:app", "--workers", "0"]
        command += ["--bind", f"127.0.0.1:{self.port}"]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)

    def up(self) -> None:
        wait_until_up(f"{self.admin.base_url}/health", f"{self.client.base_url}/restate/health")
        wait_until_up(f"http://127.0.0.1:{self.port}/health")

    def close(self) -> None:
        """The SDK's web server takes its time to end, and has nothing to lose."""
        stop(self.server)
        self.handlers.kill()
        self.handlers.wait()
        self.log.close()

    def kill(self, what: str) -> None:
        """SIGKILL, and the same command again."""
        process = getattr(self, what)
        process.send_signal(signal.SIGKILL)
        process.wait()
        setattr(self, what, getattr(self, f"start_{what}")())
        self.up()

    def call(self, path: str, body: Any = None) -> Any:
        answer = self.client.post(path, json=body) if body is not None else self.client.post(path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer.json() if answer.content else None

    def send(self, path: str, body: Any = None) -> str:
        content = {} if body is None else {"json": body}
        return str(self.client.post(f"{path}/send", **content).json()["invocationId"])

    def result(self, invocation: str) -> httpx.Response:
        return self.client.get(f"/restate/invocation/{invocation}/attach")

    def status(self, invocation: str) -> Any:
        return self.admin.get(f"/invocations/{invocation}").json()


@contextmanager
def world(folder: Path, mode: str, **environment: str) -> Iterator[World]:
    inactivity, http1 = MODES[mode]
    made = World(folder, inactivity, **environment)
    try:
        made.up()
        uri = f"http://127.0.0.1:{made.port}"
        answer = made.admin.post("/deployments", json={"uri": uri, "use_http_11": http1})
        assert answer.status_code == 201, answer.text
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=MODES)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, World]]:
    """One for the stories of a mode in which nothing is killed."""
    folder = tmp_path_factory.mktemp("world")
    with world(folder, request.param, RS_LEDGER=str(folder / "ledger")) as made:
        yield request.param, made


def test_every_operation_works(shared: tuple[str, World]):
    """Over one stream, by request and response, and with a server that lets nobody wait."""
    mode, w = shared
    assert w.call("/RsSvc/greet", "bob") == "bob!"
    assert w.call("/RsSvc/parallel", 4) == [0, 1, 2, 3]
    assert w.call("/RsSvc/caller", "ann") == ["ann!", "ann!", 5, 7, '"sdk\\"native!\\""']
    assert w.call("/Native/hello", "from here ") == 'from here "native!"'
    assert w.client.post("/RsSvc/fails").status_code == 418
    assert w.call("/RsSvc/hopeless").startswith("gave up")
    assert w.call("/RsSvc/either") == "too late"
    number, uuid, now = w.call("/RsSvc/same_again")
    assert 0 <= number < 1
    assert len(uuid) == 36
    assert abs(now - time.time()) < 60
    assert [w.call("/RsLazy/k/ask", n) for n in (3, 4)] == [[3, 3, None, ["n"]], [7, 7, None, ["n"]]]
    assert w.call("/RsObj/called/recall") == {"n": 7}
    assert w.call("/RsObj/called/wipe") == []
    waiting = w.send("/RsSvc/waiter")
    name = until(lambda: w.call("/RsObj/awakeable/recall").get("name"), "the awakeable")
    if mode != "http2":  # there the SDK does not say each time what it waits for
        until(lambda: w.status(waiting)["waiting_for"] == ["awakeable 17"], "what it waits for is shown")
    assert w.client.post(f"/restate/awakeables/{name}/resolve", json="woken").status_code == 202
    assert w.result(waiting).json() == "woken"
    started = w.send("/RsWf/key/run", "from here ")
    assert w.call("/RsWf/key/finish", "to there") == "finishes"
    assert w.result(started).json() == "from here to there"
    assert w.call("/RsWf/key/finish", "again") == "was finished"
    listening = w.send("/RsSvc/signalled")
    until(lambda: w.call("/RsObj/signalled/recall").get("name") == listening, "the listener")
    w.call("/RsSvc/signals", listening)
    assert w.result(listening).json() == "gone"


def test_a_cancelled_sleep_ends_and_its_compensation_runs(shared: tuple[str, World]):
    _, w = shared
    running = w.send("/RsSvc/undone")
    until(lambda: len(w.status(running).get("journal", [])) >= 2, "the sleep")
    assert w.admin.patch(f"/invocations/{running}/cancel").status_code == 202
    assert w.result(running).status_code == 409
    assert (w.folder / "ledger").read_text().count("end undo") == 1


@pytest.mark.parametrize("killed", ["handlers", "server"])
def test_after_a_kill_only_the_step_under_way_runs_again(killed: str, tmp_path: Path):
    ledger = tmp_path / "ledger"
    with world(tmp_path, "http2", RS_LEDGER=str(ledger), RS_SECONDS="0.15") as w:
        running = w.send("/RsSvc/steps", 8)
        until(lambda: ledger.exists() and "begin 3" in ledger.read_text(), "step 3")
        w.kill(killed)
        assert w.result(running).json() == 8
    begun = Counter(line for line in ledger.read_text().splitlines() if line.startswith("begin"))
    assert len(begun) == 8
    assert sum(begun.values()) <= 9, begun


def test_code_that_was_changed_under_a_running_invocation_is_a_mismatch(tmp_path: Path):
    """The SDK says 570; the last failure tells what does not fit, and the old code ends it."""
    with world(tmp_path, "http2") as w:
        running = w.send("/RsSvc/changing")
        until(lambda: len(w.status(running).get("journal", [])) >= 2, "the sleep")
        w.environment["RS_SLEEP"] = "other"
        w.kill("handlers")

        def code() -> str | None:
            failure = w.status(running).get("last_failure") or {}
            return (failure.get("metadata") or {}).get("restate_code")

        until(lambda: code() == "RT0016", "the mismatch")
        w.environment["RS_SLEEP"] = "first"
        w.kill("handlers")
        assert w.result(running).json() == "done"


@pytest.mark.parametrize("signed", [True, False])
def test_handlers_that_ask_who_calls_serve_only_the_server_with_the_key(signed: bool, tmp_path: Path):
    """The SDK verifies what agentdur signs, at discovery and at each attempt."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    more = ("--set", f"request-identity-key={tmp_path / 'key.pem'}") if signed else ()
    w = World(tmp_path, "1m", more, RS_IDENTITY=Signer(pem).public_key)
    try:
        w.up()
        answer = w.admin.post("/deployments", json={"uri": f"http://127.0.0.1:{w.port}"})
        if signed:
            assert answer.status_code == 201, answer.text
            assert w.call("/RsSvc/greet", "bob") == "bob!"
        else:
            assert (answer.status_code, answer.json()["restate_code"]) == (500, "META0003")
            assert "status 401" in answer.json()["message"]
    finally:
        w.close()
