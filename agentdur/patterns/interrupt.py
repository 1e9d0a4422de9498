"""Interrupt and start again: a newer request takes the place of the one that runs."""

from __future__ import annotations

from datetime import timedelta

from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.future import DurableFuture

PATIENCE = timedelta(seconds=30)


async def supersede(ctx: Context, running: str | None, patience: timedelta = PATIENCE) -> bool:
    """Cancel an invocation (None, or one that is unknown by now: nothing to do) and wait until it has
    cleaned up, so that what comes next finds its state whole. False when it still runs after `patience`: it
    was told, and will end."""
    if running is None:
        return True
    ctx.cancel_invocation(running)
    ended: DurableFuture[object] = ctx.attach_invocation(running)
    try:
        match await ctx.select(ended=ended, late=ctx.sleep(patience, name="patience")):
            case ["late", _]:
                return False
    except TerminalError:
        pass  # how it ended is its caller's business
    return True
