"""Agents of Google ADK, durable by one line: a hand-over, tools, a session per key.

pip install 'agentdur[google-adk,litellm]'
agentdur dev examples/agents/google_adk.py
curl localhost:8080/Concierge/ada/say --json '"Book me a table in Bergen, please."'
"""

import os

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from agentdur import App, ObjectContext, VirtualObject
from agentdur.integrations.google_adk import DurableRunner

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")


def find_tables(city: str) -> list[str]:
    """Restaurants of a city that have a table tonight."""
    return [f"{city}: Bryggeloftet", f"{city}: Cornelius"]


async def book_table(restaurant: str, tool_context: ToolContext) -> dict[str, str]:
    """Book a table."""
    tool_context.state["booked"] = restaurant
    return {"booked": restaurant, "reference": f"T-{len(restaurant)}"}


tables = LlmAgent(
    name="tables",
    model=LiteLlm(model=MODEL),
    description="Finds and books restaurants.",
    instruction="You book tables.",
    tools=[find_tables, book_table],
)
concierge = LlmAgent(
    name="concierge",
    model=LiteLlm(model=MODEL),
    instruction="You greet, and hand over to whoever can help.",
    sub_agents=[tables],
)
runner = DurableRunner(app_name="concierge", agent=concierge)  # the one line: in place of Runner(…)
desk = VirtualObject("Concierge")


@desk.handler()
async def say(ctx: ObjectContext, text: str) -> str:
    """One turn of the conversation of this key."""
    message = types.Content(role="user", parts=[types.Part(text=text)])
    said = ""
    async for event in runner.run_async(user_id=ctx.key(), session_id="main", new_message=message):
        if event.is_final_response() and event.content and event.content.parts:
            said = event.content.parts[0].text or ""
    return said


app = App(services=[desk])
