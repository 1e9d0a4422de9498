"""Closed loops, processor time, and tables of medians with their spread.

Rules of this file:
1. A figure is the median of repetitions. A ratio is taken within each repetition, between runs that followed
   one another: what disturbs the machine for longer than that disturbs both.
2. The spread (least to largest of the repetitions) is the noise: a difference inside of it means nothing.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

CLIENTS = (1, 16, 128)
"""Of the closed loops: each has one call under way."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """What one timed run found. `cpu`: seconds of processor time of what is measured."""

    calls: int
    seconds: float
    p50_ms: float
    cpu: float = 0.0
    errors: int = 0

    @property
    def per_second(self) -> float:
        """Calls answered per second."""
        return self.calls / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        """Processor seconds per 1,000 calls."""
        return self.cpu / max(1, self.calls) * 1000

    def as_dict(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)


async def closed_loop(operation: Callable[[Any], Awaitable[Any]], clients: int, seconds: float) -> Run:
    """`clients` tasks, each calling again as soon as it is answered."""
    times: list[float] = []
    clock = time.perf_counter
    numbers = iter(range(1 << 62))
    began = clock()
    end = began + seconds

    async def client() -> None:
        before = clock()
        while before < end:
            await operation({"n": next(numbers)})
            after = clock()
            times.append(after - before)
            before = after

    cpu = time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    cpu = time.process_time() - cpu
    return Run(len(times), clock() - began, statistics.median(times) * 1e3, cpu)


def cpu_of(processes: Iterable[int]) -> float:
    """User and system seconds of these processes so far."""
    total = 0
    for process in processes:
        with open(f"/proc/{process}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def pss_mib(process: int | str = "self") -> float:
    """Memory of a process: its own pages, and its share of those it shares with others."""
    with open(f"/proc/{process}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    raise OSError(f"no PSS for {process}")


class Table:
    """Runs by (workload, clients) and side; the first side is the one the ratios are of."""

    def __init__(self, sides: list[str]) -> None:
        self.sides = sides
        self._runs: dict[tuple[str, int], dict[str, list[Run]]] = {}

    def add(self, workload: str, clients: int, side: str, run: Run) -> None:
        """One more repetition."""
        self._runs.setdefault((workload, clients), {}).setdefault(side, []).append(run)

    def lines(self) -> list[str]:
        """As text: what each side did, then the first side's ratios to the others, with their spread."""
        columns = [f" | {side + ': inv/s':>18}{'p50 ms':>10}{'CPU s/1000':>12}" for side in self.sides]
        out = [f"{'':12}{'c':>5}" + "".join(columns)]
        for (workload, clients), runs in self._runs.items():
            figures = "".join(f" | {_figures(runs.get(side))}" for side in self.sides)
            out.append(f"{workload:12}{clients:>5}{figures}")
        mine, *others = self.sides
        for other in others:
            out += [
                "",
                f"{mine} ÷ {other:12}  {'inv/s':>10} {'(spread)':>14}{'CPU s/1000':>14} {'(spread)':>14}",
            ]
            for (workload, clients), runs in self._runs.items():
                if other in runs:
                    out.append(f"{workload:12}{clients:>5}{'':8}" + _ratios(runs[mine], runs[other]))
        return out


def _figures(runs: list[Run] | None) -> str:
    if not runs:
        return f"{'–':>18}{'–':>10}{'–':>12}"
    median = statistics.median
    return (
        f"{median(r.per_second for r in runs):18,.1f}{median(r.p50_ms for r in runs):10.3f}"
        f"{median(r.cpu_per_1000 for r in runs):12.4f}"
    )


def _ratios(mine: list[Run], theirs: list[Run]) -> str:
    pairs = list(zip(mine, theirs, strict=True))
    rates = [a.per_second / b.per_second for a, b in pairs]
    costs = [a.cpu_per_1000 / b.cpu_per_1000 for a, b in pairs if b.cpu_per_1000]
    return _spread(rates) + "    " + _spread(costs)


def _spread(ratios: list[float]) -> str:
    if not ratios:
        return f"{'–':>10}{'':15}"
    return f"{statistics.median(ratios):10.2f} {f'({min(ratios):.2f}–{max(ratios):.2f})':>14}"
