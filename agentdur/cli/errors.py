"""What can go wrong between a command and a server.

The server's own errors come with their codes; these are the command's.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentdur.core.errors import AgentdurError, CallerError


class NoServer(CallerError):
    """Nobody listens there. Start one with `agentdur serve FILE`, or name its admin API with --admin-url."""

    code = "AD0210"


class NotAnAdminApi(CallerError):
    """What answers there is something else. Name the server's admin port (9070) with --admin-url."""

    code = "AD0211"


class Refused(CallerError):
    """The server refused, and nothing was changed. The message says why."""

    code = "AD0212"

    def __init__(self, message: str, status: int, code: str = "") -> None:
        """`status`: of HTTP. `code`: the server's own: its cure is told with it."""
        super().__init__(message)
        self.status = status
        if message.startswith("["):  # it is whole already
            self.args = (message,)
        elif (kind := known_errors().get(code)) is not None:
            self.code = code
            self.args = (f"[{code}] {message.removesuffix('.')}. {cure_of(kind)}",)


class BadArgument(CallerError):
    """An argument does not fit. The message names it, and what it takes."""

    code = "AD0213"


class NotConfirmed(CallerError):
    """Nobody said yes, so nothing was done. Answer y, or give --yes."""

    code = "AD0214"


class MissingExtra(CallerError):
    """An optional part is not installed. Install what the message names."""

    code = "AD0215"


class Overtaken(CallerError):
    """Somebody else changed the state meanwhile, and nothing was edited. Read it, and edit it again."""

    code = "AD0216"


def known_errors() -> dict[str, type[AgentdurError]]:
    """All error classes that are loaded, by code."""
    return {kind.code: kind for kind in _below(AgentdurError) if kind.code}


def _below(kind: type[AgentdurError]) -> Iterator[type[AgentdurError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def cure_of(kind: type[AgentdurError]) -> str:
    """What to do, in one line."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
