"""One ingress in front of an engine in memory, per test module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentdur.ingress.app import create_ingress
from tests.http.memory_engine import MemoryEngine, as_engine
from tests.http.serving import just, served
from tests.http.wire import Address
from tests.http.world import memory_world


@pytest.fixture(scope="module")
def engine() -> MemoryEngine:
    return memory_world()


@pytest.fixture(scope="module")
def ingress(engine: MemoryEngine) -> Iterator[Address]:
    with served(lambda: just(create_ingress(as_engine(engine)))) as port:
        yield Address(port)
