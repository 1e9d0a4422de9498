"""Access as the settings say it: the file of tokens, and the rules of what the ports host.

Rules of this file:
1. The file is read again when it has changed. One that cannot be read any more lets in nobody whom it did not
   let in before, and says so in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from agentdur.admin.rules import own_rules
from agentdur.config import Settings
from agentdur.core.access import Access, Role, Rule, Tokens, read_tokens
from agentdur.core.errors import BadAccess

log = logging.getLogger("agentdur")
_LOOK, _ACT = Role.VIEWER, Role.OPERATOR

GUEST_RULES = (
    Rule("GET", "/approvals", _LOOK, "marked"), Rule("GET", "/approvals/{id}", _LOOK, "marked"),
    Rule("POST", "/approvals/{id}/approve", _ACT, "whole"),
    Rule("POST", "/approvals/{id}/reject", _ACT, "whole"),
    # The link is a key of its own: whoever was sent it may decide this one.
    Rule("GET", "/approvals/{id}/link/{token}", Role.PUBLIC),
    Rule("POST", "/approvals/{id}/link/{token}", Role.PUBLIC),
    Rule("GET", "/sessions", _LOOK, "marked"), Rule("GET", "/sessions/{agent}/{id}", _LOOK, "marked"),
    Rule("DELETE", "/sessions/{agent}/{id}", _ACT),
    Rule("GET", "/sessions/{agent}/{id}/messages", _LOOK, "marked"),
    Rule("GET", "/sessions/{agent}/{id}/turns", _LOOK),
    Rule("POST", "/sessions/{agent}/{id}/messages", _ACT, "whole"),
    Rule("PUT", "/sessions/{agent}/{id}/messages/{message}", _ACT, "whole"),
    Rule("POST", "/sessions/{agent}/{id}/regenerate", _ACT, "whole"),
    Rule("POST", "/sessions/{agent}/{id}/stop", _ACT),
    Rule("GET", "/sessions/{agent}/{id}/stream", _LOOK, "whole"),
    Rule("POST", "/sessions/{agent}/ui", _ACT, "whole"),
    Rule("GET", "/sessions/{agent}/ui/{id}", _LOOK, "whole"),
    Rule("GET", "/sessions/{agent}/ui/{id}/stream", _LOOK, "whole"),
    Rule("POST", "/sessions/{agent}/{id}/ui", _ACT, "whole"),
    Rule("GET", "/sessions/{agent}/{id}/ui", _LOOK, "whole"),
    Rule("GET", "/sessions/{agent}/{id}/ui/stream", _LOOK, "whole"),
    Rule("GET", "/sessions/{agent}/{id}/ui/{chat}/stream", _LOOK, "whole"),
    Rule("GET", "/metrics", _LOOK),
    Rule("GET", "/ui", Role.PUBLIC), Rule("GET", "/ui/{path:path}", Role.PUBLIC),
)  # fmt: skip
"""What the admin port hosts and knows nothing of. The files of the web UI hold no data."""


class TokenFile:
    """The tokens of a file, as it is now."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp = self._look()
        self._tokens = self._read()

    def tokens(self) -> Tokens:
        """Those that count now."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp, self._tokens = stamp, self._read()
        except BadAccess as error:
            self._stamp = (0, 0)
            log.error("%s The tokens that were read before still count", error)
        return self._tokens

    def _look(self) -> tuple[int, int]:
        try:
            about = self._path.stat()
        except OSError as error:
            raise BadAccess(f"{self._path}: {error.strerror or error}") from error
        return about.st_mtime_ns, about.st_size

    def _read(self) -> Tokens:
        try:
            return read_tokens(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BadAccess(f"{self._path}: {error}") from error
        except BadAccess as error:
            raise BadAccess(f"{self._path}: {error.detail}") from error


def access_of(settings: Settings, sessions: Callable[[str], bytes | None] = lambda _: None) -> Access | None:
    """The door of both ports; None when nobody is asked who he is. Raises BadAccess."""
    if settings.access_file is None:
        return None
    rules = (*own_rules(Role[settings.sql_role.upper()]), *GUEST_RULES)
    payloads = Role[settings.payload_role.upper()]
    return Access(TokenFile(settings.access_file).tokens, rules, payloads, sessions)
