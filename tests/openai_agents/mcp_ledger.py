"""An MCP server for the tests: it writes down what it is asked into the file it is given."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("ledger")
LEDGER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("ledger.txt")


@server.tool()
def note(text: str) -> str:
    """Write a line down."""
    with LEDGER.open("a", encoding="utf-8") as ledger:
        ledger.write(f"{text}\n")
    return f"noted {text}"


if __name__ == "__main__":
    server.run()
