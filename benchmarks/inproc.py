"""agentdur in one Python process, beside the limit: no-op, three steps, and an agent of 30 steps.

    python -m benchmarks.inproc [--seconds 0.8] [--reps 3] [--clients 1,16,128] [--dir DIR]

Each side has a process of its own, its memory settled as `agentdur serve` does it. They take turns, so that
both meet the same minutes of the machine: the figure to look at is the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import agentdur
from agentdur import App
from agentdur.sdk.client import EngineClient
from agentdur.server import settle_memory
from benchmarks import work
from benchmarks.limit import Limit, Operation
from benchmarks.measure import CLIENTS, Run, Table, closed_loop

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

WORKLOADS = ("noop", "steps3", "agent")
SIDES = ["agentdur", "limit"]


async def engine(stack: AsyncExitStack, directory: str) -> dict[str, Operation]:
    """The workloads as calls into an engine of this process."""
    app = App(work.services(agentdur))
    store = f"sqlite:///{directory}/agentdur.db"
    client = EngineClient(await stack.enter_async_context(app.running(store)))
    handlers = {name: handler.fn for (_, name), handler in app.handlers().items()}

    def calling(handler: Any) -> Operation:
        async def call(body: Any) -> Any:
            return await client.service_call(handler, body)

        return call

    return {name: calling(handlers[name]) for name in WORKLOADS}


async def limit(stack: AsyncExitStack, directory: str) -> dict[str, Operation]:
    """The workloads, bare."""
    bare = Limit(os.path.join(directory, "limit.db"))
    stack.callback(bare.log.close)
    return bare.operations()


def serve(side: str, directory: str) -> None:
    """A side: each JSON line with `workload`, `clients` and `seconds` is answered by a line with the Run."""
    stack = AsyncExitStack()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        settle_memory()
        operations = runner.run({"agentdur": engine, "limit": limit}[side](stack, directory))
        for line in sys.stdin:
            ask = json.loads(line)
            run = runner.run(closed_loop(operations[ask["workload"]], ask["clients"], ask["seconds"]))
            print(json.dumps(run.as_dict()), flush=True)
        runner.run(stack.aclose())


class Side:
    """The process of one side."""

    def __init__(self, name: str, directory: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.inproc", "--side", name, "--dir", directory],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, workload: str, clients: int, seconds: float) -> Run:
        """One timed run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        ask = {"workload": workload, "clients": clients, "seconds": seconds}
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with {self._process.wait()}")
        return Run(**json.loads(line))

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(directory: str, options: argparse.Namespace) -> Table:
    """All workloads, the sides in turn, who goes first alternating."""
    table = Table(SIDES)
    with ExitStack() as stack:
        sides = {name: Side(name, directory) for name in SIDES}
        for side in sides.values():
            stack.callback(side.close)
            for workload in WORKLOADS:
                side.run(workload, 16, min(0.3, options.seconds))
        for repetition in range(options.reps):
            for workload in WORKLOADS:
                for clients in options.clients:
                    for name in SIDES if repetition % 2 == 0 else reversed(SIDES):
                        table.add(
                            workload, clients, name, sides[name].run(workload, clients, options.seconds)
                        )
    return table


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--clients", type=lambda text: tuple(map(int, text.split(","))), default=CLIENTS)
    parser.add_argument("--dir", default=None, help="where the databases are written; a temporary directory")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        serve(options.side, options.dir)
        return
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        table = compare(directory, options)
    print(f"in one process, no HTTP; medians of {options.reps} runs of {options.seconds} s, taking turns")
    print("\n".join(table.lines()))


if __name__ == "__main__":
    main()
