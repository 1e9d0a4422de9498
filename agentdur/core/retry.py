"""Retry policies: how long until the next attempt, and what happens after the last."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

JITTER_SHARE_MAX = 0.3
JITTER_MS_MIN = 3


class RetryPolicy(Struct, frozen=True, kw_only=True, gc=False):
    """Exponential back-off. `attempts_max` counts the first attempt; None means without limit."""

    delay_ms_initial: int = 500
    factor: float = 2.0
    delay_ms_max: int = 60_000
    attempts_max: int | None = 70
    on_exhausted: Literal["pause", "kill"] = "pause"

    def delay_ms(self, failures: int) -> int:
        """The wait after the `failures`-th failure (1 is the first), without jitter."""
        try:
            return int(min(self.delay_ms_max, self.delay_ms_initial * self.factor ** (failures - 1)))
        except OverflowError:  # larger than any float, so larger than the limit
            return self.delay_ms_max

    def exhausted(self, failures: int) -> bool:
        """True when no further attempt may follow `failures` failed ones."""
        return self.attempts_max is not None and failures >= max(1, self.attempts_max)


def with_jitter(delay_ms: int, chance: float) -> int:
    """Up to 30 % on top so that a crowd does not come back at once; `chance` is in [0, 1)."""
    return delay_ms + max(JITTER_MS_MIN, int(delay_ms * JITTER_SHARE_MAX * chance))
