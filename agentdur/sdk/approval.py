"""What a person decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, frozen=True)
class Approval:
    """What a person decided. True in a condition only when approved in time."""

    approved: bool
    reason: str = ""
    by: str = ""
    timed_out: bool = False
    payload: Any = field(default=None)

    def __bool__(self) -> bool:
        return self.approved


def decision(given: Any) -> Approval:
    """An approver's answer, in its short or its long form."""
    if isinstance(given, dict):
        return Approval(
            bool(given.get("approved")), str(given.get("reason", "")), str(given.get("by", "")),
            payload=given.get("payload"),
        )  # fmt: skip
    return Approval(bool(given))
