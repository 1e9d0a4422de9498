"""Questions in SQL to a store of a million invocations, alone and beside an engine that is kept busy.

    python -m benchmarks.sql [--count 1000000] [--file FILE] [--dir DIR] [--rounds 5] [--clients 64]

The file is filled by the store's own commits: services, a virtual object with 10,000 keys; one in a
hundred is under way (suspended, queued, paused, scheduled), the others have ended, with a journal of
four entries. Then each question is asked over and over, first with nothing else to do, then while
`--clients` clients call a handler of three steps one after another; the handler's throughput is measured
with and without questions beside it. `--file` keeps the file, and uses it again when it is there. Times
are ms, from the question to the rows, in the process of the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agentdur import App, Context, Service
from agentdur.core.errors import AgentdurError
from agentdur.core.ids import invocation_id, partition_key
from agentdur.core.journal import Awaiting, Completion, Failure, Input, Output, Run, Success
from agentdur.core.ports import Filter, Saved, Writes
from agentdur.core.query import QueryLimits
from agentdur.core.state import Accepted, Head, Status
from agentdur.core.target import HandlerKind, ServiceKind, Target
from agentdur.runtime.owner import Engine, Knobs
from agentdur.stores import SqliteStore

PER_COMMIT = 5_000
DAY_MS = 86_400_000
KEYS = 10_000
BEGAN = 1_790_000_000_000
SERVICES = ("Orders", "Mail", "Research", "Billing")
META = '{"model":"gpt-5","prompt_tokens":1200,"completion_tokens":80,"cost":0.0042}'

busy = Service("Busy")


@busy.handler()
async def steps(ctx: Context, n: int) -> int:
    """Three steps."""
    for k in range(3):
        await ctx.run(f"step {k}", lambda: {"ok": True})
    return n


def fill(path: str, count: int) -> None:
    """The invocations."""
    store = SqliteStore(path)
    store.open()
    rng = random.Random(7)
    for start in range(1, count + 1, PER_COMMIT):
        writes = Writes()
        for seq in range(start, min(start + PER_COMMIT, count + 1)):
            _put(writes, seq, rng)
        store.commit(store.prepare(writes))
    store.close()


def _put(writes: Writes, seq: int, rng: random.Random) -> None:
    at = BEGAN + seq * 50
    target = _target(rng)
    bucket = rng.randrange(512)
    id = invocation_id(partition_key(target.service, target.key, bucket=bucket), rng.randbytes(16))
    spec = Accepted(
        id=id, target=target, created_at=at, completion_retention_ms=365 * DAY_MS,
        journal_retention_ms=365 * DAY_MS,
    )  # fmt: skip
    if rng.random() < 0.01:
        head = _under_way(rng, at)
        entries: list[Any] = [Input(value=b'{"order":"o-1001"}')]
    else:
        head = Head(
            status=Status.COMPLETED, attempt=1, result=_result(rng), modified_at=at + 40, completed_at=at + 40
        )
        entries = [
            Input(value=b'{"order":"o-1001"}'), Run(completion=1, name="model"),
            Completion(1, "Run", Success(b'{"text":"' + b"x" * 60 + b'"}'), META),
            Output(result=_result(rng)),
        ]  # fmt: skip
    done = head.completed_at is not None
    expires = at + 365 * DAY_MS if done else None
    writes.invocations[seq] = Saved(seq, spec, head, True, True, expires, expires)
    writes.journal += [(seq, n, entry, at + n) for n, entry in enumerate(entries)]


def _target(rng: random.Random) -> Target:
    if rng.random() < 0.2:
        key = f"user-{rng.randrange(KEYS)}"
        return Target("Account", "change", key, ServiceKind.VIRTUAL_OBJECT, HandlerKind.EXCLUSIVE)
    return Target(rng.choice(SERVICES), rng.choice(("start", "check")))


def _result(rng: random.Random) -> Success | Failure:
    return Failure(409, "cancelled") if rng.random() < 0.03 else Success(b'{"done":true}')


def _under_way(rng: random.Random, at: int) -> Head:
    waits = Awaiting(completions=(2,), signals=(17, 1))
    match rng.randrange(4):
        case 0:
            return Head(status=Status.INBOXED, modified_at=at)
        case 1:
            return Head(status=Status.SCHEDULED, modified_at=at)
        case 2:
            return Head(
                status=Status.PAUSED, attempt=7, failures=7, last_failure=Failure(500, "no answer"),
                modified_at=at + 60_000,
            )  # fmt: skip
        case _:
            return Head(status=Status.SUSPENDED, attempt=1, awaiting=waits, modified_at=at + 100)


def questions(id: str, key: str) -> dict[str, str]:
    """By what is asked for."""
    listed = (
        "id, target, target_service_ty, status, created_at, modified_at, retry_count, last_failure, "
        "next_retry_at, invoked_by_id, completion_result, completion_failure, waiting_on"
    )
    return {
        "one by id": f"SELECT {listed} FROM sys_invocation WHERE id = '{id}'",
        "its journal": f"SELECT index, entry_type, name, entry_lite_json FROM sys_journal WHERE id = '{id}' "
        "ORDER BY index",
        "by service and key": f"SELECT {listed} FROM sys_invocation WHERE target_service_name = 'Account' "
        f"AND target_service_key = '{key}' ORDER BY created_at DESC LIMIT 50",
        "by target": f"SELECT {listed} FROM sys_invocation WHERE target = 'Account/{key}/change'",
        "paused ones": f"SELECT {listed} FROM sys_invocation WHERE status = 'paused' LIMIT 50",
        "running ones": f"SELECT {listed} FROM sys_invocation WHERE status = 'running' LIMIT 50",
        "newest 50 (the list)": f"SELECT {listed} FROM sys_invocation ORDER BY created_at DESC LIMIT 50",
        "newest 50, two keys": f"SELECT {listed} FROM sys_invocation ORDER BY created_at DESC, id LIMIT 50",
        "newest 50 of a service": f"SELECT {listed} FROM sys_invocation WHERE target_service_name = 'Mail' "
        "ORDER BY created_at DESC LIMIT 50",
        "newest 50 completed": f"SELECT {listed} FROM sys_invocation WHERE status = 'completed' "
        "ORDER BY created_at DESC LIMIT 50",
        "newest 50 failed": f"SELECT {listed} FROM sys_invocation WHERE completion_result = 'failure' "
        "ORDER BY created_at DESC LIMIT 50",
        "newest 50 not completed": f"SELECT {listed} FROM sys_invocation WHERE status != 'completed' "
        "ORDER BY created_at DESC LIMIT 50",
        "CLI's total": "SELECT COUNT(1) FROM (SELECT * FROM sys_invocation inv LIMIT 50000) "
        "WHERE status != 'completed'",
        "how many": "SELECT COUNT(*) FROM sys_invocation",
        "counts in flight": "SELECT status, COUNT(*) FROM sys_invocation WHERE status IN "
        "('pending','scheduled','running','ready','backing-off','suspended','paused') GROUP BY status",
        "counts by service, status": "SELECT target_service_name, status, COUNT(1) FROM sys_invocation "
        "GROUP BY target_service_name, status",
        "completed per minute": "SELECT to_unixtime(date_bin(INTERVAL '60 seconds', completed_at)) AS t, "
        "COUNT(1) FROM sys_invocation_status WHERE status = 'completed' AND "
        f"completed_at >= to_timestamp_millis({BEGAN + 50_000_000 - 3_600_000}) GROUP BY t",
        "cost by model (all)": "SELECT model, SUM(cost) AS cost, COUNT(*) AS calls "
        "FROM llm_calls GROUP BY model",
    }  # fmt: skip


def sample(path: str) -> tuple[str, str]:
    """An id somewhere in the middle, and a key."""
    store = SqliteStore(path)
    store.open()
    rows = store.list(Filter(limit=1, after_seq=store.next_seq() // 2, service="Account"))
    store.close()
    return rows[0].spec.id, rows[0].spec.target.key or ""


async def asked(engine: Engine, sql: str, rounds: int) -> list[float]:
    """How long the answers took, ms; nothing when it is refused."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        try:
            await engine.query(sql)
        except AgentdurError as error:
            print(f"    {error}")
            return []
        took.append((time.perf_counter() - began) * 1000)
    return took


