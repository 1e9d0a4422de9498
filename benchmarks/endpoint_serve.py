"""Serves the peer harness's workloads as an endpoint, by hypercorn on uvloop, as the peer serves its own; its
settings are those of `agentdur endpoint`.
"""

import asyncio
from typing import Any

import uvloop
from benchlib import door
from hypercorn.asyncio import serve as serve_http
from hypercorn.config import Config

from benchmarks import bench_app


def serve(cfg: dict[str, Any]) -> None:
    """`port` and `effects` as the harness gives them."""
    config = Config()
    config.bind = [f"127.0.0.1:{cfg['port']}"]
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = float(2**31 - 1)
    config.accesslog = config.errorlog = None
    config.include_date_header = config.include_server_header = False
    app: Any = bench_app.make(door.Effects(cfg["effects"])).endpoint()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_http(app, config, mode="asgi"))
