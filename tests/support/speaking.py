"""A handler that says what it is let say, and readers of its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agentdur import Context, Service
from agentdur.core.ports import StreamEvent
from agentdur.sdk.stream import stream
from tests.support.listening import Listener
from tests.support.stage import Stage, until


def text(delta: str) -> dict[str, str]:
    return {"type": "text", "delta": delta}


def other(delta: str) -> dict[str, str]:
    return {"type": "reasoning", "delta": delta}


class Speaker:
    """A service whose steps say a word each time they are let, so that a test decides what has been said."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[Any] = asyncio.Queue()
        self.service = Service("Speaker")

        @self.service.handler()
        async def talk(ctx: Context) -> str:
            return await ctx.run("talk", self.say)

        self.talk = talk

    async def say(self) -> str:
        said = ""
        while (word := await self.words.get()) is not None:
            if isinstance(word, Exception):
                raise word
            stream(text(word))
            said += word
        return said

    def let(self, *words: Any) -> None:
        for word in words:
            self.words.put_nowait(word)


class Ear:
    """Reads in a task of its own, for stories in which something else happens meanwhile."""

    def __init__(self, events: AsyncIterator[StreamEvent], heard: Listener | None = None) -> None:
        self.heard = heard or Listener()
        self.task = asyncio.ensure_future(self._read(events))
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # not all are asked

    async def _read(self, events: AsyncIterator[StreamEvent]) -> None:
        async for event in events:
            self.heard.hear(event)

    async def until(self, *kinds: str) -> None:
        await until(lambda: self.heard.kinds == list(kinds) or self.task.done(), f"{kinds}")
        if self.task.done():
            self.task.result()
        assert self.heard.kinds == list(kinds)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def read(stage: Stage, invocation: str, after: str | None = None) -> Listener:
    heard = Listener()
    async for event in stage.client.stream(invocation, after):
        heard.hear(event)
    return heard


def nothing_is_held(stage: Stage) -> bool:
    streams = stage.engine.machine.streams
    return not streams.channels and not streams.live and not streams.readers
