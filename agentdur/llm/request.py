"""What is asked of a model, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

TIMEOUT = timedelta(minutes=10)
"""How long a model may take for its whole answer, unless the call says otherwise."""
PATIENCE = timedelta(hours=24)
"""How long a call waits in all for a provider that asks for patience, or for a limit of our own."""
BYTES_PER_TOKEN = 4
COMPLETION_TOKENS = 1000
"""An answer whose length was not limited is taken to be so long, until it is there."""
PATIENCE_WITH_FALLBACK = timedelta(minutes=1)
"""The same, when another model could be asked instead."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an answer may take. `first_token` and `idle` (between two chunks) count for streamed answers:
    a model that has fallen silent is told from one that has much to say."""

    total: timedelta = TIMEOUT
    first_token: timedelta | None = None
    idle: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to one model, as it was when the call was made; settings are LiteLLM's."""

    model: str
    messages: list[dict[str, Any]]
    settings: dict[str, Any]
    times: Timeouts = Timeouts()
    stream: bool = False
    patience: timedelta = PATIENCE


def timeouts(given: timedelta | Timeouts) -> Timeouts:
    """A time for the whole answer is the short form."""
    return given if isinstance(given, Timeouts) else Timeouts(given)


def estimated(request: Request) -> tuple[int, int]:
    """(prompt, completion) tokens that a call may take, before anybody has counted: for what must be decided
    beforehand. The longest answer that was asked for, or a usual one."""
    settings = request.settings
    said = len(msgspec.json.encode(request.messages)) + len(msgspec.json.encode(settings.get("tools") or ()))
    longest = settings.get("max_completion_tokens") or settings.get("max_tokens")
    return -(-said // BYTES_PER_TOKEN), longest if isinstance(longest, int) else COMPLETION_TOKENS
