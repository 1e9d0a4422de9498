"""A model reads the request and chooses who answers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import create_model

from agentdur.agent import Agent, run_agent
from agentdur.core.errors import BadDefinition
from agentdur.patterns.doer import Doer, as_text, do
from agentdur.sdk.context import Context


async def route(ctx: Context, given: Any, router: Agent, routes: Mapping[str, Doer]) -> Any:
    """The result of the one the router chose. It must choose one of `routes`: it is told their names and
    descriptions, and asked again when it answers something else. Its choice is an answer in the journal."""
    if not routes:
        raise BadDefinition("route() needs at least one route")
    names: Any = Literal[tuple(routes)]
    chooses = create_model("Route", choice=(names, ...))
    known = "\n".join(
        f"- {name}: {getattr(doer, 'description', '') or name}" for name, doer in routes.items()
    )

    async def instructions() -> str:
        return f"{await router.system()}\nAnswer with the name of the best route:\n{known}".strip()

    chooser = replace(router, output=chooses, instructions=instructions)
    run = await run_agent(ctx, chooser, as_text(given))
    return await do(ctx, routes[run.output.choice], given)
