"""One request to an endpoint, and its answer as a whole: what is not an attempt."""

from __future__ import annotations

import asyncio

from agentdur.runtime.remote.transport import Exchange, Headers, Transport, TransportFailed

ANSWER_SECONDS_MAX = 30.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024


class Answer:
    """Collects one answer (`transport.Receiver`)."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.exchange: Exchange | None = None

    def response(self, status: int, headers: dict[str, str]) -> None:
        """The head."""
        self.status, self.headers = status, headers

    def data(self, chunk: bytes) -> None:
        """A piece; too many are an end, because nobody gives room for more."""
        self.body += chunk
        if len(self.body) <= ANSWER_BYTES_MAX and self.exchange is not None:
            self.exchange.consumed(len(chunk))
        elif not self.done.done():
            self.done.set_exception(TransportFailed("protocol", "the answer is too large"))

    def ended(self) -> None:
        """All of it."""
        if not self.done.done():
            self.done.set_result(None)

    def lost(self, error: TransportFailed) -> None:
        """Or never."""
        if not self.done.done():
            self.done.set_exception(error)


async def ask(transport: Transport, method: str, path: str, headers: Headers, body: bytes = b"") -> Answer:
    """The whole answer. TransportFailed, or TimeoutError when it does not come in time."""
    answer = Answer()
    exchange = transport.open(method, path, headers, answer)
    answer.exchange = exchange
    if body:
        exchange.write(body)
    exchange.end()
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            await answer.done
    finally:
        exchange.abort()
    return answer
