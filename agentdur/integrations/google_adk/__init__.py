"""Agents of Google ADK that survive crashes: one line, the agents stay as they are.

    from agentdur.integrations.google_adk import DurableRunner
    runner = DurableRunner(app_name="desk", agent=root_agent)     # in place of Runner(…)

or, for code that makes its own runners, `install()`: `run_async` in a handler is durable from here on.
Importing this package imports ADK (extra `google-adk`) and LiteLLM, when it is installed.
"""

from agentdur.integrations.google_adk.errors import (
    LiveRun,
    SessionReadOnly,
    SessionsNotJournaled,
    UnknownAdkVersion,
)
from agentdur.integrations.google_adk.runner import DurableRunner, install
from agentdur.integrations.google_adk.scope import Durability
from agentdur.integrations.google_adk.sessions import ObjectSessions
from agentdur.integrations.google_adk.tools import inline, retried
from agentdur.integrations.runs import RunInStep, SyncRun, UnjournaledAnswer

__all__ = [
    "Durability",
    "DurableRunner",
    "LiveRun",
    "ObjectSessions",
    "RunInStep",
    "SessionReadOnly",
    "SessionsNotJournaled",
    "SyncRun",
    "UnjournaledAnswer",
    "UnknownAdkVersion",
    "inline",
    "install",
    "retried",
]
