"""The Restate SDKs of other languages, driven by agentdur: the same story for each.

`RESTATE_SDKS="typescript go java"` names those to try: their tools must be there (npm; go; mvn and java), and
each SDK is installed or built from its registry first.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.http.reference_server import wait_until_up
from tests.remote.test_python_sdk import World, until
from tests.support import warm

WANTED = os.environ.get("RESTATE_SDKS", "").replace(",", " ").split()
HERE = Path(__file__).resolve().parent
BUILD_SECONDS_MAX = 500
STEPS = 12
pytestmark = pytest.mark.slow


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=BUILD_SECONDS_MAX, stdout=subprocess.DEVNULL)


def typescript(folder: Path) -> list[str]:
    run(folder, "npm", "install", "--silent", "node@22", "@restatedev/restate-sdk@1")
    return [str(folder / "node_modules/.bin/node"), "services.mjs"]


def go(folder: Path) -> list[str]:
    run(folder, "go", "build", "-o", "services", ".")
    return [str(folder / "services")]


def java(folder: Path) -> list[str]:
    run(folder, "mvn", "--quiet", "--batch-mode", "package")
    return ["java", "-cp", "target/classes:target/dependency/*", "services.Main"]


def listens(port: int) -> bool:
    """Whether somebody is there. A socket that asks often enough for a free port may be given it itself, and
    be connected to nobody but itself."""
    with socket.socket() as asking:
        connected = asking.connect_ex(("127.0.0.1", port)) == 0
        return connected and asking.getsockname() != asking.getpeername()


Built: TypeAlias = tuple[Path, list[str], str]
"""Where the services are, the command that serves them, the first part of their names."""
SDKS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "typescript": ("Ts", typescript), "go": ("Go", go), "java": ("Java", java),
}  # fmt: skip


class OtherWorld(World):
    """Its handlers are a process of another language."""

    def __init__(self, built: Built, folder: Path, inactivity: str) -> None:
        self.place, self.command, self.prefix = built
        self.ledger = folder / "ledger"
        super().__init__(folder, inactivity, RS_LEDGER=str(self.ledger))

    def start_handlers(self) -> warm.Process:
        return subprocess.Popen(
            [*self.command, str(self.port)],
            cwd=self.place, env=self.environment, stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def up(self) -> None:
        """Some speak HTTP/2 only: that the port is open has to do."""
        wait_until_up(f"{self.admin.base_url}/health", f"{self.client.base_url}/restate/health")
        until(lambda: listens(self.port), "the endpoint")

    def of(self, kind: str) -> str:
        return f"{self.prefix}{kind}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    """Makes the services of an SDK ready to be served, once."""

    @cache
    def make(sdk: str) -> Built:
        prefix, build = SDKS[sdk]
        folder = tmp_path_factory.mktemp("sdk") / "services"
        shutil.copytree(HERE / f"{sdk}_services", folder)
        return folder, build(folder), prefix

    return make


@pytest.fixture(
    scope="module", params=[f"{sdk} {inactivity}" for sdk in SDKS for inactivity in ("1m", "0ms")]
)
def world(
    built: Callable[[str], Built], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OtherWorld]:
    """Over one stream, and with a server that lets nobody wait; whoever kills something starts it again."""
    sdk, inactivity = request.param.split()
    if sdk not in WANTED:
        pytest.skip(f"RESTATE_SDKS does not name {sdk}")
    w = OtherWorld(built(sdk), tmp_path_factory.mktemp("world"), inactivity)
    try:
        w.up()
        answer = w.admin.post("/deployments", json={"uri": f"http://127.0.0.1:{w.port}"})
        assert answer.status_code == 201, answer.text
        yield w
    finally:
        w.close()


def test_every_operation_works(world: OtherWorld):
    """One that waits survives a kill of either side."""
    w, svc, obj, wf = world, world.of("Svc"), world.of("Obj"), world.of("Wf")
    assert w.call(f"/{svc}/greet", "bob") == "bob!"
    assert w.call(f"/{svc}/parallel", 4) == [0, 1, 2, 3]
    assert w.call(f"/{svc}/caller", "ann") == ["ann!", 5]
    until(lambda: w.call(f"/{obj}/called/recall").get("n") == 7, "the message")
    assert w.client.post(f"/{svc}/fails").status_code == 418
    assert w.call(f"/{svc}/race") == "fast"
    waiting = w.send(f"/{svc}/waiter")
    name = until(lambda: w.call(f"/{obj}/awakeable/recall").get("id"), "the awakeable")
    w.kill("handlers")
    w.kill("server")
    assert w.client.post(f"/restate/awakeables/{name}/resolve", json="woken").status_code == 202
    assert w.result(waiting).json() == "woken"
    started = w.send(f"/{wf}/key/run", "from here ")
    w.client.post(f"/{wf}/key/finish", json="to there")
    assert w.result(started).json() == "from here to there"


def test_a_finished_step_never_runs_again(world: OtherWorld):
    """SIGKILL to the handlers, and to the server: each may run that one step again that was in flight."""
    started = world.send(f"/{world.of('Svc')}/steps", STEPS)
    for what, after in (("handlers", 3), ("server", 7)):
        until(lambda n=after: world.ledger.exists() and f"step {n}\n" in world.ledger.read_text(), "a step")
        time.sleep(0.05)
        world.kill(what)
    assert world.result(started).json() == STEPS
    ran = Counter(world.ledger.read_text().split("\n")[:-1])
    assert set(ran) == {f"step {i}" for i in range(STEPS)}
    assert sum(ran.values()) - STEPS <= 2, ran
