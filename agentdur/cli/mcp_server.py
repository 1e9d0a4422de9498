"""`agentdur mcp`: the tools of `mcp_tools` as a server of the Model Context Protocol."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from agentdur.cli.admin_api import AdminApi
from agentdur.cli.mcp_tools import Tool, Tools
from agentdur.config import installed_version
from agentdur.core.errors import AgentdurError

ABOUT = """\
Runs of durable AI agents on an agentdur server. A run (invocation) is one execution of a handler; all it does
is an entry of its journal, so that it survives crashes and can be forked from any entry. To find out why
something failed: list_runs with a status (backing-off, paused, failed), then read_run: last_failure and the
journal say what happened. After the code is fixed, resume_run goes on where it stopped; restart_run with
from_entry begins anew after that entry; fork_run does so with another result, model or prompt.
"""
DESTRUCTIVE = frozenset({"cancel_run", "kill_run", "reject"})


def server(api: AdminApi, *, read_only: bool, approve: bool) -> MCPServer[Any]:
    """The server, with the tools that are allowed."""
    tools = Tools(api)
    made: MCPServer[Any] = MCPServer(
        "agentdur", instructions=ABOUT, version=installed_version(), log_level="WARNING"
    )
    _add(made, tools.reading(), reads=True)
    if not read_only:
        _add(made, tools.acting(), reads=False)
    if approve:
        _add(made, tools.deciding(), reads=False)
    return made


def _add(made: MCPServer[Any], tools: Iterable[Tool], *, reads: bool) -> None:
    for tool in tools:
        name = tool.__name__
        hints = ToolAnnotations(
            read_only_hint=reads,
            destructive_hint=None if reads else name in DESTRUCTIVE,
            open_world_hint=False,
        )
        made.tool(annotations=hints)(_told(tool))


def _told(tool: Tool) -> Callable[..., Any]:
    """What goes wrong is told in the server's words."""

    @functools.wraps(tool)
    def call(*args: Any, **given: Any) -> Any:
        try:
            return tool(*args, **given)
        except AgentdurError as error:
            raise ToolError(" ".join(str(error).split())) from error

    return call
