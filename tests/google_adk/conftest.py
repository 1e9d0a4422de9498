"""Agents of Google ADK on a stage, with a scripted model behind real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentdur.testing.scripted_llm import ScriptedLLM
from tests.google_adk.world import LEDGER, MET
from tests.support.fixtures import stage
from tests.support.scripted import scripted

__all__ = ["llm", "nothing_happened", "stage"]


@pytest.fixture
async def llm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """The model all agents ask: it says hello until it is given another script."""
    async with scripted(monkeypatch) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_happened() -> None:
    LEDGER.clear()
    MET.clear()
