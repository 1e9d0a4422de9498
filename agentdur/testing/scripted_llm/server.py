"""The server inside a test: it lives on the test's own event loop and leaves nothing behind.

Rules of this file:
1. uvicorn brings the HTTP protocol; its signal handlers, its polling and its patience with open requests stay
   out, because a request that hangs on purpose must not keep a test from ending.
2. Only 127.0.0.1 is served.
"""

from __future__ import annotations

import asyncio
import os
import socket
from types import TracebackType
from typing import Any, Self

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentdur.testing.scripted_llm.app import Studio, make_app
from agentdur.testing.scripted_llm.exchange import TRANSPORT
from agentdur.testing.scripted_llm.ledger import Ledger, LedgerEntry
from agentdur.testing.scripted_llm.script import AddedFaults, Fault, ScriptSource, load_faults, load_script

HOST = "127.0.0.1"
KEEP_ALIVE_S = 3600  # closing an idle connection under a pooling client would be a fault nobody scripted


class ScriptedLLM:
    """`async with ScriptedLLM(script) as llm:` serves the script at `llm.url` (clients take `llm.base_url`).

    Refuses a script that cannot be played with a ScriptError, before any port is opened. The ledger is in
    memory, and in the file `ledger` when given; it stays readable after the end.
    """

    def __init__(
        self, script: ScriptSource, *, port: int = 0, ledger: str | os.PathLike[str] | None = None
    ) -> None:
        self._script = load_script(script)
        self._port = port
        self._ledger_path = ledger
        self.url = ""

    @property
    def base_url(self) -> str:
        """What OpenAI clients want to be told: the url with /v1."""
        return f"{self.url}/v1"

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """All entries so far."""
        return self._studio.ledger.entries

    def bodies(self) -> list[Any]:
        """The bodies of the requests so far (of the last thousand), which must all be JSON."""
        return [msgspec.json.decode(body) for body in self._studio.bodies]

    def replace(self, script: ScriptSource) -> None:
        """Play another script from the next request on."""
        self._studio.replace(load_script(script))

    def add_faults(self, *faults: Fault, turn: int | None = None) -> None:
        """Let these faults strike from the next request on: at one turn, or at every request."""
        self._studio.add_faults(load_faults(AddedFaults(faults=faults, turn=turn)))

    async def __aenter__(self) -> Self:
        ledger = Ledger(self._ledger_path)
        try:
            listener = _listen(self._port)
        except OSError:
            ledger.close()
            raise
        self.url = f"http://{HOST}:{listener.getsockname()[1]}"
        self._studio = Studio(self._script, ledger)
        config = uvicorn.Config(
            make_app(self._studio),
            http=_Protocol,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[listener])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._studio.stopping = True
        for server in self._server.servers:
            server.close()
        state = self._server.server_state
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(set(state.tasks))
        for server in self._server.servers:
            await server.wait_closed()
        self._studio.ledger.close()


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which also shows each request its connection: ASGI itself has no way to hang up."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


def _listen(port: int) -> socket.socket:
    """A socket that a server started again on the same port can bind at once."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
