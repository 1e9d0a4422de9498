"""The stage on which agents play, and the model they ask."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.support.fixtures import stage

os.environ.setdefault("AGENT_MODEL", "openai/scripted")  # read when an example is imported

__all__ = ["llm", "stage"]


@pytest.fixture
async def llm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """A model that says hello until it is given another script; `openai/scripted` is its name."""
    pytest.importorskip("litellm")
    async with ScriptedLLM([Turn(text="hello")]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
