"""Agents of the OpenAI Agents SDK on a stage, with a scripted model behind real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from agents.models import openai_provider

from agentdur.integrations.openai_agents import install
from agentdur.testing.scripted_llm import ScriptedLLM
from tests.support.fixtures import stage
from tests.support.scripted import scripted

__all__ = ["installed", "llm", "stage"]


@pytest.fixture
async def llm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """The model all agents ask: it says hello until it is given another script. The SDK keeps one HTTP client
    per process; each test has an event loop of its own."""
    monkeypatch.setattr(openai_provider, "_http_client", None)
    async with scripted(monkeypatch) as server:
        yield server


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """Plain `Runner.run` is durable."""
    undo = install()
    yield
    undo()
