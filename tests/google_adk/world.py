"""What the tests ask of ADK's agents, and how they count what happened."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import Runner
from google.genai import types

from agentdur import Context, Service
from agentdur.core import journal as j
from agentdur.core.ports import Filter
from agentdur.integrations.google_adk import DurableRunner
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn, When, requests
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

LEDGER: Counter[str] = Counter()
"""What tools did to the world."""
MET: dict[str, asyncio.Event] = {}


def scripted(**more: Any) -> LiteLlm:
    return LiteLlm(model="openai/scripted", **more)


def agent(name: str = "helper", instruction: str = "Help.", **more: Any) -> LlmAgent:
    return LlmAgent(name=name, model=scripted(), instruction=instruction, **more)


def calls(*wanted: tuple[str, dict[str, Any]], **more: Any) -> Turn:
    """The model calls tools."""
    return Turn(tool_calls=tuple(ToolCall(name=n, arguments=a) for n, a in wanted), **more)


def says(text: str, **when: Any) -> Turn:
    """The model says this."""
    at = when.pop("at", None)
    return Turn(text=text, when=When(**when) if when else None, at=at)


def weather(city: str) -> dict[str, str]:
    """The weather of a city."""
    LEDGER[f"weather {city}"] += 1
    return {"weather": f"rain in {city}"}


async def book(city: str) -> str:
    """Book a trip."""
    LEDGER[f"book {city}"] += 1
    return f"booked {city}"


async def meet(me: str, other: str) -> str:
    """Wait for the other."""
    LEDGER[f"meet {me}"] += 1
    MET.setdefault(me, asyncio.Event()).set()
    await asyncio.wait_for(MET.setdefault(other, asyncio.Event()).wait(), 10)
    return "met"


def asked(llm: ScriptedLLM) -> int:
    return len(list(requests(llm.ledger())))


def user(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


async def events(runner: Runner, text: Any, session: str = "s", **more: Any) -> AsyncIterator[Any]:
    """The events of a run, as a user's code gets them."""
    message = user(text) if isinstance(text, str) else text
    async for event in runner.run_async(user_id="u", session_id=session, new_message=message, **more):
        yield event


async def run(runner: Runner, text: Any, session: str = "s", **more: Any) -> str:
    """The last thing that was said."""
    said = ""
    async for event in events(runner, text, session, **more):
        if event.partial or event.content is None:
            continue
        said = "".join(part.text or "" for part in event.content.parts or ()) or said
    return said


def service_of(root: Any, **settings: Any) -> Service:
    """A service whose handler runs the agent, as a user writes it."""
    runner = DurableRunner(app_name="app", agent=root, **settings)
    service = Service("Agents")

    @service.handler()
    async def ask(ctx: Context, question: str) -> str:
        return await run(runner, question)

    return service


async def ask(stage: Stage, question: str = "go", key: str = "once") -> Any:
    """Ask the service; asked again, it is the same invocation."""
    raw = await stage.client.generic_call("Agents", "ask", json.dumps(question).encode(), None, key)
    return json.loads(raw)


async def crash_everywhere(
    stage: Stage, llm: ScriptedLLM, service: Any, *, answer: Any, turns: int, at_once: int = 1,
    call: Any = None,
) -> int:  # fmt: skip
    """Crash at every commit: the same answer, every answered turn paid once, every tool's deed done once,
    but for what was under way. How many crashes there were."""
    points, before = 0, 0

    def begin() -> None:
        nonlocal before
        LEDGER.clear()
        MET.clear()
        before = asked(llm)

    whole: set[str] | None = None
    async for point in every_boundary(stage, [service], call or (lambda: ask(stage)), begin):
        points += 1
        assert point.answer == answer, point
        hits = asked(llm) - before
        again = hits - turns + sum(LEDGER.values()) - len(LEDGER)
        assert turns <= hits and again <= at_once, (point, hits, LEDGER)
        if point.after and at_once == 1:
            assert again == 0, (point, hits, LEDGER)
        whole = whole or set(LEDGER)
        assert set(LEDGER) == whole, point
    return points


def steps(stage: Stage, invocation: str) -> list[tuple[str, str]]:
    """(branch, name) of all steps, as the journal has them."""
    return [(e.branch, e.name) for _, e in stage.journal(invocation) if isinstance(e, j.Run)]


async def only_invocation(stage: Stage) -> str:
    (row,) = await stage.engine.list(Filter())
    return str(row["id"])