class Crowd:
    """Clients that call the handler one call after another."""

    def __init__(self, engine: Engine, clients: int) -> None:
        self.done = 0
        self._client = engine.client()
        self._tasks = [asyncio.ensure_future(self._call()) for _ in range(clients)]

    async def _call(self) -> None:
        while True:
            await self._client.service_call(steps, self.done)
            self.done += 1

    async def rate(self, seconds: float) -> float:
        """Calls per second."""
        before, began = self.done, time.perf_counter()
        await asyncio.sleep(seconds)
        return (self.done - before) / (time.perf_counter() - began)

    async def leave(self) -> None:
        """No more calls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def row(name: str, took: list[float], beside: list[float]) -> str:
    """One line: median and worst, alone and beside."""
    cells = [
        f"{statistics.median(t):9.1f} {max(t):9.1f}" if t else f"{'–':>9} {'–':>9}" for t in (took, beside)
    ]
    return f"{name:28} {cells[0]}   {cells[1]}"


async def measure(path: str, rounds: int, clients: int) -> None:
    """All questions, alone and beside a busy engine; and the engine, alone and beside questions."""
    asks = questions(*sample(path))
    limits = QueryLimits(seconds=60)
    app = App([busy])
    one = Engine(SqliteStore(path), app.handlers(), app.catalog(), knobs=Knobs(queries=limits))
    await one.start()
    try:
        await asked(one, asks["one by id"], 2)
        alone = {name: await asked(one, sql, rounds) for name, sql in asks.items()}
        crowd = Crowd(one, clients)
        await crowd.rate(2)
        undisturbed = await crowd.rate(4)
        beside = {name: await asked(one, sql, rounds) for name, sql in asks.items()}
        lists = asyncio.ensure_future(_forever(one, asks["newest 50 (the list)"]))
        with_lists = await crowd.rate(4)
        lists.cancel()
        scans = asyncio.ensure_future(_forever(one, asks["counts by service, status"]))
        with_scans = await crowd.rate(4)
        scans.cancel()
        await asyncio.gather(lists, scans, return_exceptions=True)
        await crowd.leave()
    finally:
        await one.stop()
    print(f"{'ms: median, worst':28} {'alone':>19}   {'beside the engine':>19}")
    for name in asks:
        print(row(name, alone[name], beside[name]))
    print(f"engine alone             {undisturbed:8.0f} three-step invocations/s")
    print(f"beside lists             {with_lists:8.0f}  ({with_lists / undisturbed:.2f})")
    print(f"beside scans of all      {with_scans:8.0f}  ({with_scans / undisturbed:.2f})")


async def _forever(engine: Engine, sql: str) -> None:
    while True:
        await engine.query(sql)


def options(about: str | None, count: int) -> argparse.ArgumentParser:
    """Those of a benchmark on a file that is filled first. `count`: how many invocations are in it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--file")
    parser.add_argument("--dir")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


@contextmanager
def filled(given: argparse.Namespace, fill: Callable[[str, int], None]) -> Iterator[str]:
    """The file, filled unless it was there; one that was not named is removed."""
    with tempfile.TemporaryDirectory(dir=given.dir) as folder:
        path = os.path.abspath(given.file or os.path.join(folder, "filled.db"))
        if not os.path.exists(path):
            began = time.perf_counter()
            fill(path, given.count)
            took, size = time.perf_counter() - began, os.path.getsize(path) / 2**20
            print(f"{given.count:,} invocations, {size:,.0f} MiB, in {took:.0f} s", flush=True)
        yield path


def main() -> None:
    """Fill, unless the file is there, and measure."""
    parser = options(__doc__, 1_000_000)
    parser.add_argument("--clients", type=int, default=64)
    given = parser.parse_args()
    with filled(given, fill) as path:
        asyncio.run(measure(path, given.rounds, given.clients))


if __name__ == "__main__":
    main()
