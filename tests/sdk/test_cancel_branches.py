"""Cancellation in branches and combinators, and across crashes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from agentdur import Context, Service, TerminalError
from agentdur.core import journal as j
from agentdur.core.ids import InvocationId
from tests.support.cancelling import cancel, ended_cancelled, waiting
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, check_journal, until
from tests.support.stories import every_crash

LATE = timedelta(seconds=60)


async def test_a_cancel_reaches_every_branch_that_waits(stage: Stage):
    svc, ledger = Service("Cancel"), Ledger()
    attempts: list[int] = []

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        async def branch(name: str, step: bool) -> str:
            try:
                if step:
                    await ctx.run(name, hang)
                else:
                    await ctx.sleep(LATE)
            except TerminalError as error:
                await ctx.run(f"undo {name}", ledger.write, f"undo {name}")
                return f"{name} {error.message}"
            return "never"

        found = await asyncio.gather(branch("a", True), branch("b", False), branch("c", True))
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("again")
        return found

    async def hang() -> None:
        ledger.write("hangs")
        await asyncio.sleep(60)

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: ledger.count("hangs") == 2)
    await cancel(stage, sent)
    assert await stage.client.attach(sent.invocation_id) == [f"{name} cancelled" for name in "abc"]
    assert ledger.counts == {"hangs": 2, "undo a": 1, "undo b": 1, "undo c": 1}
    check_journal(stage.journal(sent.invocation_id))


async def test_steps_in_a_combinator_are_not_run_again_after_the_cancel(stage: Stage):
    svc, ledger = Service("Cancel"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            await ctx.select(one=ctx.run("one", hang, "one"), two=ctx.run("two", hang, "two"))
        except TerminalError:
            ledger.write("cancelled")
            if ledger.count("cancelled") < 3:
                raise ValueError("again") from None
            await ctx.run("undo", lambda: None)
            return "undone"
        return "never"

    async def hang(name: str) -> None:
        ledger.write(name)
        await asyncio.sleep(60)

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: len(ledger.lines) == 2)
    await cancel(stage, sent)
    assert await stage.client.attach(sent.invocation_id) == "undone"
    assert ledger.counts == {"one": 1, "two": 1, "cancelled": 3}


async def test_a_cancel_in_a_task_group_ends_the_invocation(stage: Stage):
    svc = Service("Cancel")

    @svc.handler()
    async def work(ctx: Context) -> None:
        async def wait() -> None:
            await ctx.sleep(LATE)

        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(wait())

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await waiting(stage, sent, 3)
    await cancel(stage, sent)
    await ended_cancelled(stage, sent)


async def test_what_was_there_before_the_cancel_is_still_seen(stage: Stage):
    """A completion that is stored first is handed out first, live and on replay."""
    svc, attempts = Service("Cancel"), []
    go = asyncio.Event()

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        _, answer = ctx.awakeable(type_hint=str)
        out: list[Any] = [await ctx.run("first", lambda: 1)]
        if not go.is_set():
            await go.wait()
        for wait in (answer, ctx.sleep(LATE)):
            try:
                out.append(await wait)
            except TerminalError as error:
                out.append(error.message)
        attempts.append(out)
        if len(attempts) < 3:
            raise ValueError("again")
        return out

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await waiting(stage, sent, 3)
    await stage.engine.signal(InvocationId(sent.invocation_id), 17, j.Success(b'"yes"'))
    await cancel(stage, sent)
    go.set()
    assert await stage.client.attach(sent.invocation_id) == [1, "yes", "cancelled"]
    assert attempts == [[1, "yes", "cancelled"]] * 3


@IN_MEMORY_AT_ONCE
async def test_a_cancel_means_the_same_whenever_the_process_dies(stage: Stage):
    svc, ledger = Service("Cancel"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        out: list[str] = []

        async def branch(name: str) -> None:
            try:
                await ctx.run(f"work {name}", hang)
            except TerminalError as error:
                out.append(f"{name} {error.message}")
                await ctx.run(f"undo {name}", ledger.write, f"undo {name}")

        await asyncio.gather(branch("a"), branch("b"))
        return sorted(out)

    async def hang() -> None:
        ledger.write("hangs")
        await asyncio.sleep(60)

    async def ask(on: Stage) -> Any:
        sent = await on.client.service_send(work, idempotency_key="one")
        while True:
            shown = await on.engine.describe(InvocationId(sent.invocation_id))
            assert shown is not None
            if shown["status"] == "completed":
                break
            if (
                not any(entry["kind"] == "Signal" for entry in shown["journal"])
                and ledger.count("hangs") >= 2
            ):
                await cancel(on, sent)
            await asyncio.sleep(0.001)
        check_journal(on.journal(sent.invocation_id))
        return await on.client.attach(sent.invocation_id)

    def check(answer: Any, crashed: bool) -> None:
        assert answer == ["a cancelled", "b cancelled"]
        assert ledger.count("undo a") in {1, 1 + crashed}
        ledger.lines.clear()

    assert await every_crash(stage, (svc,), ask, check) >= 6


async def test_a_cancelled_compensation_in_many_attempts_stays_consistent(stage: Stage):
    """Each attempt fails at another place after the cancel; no mismatch, nothing done twice."""
    svc, ledger = Service("Cancel"), Ledger()
    attempts: list[int] = []

    @svc.handler()
    async def work(ctx: Context) -> str:
        attempts.append(1)
        limit = len(attempts)
        done = 0
        try:
            for number in range(3):
                await ctx.run(f"do {number}", ledger.write, f"do {number}")
            await ctx.sleep(LATE)
        except TerminalError:
            for number in range(3):
                if done >= limit:
                    raise ValueError("here") from None
                await ctx.run(f"undo {number}", ledger.write, f"undo {number}")
                done += 1
        return "undone"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await waiting(stage, sent, 8)
    await cancel(stage, sent)
    assert await stage.client.attach(sent.invocation_id) == "undone"
    assert set(ledger.counts.values()) == {1}
    assert len(attempts) == 3
