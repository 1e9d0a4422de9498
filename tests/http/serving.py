"""A uvicorn server on a free port, in a thread of its own, for as long as a test needs it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from agentdur.server.frontends import KEEP_ALIVE_SECONDS


@contextmanager
def served(make: Callable[[], AbstractAsyncContextManager[Any]]) -> Iterator[int]:
    """Serve the ASGI application that `make` opens, on the loop it was opened on; yields the port."""
    # Without the protocol named, asyncio leaves Nagle on, and each answer waits 40 ms for an acknowledgement.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app=_nothing, log_level="warning", access_log=False, lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )  # fmt: skip
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


class Front:
    """What is served may change while it is served."""

    def __init__(self) -> None:
        self.app: Any = _nothing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


_idle: list[tuple[Front, int]] = []
_kept = ExitStack()


@contextmanager
def lent(app: Any) -> Iterator[int]:
    """As `served`, by a server that stays for the next test: starting and stopping takes its time."""
    if not _idle:
        made = Front()
        _idle.append((made, _kept.enter_context(served(lambda: just(made)))))
    front, port = _idle.pop()
    front.app = app
    try:
        yield port
    finally:
        front.app = _nothing
        _idle.append((front, port))
