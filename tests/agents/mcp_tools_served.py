"""A server of tools over streamable HTTP, of the MCP SDK's own making, on the test's loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn
from mcp.server import MCPServer


@dataclass
class ToolsServed:
    """Where the tools are, and who is told what they did: the numbers they were given."""

    url: str = ""
    did: Callable[[str], None] = field(default=lambda line: None)


@asynccontextmanager
async def tools_served() -> AsyncIterator[ToolsServed]:
    """One tool, `add`."""
    served, server = ToolsServed(), MCPServer("tools", instructions="Add with add.")

    @server.tool()
    def add(a: int, b: int) -> int:
        served.did(f"add-{a}-{b}")
        return a + b

    listener = socket.create_server(("127.0.0.1", 0))
    served.url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    config = uvicorn.Config(
        server.streamable_http_app(), log_config=None, lifespan="on", timeout_graceful_shutdown=1
    )
    host = uvicorn.Server(config)
    task = asyncio.ensure_future(host._serve(sockets=[listener]))
    while not host.started:
        await asyncio.sleep(0.005)
    try:
        yield served
    finally:
        host.should_exit = host.force_exit = True  # sessions of the dead do not say goodbye
        await asyncio.wait({task}, timeout=5)
        task.cancel()
        listener.close()
