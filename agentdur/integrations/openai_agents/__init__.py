"""Agents of the OpenAI Agents SDK that survive crashes: one line, the agents stay as they are.

    from agentdur.integrations.openai_agents import install
    install()                                   # plain Runner.run(…) in a handler is durable from here on

or, without touching the process's default, `DurableRunner.run(agent, input)` in place of `Runner.run`.
Importing this package imports the SDK (extra `openai-agents`) and LiteLLM, when it is installed.
"""

from agentdur.integrations.openai_agents.entry import DurableRunner, install
from agentdur.integrations.openai_agents.errors import NoSessionState, UnknownAgentsVersion
from agentdur.integrations.openai_agents.scope import Durability
from agentdur.integrations.openai_agents.session import ObjectSession
from agentdur.integrations.openai_agents.tools import inline, retried
from agentdur.integrations.openai_agents.tracing import trace_to
from agentdur.integrations.runs import RunInStep, SyncRun, UnjournaledAnswer

__all__ = [
    "Durability",
    "DurableRunner",
    "NoSessionState",
    "ObjectSession",
    "RunInStep",
    "SyncRun",
    "UnjournaledAnswer",
    "UnknownAgentsVersion",
    "inline",
    "install",
    "retried",
    "trace_to",
]
