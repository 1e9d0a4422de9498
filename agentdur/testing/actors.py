"""Who talks to the simulated engine: clients, those who complete awakeables, operators.

Rules of this file:
1. An actor outlives the engine's process: what it was told is remembered, what it was not told may or may not
   have happened.
2. A request without an idempotency key is never repeated.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any, Literal, Protocol

import msgspec

from agentdur.core import journal as j
from agentdur.core.errors import CallerError, NotRunning, StoreError, UnknownInvocation, WrongStatus
from agentdur.core.ids import InvocationId, parse_awakeable_id
from agentdur.core.machine.submit import ALREADY_INVOKED
from agentdur.core.ports import Request
from agentdur.core.state import Status
from agentdur.runtime.owner import Engine
from agentdur.testing.faults import Plan
from agentdur.testing.invariants import Checks
from agentdur.testing.workloads import KEYS, Programs

Action = Literal["cancel", "kill", "pause", "resume", "purge", "purge-journal"]
ACTIONS: tuple[Action, ...] = ("cancel", "cancel", "kill", "pause", "resume", "purge", "purge-journal")
_ENCODE = msgspec.json.encode


class Life(Protocol):
    """The engine's process that is up now."""

    rng: Random
    engine: Engine
    plan: Plan

    @property
    def calm(self) -> bool:
        """Nothing goes wrong any more."""

    def note(self, *what: object) -> None:
        """A line of the trace."""


class Wish(msgspec.Struct, kw_only=True):
    """One thing a client wants. `acknowledged`: it was told that the engine has it."""

    service: str
    handler: str
    argument: Any
    key: str | None = None
    idempotency_key: str | None = None
    delay_ms: int | None = None
    wait: bool = True
    patience: float = 0.0
    collect: bool = True
    program: Any = None
    think: float = 0.0
    invocation: InvocationId | None = None
    acknowledged: bool = False
    tried: bool = False
    outcome: j.Result | None = None


def wishes(rng: Random, programs: Programs) -> list[Wish]:
    """What one client does, one after another."""
    made = []
    for _ in range(rng.randint(1, 5)):
        family = rng.choice(("Calm", "Calm", "Rough"))
        kind = rng.choice(("program", "program", "idempotent", "add", "flow"))
        think = rng.choice((0.0, 0.01, 1.0))
        common: dict[str, Any] = {
            "wait": rng.random() < 0.6, "patience": rng.choice((0.0, 0.0, 0.02, 1.0)), "think": think,
            "delay_ms": rng.choice((None, None, None, 0, 20, 2000)),
        }  # fmt: skip
        if kind == "add":
            key, how = rng.choice(KEYS), rng.choice(("at once", "step", "sleep"))
            made.append(Wish(service=f"{family}Counter", handler="add", key=key, argument=how, **common))
        elif kind == "flow":
            key, value = f"c{programs.number()}", programs.number()
            common["wait"] = False
            run = Wish(service=f"{family}Flow", handler="run", key=key, argument=value, **common)
            run.collect = False  # it ends when this client has gone on
            made.append(run)
            common["delay_ms"] = None
            again = f"go{key}"
            go = Wish(
                service=f"{family}Flow",
                handler="go",
                key=key,
                argument=value,
                idempotency_key=again,
                **common,
            )
            made.append(go)
            made.append(Wish(service=f"{family}Flow", handler="run", key=key, argument=value, **common))
        else:
            program = programs.program(0, family)
            wish = Wish(service=family, handler="run", argument=program, program=program, **common)
            if kind == "idempotent":
                wish.idempotency_key = f"k{programs.number()}"
                made += [msgspec.structs.replace(wish) for _ in range(rng.randint(1, 2))]
            made.append(wish)
    return made


