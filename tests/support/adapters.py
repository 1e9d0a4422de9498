"""Adapters of frameworks that may be there in a release which cannot be made durable."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest


class _Lacking:
    """Skips the test that uses it, and says why it is not there."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __getattr__(self, name: str) -> Any:
        pytest.skip(self._why)


def adapter(name: str) -> Any:
    """`agentdur.integrations.<name>`, where the framework beside it is one that it takes."""
    try:
        return import_module(f"agentdur.integrations.{name}")
    except ImportError as why:
        return _Lacking(str(why))
