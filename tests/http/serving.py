"""A uvicorn server on a free port, in a thread of its own, for as long as a test needs it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import uvicorn


@contextmanager
def served(make: Callable[[], AbstractAsyncContextManager[Any]]) -> Iterator[int]:
    """Serve the ASGI application that `make` opens, on the loop it was opened on; yields the port."""
    # Without the protocol named, asyncio leaves Nagle on, and each answer waits 40 ms for an acknowledgement.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app=_nothing, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    failure: list[BaseException] = []

    async def main() -> None:
        async with make() as app:
            config.app = app
            await server.serve([listener])

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # told to the test below
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        if failure:
            raise failure[0]
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("replaced before the server starts")


@asynccontextmanager
async def just(app: Any) -> AsyncIterator[Any]:
    yield app
