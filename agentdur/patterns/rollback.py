"""All parts, or none: what was done is undone when a later part cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from agentdur.sdk.context import Context


class Part(msgspec.Struct, frozen=True):
    """A part of the whole: `do` is a step named `name`, `undo` the step `undo <name>`. Both are given
    `given`. `undo` must cope with a part that did not take effect: a crash may have hidden whether it
    did."""

    name: str
    do: Callable[..., Any]
    undo: Callable[..., Any]
    given: tuple[Any, ...] = ()


async def all_or_nothing(ctx: Context, *parts: Part) -> list[Any]:
    """The results of all parts, one after another. When one fails for good (a TerminalError, its last retry,
    a cancellation), it and those before it are undone in reverse, each once, also across crashes; then the
    failure is raised."""
    results = []
    async with ctx.saga() as saga:
        for part in parts:
            saga.add(f"undo {part.name}", part.undo, *part.given)
            results.append(await ctx.run(part.name, part.do, *part.given))
    return results
