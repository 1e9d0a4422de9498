"""The line that makes an agent durable: `create_agent(model, tools, middleware=[Durable("support")])`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain.agents.middleware.types import ToolCallRequest

from agentdur.integrations.langchain.codec import Data, ToolAnswer, tool_answer, tool_data
from agentdur.integrations.langchain.model import durable_model, refuse_sync
from agentdur.integrations.langchain.steps import handler_context, journaled
from agentdur.sdk.branch import spawn
from agentdur.sdk.note import note
from agentdur.sdk.steps import RunOptions


class Durable(AgentMiddleware):
    """Every model call and every tool call of the agent is a step of the handler that runs it.

    `label`: model steps are `llm:<label>`; part of the journal, and so are the names of tools. `inline`:
    tools that run in the handler itself, because they use its context (calls, waits, approvals, other
    agents); what they do outside must be steps of their own. `tool_options`: how a tool's failures are
    retried. Put it last, so that it is nearest to the model and the tools.

    Outside of a handler the agent raises NotInHandler, unless `allow_ephemeral`.
    """

    def __init__(
        self,
        label: str = "agent",
        *,
        inline: Collection[str] = (),
        model_options: RunOptions[Any] | None = None,
        tool_options: RunOptions[Any] | None = None,
        allow_ephemeral: bool = False,
    ) -> None:
        super().__init__()
        self.label, self.inline, self.allow_ephemeral = label, frozenset(inline), allow_ephemeral
        self.model_options = model_options
        self.tool_options = tool_options or RunOptions(
            max_attempts=3, initial_retry_interval=timedelta(milliseconds=200)
        )

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        """Refused: see Durable."""
        refuse_sync(f"the agent '{self.label}'")

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        """Refused: see Durable."""
        refuse_sync(f"the agent '{self.label}'")

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """The model is asked in a step; what the agent makes of its answer is computed anew on a replay."""
        handler_context(self.allow_ephemeral, f"the agent '{self.label}'")
        model = durable_model(
            request.model, self.label, options=self.model_options, allow_ephemeral=self.allow_ephemeral
        )
        return await handler(request.override(model=model))

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolAnswer]]
    ) -> ToolAnswer:
        """The tool runs in a step, in a branch named by the call's id."""
        context = handler_context(self.allow_ephemeral, f"the agent '{self.label}'")
        call = request.tool_call
        if context is None:
            return await handler(request)
        if call["name"] in self.inline:
            answer: ToolAnswer = await spawn(f"tool:{call['id']}", _inline(handler, request))
            return answer

        async def run() -> Data:
            note(tool=call["name"], tool_call_id=call["id"])
            return tool_data(await handler(request))

        step = journaled(context, f"tool:{call['name']}", run, self.tool_options)
        data: Data = await spawn(f"tool:{call['id']}", step)
        return tool_answer(data)


async def _inline(
    handler: Callable[[ToolCallRequest], Awaitable[ToolAnswer]], request: ToolCallRequest
) -> ToolAnswer:
    return await handler(request)
