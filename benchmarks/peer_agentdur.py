"""agentdur for the peer harness: embedded behind its door, and through its own ingress.

agentdur          one process: engine on a SQLite file behind the shared bare door
agentdur-ingress  one process: `agentdur.server.serve`, its own ingress, as `agentdur serve` runs it

All defaults, but for the store's path: WAL, synchronous=FULL, group commit. Both settle their memory as
`agentdur serve` does (`agentdur.server.settle_memory`). The package is installed from this checkout.
"""

import importlib
import os
import subprocess
import sys
from typing import ClassVar

from benchlib.base import DoorPeer, Peer

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DURABILITY = "WAL, synchronous=FULL, group commit; fsync before a step starts and before an answer leaves"


class _Installed:
    venv = "agentdur"
    requirements: ClassVar[list[str]] = ["-e", REPO]
    durability = DURABILITY

    def versions(self) -> str:
        code = (
            "import importlib.metadata as m;print('; '.join(f'{n} {m.version(n)}' for n in "
            "('agentdur', 'uvicorn', 'uvloop', 'httptools', 'msgspec', 'fastapi')))"
        )
        return subprocess.run(
            [self.python, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()


class Embedded(_Installed, DoorPeer):
    name = "agentdur"
    file = __file__

    def cfg(self) -> dict:
        return {"mode": "door"}


class Ingress(_Installed, Peer):
    name = "agentdur-ingress"
    inproc = False
    skip: ClassVar[set[str]] = {"W3"}

    def start(self) -> None:
        self.port = self.ctx.base_port
        self.spawn(self.serve_argv(__file__, mode="serve", port=self.port, admin=self.port + 81))
        self.wait_ready(f"http://127.0.0.1:{self.port}/restate/health")

    def req(self, op: str) -> dict:
        if op == "resolve":
            return {"path": "/restate/awakeables/{l}/resolve", "body": '{"go":1}'}
        return {
            "noop": {"path": "/Bench/noop", "body": '{"n":{i}}'},
            "steps3": {"path": "/Bench/steps3", "body": '{"n":{i}}'},
            "agent": {"path": "/Bench/agent", "body": '{"n":{i}}'},
            "grow": {"path": "/Bench/grow", "body": '{"n":5000}'},
            "add": {"path": "/Counter/{k}/add", "body": "1"},
            "count": {"path": "/Counter/{k}/count"},
            "fanout": {"path": "/Bench/fanout", "body": '{"n":100}'},
            "wait": {"path": "/Bench/wait/send", "body": '{"id":{i}}'},
            "flow": {"path": "/Bench/flow/send", "body": '{"id":{i}}'},
        }[op]


PEERS = {"agentdur": Embedded, "agentdur-ingress": Ingress}


def serve(cfg: dict) -> None:
    """The half that runs in agentdur's environment; this file is also read where agentdur is not."""
    sys.path.insert(0, REPO)
    importlib.import_module("benchmarks.bench_serve").serve(cfg)
