"""A server process: agentdur as `agentdur serve` runs it, or the limit behind a bare door.

python -m benchmarks.serve agentdur|limit DIR PORT [ADMIN_PORT]
"""

from __future__ import annotations

import os
import sys

import uvicorn

import agentdur
from agentdur import App
from agentdur.config import Settings
from agentdur.server import serve
from benchmarks import work
from benchmarks.limit import Door


def serve_agentdur(directory: str, port: int, admin_port: int) -> None:
    """All defaults, but for the place of the store and the ports."""
    store = f"sqlite:///{directory}/agentdur.db"
    serve(App(work.services(agentdur)), Settings(store=store, ingress_port=port, admin_port=admin_port))


def serve_limit(directory: str, port: int) -> None:
    """On the same web server with the same settings."""
    uvicorn.run(
        Door(os.path.join(directory, "limit.db")), host="127.0.0.1", port=port, http="httptools",
        lifespan="off", log_level="warning", access_log=False, backlog=2048, server_header=False,
    )  # fmt: skip


if __name__ == "__main__":
    kind, directory, *ports = sys.argv[1:]
    {"agentdur": serve_agentdur, "limit": serve_limit}[kind](directory, *map(int, ports))
