"""Tools for models: declared with `@tool`, run with `run_tools`, each call a journaled step."""

from agentdur.tools.handlers import handler_tool
from agentdur.tools.key import ToolKey, tool_key
from agentdur.tools.run import run_tools
from agentdur.tools.text import ToolError, ToolTimeout
from agentdur.tools.tool import NOT_DONE, Approve, Tool, tool

__all__ = [
    "NOT_DONE",
    "Approve",
    "Tool",
    "ToolError",
    "ToolKey",
    "ToolTimeout",
    "handler_tool",
    "run_tools",
    "tool",
    "tool_key",
]
