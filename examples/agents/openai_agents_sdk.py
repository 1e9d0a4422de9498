"""Agents of the OpenAI Agents SDK, durable by one line: a hand-off, tools, an approval, a session.

pip install 'agentdur[openai-agents]'
agentdur dev examples/agents/openai_agents_sdk.py
curl localhost:8080/Desk/ada/say --json '"Cancel my booking 17, please."'
"""

import os

from agents import Agent, Runner, function_tool

from agentdur import App, ObjectContext, VirtualObject
from agentdur.integrations.openai_agents import ObjectSession, install

install()  # the one line: Runner.run in a handler is durable from here on

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini").removeprefix("openai/")


@function_tool
def find_booking(number: int) -> str:
    """Look a booking up."""
    return f"booking {number}: Bergen, two nights"


@function_tool(needs_approval=True)
def cancel_booking(number: int) -> str:
    """Cancel a booking; a person has to agree."""
    return f"booking {number} is cancelled"


bookings = Agent(
    name="Bookings", model=MODEL, instructions="You change bookings.", tools=[find_booking, cancel_booking]
)
reception = Agent(
    name="Reception", model=MODEL, instructions="You greet, and hand over.", handoffs=[bookings]
)
desk = VirtualObject("Desk")


@desk.handler()
async def say(ctx: ObjectContext, text: str) -> str:
    """One turn of the conversation of this key."""
    result = await Runner.run(reception, text, session=ObjectSession())
    return str(result.final_output)


app = App(services=[desk])
