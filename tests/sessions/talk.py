"""Agents to talk to: written by hand, and as slow as a test wants them."""

from __future__ import annotations

import asyncio
from typing import Any

from agentdur import ObjectContext
from agentdur.sessions import Chat, History, Page
from agentdur.sessions.words import Message
from tests.support.stage import Stage


class Desk:
    """An agent that says what it was told, when it is let."""

    def __init__(self) -> None:
        self.seen: list[list[Message]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.began = asyncio.Event()
        self.runs = 0

    async def __call__(self, ctx: ObjectContext, messages: list[Message]) -> str:
        self.seen.append(messages)

        async def think() -> str:
            self.runs += 1
            self.began.set()
            await self.open.wait()
            return f"heard {messages[-1]['content']}"

        return str(await ctx.run("think", think))

    def hold(self) -> None:
        """From now on it thinks until it is let."""
        self.open.clear()
        self.began.clear()


async def said(stage: Stage, chat: Chat, key: str, *, audit: bool = False) -> list[tuple[str, Any]]:
    """(role, content) of the session's messages."""
    history: History = await stage.client.object_call(chat.history, key, Page(audit=audit))
    return [(one.role, one.message.get("content")) for one in history.messages]
