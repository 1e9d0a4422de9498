"""A server of a few lines that talks frames to an endpoint: enough to keep a journal and to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agentdur.core import journal as j
from agentdur.core.ids import InvocationId, raw_invocation_id
from agentdur.sdk.endpoint import Endpoint
from agentdur.wire import messages as m
from agentdur.wire.codec import decode, encode
from agentdur.wire.frames import FrameReader

NAME = InvocationId("inv_1gH0G5SaCq5p5c3HgyCQ7dTRcjpj7yxHrL")
ID = raw_invocation_id(NAME)
Answering = Callable[[Any, "Talk"], None]


class Talk:
    """One invocation: its journal, and one attempt after another."""

    def __init__(
        self, app: Endpoint, path: str, value: bytes = b"", *, version: int = 6, **start: Any
    ) -> None:
        self.app, self.path, self.version, self.given = app, path, version, start
        self.journal: list[Any] = [j.Input(value=value)]
        self.said: list[Any] = []
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._inbox: asyncio.Queue[dict[str, Any]]

    async def attempt(self, *, open_ended: bool = False, answer: Answering | None = None) -> list[Any]:
        """Everything the endpoint says in one attempt. `open_ended`: both directions flow until it is over;
        `answer` is asked for each word and may `store` and `push`."""
        self._inbox = asyncio.Queue()
        self.said = []
        start = m.Start(id=ID, debug_id=NAME, known_entries=len(self.journal), random_seed=7, **self.given)
        frames = b"".join(encode(word, self.version) for word in (start, *self.journal))
        self._inbox.put_nowait({"type": "http.request", "body": frames, "more_body": open_ended})
        kind = f"application/vnd.restate.invocation.v{self.version}".encode()
        scope = {
            "type": "http", "http_version": "2" if open_ended else "1.1", "method": "POST",
            "path": f"/invoke/{self.path}", "headers": [(b"content-type", kind)],
        }  # fmt: skip
        reader = FrameReader()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status, self.headers = message["status"], dict(message["headers"])
                return
            for frame in reader.feed(message.get("body", b"")):
                word = decode(frame, self.version)
                self.said.append(word)
                self._keep(word)
                if answer is not None:
                    answer(word, self)
                if open_ended and isinstance(word, m.End | m.Error | m.Suspension):
                    self.close()

        await asyncio.wait_for(self.app(scope, self._inbox.get, send), 10)
        reader.done()
        return self.said

    def _keep(self, word: Any) -> None:
        if isinstance(word, j.Command):
            self.journal.append(word)
        elif isinstance(word, m.ProposeRunCompletion):
            self.store(j.Completion(word.completion, "Run", word.result))

    def store(self, word: Any) -> None:
        """Into the journal."""
        self.journal.append(word)

    def push(self, word: Any) -> None:
        """To the running attempt."""
        body = encode(word, self.version)
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": True})

    def close(self) -> None:
        """The server's side of the stream is over."""
        self._inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def to_the_end(self, complete: Callable[[Talk], Awaitable[None]] | None = None) -> j.Result:
        """Attempts by request and response until there is an output."""
        for _ in range(30):
            said = await self.attempt()
            outputs = [word for word in self.journal if isinstance(word, j.Output)]
            if isinstance(said[-1], m.End):
                return outputs[-1].result
            assert isinstance(said[-1], m.Suspension | m.Error), said
            if complete is not None:
                await complete(self)
        raise AssertionError("no end in 30 attempts")
