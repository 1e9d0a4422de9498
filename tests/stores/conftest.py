"""Each test of the conformance suite runs on every kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.homes import HOMES, Home


@pytest.fixture(params=HOMES, ids=lambda kind: kind.__name__.removesuffix("Home").lower())
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """An open, empty store."""
    made: Home = request.param(tmp_path)
    yield made
    made.store.close()
