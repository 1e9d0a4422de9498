"""What a user of the OpenAI Agents SDK can do wrong under agentdur."""

from __future__ import annotations

from agentdur.core.errors import HandlerError


class SyncRun(HandlerError):
    """A handler cannot wait for Runner.run_sync: it would stop every invocation of this process. Use
    `await Runner.run(…)`."""

    code = "AD0160"


class RunInStep(HandlerError):
    """An agent was run, or a context used, inside a step: its own steps could not be journaled. Mark the tool
    with `inline(tool)`, or run the agent in the handler itself."""

    code = "AD0161"


class UnknownAgentsVersion(HandlerError):
    """This version of openai-agents lacks a place where durability hooks in. Install a version the page
    docs/how-to/openai-agents.md names."""

    code = "AD0162"


class NoSessionState(HandlerError):
    """An ObjectSession keeps its items in the state of a virtual object: use it in an exclusive handler of
    one."""

    code = "AD0163"


class UnjournaledAnswer(HandlerError):
    """A model gave an answer that cannot be written to the journal as the SDK's own data."""

    code = "AD0164"
