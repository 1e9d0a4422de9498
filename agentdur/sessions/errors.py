"""What can go wrong with a session: each with its code, its status over HTTP, and the cure as docstring.

Rules of this file:
1. What ends an invocation is a TerminalError that carries the code in its metadata, so that it is still told
   apart when it comes back from the journal.
2. What only a route can find out is a CallerError.
"""

from __future__ import annotations

from agentdur.core.errors import CallerError
from agentdur.sdk.exceptions import TerminalError

CODE = "agentdur_code"
"""Where a terminal failure carries its code, in its metadata."""


class SessionError(TerminalError):
    """Base of what ends a turn, or refuses one."""

    code = ""
    status = 400

    def __init__(self, detail: str) -> None:
        cure = (type(self).__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
        super().__init__(f"[{self.code}] {detail}. {cure}", self.status, {CODE: self.code})


class SessionBusy(SessionError):
    """The session is at work and takes no message now. Wait for its answer, or use another policy."""

    code = "AD0145"
    status = 409


class UnknownMessage(SessionError):
    """The session has no such message. Read its messages, and use the id of one that a user wrote."""

    code = "AD0147"
    status = 404


class BadMessage(SessionError):
    """The message cannot be understood. Read the text: it names the field and what was expected."""

    code = "AD0148"
    status = 400


class UnknownSession(CallerError):
    """There is no session of this id: nothing was sent to it, or it was deleted, or its time was up."""

    code = "AD0146"
    status = 404


class UnknownAgent(CallerError):
    """No chat of this name is served. Check the name, or serve it: `App(services=[chat(agent)])`."""

    code = "AD0149"
    status = 404


class StreamVoided(CallerError):
    """A part of the answer that was sent turned out to be void. Ask again: the whole answer is kept."""

    code = "AD0150"
    status = 409


class NotSupported(CallerError):
    """This route cannot do that. Leave the field out; agents bring their own tools and formats."""

    code = "AD0151"
    status = 400


class UnknownResponse(CallerError):
    """There is no such response: it was never made, its session is gone, or it was not stored."""

    code = "AD0152"
    status = 404


def code_of(error: TerminalError) -> str:
    """The code of a terminal failure, also when it comes from the journal; empty when it has none."""
    return (error.metadata or {}).get(CODE, "")
