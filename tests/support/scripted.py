"""A scripted model behind real HTTP, where every client of OpenAI looks for its provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentdur.testing.scripted_llm import ScriptedLLM, Turn


@asynccontextmanager
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """It says hello until it is given another script."""
    async with ScriptedLLM([Turn(text="hello")]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)  # what litellm reads first
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
