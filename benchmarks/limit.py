"""The limit: a bare asyncio program that makes the same work durable, and does nothing else.

It does the commits that the engine does: an invocation's input is durable before its first step starts, a
step's result before the next one, the output before the answer leaves. Rows that come while a commit runs
share the next one (group commit), on SQLite with a write-ahead log that is synced at each commit. It has
one table of three columns, no recovery, no retries, no keys, no queries, no ids that mean anything: what an
engine adds to this is the price of the engine. It needs the standard library only.

    python -m benchmarks.limit [--seconds 1]        # its figures alone; `benchmarks.inproc` compares
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any

from benchmarks import work
from benchmarks.measure import CLIENTS, closed_loop

Row = tuple[int, int, str]
Operation = Callable[[Any], Awaitable[Any]]
_INSERT = "insert into journal select value->>0, value->>1, value->>2 from json_each(?)"
"""One statement per commit: the interpreter is left once, not once per row."""


class Log:
    """Rows, made durable in groups by one thread. Lives on the running loop."""

    def __init__(self, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._rows: list[Row] = []
        self._durable = self._loop.create_future()
        self._jobs: SimpleQueue[tuple[list[Row], asyncio.Future[None]] | None] = SimpleQueue()
        self._due = False
        self._thread = threading.Thread(target=self._serve, args=(path,), daemon=True)
        self._thread.start()

    def append(self, row: Row) -> asyncio.Future[None]:
        """Until the row, and all before it, are durable."""
        self._rows.append(row)
        if not self._due:
            self._due = True
            self._loop.call_soon(self._commit)  # what else this turn of the loop brings comes along
        return self._durable

    def _commit(self) -> None:
        job = (self._rows, self._durable)
        self._rows, self._durable = [], self._loop.create_future()
        self._jobs.put(job)

    def _committed(self, durable: asyncio.Future[None]) -> None:
        durable.set_result(None)
        if self._rows:
            self._loop.call_soon(self._commit)
        else:
            self._due = False

    def _serve(self, path: str) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute(
            "create table journal (inv bigint, idx int, value text, primary key (inv, idx)) without rowid"
        )
        while (job := self._jobs.get()) is not None:
            rows, durable = job
            connection.execute(_INSERT, (json.dumps(rows),))
            self._loop.call_soon_threadsafe(self._committed, durable)
        connection.close()

    def close(self) -> None:
        """After the last commit."""
        self._jobs.put(None)
        self._thread.join()


class Limit:
    """The operations of `work`, on a Log."""

    def __init__(self, path: str) -> None:
        self.log = Log(path)
        self._numbers = itertools.count(1)

    def operations(self) -> dict[str, Operation]:
        """By name, as an engine has handlers."""
        return {"noop": self.noop, "steps3": self.steps3, "agent": self.agent}

    async def noop(self, body: Any) -> Any:
        """Input and output."""
        return await _Invocation(self.log, next(self._numbers), body).end(body)

    async def steps3(self, body: Any) -> Any:
        """Three steps, one after another."""
        invocation = _Invocation(self.log, next(self._numbers), body)
        for i in range(3):
            await invocation.step(work.small, i)
        return await invocation.end({"done": 3})

    async def agent(self, body: Any) -> Any:
        """Ten turns of a model and two tools: 30 steps."""
        invocation = _Invocation(self.log, next(self._numbers), body)
        used = 0
        for turn in range(work.TURNS):
            answer = await invocation.step(work.model, turn)
            for call in answer["tool_calls"]:
                used += len((await invocation.step(work.tool, call))["id"])
        return await invocation.end({"turns": work.TURNS, "used": used})


class _Invocation:
    __slots__ = ("_durable", "_index", "_log", "_number")

    def __init__(self, log: Log, number: int, body: Any) -> None:
        self._log, self._number, self._index = log, number, 0
        self._durable = log.append((number, 0, json.dumps(body)))

    async def step(self, action: Callable[[Any], Any], argument: Any) -> Any:
        """Run the action when everything before it is durable; its result is durable before the next one."""
        if not self._durable.done():
            await self._durable
        result = action(argument)
        self._append(result)
        return result

    async def end(self, output: Any) -> Any:
        """The answer, once the output is durable."""
        self._append(output)
        await self._durable
        return output

    def _append(self, value: Any) -> None:
        self._index += 1
        self._durable = self._log.append((self._number, self._index, json.dumps(value)))


class Door:
    """The operations as a bare ASGI app: POST /Bench/<operation> with a JSON body."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._operations: dict[str, Operation] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if self._operations is None:
            self._operations = Limit(self._path).operations()
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = True
        if scope["method"] == "POST":
            answer = await self._operations[scope["path"].rpartition("/")[2]](json.loads(body))
        data = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})


async def _alone(path: str, seconds: float) -> None:
    limit = Limit(path)
    for name, operation in limit.operations().items():
        for clients in CLIENTS:
            found = await closed_loop(operation, clients, seconds)
            print(f"{name:8} c={clients:<4} {found.per_second:10,.0f} inv/s   p50 {found.p50_ms:8.3f} ms")
    limit.log.close()


def main() -> None:
    """Its figures alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_alone(os.path.join(directory, "limit.db"), options.seconds))


if __name__ == "__main__":
    main()
