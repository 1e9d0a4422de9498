"""An application on a port of its own, as clients see it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from agentdur.server.frontends import KEEP_ALIVE_SECONDS


@asynccontextmanager
async def served(app: ASGIApp, port: int = 0, **how: Any) -> AsyncIterator[str]:
    """Its address, while it is served. `how`: options of uvicorn."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", **how)
    config.timeout_keep_alive = KEEP_ALIVE_SECONDS  # as ours: httpx keeps an idle connection for 5 s, too
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # the test's own stay
    serving = asyncio.ensure_future(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


def _no_signals() -> Any:
    class _Nothing:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    return _Nothing()
