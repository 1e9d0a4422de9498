"""What the tests ask of agents, and how they count what happened."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from agents import Agent, Runner, function_tool

from agentdur import Context, Service
from agentdur.core import journal as j
from agentdur.core.ports import Filter
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn, When, requests
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

LEDGER: Counter[str] = Counter()
"""What tools did to the world."""


def calls(*wanted: tuple[str, dict[str, Any]], **more: Any) -> Turn:
    """The model calls tools."""
    return Turn(tool_calls=tuple(ToolCall(name=n, arguments=a) for n, a in wanted), **more)


def says(text: str, **when: Any) -> Turn:
    """The model says this."""
    at = when.pop("at", None)
    return Turn(text=text, when=When(**when) if when else None, at=at)


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    LEDGER[f"weather {city}"] += 1
    return f"rain in {city}"


@function_tool
async def book(city: str) -> str:
    """Book a trip."""
    LEDGER[f"book {city}"] += 1
    return f"booked {city}"


def asked(llm: ScriptedLLM) -> int:
    return len(list(requests(llm.ledger())))


def service_of(agent: Agent[Any], **settings: Any) -> Service:
    """A service whose handler runs the agent, as a user writes it."""
    service = Service("Agents")

    @service.handler()
    async def ask(ctx: Context, question: str) -> Any:
        result = await Runner.run(agent, question, **settings)
        return result.final_output

    return service


async def ask(stage: Stage, question: str = "go", key: str = "once") -> Any:
    """Ask the service; asked again, it is the same invocation."""
    raw = await stage.client.generic_call("Agents", "ask", json.dumps(question).encode(), None, key)
    return json.loads(raw)


async def crash_everywhere(
    stage: Stage,
    llm: ScriptedLLM,
    service: Any,
    *,
    answer: Any,
    turns: int,
    at_once: int = 1,
    call: Any = None,
) -> int:
    """Crash at every commit: the same answer, every answered turn paid once, every tool's deed done once,
    but for what was under way. How many crashes there were."""
    points, before = 0, 0

    def begin() -> None:
        nonlocal before
        LEDGER.clear()
        before = asked(llm)

    whole: Counter[str] | None = None
    async for point in every_boundary(stage, [service], call or (lambda: ask(stage)), begin):
        points += 1
        assert point.answer == answer, point
        hits = asked(llm) - before
        again = hits - turns + sum(LEDGER.values()) - len(LEDGER)
        assert turns <= hits and again <= at_once, (point, hits, LEDGER)
        if point.after and at_once == 1:
            assert again == 0, (point, hits, LEDGER)
        whole = whole or Counter(LEDGER.keys())
        assert set(LEDGER) == set(whole), point
    return points


def steps(stage: Stage, invocation: str) -> list[tuple[str, str]]:
    """(branch, name) of all steps, as the journal has them."""
    return [(e.branch, e.name) for _, e in stage.journal(invocation) if isinstance(e, j.Run)]


async def only_invocation(stage: Stage) -> str:
    (row,) = await stage.engine.list(Filter())
    return str(row["id"])
