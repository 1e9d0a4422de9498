"""Tools for models: declared with `@tool`, run with `run_tools`, each call a journaled step."""

from agentdur.tools.run import run_tools
from agentdur.tools.tool import Tool, ToolError, tool

__all__ = ["Tool", "ToolError", "run_tools", "tool"]
