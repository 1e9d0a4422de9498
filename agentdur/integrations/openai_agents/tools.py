"""Function tools as steps: one call is one step `tool:<agent>/<tool>`, in a branch named by the call's id.
id.

Rules of this file:
1. The framework's own way of calling a tool runs inside the step: its deadline, what it makes of errors, its
   threads for sync functions. The step journals what came out, and what the tool changed in the run's
   context.
2. A tool runs inline, in the handler, when it is an agent, or when its author says so: its own steps are
   journaled instead.
3. Errors of agentdur are not told to the model: a RetryableError is tried again, a TerminalError ends the
   invocation, and so does its cancellation.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from agents.tool import FunctionTool

from agentdur.core.errors import AgentdurError, NestedOperation, NotInHandler
from agentdur.integrations.openai_agents.local_state import changed, fields_of, set_again
from agentdur.integrations.openai_agents.outputs import dump_output, load_output
from agentdur.integrations.openai_agents.scope import Scope, current_scope, enclosing_scope
from agentdur.integrations.runs import Escape, RunInStep, ours, with_json
from agentdur.sdk.combine import race
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.note import note
from agentdur.sdk.steps import RunOptions
from agentdur.sdk.stream import stream

Invoke = Callable[..., Awaitable[Any]]
T = TypeVar("T", bound=FunctionTool)
_MARK = "agentdur_durability"


def inline(tool: T) -> T:
    """Let this tool run in the handler: it may use the context, run agents and make steps; it runs again on a
    replay, so whatever it does to the world must be a step of its own. Answers the tool."""
    tool.__dict__[_MARK] = (True, None)
    return tool


def retried(tool: T, options: RunOptions[Any]) -> T:
    """Let the step of this tool be retried by these options when the tool raises. Answers the tool."""
    tool.__dict__[_MARK] = (False, options)
    return tool


def runs_inline(tool: FunctionTool, scope: Scope) -> bool:
    """True when the calls of this tool are no steps."""
    mark = tool.__dict__.get(_MARK)
    return bool(tool._is_agent_tool or tool.name in scope.how.inline_tools or (mark is not None and mark[0]))


def durable_invoke(original: Invoke, made: Callable[[Any, bool], Any]) -> Invoke:
    """The framework's call of a function tool, made durable. `made`: its result, of an output and of whether
    the framework worded it."""

    async def invoke(*, function_tool: FunctionTool, context: Any, arguments: str) -> Any:
        scope = current_scope()
        if scope is None:
            return await original(function_tool=function_tool, context=context, arguments=arguments)
        label = f"tool:{context.tool_call_id}"
        if runs_inline(function_tool, scope):
            call = _inline(scope, original, function_tool, context, arguments)
            return await scope.within(label, call)

        async def action() -> Any:
            note(tool=function_tool.name, tool_call_id=context.tool_call_id)
            state = context.context
            before = fields_of(state)
            try:
                result = await original(function_tool=function_tool, context=context, arguments=arguments)
            except Escape as escape:
                raise escape.error from None
            record = {"output": dump_output(function_tool, result.output)}
            if scope.streamed:
                stream(_chunk(function_tool, context.tool_call_id, result))
            if result.is_sdk_generated_error:
                record["worded"] = {"json": True}
            state_now = changed(before, fields_of(state))
            return {**record, "state": state_now} if state_now else record

        name = f"tool:{context.agent.name}/{function_tool.name}"
        mark = function_tool.__dict__.get(_MARK)
        options = with_json((mark and mark[1]) or scope.how.tool_options)
        try:
            record = await scope.step(label, name, action, options)
        except TerminalError as error:
            raise Escape(error) from None
        set_again(context.context, record.get("state", {}))
        return made(load_output(function_tool, record["output"]), "worded" in record)

    return invoke


def _chunk(tool: FunctionTool, call_id: str, result: Any) -> dict[str, Any]:
    about = {"type": "tool_result", "id": call_id, "name": tool.name}
    return {**about, "content": str(result.output), "failed": bool(result.is_sdk_generated_error)}


async def _inline(scope: Scope, original: Invoke, tool: FunctionTool, context: Any, arguments: str) -> Any:
    """In the handler. A deadline is a durable one: what came first is journaled."""
    seconds = tool.timeout_seconds
    if seconds is None:
        return await original(function_tool=tool, context=context, arguments=arguments)
    unhurried = copy.copy(tool)
    unhurried.timeout_seconds = None
    late = object()

    async def deadline() -> Any:
        await scope.context.sleep(timedelta(seconds=seconds), name=f"deadline of {tool.name}")
        return late

    result = await race(original(function_tool=unhurried, context=context, arguments=arguments), deadline())
    if result is not late:
        return result
    stuck = copy.copy(tool)  # the framework's own words for a tool that is late
    stuck.on_invoke_tool = _never
    stuck.timeout_seconds = 1e-6
    message = f"{seconds:g}"
    answer = await original(function_tool=stuck, context=context, arguments=arguments)
    if answer.is_sdk_generated_error and isinstance(answer.output, str):
        return type(answer)(answer.output.replace("1e-06", message), True)
    return answer


async def _never(*_: Any) -> Any:
    await asyncio.get_running_loop().create_future()


def guarded_failure(original: Invoke) -> Invoke:
    """The framework's turning of a tool's error into words for the model, for errors that are the model's
    business."""

    async def told(*, function_tool: FunctionTool, context: Any, error: BaseException) -> Any:
        scope = enclosing_scope()
        if scope is not None:
            scope.leave_if_closed()
            if ours(error):
                raise Escape(_explained(function_tool, error))
        return await original(function_tool=function_tool, context=context, error=error)

    return told


def _explained(tool: FunctionTool, error: BaseException) -> BaseException:
    if isinstance(error, NestedOperation | NotInHandler) and isinstance(error, AgentdurError):
        return RunInStep(f"tool '{tool.name}': {error}")
    return error
