"""A server process: agentdur as `agentdur serve` runs it, or the limit behind a bare door.

python -m benchmarks.serve agentdur|limit DIR PORT [ADMIN_PORT] [SETTING=VALUE …]
"""

from __future__ import annotations

import os
import sys

import uvicorn

import agentdur
from agentdur import App
from agentdur.config import load_settings
from agentdur.server import serve
from benchmarks import work
from benchmarks.limit import Door


def serve_agentdur(directory: str, port: str, admin_port: str, *pairs: str) -> None:
    """All defaults, but for the place of the store, the ports, and what is given."""
    given = {"store": f"sqlite:///{directory}/agentdur.db", "ingress_port": port, "admin_port": admin_port}
    given |= dict(pair.split("=", 1) for pair in pairs)
    serve(App(work.services(agentdur)), load_settings(given).settings)


def serve_limit(directory: str, port: str) -> None:
    """On the same web server with the same settings."""
    uvicorn.run(
        Door(os.path.join(directory, "limit.db")), host="127.0.0.1", port=int(port), http="httptools",
        lifespan="off", log_level="warning", access_log=False, backlog=2048, server_header=False,
    )  # fmt: skip


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    {"agentdur": serve_agentdur, "limit": serve_limit}[kind](*rest)
