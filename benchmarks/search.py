"""Looking for text in a store of many agents' runs, alone and beside an engine that is kept busy.

    python -m benchmarks.search [--count 200000] [--file FILE] [--dir DIR] [--rounds 5] [--clients 64]

The file is filled by the store's own commits: each run was given a question, asked a model twice and a tool
once, and has ended; its messages are a system prompt of 2 kB that all share, and four of its own. A word is
in one run of 10,000, another one in every tenth, a third in none. Each is looked for with the time that a
search has by default, and without a limit; then beside `--clients` clients that call a handler of three steps
one after another, whose throughput is measured with and without searches. Times are ms.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from agentdur import App
from agentdur.core.ids import invocation_id, partition_key
from agentdur.core.journal import Completion, Input, Output, Run, Success
from agentdur.core.ports import Saved, Writes
from agentdur.core.query import QueryLimits
from agentdur.core.search import Search
from agentdur.core.state import Accepted, Head, Status
from agentdur.core.target import Target
from agentdur.llm.conversation import chain
from agentdur.runtime.owner import Engine, Knobs
from agentdur.stores import SqliteStore
from benchmarks.sql import BEGAN, DAY_MS, PER_COMMIT, Crowd, busy, filled, options

WORDS = [f"word{n}" for n in range(2000)]
RARE, COMMON, NONE = "quetzalcoatl", "hummingbird", "nowhere to be found"


def fill(path: str, count: int) -> None:
    """The runs."""
    store = SqliteStore(path)
    store.open()
    rng = random.Random(7)
    prompt = {"role": "system", "content": _words(rng, 300)}
    for start in range(1, count + 1, PER_COMMIT):
        writes = Writes()
        for seq in range(start, min(start + PER_COMMIT, count + 1)):
            _put(writes, seq, rng, prompt)
        store.commit(store.prepare(writes))
    store.close()


def _put(writes: Writes, seq: int, rng: random.Random, prompt: dict[str, str]) -> None:
    at = BEGAN + seq * 50
    target = Target(rng.choice(("Support", "Research", "Travel")), "ask")
    id = invocation_id(partition_key(target.service, None, bucket=rng.randrange(512)), rng.randbytes(16))
    spec = Accepted(
        id=id, target=target, created_at=at, completion_retention_ms=365 * DAY_MS,
        journal_retention_ms=365 * DAY_MS,
    )  # fmt: skip
    special = f"{RARE} " * (seq % 10_000 == 5_000) + f"{COMMON} " * (seq % 10 == 0)
    question, answer = _words(rng, 30), _words(rng, 80)
    told: list[dict[str, Any]] = [prompt, {"role": "user", "content": question}]
    call = {"id": "c1", "function": {"name": "look", "arguments": f'{{"at": "{_words(rng, 4)}"}}'}}
    asked = {"role": "assistant", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": special + _words(rng, 150)}
    first, second = chain(told), chain([*told, asked, result])
    for message in second:
        writes.messages[message.hash] = (message.parent, message.value, at)
    encode = msgspec.json.encode
    entries: list[Any] = [
        Input(value=encode(question)),
        Run(completion=1, name="llm:support"),
        Completion(1, "Run", Success(encode({"message": asked})), _note(first[-1].hash)),
        Run(completion=2, name="tool:look"), Completion(2, "Run", Success(encode(result))),
        Run(completion=3, name="llm:support"),
        Completion(3, "Run", Success(encode({"message": {"content": answer}})), _note(second[-1].hash)),
        Output(result=Success(encode(answer))),
    ]  # fmt: skip
    head = Head(
        status=Status.COMPLETED, attempt=1, result=Success(encode(answer)), modified_at=at, completed_at=at
    )
    writes.invocations[seq] = Saved(seq, spec, head, True, True, at + 365 * DAY_MS, at + 365 * DAY_MS)
    writes.journal += [(seq, n, entry, at + n) for n, entry in enumerate(entries)]


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count))


def _note(conversation: str) -> str:
    note = {
        "model": "gpt-5", "prompt_tokens": 1200, "completion_tokens": 80, "cost": 0.0042,
        "conversation": conversation, "messages": 2,
    }  # fmt: skip
    return msgspec.json.encode(note).decode()


async def looked(engine: Engine, what: Search, rounds: int) -> str:
    """One line: how long, how far."""
    took, found = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        found, _ = await engine.search(what)
        took.append((time.perf_counter() - began) * 1000)
    assert found is not None
    said = f"{len(found.matches):4} found in {found.looked_at:8,} runs, cut by {found.cut or 'nothing'}"
    return f"{statistics.median(took):9.0f} {max(took):9.0f}   {said}"


async def _beside(engine: Engine, what: Search) -> None:
    while True:
        await engine.search(what)


def questions() -> dict[str, Search]:
    """By what is looked for."""
    return {
        "one in 10,000": Search(text=RARE, limit=200),
        "every tenth": Search(text=COMMON, limit=50),
        "none": Search(text=NONE),
        "none, inputs only": Search(text=NONE, places=("input",)),
        "none, not what was told": Search(text=NONE, places=("input", "output", "answer", "result")),
        "none, of a service": Search(text=NONE, service="Travel"),
    }


async def measure(path: str, rounds: int, clients: int) -> None:
    """Alone, without a limit, and beside a busy engine."""
    for title, seconds in (
        ("with the time of the setting", QueryLimits().search_seconds),
        ("to the end", 600.0),
    ):
        print(f"{title}: ms (median, worst)")
        async with _engine(path, seconds) as one:
            for name, what in questions().items():
                print(f"  {name:24} {await looked(one, what, rounds if seconds < 60 else 1)}", flush=True)
    async with _engine(path, QueryLimits().search_seconds) as one:
        crowd = Crowd(one, clients)
        await crowd.rate(2)
        print("beside the engine: ms (median, worst)")
        undisturbed = await crowd.rate(5)
        for name, what in questions().items():
            print(f"  {name:24} {await looked(one, what, rounds)}", flush=True)
        searches = asyncio.ensure_future(_beside(one, Search(text=NONE)))
        with_one = await crowd.rate(5)
        searches.cancel()
        await asyncio.gather(searches, return_exceptions=True)
        await crowd.leave()
    print(f"engine alone     {undisturbed:8.0f} three-step invocations/s")
    print(f"beside searches  {with_one:8.0f}  ({with_one / undisturbed:.2f})")


@asynccontextmanager
async def _engine(path: str, seconds: float) -> AsyncIterator[Engine]:
    app = App([busy])
    limits = QueryLimits(search_seconds=seconds)
    one = Engine(SqliteStore(path), app.handlers(), app.catalog(), knobs=Knobs(queries=limits))
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


def main() -> None:
    """Fill, unless the file is there, and measure."""
    parser = options(__doc__, 200_000)
    parser.add_argument("--clients", type=int, default=64)
    given = parser.parse_args()
    with filled(given, fill) as path:
        asyncio.run(measure(path, given.rounds, given.clients))


if __name__ == "__main__":
    main()
