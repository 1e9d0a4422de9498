"""Agents of the OpenAI Agents SDK on a stage, with a scripted model behind real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from agents.models import openai_provider

from agentdur.integrations.openai_agents import install
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.support.fixtures import stage

__all__ = ["installed", "llm", "stage"]


@pytest.fixture
async def llm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """The model all agents ask: it says hello until it is given another script. The SDK keeps one HTTP client
    per process; each test has an event loop of its own."""
    monkeypatch.setattr(openai_provider, "_http_client", None)
    async with ScriptedLLM([Turn(text="hello")]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """Plain `Runner.run` is durable."""
    undo = install()
    yield
    undo()
