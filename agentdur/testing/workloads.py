"""What the simulated clients ask for: programs made from a seed, run by real handlers, and known in advance.

Rules of this file:
1. A program is JSON: a list of [operation, arguments…]. `Programs` makes them, `Handlers` run them with every
   operation of the context, `fits` says which results a world without faults could give.
2. Every step of an invocation has its own name: its path in the program.
3. `Calm` invocations are never touched by operators and must give their result; `Rough` ones only must end.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from typing import Any, Protocol

from agentdur.sdk.combine import gather
from agentdur.sdk.context import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from agentdur.sdk.exceptions import TerminalError
from agentdur.sdk.service import BaseService, InvocationRetryPolicy, Service, VirtualObject, Workflow
from agentdur.sdk.steps import RunOptions

_RETRY = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=50), max_interval=timedelta(seconds=2), max_attempts=10_000
)
_ROUGH_RETRY = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=50), max_interval=timedelta(seconds=2), max_attempts=3
)
ABORT = timedelta(seconds=30)
TERMINAL, EXHAUSTED = 418, 500
"""The codes of a step that says no, and of one that has used up its tries."""


class Outside(Protocol):
    """The world that steps act on."""

    async def act(self, ctx: Context, path: str, kind: str, value: Any) -> Any:
        """A step's action: may fail, hang, take its time, or end the process."""

    def act_plainly(self, ctx: Context, path: str, value: Any) -> Any:
        """The same as a plain function."""

    async def publish(self, ctx: Context, path: str, awakeable: str, how: tuple[str, Any]) -> None:
        """Give an awakeable's id to those who complete it."""

    def constant(self, ctx: Context, path: str, value: Any) -> None:
        """`value` has to be the same on every attempt."""

    def enters(self, ctx: Context) -> None:
        """An exclusive handler's code begins."""


def ms(number: int) -> timedelta:
    """Milliseconds."""
    return timedelta(milliseconds=number)


