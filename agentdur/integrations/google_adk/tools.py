"""Tools of ADK as steps: one call is one step `tool:<agent>/<tool>`, in a branch named by the call's id.

Rules of this file:
1. The tool runs inside the step, a synchronous function in a thread. The step journals what it returned and
   what it did to its context (state, artifacts, actions), which is done again on a replay.
2. A tool runs inline, in the handler, when it is an agent or a node, when it only steers ADK itself, or when
   its author says so: its own steps are journaled instead.
3. A tool that raises is tried again by its options; then its failure is ADK's business: `on_tool_error`
   callbacks see it, or it ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from google.adk.tools._node_tool import NodeTool
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.base_tool import BaseTool
from google.adk.utils._sync_runner import _use_sync_callable_runner
from google.adk.workflow import BaseNode

from agentdur.core.errors import NestedOperation
from agentdur.integrations.google_adk.approvals import confirmed
from agentdur.integrations.google_adk.codec import dump_actions, dump_result, load_result, redo
from agentdur.integrations.google_adk.scope import TOOL_TRIES, Durability, Scope, current_scope
from agentdur.integrations.runs import RunInStep, with_json
from agentdur.sdk.note import note
from agentdur.sdk.steps import RunOptions
from agentdur.sdk.steps import call as in_thread
from agentdur.sdk.stream import stream

Call = Callable[..., Coroutine[Any, Any, Any]]
T = TypeVar("T", bound=BaseTool | Callable[..., Any])
_MARK = "agentdur_durability"
_STEERING = (
    "google.adk.tools.transfer_to_agent_tool",
    "google.adk.tools.exit_loop_tool",
    "google.adk.tools.set_model_response_tool",
    "google.adk.tools.get_user_choice_tool",
    "google.adk.tools._request_input_tool",
    "google.adk.tools._node_tool",
    "google.adk.agents.llm.task",
)
"""Where ADK keeps tools that do nothing to the world."""


def inline(tool: T) -> T:
    """Let this tool (a tool of ADK, or the function it is made of) run in the handler: it may use the
    context, run agents and make steps; it runs again on a replay, so whatever it does to the world must be a
    step of its own. Answers the tool."""
    setattr(tool, _MARK, (True, None))
    return tool


def retried(tool: T, options: RunOptions[Any]) -> T:
    """Let the step of this tool be retried by these options when the tool raises. Answers the tool."""
    setattr(tool, _MARK, (False, options))
    return tool


def _marked(tool: Any) -> tuple[bool, RunOptions[Any] | None]:
    own = getattr(tool, _MARK, None) or getattr(getattr(tool, "func", None), _MARK, None)
    return own or (False, None)


def runs_inline(tool: BaseTool, scope: Scope) -> bool:
    """True when the calls of this tool are no steps."""
    if isinstance(tool, AgentTool) or tool.name in scope.how.inline_tools or _marked(tool)[0]:
        return True
    places = (type(tool).__module__, getattr(getattr(tool, "func", None), "__module__", None) or "")
    return any(place.startswith(_STEERING) for place in places)


def runs_nodes(tool: Any, how: Durability) -> bool:
    """True for what an agent has among its tools that may run nodes in the middle of a call."""
    if isinstance(tool, NodeTool | BaseNode):
        return True
    name = getattr(tool, "name", None) or getattr(tool, "__name__", "")
    return name in how.inline_tools or _marked(tool)[0]


def durable_call(original: Call) -> Call:
    """ADK's call of a tool, made durable."""

    async def called(tool: BaseTool, args: dict[str, Any], tool_context: Any) -> Any:
        scope = current_scope()
        if scope is None:
            return await original(tool, args, tool_context)
        label = f"tool:{tool_context.function_call_id}"
        if runs_inline(tool, scope):
            return await scope.within(label, original(tool, args, tool_context))
        while True:
            result = await _step(scope, label, original, tool, (args, tool_context))
            if await confirmed(scope, tool, args, tool_context) is None:
                return result

    return called


async def _step(scope: Scope, label: str, original: Call, tool: BaseTool, given: tuple[Any, Any]) -> Any:
    args, context = given
    call_id = context.function_call_id

    async def action() -> Any:
        note(tool=tool.name, tool_call_id=call_id)
        try:
            with _use_sync_callable_runner(_threaded):
                value = await original(tool, args, context)
        except NestedOperation as error:
            raise RunInStep(f"tool '{tool.name}': {error}") from error
        record = {"result": dump_result(value), "at": time.time()}
        if scope.streamed:
            stream({"type": "tool_result", "id": call_id, "name": tool.name, **_shown(value)})
        actions = dump_actions(context.actions)
        return {**record, "actions": actions} if actions else record

    options = with_json(_marked(tool)[1] or scope.how.tool_options or TOOL_TRIES)
    record = await scope.step(label, f"tool:{context.agent_name}/{tool.name}", action, options)
    scope.saw(record["at"])
    redo(context, record.get("actions", {}))
    return load_result(record["result"])


async def _threaded(target: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """A synchronous function in a thread: its fellows go on meanwhile."""
    return await in_thread(lambda: target(**arguments), target)


def _shown(value: Any) -> dict[str, Any]:
    failed = isinstance(value, dict) and set(value) == {"error"}
    return {"content": str(value), "failed": failed}
