"""What a commit costs: µs of the event loop (`prepare`) and of the writer thread (`commit`) per row.

    python -m benchmarks.store_commit [--invocations 20000] [--group 128] [--dir DIR]

The load is `--group` three-step invocations at a time, each of 2 invocation writes and 8 journal rows over 4
commits. Beside it, in the same run, turn by turn, stands the least that a journal can cost: the same payload
bytes (input, three results, output) as rows of one table with three columns, one statement per commit. What
is compared is the ratio; the microseconds belong to the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Protocol

from agentdur.core.ids import InvocationId
from agentdur.core.journal import Completion, Entry, Input, Output, Run, Success
from agentdur.core.ports import Saved, Writes
from agentdur.core.state import Accepted, Head, Status
from agentdur.core.target import Target
from agentdur.stores import SqliteStore

NOW = 1_790_000_000_000
MOMENTS = 4  # milliseconds in which the rows of one commit arrive
TARGET = Target("Bench", "steps3")
INPUT, OUTPUT = b'{"n": 1, "user": "someone"}', b'{"done": 3}'
RESULT = json.dumps({"ok": True, "text": "x" * 40}).encode()
RETENTION_MS = 86_400_000


class Load:
    """Three-step invocations, `group` at a time, stage by stage."""

    def __init__(self, group: int) -> None:
        self.group = group
        self.next = 1

    def commits(self) -> Iterator[Writes]:
        """The four commits of the next group."""
        first = self.next
        self.next += self.group
        for stage in range(4):
            writes = Writes()
            for seq in range(first, first + self.group):
                self.stage(writes, seq, stage)
            yield writes

    def stage(self, writes: Writes, seq: int, stage: int) -> None:
        """Accepted and first step begun; its result and the next step; …; the last result, output and end."""
        entries: list[Entry] = []
        if stage == 0:
            entries.append(Input(value=INPUT))
        else:
            entries.append(Completion(stage, "Run", Success(RESULT)))
        if stage < 3:
            entries.append(Run(name="step", completion=stage + 1))
        else:
            entries.append(Output(result=Success(OUTPUT)))
        index = 2 * stage
        writes.journal += [(seq, index + n, entry, self.now(seq, stage)) for n, entry in enumerate(entries)]
        if stage in (0, 3):
            writes.invocations[seq] = self.saved(seq, self.now(seq, stage), done=stage == 3)

    def now(self, seq: int, stage: int) -> int:
        """When an invocation reaches a stage."""
        return NOW + (seq // self.group * 4 + stage) * MOMENTS + seq % MOMENTS

    def saved(self, seq: int, now: int, done: bool) -> Saved:
        """The row at the beginning and at the end."""
        spec = Accepted(
            id=InvocationId(f"inv_1{seq * 7919 % 1_000_003:011d}{seq:022d}"), target=TARGET, created_at=now,
            completion_retention_ms=RETENTION_MS,
        )  # fmt: skip
        if not done:
            head = Head(status=Status.INVOKED, attempt=1, deployment="local", protocol=6, modified_at=now)
            return Saved(seq, spec, head, True, True)
        head = Head(
            status=Status.COMPLETED, attempt=1, deployment="local", protocol=6, modified_at=now,
            completed_at=now, result=Success(OUTPUT),
        )  # fmt: skip
        return Saved(seq, spec, head, False, True, now + RETENTION_MS, now + RETENTION_MS)


class Log(Protocol):
    """What is measured: the loop's part of a commit and the writer's."""

    def prepare(self, writes: Writes) -> Any: ...
    def commit(self, prepared: Any) -> None: ...


class BareLog:
    """The limit: one table, one statement per commit, the same durability."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("pragma journal_mode = wal")
        self.connection.execute("pragma synchronous = full")
        self.connection.execute(
            "create table j (inv bigint, seq int, data text, primary key (inv, seq)) without rowid"
        )

    def prepare(self, writes: Writes) -> str:
        """The payloads of the same commit."""
        rows = []
        for seq, index, entry, _ in writes.journal:
            match entry:
                case Input(value=value) | Output(result=Success(value)) | Completion(outcome=Success(value)):
                    rows.append((seq, index, value.decode()))
        return json.dumps(rows)

    def commit(self, prepared: str) -> None:
        """All rows at once."""
        self.connection.execute(
            "insert into j select value->>0, value->>1, value->>2 from json_each(?)", (prepared,)
        )


class Meter:
    """Seconds by name: on the loop, on the writer, and the CPU part of the latter."""

    def __init__(self) -> None:
        self.loop: dict[str, float] = defaultdict(float)
        self.writer: dict[str, float] = defaultdict(float)
        self.writer_cpu: dict[str, float] = defaultdict(float)

    def measure(self, name: str, store: Log, writes: Writes) -> None:
        """One commit."""
        t0 = time.thread_time()
        prepared = store.prepare(writes)
        self.loop[name] += time.thread_time() - t0
        t0, c0 = time.perf_counter(), time.thread_time()
        store.commit(prepared)
        self.writer[name] += time.perf_counter() - t0
        self.writer_cpu[name] += time.thread_time() - c0


def run(directory: str, invocations: int, group: int) -> None:
    """Measure and print."""
    store = SqliteStore(os.path.join(directory, "store.db"))
    store.open()
    bare = BareLog(os.path.join(directory, "bare.db"))
    meter, load = Meter(), Load(group)
    rows: Counter[str] = Counter()
    for _ in range(max(1, invocations // group)):
        for stage, writes in enumerate(load.commits()):
            with_heads = "journal + heads" if stage in (0, 3) else "journal only"
            meter.measure(with_heads, store, writes)
            meter.measure("bare", bare, writes)
            rows[with_heads] += len(writes.journal)
            rows["heads"] += len(writes.invocations)
    store.close()
    report(meter, rows, load.next - 1)


def report(meter: Meter, rows: Counter[str], invocations: int) -> None:
    """µs per row; a head costs what its commits cost beyond their journal rows."""
    million = 1e6
    print(f"{'µs per':24}{'loop':>10}{'writer':>10}{'its CPU':>10}")
    for title, column in (("journal row", "journal only"),):
        line = [
            times[column] / rows[column] * million for times in (meter.loop, meter.writer, meter.writer_cpu)
        ]
        print(f"{title:24}" + "".join(f"{x:10.2f}" for x in line))
    per_head = []
    for times in (meter.loop, meter.writer, meter.writer_cpu):
        journal_rate = times["journal only"] / rows["journal only"]
        rest = times["journal + heads"] - journal_rate * rows["journal + heads"]
        per_head.append(rest / rows["heads"] * million)
    print(f"{'invocation row':24}" + "".join(f"{x:10.2f}" for x in per_head))
    everything = []
    bare = []
    for times in (meter.loop, meter.writer, meter.writer_cpu):
        everything.append((times["journal only"] + times["journal + heads"]) / invocations * million)
        bare.append(times["bare"] / invocations * million)
    print(f"{'three-step invocation':24}" + "".join(f"{x:10.2f}" for x in everything))
    print(f"{'the same payloads, bare':24}" + "".join(f"{x:10.2f}" for x in bare))
    print(f"{'ratio':24}" + "".join(f"{x / y:10.2f}" for x, y in zip(everything, bare, strict=True)))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--invocations", type=int, default=20_000)
    parser.add_argument("--group", type=int, default=128)
    parser.add_argument("--dir", default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        run(directory, options.invocations, options.group)


if __name__ == "__main__":
    main()
