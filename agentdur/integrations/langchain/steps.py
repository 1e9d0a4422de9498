"""Steps of LangChain code: one journal entry each, retried by nobody but the journal's owner.

Rules of this file:
1. Outside of a handler nothing runs, unless it was said that it may.
2. What a provider refuses for good ends the invocation; everything else is retried by its policy, and a
   Retry-After is kept.
3. An interrupt inside a step is its result, and raised again outside of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from langgraph.errors import GraphInterrupt

from agentdur.core.errors import NotInHandler
from agentdur.integrations.langchain.codec import Data, interrupt_data, interrupts_of
from agentdur.integrations.langchain.failures import translated
from agentdur.sdk.context import Context
from agentdur.sdk.step import current_context
from agentdur.sdk.steps import RunOptions


def handler_context(allow_ephemeral: bool, what: str) -> Context | None:
    """The context of the handler that runs; None outside of one when that is allowed, else NotInHandler."""
    try:
        return current_context()
    except NotInHandler:
        if allow_ephemeral:
            return None
        raise NotInHandler(f"{what} outside of a handler (allow_ephemeral=True runs it undurably)") from None


async def journaled(
    context: Context, name: str, action: Callable[[], Awaitable[Data]], options: RunOptions[Any] | None = None
) -> Data:
    """Run the action as a step; its data, from the journal on a replay."""

    async def guarded() -> Data:
        try:
            return await action()
        except GraphInterrupt as raised:
            return {"interrupts": interrupt_data(raised.args[0])}
        except Exception as error:
            raise translated("", error) from error

    how = replace(options or RunOptions(), type_hint=dict)
    data: Data = await context.run_typed(name, guarded, how)
    if "interrupts" in data:
        raise GraphInterrupt(interrupts_of(data["interrupts"]))
    return data