class Handlers:
    """The services of a simulated app. `family`: Calm or Rough."""

    def __init__(
        self, outside: Outside, family: str, inactivity: timedelta, retention: timedelta | None = None
    ) -> None:
        self.outside, self.family = outside, family
        retry = _RETRY if family == "Calm" else _ROUGH_RETRY
        common: dict[str, Any] = {
            "invocation_retry_policy": retry, "inactivity_timeout": inactivity, "abort_timeout": ABORT,
            "journal_retention": retention,
        }  # fmt: skip
        self.plain = Service(family, **common)
        self.counter = VirtualObject(f"{family}Counter", **common)
        self.log = VirtualObject(f"{family}Log", **common)
        self.flow = Workflow(f"{family}Flow", **common)
        self.services: list[BaseService] = [self.plain, self.counter, self.log, self.flow]
        self._plain_handlers()
        self._object_handlers()
        self._flow_handlers()

    def _plain_handlers(self) -> None:
        async def run(ctx: Context, program: Any) -> Any:
            results = await self.ops(ctx, program["ops"], "p")
            if program.get("fail"):
                raise TerminalError("as told", program["fail"])
            return results

        self.run = self.plain.handler()(run)

    def _object_handlers(self) -> None:
        async def add(ctx: ObjectContext, how: str) -> int:
            self.outside.enters(ctx)
            count = await ctx.get("count", type_hint=int) or 0
            if how == "step":
                await ctx.run("add", self.outside.act, ctx, "add", "ok", None)
            elif how == "sleep":
                await ctx.sleep(ms(30))
            elif how == "keys":
                await ctx.state_keys()
            ctx.set("count", count + 1)
            self.outside.enters(ctx)
            return count + 1

        async def read(ctx: ObjectSharedContext) -> int:
            return await ctx.get("count", type_hint=int) or 0

        async def append(ctx: ObjectContext, item: Any) -> None:
            self.outside.enters(ctx)
            items = await ctx.get("items", type_hint=list) or []
            if item[2] % 2:
                await ctx.run("append", self.outside.act, ctx, "append", "ok", None)
            ctx.set("items", [*items, item])

        self.add = self.counter.handler()(add)
        self.read = self.counter.handler(kind="shared")(read)
        self.append = self.log.handler()(append)

    def _flow_handlers(self) -> None:
        async def main(ctx: WorkflowContext, asked: Any) -> Any:
            ctx.set("stage", "waiting")
            value = await ctx.promise("go", type_hint=object)
            ctx.clear("stage")
            again = await ctx.run("flow", self.outside.act, ctx, "flow", "ok", asked)
            return [value, again]

        async def go(ctx: WorkflowSharedContext, value: Any) -> str:
            peeked = await ctx.promise("go", type_hint=object).peek()
            if peeked is not None:
                return "open no more"
            try:
                await ctx.promise("go", type_hint=object).resolve(value)
            except TerminalError:
                return "open no more"
            return "resolved"

        self.main = self.flow.main("run")(main)
        self.go = self.flow.handler()(go)

    # -- programs

    async def ops(self, ctx: Context, ops: list[Any], path: str) -> list[Any]:
        """Run operations one after another."""
        return [await self.one(ctx, op, f"{path}.{number}") for number, op in enumerate(ops)]

    async def one(self, ctx: Context, op: list[Any], path: str) -> Any:
        """Run one; a terminal failure is its result."""
        try:
            return await getattr(self, f"op_{op[0]}")(ctx, path, *op[1:])
        except TerminalError as error:
            return f"T:{error.status_code}"

    def step(self, ctx: Context, path: str, kind: str, value: Any) -> Any:
        """A step of some kind."""
        outside = self.outside
        if kind == "plain":
            return ctx.run(path, outside.act_plainly, ctx, path, value)
        if kind in ("exhaust", "expire"):
            most, seconds = (2, None) if kind == "exhaust" else (None, ms(150))
            options: RunOptions[Any] = RunOptions(
                max_attempts=most, max_duration=seconds, initial_retry_interval=ms(10)
            )
            return ctx.run_typed(path, outside.act, options, ctx, path, kind, value)
        return ctx.run(path, outside.act, ctx, path, kind, value)

    async def op_step(self, ctx: Context, path: str, kind: str, value: Any) -> Any:
        return await self.step(ctx, path, kind, value)

    async def op_sleep(self, ctx: Context, path: str, duration: int) -> None:
        await ctx.sleep(ms(duration))

    async def op_gather(self, ctx: Context, path: str, *branches: Any) -> Any:
        return await asyncio.gather(*(self.ops(ctx, b, f"{path}/{n}") for n, b in enumerate(branches)))

    async def op_group(self, ctx: Context, path: str, *branches: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.ops(ctx, b, f"{path}/{n}")) for n, b in enumerate(branches)]
        return [task.result() for task in tasks]

    async def op_crowd(self, ctx: Context, path: str, code: int, duration: int) -> Any:
        """A task group in which one fails for good: the others are cancelled where they wait."""

        async def fails() -> None:
            await self.step(ctx, f"{path}/f", "ok", None)
            raise TerminalError("one of the group", code)

        async def waits() -> None:
            await ctx.sleep(ms(duration))
            await self.step(ctx, f"{path}/w", "ok", None)

        found = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(waits())
                group.create_task(fails())
        except* TerminalError as errors:
            found = errors.exceptions[0]
        return f"T:{found.status_code}" if isinstance(found, TerminalError) else "nobody failed"

    async def op_futures(self, ctx: Context, path: str, *values: Any) -> Any:
        futures = [self.step(ctx, f"{path}/{n}", "ok", value) for n, value in enumerate(values)]
        await gather(*futures)
        return [await future for future in futures]

    async def op_late(self, ctx: Context, path: str, *values: Any) -> Any:
        """Steps that are made first and awaited afterwards, the last one first."""
        futures = [self.step(ctx, f"{path}/{n}", "ok", value) for n, value in enumerate(values)]
        return [await future for future in reversed(futures)]

    async def op_shared(self, ctx: Context, path: str, value: Any) -> Any:
        future = self.step(ctx, path, "ok", value)

        async def waiter() -> Any:
            return await future

        return await asyncio.gather(waiter(), waiter())

    async def op_select(self, ctx: Context, path: str, value: Any, duration: int) -> Any:
        return await ctx.select(answer=self.step(ctx, path, "slow", value), late=ctx.sleep(ms(duration)))

    async def op_race(self, ctx: Context, path: str, one: Any, other: Any) -> Any:
        return await ctx.race(self.ops(ctx, one, f"{path}/0"), self.ops(ctx, other, f"{path}/1"))

    async def op_call(self, ctx: Context, path: str, program: Any) -> Any:
        return await ctx.service_call(self.run, program)

    async def op_idem(self, ctx: Context, path: str, key: str, program: Any) -> Any:
        return await ctx.service_call(self.run, program, idempotency_key=key)

    async def op_send(self, ctx: Context, path: str, program: Any, delay: int | None) -> None:
        ctx.service_send(self.run, program, send_delay=None if delay is None else ms(delay))

    async def op_attach(self, ctx: Context, path: str, program: Any, delay: int | None) -> Any:
        handle = ctx.service_send(self.run, program, send_delay=None if delay is None else ms(delay))
        return await ctx.attach_invocation(await handle.invocation_id(), type_hint=object)

    async def op_add(self, ctx: Context, path: str, key: str, how: str) -> int:
        return int(await ctx.object_call(self.add, key, how))

    async def op_read(self, ctx: Context, path: str, key: str) -> int:
        return int(await ctx.object_call(self.read, key))

    async def op_appends(self, ctx: Context, path: str, key: str, count: int, name: int) -> None:
        for number in range(count):
            ctx.object_send(self.append, key, [name, path, number])

    async def op_burst(self, ctx: Context, path: str, key: str) -> None:
        """A key that is taken, given back and taken again, with others waiting for it each time."""
        for how in ("at once", "step"):
            for _ in range(2):
                ctx.object_send(self.add, key, how)
            await ctx.sleep(ms(1))

    async def op_quarrel(self, ctx: Context, path: str, value: int) -> Any:
        """Two branches fail for good; which of them is heard first decides what is done next."""

        async def fails(code: int) -> None:
            await ctx.object_call(self.read, "a")
            await self.step(ctx, f"{path}/{code}", "ok", None)
            raise TerminalError("one of two", code)

        try:
            await asyncio.gather(fails(401), fails(402))
        except TerminalError as error:
            await self.step(ctx, f"{path}/was{error.status_code}", "slow", None)
        return value

    async def op_ticks(self, ctx: Context, path: str, value: int) -> Any:
        """Much arrives while a step fails and is tried again."""
        sleeps = [ctx.sleep(ms(10 + 9 * number)) for number in range(8)]

        async def watches() -> int:
            for sleep in sleeps:
                await sleep
            return len(sleeps)

        return await asyncio.gather(self.step(ctx, path, "flaky", value), watches())

    async def op_awakeable(self, ctx: Context, path: str, how: str, value: Any, timeout: int) -> Any:
        name, answer = ctx.awakeable(type_hint=object)
        await ctx.run(path, self.outside.publish, ctx, path, name, (how, value))
        if not timeout:
            return ["answer", await answer]
        return await ctx.select(answer=answer, late=ctx.sleep(ms(timeout)))

    async def op_signal(self, ctx: Context, path: str, value: Any) -> Any:
        child = ctx.service_call(self.run, {"ops": [["waits"], ["waits"]]})
        invocation = await child.invocation_id()
        ctx.resolve_signal(invocation, "go", [value, 1])
        await ctx.sleep(ms(5))
        ctx.resolve_signal(invocation, "go", [value, 2])
        return await child

    async def op_waits(self, ctx: Context, path: str) -> Any:
        return await ctx.signal("go", type_hint=object)

    async def op_random(self, ctx: Context, path: str) -> None:
        self.outside.constant(ctx, path, [ctx.random().random(), str(ctx.uuid())])

    async def op_time(self, ctx: Context, path: str) -> bool:
        return isinstance(await ctx.time(), float)

    async def op_saga(self, ctx: Context, path: str, code: int) -> Any:
        undone: list[int] = []
        try:
            async with ctx.saga() as saga:
                for number in range(2):
                    saga.add(f"{path}/undo{number}", self._undo, ctx, f"{path}/undo{number}", undone)
                    await self.step(ctx, f"{path}/do{number}", "ok", number)
                if code:
                    raise TerminalError("the saga fails", code)
        except TerminalError as error:
            return f"undone:{error.status_code}"
        return "done"

    async def _undo(self, ctx: Context, path: str, undone: list[int]) -> None:
        await self.outside.act(ctx, path, "ok", None)

    async def op_flow(self, ctx: Context, path: str, key: str, value: Any) -> Any:
        if value % 2:
            ctx.object_send(self.go, key, value)
        future = ctx.workflow_call(self.main, key, value)
        said = [await ctx.object_call(self.go, key, value) for _ in range(2)]
        again = None
        try:
            await ctx.workflow_call(self.main, key, value)
        except TerminalError as error:
            again = error.status_code
        return [await future, said[1], again]

    async def op_cancel(self, ctx: Context, path: str, program: Any) -> Any:
        child = ctx.service_call(self.run, program)
        await child.cancel_invocation()
        return await child

    async def op_revolt(self, ctx: Context, path: str) -> Any:
        """A child that cancels its caller and returns in the same breath. The caller's name is journaled: a
        restarted invocation has another one."""
        me = await ctx.run(path, self._name_of, ctx)
        return await ctx.service_call(self.run, {"ops": [["cancels", me]]})

    async def _name_of(self, ctx: Context) -> str:
        return str(ctx.invocation_id)

    async def op_cancels(self, ctx: Context, path: str, invocation: str) -> None:
        ctx.cancel_invocation(invocation)


