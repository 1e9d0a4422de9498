"""Agents of Google ADK on a stage, with a scripted model behind real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.google_adk.world import LEDGER, MET
from tests.support.fixtures import stage

__all__ = ["llm", "nothing_happened", "stage"]


@pytest.fixture
async def llm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """The model all agents ask: it says hello until it is given another script."""
    async with ScriptedLLM([Turn(text="hello")]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture(autouse=True)
def nothing_happened() -> None:
    LEDGER.clear()
    MET.clear()
