"""Whoever does a part of the work: an agent here, an agent elsewhere, or a function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from agentdur.agent import Agent, RemoteAgent, run_agent
from agentdur.sdk.context import Context
from agentdur.sdk.serde import DefaultSerde

Doer: TypeAlias = Agent | RemoteAgent | Callable[[Context, Any], Awaitable[Any]]

_JSON: DefaultSerde[Any] = DefaultSerde()


async def do(ctx: Context, doer: Doer, given: Any) -> Any:
    """What comes out of it: an agent's output (text, unless it has an output type), a function's value. An
    agent is given text as it is and all else as JSON."""
    if isinstance(doer, Agent):
        return (await run_agent(ctx, doer, as_text(given))).output
    if isinstance(doer, RemoteAgent):
        return (await doer.go_on(ctx, [{"role": "user", "content": as_text(given)}])).output
    return await doer(ctx, given)


def as_text(given: Any) -> str:
    """A value as a model reads it."""
    return given if isinstance(given, str) else _JSON.serialize(given).decode()


def name_of(doer: Doer) -> str:
    """What a doer is called: the name of its branch."""
    if isinstance(doer, Agent | RemoteAgent):
        return doer.name
    return getattr(doer, "__name__", type(doer).__name__)
