"""The whole engine in virtual time, with crashes and other trouble from a seed, held against invariants.

    python -m agentdur.testing.simulation --seeds 1000 --start 0 --jobs 2
    python -m agentdur.testing.simulation --seed 17 --verbose

Rules of this file:
1. A life is one process: its own loop, randomness and engine. What outlives it is the store, the clients and
   the outside world.
2. The same seed gives the same run, event by event: `Outcome.digest` is equal.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

from msgspec import Struct

from agentdur.core.catalog import Catalog, HandlerOptions
from agentdur.core.errors import StoreError
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Writes
from agentdur.core.state import Status
from agentdur.core.target import HandlerKind
from agentdur.runtime import slots, timers
from agentdur.runtime.owner import Engine, Knobs
from agentdur.sdk.context import Context
from agentdur.sdk.exceptions import TerminalError
from agentdur.stores.memory import MemoryStore
from agentdur.testing.actors import Client, Completer, Operator, wishes
from agentdur.testing.clock import SimLoop, SimWorld, Stalled
from agentdur.testing.expectations import check_outcomes
from agentdur.testing.faults import CRASHES_MAX, Plan, Redelivery, SimCommitter, SimStore, plan_of
from agentdur.testing.invariants import Checks, Violation
from agentdur.testing.workloads import TERMINAL, Handlers, Programs

TRACE_LINES = 80
"""The last events a failing seed shows."""
TROUBLE_SECONDS = 30.0
"""Virtual time after which nothing goes wrong any more."""
PATIENCE_SECONDS = 3600.0
"""Virtual time in which everything has to end after that."""


class Injected(Exception):
    """A step failed because the seed said so."""


class Outcome(Struct, kw_only=True):
    """How a seed went. `violation` is empty when all held."""

    seed: int
    violation: str = ""
    digest: str = ""
    crashes: int = 0
    turns: int = 0
    invocations: int = 0
    trace: list[str] = []

    def reproduction(self) -> str:
        """One line that shows it again."""
        return f"python -m agentdur.testing.simulation --seed {self.seed} --verbose"


class Simulation:
    """One seed: what outlives the crashes."""

    def __init__(self, seed: int, on_line: Callable[[str], None] | None = None) -> None:
        self.seed, self.on_line = seed, on_line
        rng = Random(seed)
        self.plan: Plan = plan_of(rng)
        self.store = MemoryStore()
        self.checks = Checks(self.store, 1 + seed % 4)
        self.hash = sha256()
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self.crashes = self.lives = self.turns = 0
        self.jumped_ms = 0
        self.violation = ""
        self.finished = False
        self.life: Life
        programs = Programs(rng, orderly=not self.plan.disorder)
        self.clients = [Client(wishes(rng, programs), self.checks) for _ in range(rng.randint(1, 5))]
        self.completer = Completer()
        self.operator = Operator(self.checks)
        quiet = timedelta(seconds=self.plan.inactivity_seconds)
        retention = timedelta(seconds=self.plan.retention_seconds)
        self.families = [Handlers(self, "Calm", quiet), Handlers(self, "Rough", quiet, retention)]
        services = [service for family in self.families for service in family.services]
        self.catalog = Catalog({service.name: service.meta(HandlerOptions()) for service in services})
        self.handlers = {(s.name, name): h for s in services for name, h in s.handlers.items()}
        self.flaky: dict[tuple[InvocationId, str], int] = {}

    def run(self) -> Outcome:
        """All lives, until everything has ended or something is wrong."""
        start = 0.0
        old = []
        while not self.finished and not self.violation:
            self.life = Life(self, start)
            old.append(self.life)
            self.life.run()
            start = self.life.loop.time() + self.plan.pause_seconds * self.life.rng.random()
        rows = len(self.checks.stored)
        for life in old:
            life.bury()
        return Outcome(
            seed=self.seed, violation=self.violation, digest=self.hash.hexdigest()[:16], crashes=self.crashes,
            turns=self.turns, invocations=rows, trace=list(self.trace),
        )  # fmt: skip

    def note(self, *what: object) -> None:
        """A line of the trace."""
        line = f"{self.life.loop.time():10.4f} life {self.lives}  " + " ".join(map(str, what))
        self.hash.update(line.encode())
        self.trace.append(line)
        if self.on_line is not None:
            self.on_line(line)

    # -- the outside world (workloads.Outside)

    async def act(self, ctx: Context, path: str, kind: str, value: Any) -> Any:
        """A step's action."""
        life = _life_of(ctx)
        self._begin(life, ctx, path)
        plan, rng = self.plan, life.rng
        if not life.calm and rng.random() < plan.crash_in_step:
            life.crash("in a step")
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(plan.step_seconds * rng.random() * (4 if kind == "slow" else 1))
        if not life.calm and rng.random() < plan.step_hangs:
            life.note("hangs", path)
            await asyncio.sleep(1e6)
        if not life.calm and rng.random() < plan.crash_in_step:
            life.crash("in a step, after its effect")
            await asyncio.get_running_loop().create_future()
        return self._end(life, (ctx.invocation_id, path), kind, value)

    def act_plainly(self, ctx: Context, path: str, value: Any) -> Any:
        """A step's action, as a plain function."""
        life = _life_of(ctx)
        self._begin(life, ctx, path)
        return self._end(life, (ctx.invocation_id, path), "plain", value)

    def _begin(self, life: Life, ctx: Context, path: str) -> None:
        attempt = (life.number, life.generation, ctx._attempt.number)
        life.note("step", ctx.invocation_id, path, attempt[2])
        with life.watched():
            self.checks.executes((ctx.invocation_id, path), attempt, ctx.idempotency_key)

    def _end(self, life: Life, step: tuple[InvocationId, str], kind: str, value: Any) -> Any:
        if not life.calm and life.rng.random() < self.plan.step_fails:
            raise Injected(f"injected: {step[1]}")
        if kind == "terminal":
            raise TerminalError("the step says no", TERMINAL)
        failed = self.flaky.get(step, 0)
        if kind in ("exhaust", "expire") or (kind == "flaky" and failed < 2):
            self.flaky[step] = failed + 1
            raise Injected(f"injected: {step[1]} for the {failed + 1}. time")
        return value

    async def publish(self, ctx: Context, path: str, awakeable: str, how: tuple[str, Any]) -> None:
        """Tell those who complete awakeables."""
        await self.act(ctx, path, "ok", None)
        self.completer.publish(awakeable, *how)

    def constant(self, ctx: Context, path: str, value: Any) -> None:
        """The same on every attempt."""
        with _life_of(ctx).watched():
            self.checks.constant(ctx.invocation_id, path, value)

    def enters(self, ctx: Context) -> None:
        """An exclusive handler's code runs: it must hold the lock, alone."""
        life = _life_of(ctx)
        with life.watched():
            life.alone(ctx)


