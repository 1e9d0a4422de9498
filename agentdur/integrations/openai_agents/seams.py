"""Where the SDK is taken hold of: four functions of its runner, replaced once per process.

Rules of this file:
1. Outside of a durable run each of them does what it did before. No object of the user is copied or changed.
2. A version of the SDK that lacks one of the places, or calls it otherwise, is refused: better than running
   agents that only look durable.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from agents import tool as tool_module
from agents.mcp.util import MCPUtil
from agents.run_internal import run_loop, tool_execution

from agentdur.integrations.openai_agents.errors import UnknownAgentsVersion
from agentdur.integrations.openai_agents.model import DurableModel
from agentdur.integrations.openai_agents.scope import current_scope
from agentdur.integrations.openai_agents.servers import durable_listing
from agentdur.integrations.openai_agents.tools import durable_invoke, guarded_failure

_PLACES: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (run_loop, "get_model", ("agent", "run_config")),
    (run_loop, "get_model_settings", ("agent", "run_config")),
    (tool_execution, "_invoke_function_tool_with_metadata", ("function_tool", "context", "arguments")),
    (
        tool_execution,
        "maybe_invoke_function_tool_failure_error_function",
        ("function_tool", "context", "error"),
    ),
    (tool_module, "maybe_invoke_function_tool_failure_error_function", ("function_tool", "context", "error")),
    (MCPUtil, "_list_tools_with_span", ("server", "run_context", "agent")),
)
_taken: list[bool] = []


def take_hold() -> None:
    """Put ours in the places, once; UnknownAgentsVersion when one is missing."""
    if _taken:
        return
    for owner, name, parameters in _PLACES:
        there = getattr(owner, name, None)
        if there is None or tuple(inspect.signature(there).parameters) != parameters:
            raise UnknownAgentsVersion(f"openai-agents {version('openai-agents')}: {name} is not what it was")
    _models()
    _tools()
    listing = durable_listing(MCPUtil.__dict__["_list_tools_with_span"].__func__)
    _put(MCPUtil, "_list_tools_with_span", classmethod(listing))
    _taken.append(True)


def _models() -> None:
    """The model of a turn, whoever names it: the agent, the run, a provider."""
    get_model: Any = getattr(run_loop, "get_model")  # noqa: B009 - it is no public name of the module
    get_settings: Any = getattr(run_loop, "get_model_settings")  # noqa: B009

    def durable_model(agent: Any, run_config: Any) -> Any:
        model = get_model(agent, run_config)
        scope = current_scope()
        if scope is None or isinstance(model, DurableModel):
            return model
        timeout = getattr(get_settings(agent, run_config), "timeout", None)
        return DurableModel(model, scope, agent.name, run_config.model_provider, timeout)

    def settings_without_deadline(agent: Any, run_config: Any) -> Any:
        settings = get_settings(agent, run_config)
        if current_scope() is None or getattr(settings, "timeout", None) is None:
            return settings
        return replace(settings, timeout=None)  # it counts inside of the step

    _put(run_loop, "get_model", durable_model)
    _put(run_loop, "get_model_settings", settings_without_deadline)


def _tools() -> None:
    result_type = tool_module._FunctionToolInvocationResult
    invoke = durable_invoke(tool_module._invoke_function_tool_with_metadata, result_type)
    _put(tool_execution, "_invoke_function_tool_with_metadata", invoke)
    told = guarded_failure(tool_module.maybe_invoke_function_tool_failure_error_function)
    _put(tool_execution, "maybe_invoke_function_tool_failure_error_function", told)
    _put(tool_module, "maybe_invoke_function_tool_failure_error_function", told)


def _put(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)
