"""How many examples a property is shown: a tenth of them where the slow tests are left out."""

from __future__ import annotations

from hypothesis import settings

EXAMPLES_THOROUGH = 100
"""Hypothesis's own number, which is also what a profile without one has."""


def examples(count: int) -> int:
    """So many in `make test`, a tenth of it in `make check` (tests/conftest.py chooses)."""
    return max(5, count * settings.default.max_examples // EXAMPLES_THOROUGH)
