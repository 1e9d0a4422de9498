"""MCP servers of an agent: what they offer is asked in a step, once a run; each call is a step as any tool's.

Rules of this file:
1. The journal keeps the definitions of the tools: a server that is away, or offers something else by now,
   does not disturb a replay. What a process has cached does not count.
2. Connections are not journaled: the toolset owns them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from agentdur.integrations.google_adk.codec import plain
from agentdur.integrations.google_adk.scope import current_scope

try:
    import mcp.types
    from google.adk.tools.mcp_tool import mcp_toolset
except ImportError:  # ADK's extra for MCP is not installed: there are no such toolsets
    TOOLSET: Any = None
else:
    TOOLSET = mcp_toolset.McpToolset

Asked = Callable[..., Awaitable[Any]]


def durable_request(original: Asked) -> Asked:
    """ADK's request to a server that is no tool call."""

    async def request(
        self: Any, call: Any, error_message: str, readonly_context: Any = None, **more: Any
    ) -> Any:
        scope = current_scope()
        if scope is None:
            return await original(self, call, error_message, readonly_context, **more)
        agent, branch = _place(readonly_context)
        what = error_message.removeprefix("Failed to ")

        async def action() -> Any:
            answer = await original(self, call, error_message, readonly_context, **more)
            assert isinstance(answer, BaseModel)
            return {"kind": type(answer).__name__, "answer": plain(answer)}

        data = await scope.step(f"mcp:{agent}@{branch}:{what}", f"mcp:{agent}/{what}", action, None)
        return getattr(mcp.types, data["kind"]).model_validate(data["answer"])

    return request


def once_a_run(original: Asked) -> Asked:
    """A toolset's tools: asked for once by each agent of a run. ADK remembers them by the invocation's id,
    which is the same on the next attempt."""

    async def get_tools_with_prefix(self: Any, readonly_context: Any = None) -> Any:
        scope = current_scope()
        if scope is None:
            return await original(self, readonly_context)
        key = (id(self), *_place(readonly_context))
        if key not in scope.listed or not self._use_invocation_cache:
            self._cached_prefixed_tools = None
            scope.listed[key] = await original(self, readonly_context)
        return scope.listed[key]

    return get_tools_with_prefix


def _place(readonly_context: Any) -> tuple[str, str]:
    """The agent that asks, and the branch of the conversation it is in."""
    if readonly_context is None:
        return "", ""
    return readonly_context.agent_name, readonly_context._invocation_context.branch or ""


def uncached(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """What this process knows already is asked anew in a durable run."""

    def read(self: Any, cache_key: Any) -> Any:
        return original(self, cache_key) if current_scope() is None else None

    return read
