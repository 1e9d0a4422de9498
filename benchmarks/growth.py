"""Does a step cost more when its invocation has many? One invocation of thousands of steps, in windows.

    python -m benchmarks.growth [--steps 5000] [--reps 5]

Per window: bytecode instructions per step (the median; the same in each run), bytes of what memory holds of
the invocation, and the processor time of the loop and of the writer's thread per step (medians of
repetitions, the first of which is not counted). The last line is the last window ÷ the first. Instructions
do not show work in C that grows: the processor time does.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import FrameType, FunctionType, ModuleType
from typing import Any

from msgspec import Struct

from agentdur import App, Context, Service
from agentdur.server import settle_memory
from benchmarks import work

WIDTH = 100
"""Steps per window."""
_SHARED = (FunctionType, ModuleType, type, Enum)


class Instructions:
    """Counts bytecode instructions of this thread while it is on."""

    def __init__(self) -> None:
        self.count = 0

    def on(self) -> None:
        """Count from the next call on."""
        sys.settrace(self._call)

    def off(self) -> None:
        """Stop."""
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._opcode

    def _opcode(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        if event == "opcode":
            self.count += 1
        return self._opcode


def held(*roots: Any) -> int:
    """Bytes of everything that is reached from the roots, but for what is shared by all invocations."""
    seen: set[int] = set()
    total, todo = 0, list(roots)
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, _SHARED):
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        if isinstance(thing, Struct):  # the collector does not know what is in most of them
            todo += [getattr(thing, name) for name in thing.__struct_fields__]
        else:
            todo += gc.get_referents(thing)
    return total


@dataclass
class Found:
    """What one run found, by the first step of each window."""

    instructions: dict[int, float] = field(default_factory=dict)
    bytes_held: dict[int, int] = field(default_factory=dict)
    loop: dict[int, float] = field(default_factory=dict)
    writer: dict[int, float] = field(default_factory=dict)


class Grower:
    """The handler with many steps, and what it finds out about itself."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.windows = sorted({50, steps // 10, steps // 2, steps - WIDTH})
        self.app = App([self._service()])
        self.found = Found()
        self.counting = False

    def _service(self) -> Service:
        service = Service("Growth")

        @service.handler()
        async def grow(ctx: Context, body: dict) -> str:
            for i in range(self.steps):
                if i in self.windows:
                    await self._window(ctx, i)
                await ctx.run_typed("small", work.do_small, i=i)
            return "ok"

        return service

    async def _window(self, ctx: Context, first: int) -> None:
        attempt = ctx._attempt
        self.found.bytes_held[first] = held(
            attempt.recorded, list(attempt.pending), attempt.slot.state, attempt.slot.entries or (),
            attempt.slot.callees or (),
        )  # fmt: skip
        if self.counting:
            self.found.instructions[first] = await self._instructions(ctx, first)
            return
        process, loop = time.process_time(), time.thread_time()
        for i in range(WIDTH):
            await ctx.run_typed("small", work.do_small, i=first + i)
        process, loop = time.process_time() - process, time.thread_time() - loop
        self.found.loop[first] = loop / WIDTH * 1e6
        self.found.writer[first] = (process - loop) / WIDTH * 1e6

    async def _instructions(self, ctx: Context, first: int) -> float:
        per_step, meter = [], Instructions()
        for i in range(WIDTH):
            before = meter.count
            meter.on()
            await ctx.run_typed("small", work.do_small, i=first + i)
            meter.off()
            per_step.append(meter.count - before)
        return statistics.median(per_step)

    async def run(self, path: str, reps: int) -> list[Found]:
        """One run that counts instructions, then the timed ones."""
        out = []
        handler = self.app.handlers()[("Growth", "grow")].fn
        async with self.app.running(f"sqlite:///{path}") as engine:
            settle_memory()
            for repetition in range(reps + 2):
                self.found, self.counting = Found(), repetition == 0
                await engine.client().service_call(handler, {})
                out.append(self.found)
        return [out[0], *out[2:]]


def report(grower: Grower, counted: Found, timed: list[Found]) -> None:
    """A line per window, and the ratio."""
    rows = [
        (
            counted.instructions[first],
            float(timed[0].bytes_held[first]),
            statistics.median(found.loop[first] for found in timed),
            statistics.median(found.writer[first] for found in timed),
        )
        for first in grower.windows
    ]
    print(f"{'steps':>14}{'instructions':>14}{'bytes held':>12}{'loop µs':>10}{'writer µs':>11}   per step")
    for first, row in zip(grower.windows, rows, strict=True):
        span = f"{first}–{first + WIDTH}"
        print(f"{span:>14}{row[0]:14,.0f}{row[1]:12,.0f}{row[2]:10.1f}{row[3]:11.1f}")
    ratios = [last / first for first, last in zip(rows[0], rows[-1], strict=True)]
    print(f"{'last ÷ first':>14}{ratios[0]:14.3f}{ratios[1]:12.2f}{ratios[2]:10.2f}{ratios[3]:11.2f}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--reps", type=int, default=5)
    options = parser.parse_args()
    grower = Grower(options.steps)
    with tempfile.TemporaryDirectory() as directory:
        counted, *timed = asyncio.run(grower.run(os.path.join(directory, "growth.db"), options.reps))
    report(grower, counted, timed)


if __name__ == "__main__":
    main()
