"""The key of a tool call: the same on every attempt, for no other call. Hand it to what the tool changes."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Annotated, Any, get_args

from agentdur.core.errors import NotInHandler

_MARK = "agentdur: the key of this call"

ToolKey = Annotated[str, _MARK]
"""The annotation of a parameter that the call's key is given to; the model does not see it."""

_key: ContextVar[str | None] = ContextVar("agentdur_tool_key", default=None)
set_key = _key.set
"""For `run_tools`: in the task of a call."""


def tool_key() -> str:
    """The key of the tool call that runs; NotInHandler outside of one."""
    key = _key.get()
    if key is None:
        raise NotInHandler("tool_key() outside of a tool that run_tools runs")
    return key


def takes_key(hint: Any) -> bool:
    """True for a parameter that is annotated as ToolKey."""
    return _MARK in get_args(hint)[1:]
