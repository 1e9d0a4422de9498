"""An MCP server of the MCP SDK's own, in a process of its own: `python desk.py FOLDER [PORT]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Elicit, MCPServer, RequestStateSecurity, Resolve
from mcp_types import ToolAnnotations
from pydantic import BaseModel

FOLDER = Path(sys.argv[1])
server = MCPServer("desk", request_state_security=RequestStateSecurity(keys=["k" * 32]))


def write(line: str) -> None:
    with (FOLDER / "ledger").open("a") as ledger:
        ledger.write(line + "\n")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    write(f"add {a} {b}")
    return a + b


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def shred(paper: str, ctx: Context[Any]) -> str:
    """Destroy a paper."""
    meta = ctx.request_context.meta or {}
    write(f"shred {paper} {dict(meta).get('agentdur/idempotency-key', '')}")
    if (FOLDER / "die").exists():
        (FOLDER / "die").unlink()
        os._exit(9)
    return f"{paper} is gone"


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ValueError("out of paper")


@server.tool()
def die_once() -> str:
    """Dies at the first call."""
    write("die")
    if not (FOLDER / "died").exists():
        (FOLDER / "died").touch()
        os._exit(9)
    return "alive"


class Name(BaseModel):
    name: str


async def ask_name() -> Elicit[Name]:
    return Elicit("Whose desk is it?", Name)


@server.tool()
async def label(owner: Annotated[Name, Resolve(ask_name)]) -> str:
    """Label the desk."""
    write(f"label {owner.name}")
    return f"{owner.name}'s desk"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run("stdio")
