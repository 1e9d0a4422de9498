"""Who did what: a line in the log for each request that changes something, when it is known who asks.

Rules of this file:
1. What was done and what was refused are both told; what only looks is not.
2. The path names what it was done to. Bodies are not told: they may be payloads, or tokens.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Scope, Send

from agentdur.core.access import CALLER, Caller
from agentdur.core.errors import AgentdurError
from agentdur.core.visitors import SAFE_METHODS

_log = logging.getLogger("agentdur.audit")
_READING = frozenset({"/query"})
"""Asked by POST, and changes nothing."""
PATH_CHARS_MAX = 500


def audited(scope: Scope, send: Send, refused: AgentdurError | None = None) -> Send:
    """`send`, which tells the log how it went. `refused`: the door did not let it in."""
    caller: Caller | None = scope.get(CALLER)
    if scope["method"] in SAFE_METHODS or scope["path"] in _READING or (caller is None and refused is None):
        return send

    async def telling(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            _tell(scope, caller, message["status"], refused)
        await send(message)

    return telling


def _tell(scope: Scope, caller: Caller | None, status: int, refused: AgentdurError | None) -> None:
    name = "nobody" if caller is None else caller.name
    # What comes from outside must not look like a line of its own.
    path = scope["path"].encode("unicode_escape").decode("ascii")[:PATH_CHARS_MAX]
    fields: dict[str, Any] = {"by": name, "method": scope["method"], "path": path, "status": status}
    if caller is not None:
        fields["role"] = caller.role.name.lower()
    if refused is not None:
        fields["code"] = refused.code
    level = logging.WARNING if refused is not None else logging.INFO
    _log.log(
        level, "%s %s by %s: %d%s", scope["method"], path, name, status,
        "" if refused is None else f", {refused.detail}", extra={"fields": fields},
    )  # fmt: skip
