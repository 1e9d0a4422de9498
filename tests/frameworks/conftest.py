"""Agents of four frameworks on a stage, with one scripted model behind real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from agents.models import openai_provider

from agentdur.integrations.openai_agents import install
from agentdur.llm.limiter import LIMITER
from agentdur.testing.scripted_llm import ScriptedLLM
from tests.frameworks.world import DESKS, DID, Desk
from tests.support.fixtures import stage
from tests.support.scripted import scripted

__all__ = ["desk", "installed", "llm", "nothing_happened", "stage"]


@pytest.fixture
async def llm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """The model all agents ask. The OpenAI Agents SDK keeps one HTTP client per process; each test has an
    event loop of its own."""
    monkeypatch.setattr(openai_provider, "_http_client", None)
    async with scripted(monkeypatch) as server:
        yield server


@pytest.fixture(params=DESKS, ids=[desk.name for desk in DESKS])
def desk(request: pytest.FixtureRequest) -> Desk:
    """Each of the frameworks in turn."""
    return request.param  # type: ignore[no-any-return]  # a fixture's parameter


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """Plain `Runner.run` of the OpenAI Agents SDK is durable."""
    undo = install()
    yield
    undo()


@pytest.fixture(autouse=True)
def nothing_happened() -> Iterator[None]:
    """What tools did, and limits, end with the story."""
    DID.clear()
    yield
    LIMITER.clear()
