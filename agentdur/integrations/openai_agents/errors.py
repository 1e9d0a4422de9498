"""What a user of the OpenAI Agents SDK can do wrong under agentdur."""

from __future__ import annotations

from agentdur.core.errors import HandlerError


class UnknownAgentsVersion(HandlerError):
    """This version of openai-agents lacks a place where durability hooks in. Install a version the page
    docs/how-to/openai-agents.md names."""

    code = "AD0162"


class NoSessionState(HandlerError):
    """An ObjectSession keeps its items in the state of a virtual object: use it in an exclusive handler of
    one."""

    code = "AD0163"
