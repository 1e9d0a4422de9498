"""Hand-offs: agents pass the conversation on, in circles if they like, in this process and to another
service.

    agentdur dev examples/agents/handoff.py
    curl localhost:8080/Reception/ask --json '"Cancel my booking 17"'
"""

import os

from agentdur import App, Context, Service
from agentdur.agent import Agent, RemoteAgent, run_agent, serve_agent
from agentdur.tools import tool

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")


@tool
async def cancel_booking(number: int) -> str:
    """Cancel a booking."""
    return f"booking {number} is cancelled"


bookings = Agent(
    name="bookings", model=MODEL, instructions="You change bookings.", description="changes bookings",
    tools=[cancel_booking], handoffs=lambda: [reception],
)  # fmt: skip
# The complaints desk is a service of its own: it may run in another process, in another language.
complaints = Agent(name="complaints", model=MODEL, instructions="You hear complaints.")
desk = serve_agent(complaints, "ComplaintsDesk")
away = RemoteAgent(name="complaints", service="ComplaintsDesk", description="hears complaints")

reception: Agent = Agent(name="reception", model=MODEL, instructions="You greet.", handoffs=[bookings, away])

service = Service("Reception")


@service.handler()
async def ask(ctx: Context, request: str) -> dict[str, str]:
    run = await run_agent(ctx, reception, request)
    return {"by": run.agent, "answer": run.text}


app = App(services=[service, desk])
