"""A story on a stage: until the process dies in it, or from there to its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from agents.models import openai_provider

from agentdur.integrations.openai_agents import install
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, requests
from tests.released.desks import DID, SKY
from tests.released.stories import Story
from tests.support.stage import Stage, until

NEVER_MS = 600_000
PATIENCE_S = 20


@asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedLLM]:
    """The model that all agents find by their environment. The OpenAI Agents SDK keeps one HTTP client per
    process; each story has an event loop of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_provider, "_http_client", None)
        undo = install()
        async with ScriptedLLM([Turn(text="hello")]) as server:
            patch.setenv("OPENAI_API_KEY", "any")
            for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
                patch.setenv(name, server.base_url)
            patch.setenv("NO_PROXY", "127.0.0.1")
            try:
                yield server
            finally:
                undo()


async def play_until_it_dies(stage: Stage, llm: ScriptedLLM, story: Story) -> None:
    """The process dies while the model thinks about its last answer."""
    DID.clear()
    SKY[:] = ["rain"]
    *known, last = story.turns
    llm.replace([*known, msgspec.structs.replace(last, delay_ms=NEVER_MS)])
    await stage.start(story.service())
    for number in range(len(story.asked) - 1):
        await ask(stage, story, number)
    asking = asyncio.ensure_future(ask(stage, story, len(story.asked) - 1))
    for question in await stage.questions(story.people) if story.people else ():
        await stage.client.approve(question.id, question.digest, by="ann")
    await until(lambda: asking.done() or last_turn(story) in turns(llm), "the last question")
    assert not asking.done(), asking.result()
    asking.cancel()
    await stage.crash()


async def play_to_the_end(stage: Stage, llm: ScriptedLLM, story: Story) -> Any:
    """Another process goes on with it: the answer of the last handler."""
    DID.clear()
    SKY[:] = ["sun"]
    llm.replace([*story.turns])
    await stage.start(story.service())
    async with asyncio.timeout(PATIENCE_S):  # where it does not fit its journal, it is paused
        return await ask(stage, story, len(story.asked) - 1)


async def ask(stage: Stage, story: Story, number: int) -> Any:
    """Ask it; asked again, it is the same invocation."""
    service, handler, key = story.target
    text = json.dumps(story.asked[number]).encode()
    return json.loads(await stage.client.generic_call(service, handler, text, key, f"ask {number}"))


def turns(llm: ScriptedLLM) -> list[int | None]:
    """The turns that were asked for, in order."""
    return [entry.turn for entry in requests(llm.ledger())]


def last_turn(story: Story) -> int:
    return len(story.turns) - 1
