"""The Restate SDK for TypeScript, driven by agentdur, when a folder with it and node is at hand."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.http.reference_server import stop, wait_until_up
from tests.remote.test_python_sdk import World, until

SDK = os.environ.get("RESTATE_TS_SDK", "")
"""A folder in which `npm install node@22 @restatedev/restate-sdk` was run."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SDK, reason="RESTATE_TS_SDK names no folder with node and the SDK"),
]


class TsWorld(World):
    """Its handlers run under node."""

    def start_handlers(self) -> subprocess.Popen[bytes]:
        """Modules are found beside the file."""
        if not (self.folder / "node_modules").exists():
            (self.folder / "node_modules").symlink_to(Path(SDK).resolve() / "node_modules")
            shutil.copy(Path(__file__).with_name("sdk_services.mjs"), self.folder)
        node = str(self.folder / "node_modules" / ".bin" / "node")
        command = [node, "sdk_services.mjs", str(self.port)]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=self.log, stderr=self.log
        )

    def up(self) -> None:
        """The SDK speaks HTTP/2 only: that its port is open has to do."""
        wait_until_up(f"{self.admin.base_url}/health", f"{self.client.base_url}/restate/health")
        until(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, "the endpoint")


@pytest.mark.parametrize("inactivity", ["1m", "0ms"])
def test_every_operation_works(inactivity: str, tmp_path: Path):
    """Over one stream, and with a server that lets nobody wait; one that waits survives two kills."""
    w = TsWorld(tmp_path, inactivity)
    try:
        w.up()
        answer = w.admin.post("/deployments", json={"uri": f"http://127.0.0.1:{w.port}"})
        assert answer.status_code == 201, answer.text
        assert w.call("/TsSvc/greet", "bob") == "bob!"
        assert w.call("/TsSvc/parallel", 4) == [0, 1, 2, 3]
        assert w.call("/TsSvc/caller", "ann") == ["ann!", 5]
        assert w.client.post("/TsSvc/fails").status_code == 418
        assert w.call("/TsSvc/race") == "fast"
        waiting = w.send("/TsSvc/waiter")
        name = until(lambda: w.call("/TsObj/awakeable/recall").get("id"), "the awakeable")
        w.kill("handlers")
        w.kill("server")
        assert w.client.post(f"/restate/awakeables/{name}/resolve", json="woken").status_code == 202
        assert w.result(waiting).json() == "woken"
        started = w.send("/TsWf/key/run", "from here ")
        w.client.post("/TsWf/key/finish", json="to there")
        assert w.result(started).json() == "from here to there"
    finally:
        stop(w.handlers)
        stop(w.server)
        w.log.close()
