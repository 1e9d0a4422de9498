"""What the pages about sessions show runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentdur.sessions import Post
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn
from tests.docs.test_examples import ROOT, desk, module

__all__ = ["desk"]
PAGE = ROOT / "docs/how-to/chat-sessions.md"


@pytest.mark.slow
async def test_the_chat_of_the_page_answers(desk: Path, llm: ScriptedLLM):
    call = ToolCall(name="order", arguments={"number": 7})
    llm.replace([Turn(tool_calls=(call,)), Turn(text="It left this morning.")])
    shown = module(desk, PAGE, "desk.py")
    (support,) = shown.app.services
    async with shown.app.running("memory://") as engine:
        client = engine.client()
        for _ in range(2):
            post = Post(content="Where is order 7?", id="m-1")
            reply = await client.object_call(support.turn, "ada", post)
            assert reply.text == "It left this morning."
        assert (await client.object_call(support.about, "ada")).messages == 4
