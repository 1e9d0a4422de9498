"""Words that the API and the commands share; they load nothing."""

from __future__ import annotations

from typing import Literal, get_args

ERROR_HEADER = "x-agentdur-error"
"""Carries our own code: the bodies are the reference's, word for word."""
Shown = Literal[
    "scheduled", "pending", "ready", "running", "backing-off", "suspended", "paused",
    "completed", "succeeded", "failed",
]  # fmt: skip
"""A status as it is shown; a completed one also by how it ended."""
STATUSES: tuple[str, ...] = get_args(Shown)
BATCH_IDS_MAX = 1000
"""Invocations of one batch operation."""
