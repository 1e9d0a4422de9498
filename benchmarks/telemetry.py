"""What telemetry costs: three steps with spans and metrics, beside the same without, in one process each.

    python -m benchmarks.telemetry [--seconds 1] [--reps 5] [--clients 16,128] [--dir DIR]

Spans go to a collector in a process of its own that takes whatever comes. The sides take turns; the figure to
look at is the ratio, and that nothing was left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import agentdur
from agentdur import App
from agentdur.config import Settings
from agentdur.sdk.client import EngineClient
from agentdur.server import settle_memory
from agentdur.telemetry.families import Families
from benchmarks import work
from benchmarks.measure import Run, Table, closed_loop

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

WORKLOAD = "steps3"
SPANS_PER_CALL = 4
SIDES = ["on", "metrics", "off"]


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


def settings_of(side: str, collector: str) -> Settings:
    """What a side is told."""
    return Settings(otel_endpoint=collector) if side == "on" else Settings(metrics=side == "metrics")


def serve(side: str, directory: str, collector: str) -> None:
    """A side: each JSON line is answered by one with the Run, and what became of its spans."""
    stack = AsyncExitStack()
    app = App(work.services(agentdur))
    handlers = {name: handler.fn for (_, name), handler in app.handlers().items()}
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        settle_memory()
        running = app.running(
            f"sqlite:///{directory}/{side}.db",
            settings=settings_of(side, collector),
            expose_metrics=side != "off",
        )
        client = EngineClient(runner.run(stack.enter_async_context(running)))

        async def call(body: Any) -> Any:
            return await client.service_call(handlers[WORKLOAD], body)

        for line in sys.stdin:
            ask = json.loads(line)
            run = runner.run(closed_loop(call, ask["clients"], ask["seconds"]))
            telemetry = app.telemetry
            if telemetry is not None:
                telemetry.flush(30)
            print(json.dumps(run.as_dict()), flush=True)
        text = "" if app.telemetry is None else Families(app.telemetry.registry).text()[0].decode()
        runner.run(stack.aclose())
    (Path(directory) / f"{side}.txt").write_text(text)


class Side:
    """The process of one side."""

    def __init__(self, name: str, directory: str, collector: str) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.telemetry", "--side", name, "--dir", directory,
                "--collector",
                collector,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, clients: int, seconds: float) -> Run:
        """One timed run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"clients": clients, "seconds": seconds}) + "\n")
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


def compare(directory: str, options: argparse.Namespace) -> tuple[Table, int]:
    """The sides in turn, who goes first alternating; and how many calls were made with spans."""
    table, calls = Table(SIDES), 0
    listening = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.telemetry", "--side", "collector"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert listening.stdout is not None
    collector = f"http://127.0.0.1:{int(listening.stdout.readline())}"
    with ExitStack() as stack:
        stack.callback(listening.kill)
        sides = {name: Side(name, directory, collector) for name in SIDES}
        for name, side in sides.items():
            stack.callback(side.close)
            calls += side.run(16, min(0.3, options.seconds)).calls * (name == "on")
        for repetition in range(options.reps):
            for clients in options.clients:
                for name in SIDES if repetition % 2 == 0 else reversed(SIDES):
                    run = sides[name].run(clients, options.seconds)
                    calls += run.calls * (name == "on")
                    table.add(WORKLOAD, clients, name, run)
    return table, calls


def left_out(directory: str, calls: int) -> str:
    """What became of the spans, in a line."""
    lines = (Path(directory) / "on.txt").read_text().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("agentdur_telemetry_"))
    sent = float(found.get('agentdur_telemetry_spans_total{result="sent"}', 0))
    lost = [f"{name} {value}" for name, value in found.items() if "sent" not in name and float(value)]
    return (
        f"spans sent: {sent:,.0f} of {calls * SPANS_PER_CALL:,}; {', '.join(lost) or 'nothing was left out'}"
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--clients", type=lambda text: tuple(map(int, text.split(","))), default=(16, 128))
    parser.add_argument("--dir", default=None, help="where the databases are written; a temporary directory")
    parser.add_argument("--side", choices=[*SIDES, "collector"], help=argparse.SUPPRESS)
    parser.add_argument("--collector", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "collector":
        asyncio.run(collect())
    elif options.side:
        serve(options.side, options.dir, options.collector)
    else:
        with tempfile.TemporaryDirectory(dir=options.dir) as directory:
            table, calls = compare(directory, options)
            lost = left_out(directory, calls)
        print(f"three steps, telemetry on and off; medians of {options.reps} runs of {options.seconds} s")
        print("\n".join(table.lines()))
        print(lost)


if __name__ == "__main__":
    main()
