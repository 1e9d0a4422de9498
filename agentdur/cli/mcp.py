"""The door to `agentdur mcp`: its library is an extra, and imported only there."""

from __future__ import annotations

from importlib import import_module

from agentdur.cli.admin_api import AdminApi
from agentdur.cli.errors import MissingExtra

HOST = "127.0.0.1"


def serve_mcp(api: AdminApi, *, read_only: bool, approve: bool, port: int | None) -> None:
    """Over stdio until the client leaves, or over HTTP until Ctrl-C."""
    try:
        library = import_module("agentdur.cli.mcp_server")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "the Model Context Protocol is spoken by `mcp`: pip install 'agentdur[mcp]'"
        ) from error
    made = library.server(api, read_only=read_only, approve=approve)
    if port is None:
        made.run("stdio")
    else:
        made.run("streamable-http", host=HOST, port=port)
