"""A chat with an agent: sessions, streams, a message that interrupts, and a tool that asks a person.

agentdur serve examples/agents/chat.py
curl localhost:8080/sessions/support/ada/messages --json '{"content": "Where is order 7?"}'
curl -N localhost:8080/sessions/support/ada/stream
curl localhost:8080/v1/chat/completions --json '{"model": "support", "session_id": "ada",
    "messages": [{"role": "user", "content": "And order 8?"}]}'
"""

import os
from datetime import timedelta

from agentdur import App
from agentdur.agent import Agent
from agentdur.sessions import Summary, chat
from agentdur.tools import tool

MODEL = os.environ.get("AGENT_MODEL", "openai/gpt-5-mini")
ORDERS = {7: "left the warehouse", 8: "is being packed"}


@tool
async def order(number: int) -> str:
    """Where an order is."""
    return f"Order {number} {ORDERS.get(number, 'does not exist')}."


@tool(approval=True)
async def refund(number: int, euros: float) -> str:
    """Pay an order back. A person has to agree."""
    return f"{euros:.2f} euros for order {number} are on their way."


support = chat(
    Agent(name="support", model=MODEL, instructions="Help our customers.", tools=[order, refund]),
    policy="interrupt",
    compaction=Summary(MODEL, over=60, keep=20),
    ttl=timedelta(days=30),
)
app = App(services=[support])
