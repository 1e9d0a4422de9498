"""Callbacks and plugins: where ADK calls them, and as often."""

from __future__ import annotations

from typing import Any

import pytest
from google.adk.apps import App
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.genai import types

from agentdur import Context, Service, current_context
from agentdur.integrations.google_adk import DurableRunner
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.google_adk.world import (
    LEDGER,
    agent,
    ask,
    asked,
    calls,
    crash_everywhere,
    run,
    service_of,
    weather,
)
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
TRIP = [calls(("weather", {"city": "Oslo"})), Turn(text="Rain.")]


def said(text: str) -> types.Content:
    return types.Content(role="model", parts=[types.Part(text=text)])


class Telling(BasePlugin):
    """Writes down what it is called for."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(name="telling")
        self.lines = lines

    async def before_model_callback(self, **given: Any) -> None:
        self.lines.append("plugin before model")

    async def before_tool_callback(self, **given: Any) -> None:
        self.lines.append("plugin before tool")

    async def after_tool_callback(self, **given: Any) -> None:
        self.lines.append(f"plugin after tool {given['result']}")

    async def on_event_callback(self, **given: Any) -> None:
        self.lines.append("plugin event")


@IN_MEMORY
async def test_each_is_called_where_adk_calls_it(stage: Stage, llm: ScriptedLLM):
    """The model's answer and the tool's result are what they are told; their own changes count."""
    lines: list[str] = []

    def before_model(callback_context: Any, llm_request: Any) -> None:
        lines.append("before model")
        callback_context.state["asked"] = callback_context.state.get("asked", 0) + 1

    def after_model(callback_context: Any, llm_response: Any) -> LlmResponse | None:
        lines.append("after model")
        text = llm_response.content.parts[0].text
        return (
            LlmResponse(content=said(f"{text} Asked {callback_context.state['asked']} times."))
            if text
            else None
        )

    def after_tool(tool: Any, args: Any, tool_context: Any, tool_response: Any) -> dict[str, str]:
        lines.append("after tool")
        return {"weather": "sun"}

    root = agent(
        tools=[weather], before_model_callback=before_model, after_model_callback=after_model,
        after_tool_callback=after_tool,
    )  # fmt: skip
    runner = DurableRunner(app=App(name="app", root_agent=root, plugins=[Telling(lines)]))
    service = Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        return await run(runner, question)

    llm.replace(TRIP)
    await stage.start(service)
    assert await ask(stage) == "Rain. Asked 2 times."
    model, tool = ["plugin before model", "before model", "after model", "plugin event"], [
        "plugin before tool", "plugin after tool {'weather': 'rain in Oslo'}", "after tool", "plugin event",
    ]  # fmt: skip
    assert lines == [*model, *tool, *model]
    assert "sun" in str(llm.bodies()[-1]["messages"][-1]["content"])


@IN_MEMORY
async def test_a_callback_may_answer_for_the_model_and_for_the_tool(stage: Stage, llm: ScriptedLLM):
    """Then nobody is asked."""
    llm.replace(TRIP)
    silent = agent(
        before_model_callback=lambda callback_context, llm_request: LlmResponse(content=said("No."))
    )
    await stage.start(service_of(silent))
    assert await ask(stage) == "No."
    assert asked(llm) == 0
    await stage.close()
    stage.fresh()
    canned = agent(tools=[weather], before_tool_callback=lambda tool, args, tool_context: {"weather": "fog"})
    await stage.start(service_of(canned))
    assert await ask(stage) == "Rain."
    assert LEDGER == {}
    assert "fog" in str(llm.bodies()[-1]["messages"][-1]["content"])


@pytest.mark.slow
@IN_MEMORY
async def test_a_callback_makes_steps_of_the_handler(stage: Stage, llm: ScriptedLLM):
    """What it does to the world is a step, and done once wherever the crash falls."""

    def count(what: str) -> None:
        LEDGER[what] += 1

    async def before_model(callback_context: Any, llm_request: Any) -> None:
        await current_context().run("counted", count, f"asked {len(llm_request.contents)}")

    async def before_tool(tool: Any, args: Any, tool_context: Any) -> None:
        await current_context().run("looked", count, f"looked {tool.name}")

    llm.replace(TRIP)
    root = agent(tools=[weather], before_model_callback=before_model, before_tool_callback=before_tool)
    await crash_everywhere(stage, llm, service_of(root), answer="Rain.", turns=2)
