"""What a user of Google ADK can do wrong under agentdur."""

from __future__ import annotations

from agentdur.core.errors import HandlerError


class LiveRun(HandlerError):
    """A live session of ADK (run_live, compositional function calling) cannot be journaled. Use
    `runner.run_async(…)`, with `StreamingMode.SSE` for live text."""

    code = "AD0169"


class UnknownAdkVersion(HandlerError):
    """This version of google-adk lacks a place where durability hooks in. Install a version the page
    docs/how-to/google-adk.md names."""

    code = "AD0170"


class SessionsNotJournaled(HandlerError):
    """This session service keeps conversations out of the journal's sight: a replay would find another one.
    Give the runner `ObjectSessions()`."""

    code = "AD0171"


class SessionReadOnly(HandlerError):
    """A shared handler reads the state of its object: it cannot go on with a conversation. Use an exclusive
    handler."""

    code = "AD0172"
