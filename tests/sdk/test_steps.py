"""Steps: run once, journaled, retried by their own policy or the invocation's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

import agentdur
from agentdur import (
    Context,
    NotInHandler,
    RunOptions,
    Service,
    TerminalError,
)
from agentdur.core import journal as j
from agentdur.core.errors import NestedOperation
from agentdur.sdk.serde import BytesSerde
from tests.support.stage import Ledger, Stage, until


class Note(BaseModel):
    text: str


@dataclass
class Pair:
    one: int
    two: int


class Doubler:
    """Something callable that is no function."""

    async def __call__(self, number: int) -> int:
        return number * 2


def runs(stage: Stage, invocation: str) -> list[str]:
    return [entry.name for _, entry in stage.journal(invocation) if isinstance(entry, j.Run)]


async def test_actions_may_be_plain_async_partial_or_lambda(stage: Stage):
    svc = Service("Steps")

    async def add(a: int, b: int = 0) -> int:
        await asyncio.sleep(0)
        return a + b

    def subtract(a: int, b: int) -> int:
        return a - b

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        return [
            await ctx.run("async", add, 1, b=2),
            await ctx.run("plain", subtract, 5, 3),
            await ctx.run("partial", partial(add, 4), 5),
            await ctx.run("partial of plain", partial(subtract, 9), 1),
            await ctx.run("lambda", lambda: "x"),
            await ctx.run("lambda that gives a coroutine", lambda: add(6, 7)),
            await ctx.run("object", Doubler(), 4),
            await ctx.run("nothing", lambda: None),
            await ctx.run("restate's way", add, args=(1, 1)),
            await ctx.run_typed("typed", add, a=2, b=3),
            await ctx.run_typed("typed with options", add, RunOptions(max_attempts=1), 3, b=3),
            await ctx.run_typed("typed, first argument", subtract, 3, 3),
        ]

    await stage.start(svc)
    assert await stage.client.service_call(work) == [3, 2, 9, 8, "x", 13, 8, None, 2, 5, 6, 0]


async def test_values_come_back_as_the_type_they_are_asked_for(stage: Stage):
    svc = Service("Steps")
    seen: list[Any] = []

    @svc.handler()
    async def work(ctx: Context) -> None:
        seen.clear()
        seen.append(await ctx.run("note", lambda: Note(text="a"), type_hint=Note))
        seen.append(await ctx.run_typed("pair", lambda: Pair(1, 2), RunOptions(type_hint=Pair)))
        seen.append(await ctx.run("bytes", lambda: b"\xff\x00", serde=BytesSerde()))
        seen.append(await ctx.run("both", lambda: [Note(text="b")], type_hint=list[Note], max_attempts=3))
        if len(attempts) < 2:
            attempts.append(1)
            raise ValueError("again")

    attempts: list[int] = []
    await stage.start(svc)
    await stage.client.service_call(work)
    assert seen == [Note(text="a"), Pair(1, 2), b"\xff\x00", [Note(text="b")]]
    assert len(attempts) == 2


async def test_a_step_whose_result_is_committed_never_runs_again(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        first = await ctx.run("first", ledger.write, "first")
        second = await ctx.run("second", ledger.write, "second")
        if ledger.count("handler") < 3:
            ledger.write("handler")
            raise RuntimeError("once more")
        return [first, second]

    await stage.start(svc)
    assert await stage.client.service_call(work) == ["first", "second"]
    assert ledger.counts == {"first": 1, "second": 1, "handler": 3}


async def test_a_step_whose_result_was_lost_runs_again(stage: Stage):
    """The process dies while the action runs: at-least-once outside."""
    svc, ledger = Service("Steps"), Ledger()
    dying = True

    @svc.handler()
    async def work(ctx: Context) -> str:
        return await ctx.run("slow", slow)

    async def slow() -> str:
        ledger.write("started")
        if dying:
            await asyncio.sleep(60)
        return "done"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: ledger.lines)
    dying = False
    await stage.restart()
    assert await stage.client.attach(sent.invocation_id) == "done"
    assert ledger.counts == {"started": 2}
    assert runs(stage, sent.invocation_id) == ["slow"]


async def test_the_run_command_is_durable_before_the_action_starts(stage: Stage):
    svc = Service("Steps")
    found: list[list[str]] = []

    @svc.handler()
    async def work(ctx: Context) -> str:
        await ctx.run("one", look, ctx.request().id)
        return ctx.request().id

    async def look(invocation: str) -> None:
        found.append([type(entry).__name__ for _, entry in stage.journal(invocation)])

    await stage.start(svc)
    await stage.client.service_call(work)
    assert found == [["Input", "Run"]]


async def test_a_terminal_error_is_the_result_of_a_step(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    def refuse() -> None:
        ledger.write("asked")
        raise TerminalError("sold out", 410, {"item": "tea"})

    @svc.handler()
    async def work(ctx: Context) -> Any:
        try:
            await ctx.run("buy", refuse)
        except TerminalError as error:
            if ledger.count("again") == 0:
                ledger.write("again")
                raise ValueError("replay me") from error
            return [error.message, error.status_code, error.metadata]

    await stage.start(svc)
    assert await stage.client.service_call(work) == ["sold out", 410, {"item": "tea"}]
    assert ledger.count("asked") == 1


async def test_an_uncaught_terminal_error_of_a_step_ends_the_invocation(stage: Stage):
    svc = Service("Steps")

    def refuse() -> None:
        raise TerminalError("no", 99_999)

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.run("ask", refuse)

    await stage.start(svc)
    with pytest.raises(TerminalError, match="no") as caught:
        await stage.client.service_call(work)
    assert caught.value.status_code == 500  # what the wire cannot carry becomes 500


# -- steps side by side


async def test_when_one_of_several_steps_fails_the_others_finish_and_none_runs_twice(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    async def act(name: str, delay: float) -> str:
        await asyncio.sleep(delay)
        ledger.write(name)
        if name == "bad" and ledger.count("bad") < 3:
            raise ValueError("bad")
        return name

    async def two(ctx: Context, name: str) -> str:
        await ctx.run(f"{name}1", act, f"{name}1", 0.004)
        return await ctx.run(f"{name}2", act, f"{name}2", 0.004)

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        return await asyncio.gather(
            ctx.run("bad", act, "bad", 0.002),
            two(ctx, "a"),
            two(ctx, "b"),
            ctx.run("long", act, "long", 0.02),
        )

    await stage.start(svc)
    assert await asyncio.wait_for(stage.client.service_call(work), 5) == ["bad", "a2", "b2", "long"]
    assert ledger.counts == {"bad": 3, "a1": 1, "a2": 1, "b1": 1, "b2": 1, "long": 1}


async def test_a_step_that_waits_for_its_commit_does_not_hold_up_a_failing_attempt(stage: Stage):
    """One fails while others are between their command and their action."""
    svc, ledger = Service("Steps"), Ledger()

    async def fail() -> None:
        ledger.write("fail")
        if ledger.count("fail") < 3:
            raise ValueError("no")

    async def later(ctx: Context, number: int) -> None:
        for turn in range(3):
            await ctx.run(f"{number}.{turn}", ledger.write, f"{number}.{turn}")

    @svc.handler()
    async def work(ctx: Context) -> str:
        await asyncio.gather(*[later(ctx, n) for n in range(6)], ctx.run("fail", fail))
        return "ok"

    await stage.start(svc)
    assert await asyncio.wait_for(stage.client.service_call(work), 5) == "ok"
    assert set(ledger.counts.values()) == {1, 3}


async def test_the_handler_fails_while_a_step_runs_and_the_step_is_kept(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    async def slow() -> str:
        await asyncio.sleep(0.02)
        return ledger.write("slow")

    @svc.handler()
    async def work(ctx: Context) -> str:
        task = asyncio.create_task(wait(ctx))
        await asyncio.sleep(0.005)
        if ledger.count("fell") < 1:
            ledger.write("fell")
            raise ValueError("fell")
        return await task

    async def wait(ctx: Context) -> str:
        return await ctx.run("slow", slow)

    await stage.start(svc)
    assert await stage.client.service_call(work) == "slow"
    assert ledger.count("slow") == 1


# -- keys


async def test_the_idempotency_key_is_the_same_on_every_attempt_and_for_no_other_step(stage: Stage):
    svc = Service("Steps")
    seen: dict[str, set[str]] = {}
    attempts = 0

    @svc.handler()
    async def work(ctx: Context) -> None:
        nonlocal attempts
        attempts += 1

        async def note(name: str) -> None:
            seen.setdefault(name, set()).add(ctx.idempotency_key)
            if attempts < 3:
                raise ValueError("again")

        async def branch(name: str) -> None:
            await ctx.run(name, note, name)

        seen.setdefault("first", set()).add(ctx.idempotency_key)
        await ctx.run("first", note, "first")
        await ctx.run("second", note, "second")
        await asyncio.gather(branch("left"), branch("right"))

    await stage.start(svc)
    await stage.client.service_call(work)
    assert [len(keys) for keys in seen.values()] == [1, 1, 1, 1]
    assert len({key for keys in seen.values() for key in keys}) == 4


async def test_inside_its_action_the_key_is_that_of_the_step_wherever_it_runs(stage: Stage):
    """Steps that are awaited in another order than they were made, together, or from tasks and threads."""
    svc = Service("Steps")

    @svc.handler()
    async def work(ctx: Context) -> list[list[str]]:
        late: list[asyncio.Task[str]] = []

        async def key(seconds: float = 0) -> str:
            await asyncio.sleep(seconds)
            return ctx.idempotency_key

        async def in_task() -> str:
            return await asyncio.create_task(key())

        async def leaves_a_task() -> str:
            late.append(asyncio.create_task(key(0.005)))
            return ctx.idempotency_key

        made, futures = [], []
        for action in (key, in_task, leaves_a_task, lambda: ctx.idempotency_key):
            made.append(ctx.idempotency_key)
            futures.append(ctx.run("step", action))
        seen = [await futures[2], await futures[1]]
        await agentdur.gather(futures[0], futures[3])
        return [made, [await futures[0], seen[1], seen[0], await futures[3]], [made[2], await late[0]]]

    await stage.start(svc)
    made, seen, late = await stage.client.service_call(work)
    assert seen == made
    assert len(set(made)) == 4
    assert late[0] == late[1]


# -- what is refused inside a step


@pytest.mark.parametrize("how", ["directly", "in a thread", "in a task", "in a task of a thread's caller"])
async def test_context_operations_inside_a_step_are_refused(stage: Stage, how: str):
    svc = Service("Steps")
    refused: list[str] = []

    @svc.handler()
    async def work(ctx: Context) -> str:
        async def inner() -> str:
            match how:
                case "directly":
                    attempt()
                case "in a thread":
                    await asyncio.to_thread(attempt)
                case "in a task":
                    await asyncio.create_task(in_task())
                case _:
                    await asyncio.create_task(asyncio.to_thread(attempt))
            return "ok"

        async def in_task() -> None:
            attempt()

        def attempt() -> None:
            for operation in (
                lambda: ctx.run("inner", lambda: 1),
                lambda: ctx.sleep(timedelta(0)),
                ctx.awakeable,
                ctx.random,
                lambda: ctx.generic_call("Steps", "work", b""),
                lambda: ctx.generic_send("Steps", "work", b""),
            ):
                try:
                    operation()
                except NestedOperation as error:
                    refused.append(error.code)

        return await ctx.run("outer", inner)

    await stage.start(svc)
    assert await stage.client.service_call(work) == "ok"
    assert refused == ["AD0033"] * 6


async def test_a_plain_step_is_refused_the_context_too(stage: Stage):
    svc = Service("Steps")

    @svc.handler()
    async def work(ctx: Context) -> str:
        def inner() -> str:
            try:
                ctx.sleep(timedelta(0))
            except NestedOperation:
                return "refused"
            return "allowed"

        return await ctx.run("outer", inner)

    await stage.start(svc)
    assert await stage.client.service_call(work) == "refused"


async def test_a_context_of_another_invocation_is_refused(stage: Stage):
    svc = Service("Steps")
    kept: list[Context] = []
    said: list[str] = []

    @svc.handler()
    async def keep(ctx: Context) -> None:
        kept.append(ctx)
        await ctx.sleep(timedelta(seconds=60))

    @svc.handler()
    async def steal(ctx: Context) -> str:
        for use in (lambda: kept[0].run("x", lambda: 1), lambda: kept[0].idempotency_key):
            try:
                use()
            except NotInHandler as error:
                said.append(error.code)
        return "ok"

    await stage.start(svc)
    await stage.client.service_send(keep)
    await until(lambda: kept)
    assert await stage.client.service_call(steal) == "ok"
    with pytest.raises(NotInHandler):
        kept[0].sleep(timedelta(0))
    assert said == ["AD0030", "AD0030"]


async def test_a_step_that_is_never_awaited_never_runs(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> str:
        forgotten = ctx.run("forgotten", ledger.write, "ran")
        assert not forgotten.done and not forgotten.is_completed()
        return "ok"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    assert await stage.client.attach(sent.invocation_id) == "ok"
    assert ledger.lines == []
    assert runs(stage, sent.invocation_id) == ["forgotten"]


async def test_a_step_may_be_awaited_again_and_by_others(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    async def slow() -> str:
        await asyncio.sleep(0.01)
        return ledger.write("slow")

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        shared = ctx.run("slow", slow)
        both = await asyncio.gather(shared, shared)
        return [*both, await shared]

    await stage.start(svc)
    assert await stage.client.service_call(work) == ["slow"] * 3
    assert ledger.count("slow") == 1
