"""Agents as data: a name, a model, instructions, tools, others to hand over to; and the loop that runs them.

support = Agent(name="support", model="openai/gpt-5-mini", tools=[find_order])
run = await run_agent(ctx, support, "Where is my order?")
"""

from agentdur.agent.agent import Agent
from agentdur.agent.loop import TooManyTurns, run_agent
from agentdur.agent.remote import AgentCall, RemoteAgent, agent_tool, serve_agent
from agentdur.agent.result import AgentRun

__all__ = [
    "Agent", "AgentCall", "AgentRun", "RemoteAgent", "TooManyTurns", "agent_tool", "run_agent", "serve_agent",
]  # fmt: skip
