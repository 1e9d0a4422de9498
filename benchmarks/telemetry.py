"""What telemetry costs through HTTP: three steps with all spans sent (`traced`), with metrics only, which is
the default, and with neither.

    python -m benchmarks.telemetry [--seconds 1] [--reps 5] [--clients 16,128] [--dir DIR]

Spans go to a collector in a process of its own that takes whatever comes. The sides take turns; the figure to
look at is the ratio, and that nothing was left out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
import urllib.request
from contextlib import ExitStack

from benchmarks.ingress import WORKLOADS, Side
from benchmarks.measure import Table

WORKLOAD = next(workload for workload in WORKLOADS if workload.name == "steps3")
SPANS_PER_CALL = 4
SIDES = ["traced", "agentdur", "unmeasured"]
LEAVE_SECONDS = 3.0
"""Until the last spans have left."""


async def collect() -> None:
    """A collector: says its port, then answers 200 to everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = next(
                    int(line.partition(b":")[2])
                    for line in head.lower().splitlines()
                    if b"content-length" in line
                )
                await reader.readexactly(size)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def compare(directory: str, options: argparse.Namespace) -> list[str]:
    """The sides in turn, who goes first alternating; the lines to print."""
    table = Table(SIDES)
    with ExitStack() as stack:
        sides = {name: Side(name, os.path.join(directory, name)) for name in SIDES}
        for side in sides.values():
            stack.callback(side.server.stop)
            side.run(WORKLOAD, 16, min(0.3, options.seconds))
        for repetition in range(options.reps):
            for clients in options.clients:
                for name in SIDES if repetition % 2 == 0 else reversed(SIDES):
                    run = sides[name].run(WORKLOAD, clients, options.seconds)
                    table.add(WORKLOAD.name, clients, name, run)
        return [*table.lines(), left_out(sides["traced"])]


def left_out(traced: Side) -> str:
    """What became of the spans, in a line."""
    time.sleep(LEAVE_SECONDS)
    with urllib.request.urlopen(f"http://127.0.0.1:{traced.server.admin}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("agentdur_telemetry_"))
    sent = float(found.get('agentdur_telemetry_spans_total{result="sent"}', 0))
    rest = ", ".join(f"{name} {value}" for name, value in found.items() if "sent" not in name)
    return f"spans sent: {sent:,.0f} of {traced.calls * SPANS_PER_CALL:,}; {rest}"


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--clients", type=lambda text: tuple(map(int, text.split(","))), default=(16, 128))
    parser.add_argument("--dir", default=None, help="where the databases are written; a temporary directory")
    parser.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collect:
        asyncio.run(collect())
        return
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        lines = compare(directory, options)
    print(f"three steps through HTTP; medians of {options.reps} runs of {options.seconds} s, taking turns")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
