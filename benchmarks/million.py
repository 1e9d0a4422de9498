"""A million invocations wait: what that costs an engine that starts on their file.

    python -m benchmarks.million [--count 1000000] [--wake 1000] [--file FILE] [--dir DIR]

One invocation waits in a real engine until it is parked; the file is filled with copies of its rows, each
with an id of its own, by the store's own commits. Then a fresh process starts an engine on the file and
says how long that takes, what memory it has, what it costs while nothing happens, and how long it takes to
wake some of them up, picked at random: from the first event until the last of them has gone on and ended.
`--file` keeps the file, and uses it again when it is there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import timedelta

import msgspec

from agentdur import App, Context, Service
from agentdur.core.ids import InvocationId, awakeable_id
from agentdur.core.ports import Row, Saved, Writes
from agentdur.core.state import Status
from agentdur.runtime.names import Names
from agentdur.runtime.world import RealWorld
from agentdur.server import settle_memory
from agentdur.stores import SqliteStore
from benchmarks.measure import pss_mib

PER_COMMIT = 5_000
IDLE_SECONDS = 3.0
_FIRST_AWAKEABLE = 17

waiting = Service("Waiting")


@waiting.handler(inactivity_timeout=timedelta(milliseconds=1))
async def wait(ctx: Context, order: dict) -> str:
    """Waits for somebody outside."""
    _, decision = ctx.awakeable(type_hint=str)
    return await decision


async def park_one(path: str) -> InvocationId:
    """An invocation that waits, in the file only."""
    async with App([waiting]).running(f"sqlite:///{path}") as engine:
        sent = await engine.client().service_send(wait, {"order": "o-1001", "amount": 42})
        invocation = InvocationId(sent.invocation_id)
        while True:
            shown = await engine.describe(invocation)
            if shown is not None and shown["status"] == "suspended":
                return invocation
            await asyncio.sleep(0.01)


def fill(path: str, count: int) -> None:
    """`count` invocations that wait, as the engine leaves them."""
    first = asyncio.run(park_one(path))
    store = SqliteStore(path)
    store.open()
    template = store.invocation(first)
    assert template is not None
    assert template.head.status is Status.SUSPENDED
    names = Names(RealWorld())
    for start in range(1, count, PER_COMMIT):
        store.commit(
            store.prepare(copies(store, template, names, range(start, min(start + PER_COMMIT, count))))
        )
    store.close()


def copies(store: SqliteStore, template: Row, names: Names, numbers: range) -> Writes:
    """One commit of invocations like the template."""
    writes = Writes()
    entries = store.journal(template.seq)
    at = template.spec.created_at
    for seq in (template.seq + number for number in numbers):
        spec = msgspec.structs.replace(template.spec, id=names.new(template.spec.target))
        writes.invocations[seq] = Saved(seq, spec, template.head, True, template.journal_kept)
        writes.journal += [(seq, index, entry, at) for index, entry in entries]
    return writes


def some(path: str, count: int) -> list[InvocationId]:
    """Ids of invocations that wait, picked at random."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    (last,) = connection.execute("select max(seq) from invocation").fetchone()
    found: dict[InvocationId, None] = {}
    query = "select id from invocation where seq >= ? and status = 'suspended' order by seq limit 1"
    while len(found) < count:
        row = connection.execute(query, (random.randint(1, last),)).fetchone()
        if row is not None:
            found[InvocationId(row[0])] = None
    connection.close()
    return list(found)


async def start(path: str, wake: int) -> None:
    """An engine on the file: what it costs."""
    chosen = some(path, wake)
    before = pss_mib()
    began, cpu = time.perf_counter(), time.process_time()
    async with App([waiting]).running(f"sqlite:///{path}") as engine:
        settle_memory()
        print(
            f"start-up         {time.perf_counter() - began:8.2f} s  (CPU {time.process_time() - cpu:.2f} s)"
        )
        print(f"memory           {pss_mib():8.1f} MiB PSS  ({before:.1f} before the engine started)")
        print(f"in memory        {len(engine.machine.slots.invocations):8} invocations")
        cpu = time.process_time()
        await asyncio.sleep(IDLE_SECONDS)
        print(f"idle             {(time.process_time() - cpu) / IDLE_SECONDS * 100:8.2f} % of a core")
        client = engine.client()

        async def go_on(invocation: InvocationId) -> None:
            ended = asyncio.ensure_future(client.attach(invocation))
            await client.resolve_awakeable(awakeable_id(invocation, _FIRST_AWAKEABLE), "go on")
            assert await ended == "go on"

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(go_on(invocation) for invocation in chosen))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(f"{len(chosen):<6} woken     {took:8.2f} s  (CPU {cpu:.2f} s), all at once")
        print(f"memory then      {pss_mib():8.1f} MiB PSS")


def main() -> None:
    """Fill, then start in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--wake", type=int, default=1_000)
    parser.add_argument("--file", default=None)
    parser.add_argument("--dir", default=None, help="where the file is written; a temporary directory")
    parser.add_argument("--start", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        asyncio.run(start(options.file, options.wake))
        return
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        path = options.file or os.path.join(directory, "million.db")
        if not os.path.exists(path):
            began = time.perf_counter()
            fill(path, options.count)
            size = os.path.getsize(path) / 2**20
            print(
                f"{options.count:,} waiting, {size:,.0f} MiB on disk, in {time.perf_counter() - began:.0f} s",
                flush=True,
            )
        command = [
            sys.executable,
            "-m",
            "benchmarks.million",
            "--start",
            "--file",
            path,
            "--wake",
            str(options.wake),
        ]
        raise SystemExit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
