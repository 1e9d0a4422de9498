"""Ids as they come in paths."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from agentdur.core.errors import BadRequest
from agentdur.core.ids import BadId, InvocationId, parse_invocation_id

InvocationPath = Annotated[str, Path(description="an invocation id, `inv_…`")]


def parsed_id(text: str) -> InvocationId:
    """The id; BadRequest when it cannot be one."""
    try:
        return parse_invocation_id(text)
    except BadId as error:
        raise BadRequest(f"bad invocation id {error}") from error
