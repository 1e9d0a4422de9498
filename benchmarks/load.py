"""A closed-loop HTTP load generator for one address: raw connections, one request under way on each.

    python -m benchmarks.load --port P --path /Bench/noop --body '{"n":{i}}' --clients 16 --seconds 1
    python -m benchmarks.load … --calls 10000              # a number of calls instead of a time

`{i}` is a running number, `{k}` the same modulo `--keys`. It prints one JSON line. It reads no more of an
answer than its status, its length and its end, so that it costs less than what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import cast

from benchmarks.measure import Run

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

_LENGTH = b"content-length:"
_END_OF_HEAD = b"\r\n\r\n"
_END_OF_CHUNKS = b"0\r\n\r\n"


class Requests:
    """The next request, until time or number is used up."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._end: float | None = None if options.seconds is None else time.perf_counter() + options.seconds
        self._left: int | None = options.calls
        self._number = options.start
        self.times: list[float] = []
        self.errors = 0
        self.first_error = ""

    def next(self, now: float) -> bytes | None:
        """None when there are enough."""
        if (self._end is not None and now >= self._end) or self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        number, keys = self._number, self._options.keys
        self._number += 1
        path = self._options.path.replace("{k}", str(number % keys)).replace("{i}", str(number))
        body = self._options.body.replace("{i}", str(number)).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        if body:
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        return (head + "\r\n").encode() + body

    def failed(self, what: str) -> None:
        """An answer that is not 2xx, or a connection that broke."""
        self.errors += 1
        self.first_error = self.first_error or what


class Client(asyncio.Protocol):
    """One connection: asks again as soon as it is answered."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._received = b""
        self._sent_at: float | None = None
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self._ask()

    def _ask(self) -> None:
        now = time.perf_counter()
        request = self._requests.next(now)
        if request is None:
            self._sent_at = None
            self._transport.close()
        else:
            self._sent_at = now
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """More of an answer."""
        self._received += data
        head, end, body = self._received.partition(_END_OF_HEAD)
        if not end or not _complete(head.lower(), body):
            return
        assert self._sent_at is not None
        self._received = b""
        if head[9:10] == b"2":
            self._requests.times.append(time.perf_counter() - self._sent_at)
        else:
            self._requests.failed((head[:60] + b" " + body[:300]).decode(errors="replace"))
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        """The end, or a failure when an answer was due."""
        if self._sent_at is not None:
            self._requests.failed(f"the connection broke: {error}")
        if not self.done.done():
            self.done.set_result(None)


def _complete(head: bytes, body: bytes) -> bool:
    at = head.find(_LENGTH)
    if at < 0:
        return b"transfer-encoding" not in head or body.endswith(_END_OF_CHUNKS)
    return len(body) >= int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])


async def run(options: argparse.Namespace) -> tuple[Run, str]:
    """The load; the text is the first error."""
    loop = asyncio.get_running_loop()
    requests = Requests(options)
    began = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Client(requests), "127.0.0.1", options.port))[1]
        for _ in range(options.clients)
    ]
    await asyncio.gather(*(client.done for client in clients))
    times = requests.times or [0.0]
    elapsed = time.perf_counter() - began
    p50_ms = statistics.median(times) * 1e3
    return Run(len(requests.times), elapsed, p50_ms, errors=requests.errors), requests.first_error


def main() -> None:
    """Load and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--body", default="")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--keys", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--calls", type=int)
    options = parser.parse_args()
    if options.seconds is None and options.calls is None:
        parser.error("say --seconds or --calls")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        found, first_error = runner.run(run(options))
    print(json.dumps({"run": found.as_dict(), "first_error": first_error}))


if __name__ == "__main__":
    main()
