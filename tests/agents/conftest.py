"""The stage on which agents play, and the model they ask."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from agentdur.testing.scripted_llm import ScriptedLLM
from tests.support.fixtures import stage
from tests.support.scripted import scripted

os.environ.setdefault("AGENT_MODEL", "openai/scripted")  # read when an example is imported

__all__ = ["llm", "stage"]


@pytest.fixture
async def llm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """A model that says hello until it is given another script; `openai/scripted` is its name."""
    pytest.importorskip("litellm")
    async with scripted(monkeypatch) as server:
        yield server
