"""Waiting for other processes."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 180
"""More than a busy machine needs."""


def until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives, as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)
    return found
