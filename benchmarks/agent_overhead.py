"""What durability costs an agent per model step: the same agent bare and in a handler, side by side.

    python -m benchmarks.agent_overhead [--agents 16] [--turns 20] [--reps 5] [--model-ms 0]

The agent asks `agentdur.llm.completion` turn after turn, with a conversation that grows and a tool that it
may use. The provider is at hand: it answers after `--model-ms` without a request, so that what is measured
is ours. Bare: outside of a handler (`allow_ephemeral`). Durable: a handler over SQLite in this process,
every answer committed before the next turn. Each repetition runs both, one after the other; `--agents` run
at once.

Per model step: what the durable run took longer, ms of the clock and ms of processor time; medians with least
and largest. The bar is 0.5 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from agentdur import App, Context, Service
from agentdur.llm import ModelAnswer, Usage, call, completion
from agentdur.server import settle_memory
from agentdur.tools import tool

BAR_MS = 0.5
SYSTEM = {"role": "system", "content": "You are the agent of a benchmark. Answer in a sentence or two."}
ANSWER = "Here is a sentence or two, about as long as what models say between two uses of a tool. " * 2


@tool
async def look_up(word: str) -> str:
    """Look a word up."""
    return word


async def agent(ctx: Context | None, turns: int) -> int:
    """So many turns of one conversation."""
    messages: list[dict[str, Any]] = [SYSTEM, {"role": "user", "content": "Begin."}]
    for number in range(turns):
        answer = await completion(ctx, "openai/at-hand", messages, [look_up], allow_ephemeral=True)
        messages += [answer.message, {"role": "user", "content": f"Go on: {number}."}]
    return len(messages)


service = Service("Bench")


@service.handler()
async def durable(ctx: Context, turns: int) -> int:
    """The agent in a handler."""
    return await agent(ctx, turns)


async def timed(run: Callable[[], Awaitable[int]], agents: int) -> tuple[float, float]:
    """(seconds of the clock, of the processor) for so many at once."""
    clock, processor = time.perf_counter(), time.process_time()
    await asyncio.gather(*(run() for _ in range(agents)))
    return time.perf_counter() - clock, time.process_time() - processor


async def measure(given: argparse.Namespace) -> list[tuple[float, float]]:
    """Of each repetition: (clock, processor) in ms that a durable step takes longer."""

    async def answer(*_: Any) -> ModelAnswer:
        await asyncio.sleep(given.model_ms / 1000)
        usage = Usage(prompt_tokens=100, completion_tokens=40)
        return ModelAnswer(message={"role": "assistant", "content": ANSWER}, model="at-hand", usage=usage)

    steps, found = given.agents * given.turns, []
    with tempfile.TemporaryDirectory() as folder, patch.object(call, "ask", answer):
        app = App([service], store=f"sqlite:///{Path(folder) / 'bench.db'}")
        async with app.running() as engine:
            client = engine.client()
            settle_memory()
            for number in range(given.reps + 1):
                bare = await timed(lambda: agent(None, given.turns), given.agents)
                kept = await timed(lambda: client.service_call(durable, given.turns), given.agents)
                if number:  # the first one warms up
                    found.append(tuple((b - a) / steps * 1000 for a, b in zip(bare, kept, strict=True)))
    return found  # type: ignore[return-value]  # pairs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--model-ms", type=float, default=0.0)
    given = parser.parse_args()
    found = asyncio.run(measure(given))
    print(f"{given.agents} agents at once, {given.turns} turns each, {given.reps} repetitions")
    for what, values in zip(("clock", "processor"), zip(*found, strict=True), strict=True):
        middle = statistics.median(values)
        spread = f"{min(values):.3f} to {max(values):.3f}"
        print(f"  {what:<9} {middle:.3f} ms per model step ({spread}); bar {BAR_MS} ms")


if __name__ == "__main__":
    main()