class Client:
    """Submits its wishes; goes away when its patience ends, comes back after a crash."""

    def __init__(self, plans: list[Wish], checks: Checks) -> None:
        self.todo, self.all = list(plans), plans
        self._checks = checks

    async def run(self, life: Life) -> None:
        """Until there is nothing left to ask for."""
        while self.todo:
            wish = self.todo[0]
            await asyncio.sleep(wish.think * life.rng.random())
            repeatable = wish.idempotency_key is not None or (wish.handler == "run" and wish.key is not None)
            if wish.tried and not repeatable:
                self.todo.pop(0)  # nobody knows
                continue
            try:
                await self._submit(life, wish)
            except (StoreError, NotRunning) as error:
                life.note("client", type(error).__name__)
                await asyncio.sleep(0.5)
                continue
            self.todo.pop(0)

    async def _submit(self, life: Life, wish: Wish) -> None:
        engine = life.engine
        target = engine.catalog.target(wish.service, wish.handler, wish.key)
        assert target is not None
        request = Request(
            target=target, value=_ENCODE(wish.argument), idempotency_key=wish.idempotency_key,
            delay_ms=wish.delay_ms,
        )  # fmt: skip
        if wish.wait:
            wish.invocation, answer = engine.call(request)
            wish.tried = True
            await self._hear(life, wish, answer)
            return
        wish.invocation, receipt = engine.send(request)
        wish.tried = True
        await receipt
        self._forget_soon(life, wish)
        self._checks.received(wish.invocation)
        wish.acknowledged = True
        life.note("receipt", wish.invocation)
        if wish.collect and life.rng.random() < 0.5:
            await asyncio.sleep(life.rng.choice((0.0, 0.1, 1.0)))
            await self._collect(life, wish)

    async def _hear(self, life: Life, wish: Wish, answer: Any) -> None:
        if wish.patience:
            try:
                told = await asyncio.wait_for(answer, wish.patience)
            except TimeoutError:
                life.note("client left", wish.invocation)
                return
        else:
            told = await answer
        assert wish.invocation is not None
        self._forget_soon(life, wish)
        self._checks.answered(wish.invocation, told.result)
        life.note("answer", wish.invocation, told.result)
        if told.result != ALREADY_INVOKED:
            wish.outcome = told.result
        wish.acknowledged = True

    def _forget_soon(self, life: Life, wish: Wish) -> None:
        """Without retention what begins and ends in one commit never has a row."""
        if wish.service.startswith("Rough") and life.plan.retention_seconds == 0:
            assert wish.invocation is not None
            self._checks.disturbed.add(wish.invocation)

    async def _collect(self, life: Life, wish: Wish) -> None:
        assert wish.invocation is not None
        try:
            if life.rng.random() < 0.5:
                known = await life.engine.output(wish.invocation)
                if known is not None:
                    self._checks.answered(wish.invocation, known.result)
            else:
                await self._hear(life, wish, life.engine.attach(wish.invocation))
        except UnknownInvocation:
            if wish.invocation not in self._checks.gone | self._checks.disturbed:
                raise


class Completer:
    """Completes awakeables as their makers asked: never, once, twice, late."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.todo: list[tuple[str, str, Any]] = []

    def publish(self, awakeable: str, how: str, value: Any) -> None:
        """An id has become known; it may become known again."""
        if awakeable in self.known:
            return
        self.known[awakeable] = 1
        values = {"never": [], "twice": [value, value], "differing": [value, -value], "rejected": [None]}
        self.todo += [(awakeable, how, given) for given in values.get(how, [value])]

    async def run(self, life: Life) -> None:
        """Until the process ends."""
        while True:
            await asyncio.sleep(life.rng.choice((0.001, 0.05)) if self.todo or not life.calm else 5.0)
            if not self.todo:
                continue
            awakeable, how, value = self.todo[0]
            invocation, index = parse_awakeable_id(awakeable)
            if how == "late":
                await asyncio.sleep(1.5)
            result = j.Failure(500, "rejected") if how == "rejected" else j.Success(_ENCODE(value))
            try:
                await life.engine.signal(invocation, index, result)
            except (StoreError, NotRunning):
                await asyncio.sleep(0.2)
                continue
            life.note("completed", awakeable, how)
            self.todo.remove((awakeable, how, value))


class Operator:
    """Disturbs invocations of the Rough family."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    async def run(self, life: Life, every: float) -> None:
        """Until the process is calm."""
        while not life.calm:
            await asyncio.sleep(life.rng.uniform(0, 2 * every))
            rows = [r for r in self._checks.rows() if r.spec.target.service.startswith("Rough")]
            if rows:
                await self._disturb(life, life.rng.choice(rows).spec.id)

    async def _disturb(self, life: Life, invocation: InvocationId) -> None:
        self._checks.disturbed.add(invocation)
        try:
            if life.rng.random() < 0.15:
                new = await life.engine.restart_as_new(invocation, life.rng.choice((0, 0, 1, 2, 4)))
                life.note("restarted", invocation, new)
                return
            action = life.rng.choice(ACTIONS)
            life.note("operator", action, invocation)
            await life.engine.operate(action, invocation)
        except (StoreError, CallerError) as error:
            life.note("operator refused", type(error).__name__)

    async def resume_all(self, life: Life, also_kill: bool) -> None:
        """Let go on whatever rests. What was disturbed may wait for one that was stopped, or for an awakeable
        of another name: it is killed when `also_kill`."""
        for row in self._checks.rows():
            rough = row.spec.target.service.startswith("Rough")
            with suppress(WrongStatus, UnknownInvocation):  # it went on by itself meanwhile
                if also_kill and rough and row.head.status is not Status.COMPLETED:
                    await life.engine.operate("kill", row.spec.id)
                elif row.head.status is Status.PAUSED:
                    life.note("resume", row.spec.id)
                    await life.engine.operate("resume", row.spec.id)
