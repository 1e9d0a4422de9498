"""MCP servers of an agent: what they offer is listed in a step; each call is a step as any tool's.

Rules of this file:
1. The journal keeps the definitions of the tools, after the server's filters: a server that is away, or
   offers something else by now, does not disturb a replay.
2. Connections are not journaled: who connects a server owns it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.types import Tool as MCPTool

from agentdur.integrations.openai_agents.scope import current_scope
from agentdur.integrations.runs import Escape
from agentdur.sdk.exceptions import TerminalError

Listing = Callable[[Any, Any, Any, Any], Awaitable[list[MCPTool]]]


def durable_listing(original: Listing) -> Listing:
    """The framework's listing of a server's tools, made durable."""

    async def listed(cls: Any, server: Any, run_context: Any, agent: Any) -> list[MCPTool]:
        scope = current_scope()
        if scope is None:
            return await original(cls, server, run_context, agent)

        async def action() -> Any:
            tools = await original(cls, server, run_context, agent)
            return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]

        try:
            data = await scope.step(f"mcp:{server.name}", f"mcp:{server.name}/list_tools", action, None)
        except TerminalError as error:
            raise Escape(error) from None
        return [MCPTool.model_validate(one) for one in data]

    return listed
