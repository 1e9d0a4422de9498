"""Agents behind handlers: served by a service of their own, in this process or another, in any language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agentdur.agent.agent import Agent, check_name
from agentdur.agent.loop import current_tally, run_agent
from agentdur.agent.result import AgentRun
from agentdur.core.errors import BadRequest
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.serde import DefaultSerde, serde_for
from agentdur.sdk.service import Service
from agentdur.sdk.step import current_context
from agentdur.tools import Tool, tool

_JSON: DefaultSerde[Any] = DefaultSerde()
_RUN = serde_for(AgentRun)


class AgentCall(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent behind a handler is given: a conversation in OpenAI's shape."""

    messages: list[dict[str, Any]]


def serve_agent(agent: Agent, service: str = "") -> Service:
    """A service (named after the agent, unless told) whose handler `run` takes an AgentCall and answers an
    AgentRun: what RemoteAgent calls. Its `output` is plain JSON."""
    served = Service(service or agent.name, description=agent.description or None)

    @served.handler()
    async def run(ctx: Context, call: AgentCall) -> AgentRun:
        done = await run_agent(ctx, agent, call.messages)
        return msgspec.structs.replace(done, output=plain(done.output, agent.output))

    return served


@dataclass(frozen=True, kw_only=True, eq=False)
class RemoteAgent:
    """An agent that runs behind a handler: a service made by `serve_agent`, or any handler that takes an
    AgentCall and answers an AgentRun. `key`: when the service is a virtual object.

    The call is journaled: the other agent survives crashes by itself, and a lost race cancels it.
    """

    name: str
    service: str = ""
    handler: str = "run"
    key: str | None = None
    description: str = ""
    output: Any = None

    def __post_init__(self) -> None:
        check_name(self.name)

    async def go_on(self, ctx: Context, messages: Sequence[Mapping[str, Any]]) -> AgentRun:
        """Answer the conversation. TerminalError: what the other agent ended with, or that it did not answer
        as an agent does."""
        call = _JSON.serialize({"messages": [dict(message) for message in messages]})
        raw = await ctx.generic_call(self.service or self.name, self.handler, call, self.key)
        try:
            run: AgentRun | None = _RUN.deserialize(raw)
            output = run and (run.output if self.output is None else typed(run.output, self.output))
        except BadRequest as misfit:
            raise TerminalError(
                f"agent '{self.name}' did not answer an AgentRun: {misfit.detail}"
            ) from misfit
        if run is None:
            raise TerminalError(f"agent '{self.name}' did not answer an AgentRun: it answered nothing")
        return msgspec.structs.replace(run, output=output)


def agent_tool(agent: Agent | RemoteAgent, name: str = "", description: str = "") -> Tool:
    """An agent as a tool: the model gives it one message, and is told its answer. Its model calls and tools
    are steps of the journal, as they are everywhere; agents of one turn work at the same time."""

    @tool(name=name or agent.name, description=description or agent.description, inline=True)
    async def ask(message: str) -> Any:
        ctx = current_context()
        if isinstance(agent, Agent):
            run = await run_agent(ctx, agent, message)
        else:
            run = await agent.go_on(ctx, [{"role": "user", "content": message}])
            tally = current_tally()
            if tally is not None:
                tally.add(run.usage, run.cost)
        return run.text if agent.output is None else plain(run.output, agent.output)

    return ask


def plain(value: Any, type_: Any) -> Any:
    """A value of an output type as JSON data."""
    return value if type_ is None else msgspec.json.decode(serde_for(type_).serialize(value))


def typed(value: Any, type_: Any) -> Any:
    """JSON data as a value of an output type; BadRequest when it does not fit."""
    return serde_for(type_).deserialize(_JSON.serialize(value))