def _life_of(ctx: Context) -> Life:
    life: Life = ctx._attempt.driver.machine.world.life  # type: ignore[attr-defined]  # its inner parts
    return life


def _told(error: BaseException) -> str:
    """What went wrong, and where."""
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" at {frame.filename}:{frame.lineno}" for frame in where)
    return f"{type(error).__name__}: {error}{place}"


class Life:
    """One process (faults.Process)."""

    def __init__(self, simulation: Simulation, start: float) -> None:
        self.simulation, self.plan, self.checks = simulation, simulation.plan, simulation.checks
        simulation.lives += 1
        self.number, self.generation = simulation.lives, 0
        self.rng = Random(f"{simulation.seed}/{self.number}")
        self.loop = self._new_loop(start)
        self.loop.trouble = self._trouble
        self.loop.executor_delay = lambda: self.plan.step_seconds * self.rng.random()
        self.world = SimWorld(
            self.loop, Random(f"{simulation.seed}/{self.number}/world"), simulation.jumped_ms
        )
        self.world.life = self  # type: ignore[attr-defined]  # how the handlers find it
        self.engine: Engine
        self.over = False
        self._tasks: list[asyncio.Task[Any]] = []

    def _new_loop(self, start: float) -> SimLoop:
        rng = Random(f"{self.simulation.seed}/{self.number}/order")
        # Sockets, processes and signals are not simulated, and not there.
        return SimLoop(rng, start, self.plan.disorder)  # type: ignore[abstract]  # as said above

    @property
    def calm(self) -> bool:
        """Nothing goes wrong any more."""
        return self.simulation.crashes >= CRASHES_MAX or self.loop.time() > TROUBLE_SECONDS

    def note(self, *what: object) -> None:
        """A line of the trace."""
        if not self.over:
            self.simulation.note(*what)

    # -- the end of a life

    def crash(self, where: str) -> None:
        """Nothing of this process runs after the current callback."""
        self.note("CRASH", where)
        self.simulation.crashes += 1
        self._stop()

    def _stop(self) -> None:
        self.over = True
        self.loop.stop()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A violation ends the run."""
        if self.over:
            return
        try:
            yield
        except Violation as violation:
            self.fail(str(violation))

    def fail(self, violation: str) -> None:
        """The first violation is the run's result."""
        if not self.over:
            self.note("VIOLATION", violation)
            self.simulation.violation = violation
            self._stop()

    def _trouble(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, StoreError | Injected):
            self.fail(f"{context.get('message')}: {_told(error)}")

    def bury(self) -> None:
        """Let the dead tasks be collected without a word; they touch nothing that is looked at."""
        if hasattr(self, "engine") and hasattr(self.engine, "driver"):
            self.engine.driver.stopping = True
            self.engine.driver.ready.clear()
            self.engine.machine.dispatch = lambda message: None  # type: ignore[method-assign]  # it is dead

    # -- what its doors tell

    def committed(self, writes: Writes) -> None:
        """The store has it."""
        self.note("commit", len(writes.invocations), len(writes.journal), len(writes.timers))
        with self.watched():
            self.checks.committed(writes)

    def told(self) -> None:
        """The engine knows."""
        if not self.over and self.engine.machine.error is None:
            with self.watched():
                self.checks.memory_is_stored(self.engine)
                self.checks.nobody_is_forgotten(self.engine)

    def alone(self, ctx: Context) -> None:
        """Only one exclusive attempt of a key runs, and it holds the lock."""
        attempt = ctx._attempt
        for other in self.engine.driver.live:
            if other is not attempt and not other.closed and other.target.key == attempt.target.key:
                same = other.target.service == attempt.target.service
                if same and other.target.handler_kind is HandlerKind.EXCLUSIVE and other.task is not None:
                    raise Violation(f"{other.id} and {attempt.id} run at once on {attempt.target}")
        key = self.engine.machine.slots.keys.get(attempt.target.object)
        state = self.simulation.store.object(attempt.target.object) if key is None else key.state
        holder = None if state is None else state.locked_by
        if holder != attempt.id:
            raise Violation(f"{attempt.id} runs on {attempt.target}, the lock is with {holder}")

    # -- living

    def run(self) -> None:
        """Until a crash, the end of all work, or a violation."""
        self.loop.call_soon(lambda: self._tasks.append(self.loop.create_task(self._guarded())))
        try:
            self.loop.run_forever()
        except Stalled as stalled:
            self.fail(f"stalled: {stalled}")
        finally:
            self.simulation.turns += self.loop.turns
            self.simulation.jumped_ms = self.world.jumped_ms

    async def _guarded(self) -> None:
        try:
            await self._live()
        except StoreError as error:
            self.note("start failed", error)
            self.simulation.crashes += 1
        except Violation as violation:
            self.fail(str(violation))
        except Exception as error:
            self.fail(_told(error))
        self._stop()

    async def _live(self) -> None:
        plan = self.plan
        cleanup = plan.cleanup_seconds
        knobs = Knobs(
            live_attempts=plan.live_attempts, shutdown_seconds=1.0, cleanup_seconds=cleanup,
            failed_attempts=self.checks.attempts_max,
        )  # fmt: skip
        self.engine = Engine(
            SimStore(self.simulation.store, self), self.simulation.handlers, self.simulation.catalog,
            knobs=knobs, world=self.world, committer=partial(SimCommitter, self),
        )  # fmt: skip
        self.note("start")
        await self.engine.start()
        self._actors()
        clients = [self._task(client.run(self)) for client in self.simulation.clients]
        stop_at = self.loop.time() + self.rng.uniform(0, 2 * plan.stop_every) if plan.stop_every else 1e9
        while not self.calm:
            await asyncio.sleep(0.25)
            if self.loop.time() >= stop_at and not self.calm:
                return await self._stop_engine()
        await self._finish(clients)

    def _task(self, work: Any) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks.append(task)
        return task

    def _actors(self) -> None:
        plan, simulation = self.plan, self.simulation
        self._task(self._watch(simulation.completer.run(self)))
        if plan.redeliver_every:
            redelivery = Redelivery(self.engine.machine, self, self.checks.gone)
            self._task(self._watch(redelivery.run()))
        if plan.operate_every:
            self._task(self._watch(simulation.operator.run(self, plan.operate_every)))
        if plan.clock_jumps_every:
            self._task(self._watch(self._jumps()))

    async def _watch(self, work: Any) -> None:
        try:
            await work
        except Violation as violation:
            self.fail(str(violation))
        except Exception as error:
            self.fail(_told(error))

    async def _jumps(self) -> None:
        while not self.calm:
            await asyncio.sleep(self.rng.uniform(0, 2 * self.plan.clock_jumps_every))
            jump = self.rng.choice((-60_000, -5_000, -10, 10, 5_000, 60_000))
            self.note("clock jumps", jump)
            self.world.jumped_ms += jump

    async def _stop_engine(self) -> None:
        """An orderly stop, perhaps not to the end."""
        self.note("stop")
        if not self.calm and self.rng.random() < self.plan.crash_in_drain:
            self.loop.call_later(self.rng.uniform(0, 0.5), self.crash, "in the drain")
        await self.engine.stop()
        self.note("stopped")
        self.simulation.crashes += 1

    async def _finish(self, clients: list[asyncio.Task[Any]]) -> None:
        """Everything ends now; then nothing may be left."""
        simulation, plan, deadline = self.simulation, self.plan, self.loop.time() + PATIENCE_SECONDS
        while self._unfinished() or not all(task.done() for task in clients):
            if self.loop.time() > deadline:
                left = [f"{r.spec.id} {r.spec.target} {r.head}" for r in self._unfinished()]
                raise Violation(f"{len(left)} never ended: {left[:3]}")
            await simulation.operator.resume_all(self, self.loop.time() > deadline - PATIENCE_SECONDS / 2)
            await asyncio.sleep(5.0)
        for task in clients:
            task.result()
        await asyncio.sleep(5.0)  # the last commits
        if plan.cleanup_seconds < 60:
            await asyncio.sleep(plan.retention_seconds % 60 + 3 * plan.cleanup_seconds)
            self.checks.nothing_kept_too_long(self.world.now())
        self.checks.nothing_left(self.engine)
        check_outcomes(self.checks, simulation.clients)
        await self.engine.stop()
        simulation.finished = True
        self.note("finished")

    def _unfinished(self) -> list[Any]:
        return [row for row in self.checks.rows() if row.head.status is not Status.COMPLETED]