LEAVES = (
    "step", "step", "step", "sleep", "random", "time", "futures", "late", "shared", "select", "add", "read",
    "appends", "awakeable", "signal", "saga", "flow", "crowd", "burst",
    "ticks", "quarrel",
)  # fmt: skip
INNER = ("gather", "group", "race", "call", "idem", "send", "attach")
LEAVES_OTHERS_WAITING = ("signal", "flow")
"""When these are stopped halfway, as losers of a race are, others wait for ever."""
ROUGH_LEAVES = (*LEAVES, "revolt", "revolt")
ROUGH_INNER = (*INNER, "cancel", "cancel")
DEPTH_MAX = 3
KEYS = ("a", "b", "c")


class Programs:
    """Makes programs from a seed."""

    def __init__(self, rng: Random, orderly: bool) -> None:
        self._rng, self._orderly = rng, orderly
        self._count = 0
        self._rough = self._racing = False
        self.idempotent: dict[str, Any] = {}

    def number(self) -> int:
        """A new one each time."""
        self._count += 1
        return self._count

    def program(self, depth: int = 0, family: str = "") -> dict[str, Any]:
        """For a plain handler; that of a program in it is inherited."""
        if family:
            self._rough = family == "Rough"
        fail = self._rng.choice((400, 500)) if self._rng.random() < 0.1 else None
        racing, self._racing = self._racing, False
        made = {"ops": self.ops(depth), "fail": fail}
        self._racing = racing
        return made

    def ops(self, depth: int) -> list[Any]:
        """A few operations."""
        return [self.op(depth) for _ in range(self._rng.randint(1, 4 - depth))]

    def op(self, depth: int) -> list[Any]:
        """One operation."""
        rng = self._rng
        inner = depth < DEPTH_MAX and rng.random() < 0.4
        leaves, inners = (ROUGH_LEAVES, ROUGH_INNER) if self._rough else (LEAVES, INNER)
        name = rng.choice(inners if inner else leaves)
        if (self._racing and name in LEAVES_OTHERS_WAITING) or (name == "quarrel" and not self._orderly):
            name = "step"  # callbacks that overtake each other may turn a quarrel round within one instant
        arguments: list[Any] = getattr(self, f"of_{name}")(depth + 1)
        return [name, *arguments]

    def of_step(self, _: int) -> list[Any]:
        kind = self._rng.choice(("ok", "ok", "ok", "slow", "plain", "terminal", "flaky", "exhaust", "expire"))
        return [kind, self.number()]

    def of_sleep(self, _: int) -> list[Any]:
        return [self._rng.choice((0, 1, 10, 200, 3000))]

    def of_random(self, _: int) -> list[Any]:
        return []

    of_time = of_revolt = of_random

    def of_futures(self, _: int) -> list[Any]:
        return [self.number() for _ in range(self._rng.randint(1, 3))]

    of_late = of_futures

    def of_shared(self, _: int) -> list[Any]:
        return [self.number()]

    of_signal = of_ticks = of_quarrel = of_shared

    def of_select(self, _: int) -> list[Any]:
        return [self.number(), self._rng.choice((0, 20, 300))]

    def of_add(self, _: int) -> list[Any]:
        return [self._rng.choice(KEYS), self._rng.choice(("at once", "step", "sleep", "keys"))]

    def of_read(self, _: int) -> list[Any]:
        return [self._rng.choice(KEYS)]

    of_burst = of_read

    def of_appends(self, _: int) -> list[Any]:
        return [self._rng.choice(KEYS), self._rng.randint(1, 4), self.number()]

    def of_awakeable(self, _: int) -> list[Any]:
        how = self._rng.choice(("once", "twice", "differing", "never", "rejected", "late"))
        timeout = (
            self._rng.choice((1, 100, 2000)) if how in ("never", "late") else self._rng.choice((0, 0, 50))
        )
        return [how, self.number(), timeout]

    def of_saga(self, _: int) -> list[Any]:
        return [self._rng.choice((0, 400))]

    def of_flow(self, _: int) -> list[Any]:
        return [f"w{self.number()}", self.number()]

    def of_crowd(self, _: int) -> list[Any]:
        return [self._rng.choice((400, 503)), self._rng.choice((0, 5, 100, 5000))]

    def of_gather(self, depth: int) -> list[Any]:
        return [self.ops(depth) for _ in range(self._rng.randint(1, 3))]

    of_group = of_gather

    def of_race(self, depth: int) -> list[Any]:
        racing, self._racing = self._racing, True
        made = [self.ops(depth), self.ops(depth)]
        self._racing = racing
        return made

    def of_call(self, depth: int) -> list[Any]:
        return [self.program(depth)]

    of_cancel = of_call

    def of_idem(self, depth: int) -> list[Any]:
        if self.idempotent and self._rng.random() < 0.5:
            key = self._rng.choice(sorted(self.idempotent))
            return [key, self.idempotent[key]]
        key, program = f"i{self.number()}", self.program(depth)
        if not self._rough:  # it may ask for what is only for rough ones
            self.idempotent[key] = program
        return [key, program]

    def of_send(self, depth: int) -> list[Any]:
        return [self.program(depth), self._rng.choice((None, 0, 5, 500))]

    of_attach = of_send
