"""The order in which the events of agents that run at the same time come out of a run.

Rules of this file:
1. Where agents may run at the same time, each event's turn is journaled; a replay holds back what comes
   early. So a session, and the code that handles events one by one, are the same on every attempt.
2. Fragments have no place in the order: they are passed on as they come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import BaseAgent, LlmAgent, LoopAgent, ParallelAgent, SequentialAgent
from google.adk.events.event import Event

from agentdur.integrations.google_adk.scope import Durability
from agentdur.integrations.google_adk.tools import runs_nodes
from agentdur.sdk.context import Context

_TURN = "event"


def at_the_same_time(node: Any, how: Durability) -> bool:
    """True when several agents may work at once in a run of this one: side by side, or in tools of one turn
    that may run nodes of their own."""
    if not isinstance(node, BaseAgent) or isinstance(node, ParallelAgent):
        return True
    if not isinstance(node, LlmAgent | LoopAgent | SequentialAgent):
        return True  # a class of the user's own, which may do as it likes
    if any(runs_nodes(tool, how) for tool in getattr(node, "tools", ())):
        return True
    if any(getattr(agent, "mode", None) in ("single_turn", "task") for agent in node.sub_agents):
        return True
    return any(at_the_same_time(agent, how) for agent in node.sub_agents)


async def in_turn(context: Context, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The events, each when its turn has come."""
    early: list[Event] = []
    async for event in events:
        if event.partial:
            yield event
            continue
        early.append(event)
        while early:
            known = context.recorded_value(_TURN)
            place = 0 if known is None else _place(early, known)
            if place is None:
                break
            await context.note_value(_TURN, early[place].id)
            yield early.pop(place)
    for event in early:
        yield event


def _place(events: list[Event], known: str) -> int | None:
    return next((place for place, event in enumerate(events) if event.id == known), None)