def simulate(seed: int, on_line: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed."""
    limits = slots.CACHED_KEYS_MAX, timers.IN_MEMORY_MAX
    silenced, sys.unraisablehook = sys.unraisablehook, lambda _: None
    told = logging.root.manager.disable
    logging.disable()
    gc.disable()  # what a crash leaves behind is collected at the end, and has nothing to say
    # And only that is looked at: a whole suite may be in memory. It stays frozen: to ask whether it was so
    # before is to walk over all of it.
    gc.freeze()
    try:
        with warnings.catch_warnings(action="ignore"):
            simulation = Simulation(seed, on_line)
            slots.CACHED_KEYS_MAX = simulation.plan.cached_keys
            timers.IN_MEMORY_MAX = simulation.plan.timers_in_memory
            outcome = simulation.run()
            del simulation
            gc.collect()
            return outcome
    finally:
        slots.CACHED_KEYS_MAX, timers.IN_MEMORY_MAX = limits
        gc.enable()
        logging.disable(told)
        sys.unraisablehook = silenced


# -- the command line


def _report(outcome: Outcome) -> str:
    lines = [f"seed {outcome.seed}: {outcome.violation}", f"  again: {outcome.reproduction()}"]
    return "\n".join(lines + [f"  {line}" for line in outcome.trace[-TRACE_LINES:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run seeds; 1 when an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m agentdur.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="just this one")
    parser.add_argument("--verbose", action="store_true", help="print every event")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        outcome = simulate(given.seed, print if given.verbose else None)
        print(
            f"{outcome.digest} {outcome.turns} turns, {outcome.crashes} crashes: {outcome.violation or 'ok'}"
        )
        return 1 if outcome.violation else 0
    seeds = range(given.start, given.start + given.seeds)
    failed = crashes = invocations = 0
    with ProcessPoolExecutor(given.jobs) as pool:
        for outcome in pool.map(simulate, seeds, chunksize=8) if given.jobs > 1 else map(simulate, seeds):
            crashes, invocations = crashes + outcome.crashes, invocations + outcome.invocations
            if outcome.violation:
                failed += 1
                print(_report(outcome), flush=True)
    print(f"{len(seeds)} seeds, {failed} failed, {crashes} crashes, {invocations} invocations")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # asyncio and the engine keep sets of strings
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "agentdur.testing.simulation", *sys.argv[1:]])
    sys.exit(main())
