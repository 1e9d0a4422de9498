"""How the tests of the scripted model server ask it, and what they ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentdur.testing.scripted_llm import (
    LedgerEntry,
    ScriptedLLM,
    ScriptedLLMProcess,
    ToolCall,
    Turn,
    requests,
)

PATIENCE_S = 30
REPO = Path(__file__).resolve().parents[2]

ASK = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Weather in Oslo and Rome?"},
]
WEATHER = (
    ToolCall(name="weather", arguments={"city": "Oslo"}),
    ToolCall(name="weather", arguments={"city": "Rome", "unit": "celsius"}),
)
AGENT = [Turn(tool_calls=WEATHER), Turn(text="Oslo is cold, Rome is warm.")]


def client_of(llm: ScriptedLLM | ScriptedLLMProcess, **options: Any) -> Any:
    openai = pytest.importorskip("openai")
    return openai.AsyncOpenAI(base_url=llm.base_url, api_key="any", **{"max_retries": 0, **options})


async def ask(
    llm: ScriptedLLM | ScriptedLLMProcess, messages: Sequence[Any] = ASK, **more: Any
) -> httpx.Response:
    """One plain request without the retries and the typing of a client."""
    body = {"model": "scripted", "messages": list(messages), **more}
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
        return await http.post(f"{llm.url}/v1/chat/completions", json=body)


def said(reply: httpx.Response) -> str:
    text = reply.json()["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def outcomes(entries: Sequence[LedgerEntry]) -> list[str | None]:
    return [entry.outcome for entry in requests(entries)]


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something the server does on its own time, such as noticing that a client has left."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def events(body: str) -> list[str]:
    return [line.removeprefix("data: ") for line in body.split("\n\n") if line]
