"""Branches: tasks made inside a handler replay, however they interleave."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import anyio
import pytest

from agentdur import Context, RunOptions, Service, TerminalError
from agentdur.core import journal as j
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, check_journal, until
from tests.support.stories import every_crash

NO_WAIT = timedelta(milliseconds=1)


class Weather:
    """Seeded sleeps: another interleaving for each seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    async def blow(self) -> None:
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)
        if self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.random() * 0.004)


async def worker(ctx: Context, ledger: Ledger, name: str, weather: Weather) -> list[Any]:
    """Steps, state of the branch, and a nested branch."""
    out: list[Any] = []
    for turn in range(2):
        await weather.blow()
        out.append(await ctx.run(f"{name}{turn}", ledger.write, f"{name}{turn}"))
    await weather.blow()
    out.append(str(ctx.uuid()))
    out.append(await asyncio.create_task(nested(ctx, ledger, name, weather)))
    return out


async def nested(ctx: Context, ledger: Ledger, name: str, weather: Weather) -> str:
    await weather.blow()
    await ctx.sleep(NO_WAIT)
    await weather.blow()
    return await ctx.run("nested", ledger.write, f"{name}/nested")


async def by_gather(ctx: Context, ledger: Ledger, weather: Weather) -> list[Any]:
    return await asyncio.gather(*[worker(ctx, ledger, name, weather) for name in "abc"])


async def by_task_group(ctx: Context, ledger: Ledger, weather: Weather) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(worker(ctx, ledger, name, weather)) for name in "abc"]
    return [task.result() for task in tasks]


async def by_create_task(ctx: Context, ledger: Ledger, weather: Weather) -> list[Any]:
    tasks = [asyncio.create_task(worker(ctx, ledger, name, weather)) for name in "abc"]
    await weather.blow()
    return [await task for task in reversed(tasks)][::-1]


async def by_anyio(ctx: Context, ledger: Ledger, weather: Weather) -> list[Any]:
    out: dict[str, Any] = {}

    async def one(name: str) -> None:
        out[name] = await worker(ctx, ledger, name, weather)

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(one, name)
    return [out[name] for name in "abc"]


async def by_wait_for(ctx: Context, ledger: Ledger, weather: Weather) -> list[Any]:
    async def patiently(name: str) -> Any:
        async with asyncio.timeout(60):
            return await asyncio.wait_for(worker(ctx, ledger, name, weather), 60)

    return await asyncio.gather(*[patiently(name) for name in "abc"])


async def by_helpers(ctx: Context, ledger: Ledger, weather: Weather) -> list[Any]:
    """As frameworks do: another number of helper tasks at each attempt."""

    async def helper() -> None:
        await asyncio.sleep(0)

    helpers = [asyncio.create_task(helper()) for _ in range(weather.rng.randrange(5))]
    workers = []
    for name in "abc":
        helpers += [asyncio.create_task(helper()) for _ in range(weather.rng.randrange(3))]
        workers.append(asyncio.create_task(worker(ctx, ledger, name, weather)))
    await asyncio.gather(*helpers)
    return await asyncio.gather(*workers)


WAYS = {
    way.__name__: way for way in (by_gather, by_task_group, by_create_task, by_anyio, by_wait_for, by_helpers)
}


@IN_MEMORY_AT_ONCE
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
async def test_tasks_replay_however_they_interleave(stage: Stage, way: str):
    """Twelve attempts, each with other interleavings and failing at another place."""
    svc, ledger = Service("Branches"), Ledger()
    seeds = iter(range(10_000))
    answers: list[Any] = []

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        weather = Weather(next(seeds))
        found = await WAYS[way](ctx, ledger, weather)
        answers.append(found)
        if len(answers) < 4:
            raise ValueError("again")
        return found

    await stage.start(svc)
    for _ in range(3):
        answers.clear()
        ledger.lines.clear()
        sent = await stage.client.service_send(work)
        answer = await stage.client.attach(sent.invocation_id)
        assert answers == [answer] * 4
        assert [found[0] for found in answer] == ["a0", "b0", "c0"]
        assert set(ledger.counts.values()) == {1}
        check_journal(stage.journal(sent.invocation_id))


@IN_MEMORY_AT_ONCE
@pytest.mark.parametrize("way", ["by_gather", "by_task_group", "by_anyio", "by_helpers"])
@pytest.mark.slow
async def test_tasks_replay_after_a_crash_at_any_commit(stage: Stage, way: str):
    svc, ledger = Service("Branches"), Ledger()
    seeds = iter(range(100_000))

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        return await WAYS[way](ctx, ledger, Weather(next(seeds)))

    async def ask(on: Stage) -> Any:
        return await on.client.service_call(work, idempotency_key="one")

    def check(answer: Any, crashed: bool) -> None:
        assert [found[:2] + found[3:] for found in answer] == [
            [f"{name}0", f"{name}1", f"{name}/nested"] for name in "abc"
        ]
        assert set(ledger.counts) == {f"{name}{what}" for name in "abc" for what in ("0", "1", "/nested")}
        assert max(ledger.counts.values()) <= (2 if crashed else 1)
        ledger.lines.clear()

    assert await every_crash(stage, (svc,), ask, check, stride=1 if stage.kind == "memory" else 4) >= 4


async def test_random_uuid_and_awakeable_ids_are_a_branchs_own(stage: Stage):
    svc = Service("Branches")
    seen: list[dict[str, Any]] = []

    @svc.handler()
    async def work(ctx: Context) -> int:
        weather = Weather(len(seen))
        found: dict[str, Any] = {}

        async def draw(name: str) -> None:
            await weather.blow()
            found[f"{name} random"] = [ctx.random().random() for _ in range(3)]
            found[f"{name} uuid"] = ctx.uuid()
            await weather.blow()
            found[f"{name} awakeables"] = [ctx.awakeable()[0] for _ in range(2)]

        await asyncio.gather(draw("a"), draw("b"), draw("c"))
        await draw("root")
        seen.append(found)
        if len(seen) < 6:
            raise ValueError("again")
        return len(seen)

    await stage.start(svc)
    assert await stage.client.service_call(work) == 6
    assert all(found == seen[0] for found in seen)
    values = [str(value) for value in seen[0].values()]
    assert len(set(values)) == len(values)


async def test_awakeables_of_branches_are_completed_by_their_id(stage: Stage):
    svc = Service("Branches")

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        async def ask(name: str) -> str:
            token, answer = ctx.awakeable(type_hint=str)
            await ctx.run(f"tell {name}", asked.append, token)
            return await answer

        return await asyncio.gather(ask("a"), ask("b"))

    asked: list[str] = []
    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: len(asked) == 2)
    await stage.restart()
    for number, token in enumerate(asked):
        await stage.client.resolve_awakeable(token, f"answer {number}")
    assert sorted(await stage.client.attach(sent.invocation_id)) == ["answer 0", "answer 1"]


async def test_a_terminal_error_in_one_branch_of_a_gather_ends_the_invocation(stage: Stage):
    svc, ledger = Service("Branches"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> None:
        async def bad() -> None:
            await ctx.sleep(NO_WAIT)
            raise TerminalError("no", 418)

        await asyncio.gather(bad(), ctx.run("good", ledger.write, "good"), ctx.sleep(timedelta(seconds=60)))

    await stage.start(svc)
    with pytest.raises(TerminalError, match="no"):
        await stage.client.service_call(work)


async def test_a_group_of_terminal_errors_is_terminal(stage: Stage):
    """A TaskGroup wraps what its tasks raise; that does not make it worth a retry."""
    svc = Service("Branches")
    attempts: list[int] = []

    @svc.handler()
    async def work(ctx: Context) -> None:
        attempts.append(1)

        async def bad(message: str) -> None:
            await ctx.sleep(NO_WAIT)
            raise TerminalError(message, 418, {"why": "test"})

        async with asyncio.TaskGroup() as group:
            group.create_task(bad("no"))
            group.create_task(ctx_sleep(ctx))

    async def ctx_sleep(ctx: Context) -> None:
        await ctx.sleep(timedelta(seconds=60))

    await stage.start(svc)
    with pytest.raises(TerminalError, match="no") as caught:
        await asyncio.wait_for(stage.client.service_call(work), 5)
    assert (caught.value.status_code, caught.value.metadata) == (418, {"why": "test"})
    assert len(attempts) == 1


async def test_a_group_with_another_error_in_it_is_retried(stage: Stage):
    svc = Service("Branches")
    attempts: list[int] = []

    @svc.handler()
    async def work(ctx: Context) -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise ExceptionGroup("mixed", [TerminalError("no"), ExceptionGroup("in", [ValueError("maybe")])])
        return "ok"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "ok"


async def test_a_task_that_outlives_its_handler_is_stopped(stage: Stage):
    svc, ledger = Service("Branches"), Ledger()
    left: list[asyncio.Task[Any]] = []

    @svc.handler()
    async def work(ctx: Context) -> str:
        async def linger() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ledger.write("stopped")

        left.append(asyncio.create_task(linger()))
        await ctx.run("one", lambda: 1)
        return "ok"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "ok"
    await asyncio.wait(left, timeout=1)
    assert ledger.lines == ["stopped"]


async def test_a_handler_that_cancels_itself_is_retried(stage: Stage):
    svc = Service("Branches")
    attempts: list[int] = []

    @svc.handler()
    async def work(ctx: Context) -> str:
        attempts.append(1)
        if len(attempts) < 3:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(60)
        return "ok"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "ok"
    assert len(attempts) == 3


async def test_a_step_that_is_cancelled_by_its_handler_runs_again_when_asked_again(stage: Stage):
    """asyncio's own cancellation of a task with a step in it is the handler's affair."""
    svc, ledger = Service("Branches"), Ledger()

    async def hang() -> None:
        ledger.write("hang")
        try:
            await asyncio.sleep(60)
        finally:
            ledger.write("left")

    @svc.handler()
    async def work(ctx: Context) -> str:
        async def hanging() -> None:
            await ctx.run("hang", hang)

        task = asyncio.create_task(hanging())
        await until(lambda: ledger.count("hang"))
        task.cancel()
        await asyncio.wait([task])
        return await ctx.run("after", ledger.write, "after")

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    assert await stage.client.attach(sent.invocation_id) == "after"
    assert ledger.lines == ["hang", "left", "after"]
    names = [entry.name for _, entry in stage.journal(sent.invocation_id) if isinstance(entry, j.Run)]
    assert names == ["hang", "after"]


async def test_who_waits_for_a_step_gets_it_although_the_task_that_ran_it_was_cancelled(stage: Stage):
    svc, ledger = Service("Branches"), Ledger()

    async def slow() -> str:
        await asyncio.sleep(0.01)
        return ledger.write("slow")

    @svc.handler()
    async def work(ctx: Context) -> str:
        shared = ctx.run("slow", slow)

        async def wait() -> str:
            return await shared

        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0.004)
        first.cancel()
        return await second

    await stage.start(svc)
    assert await asyncio.wait_for(stage.client.service_call(work), 5) == "slow"
    assert ledger.lines == ["slow"]


async def test_steps_in_many_branches_share_commits_and_keep_their_order(stage: Stage):
    svc = Service("Branches")

    @svc.handler()
    async def work(ctx: Context) -> list[int]:
        async def one(n: int) -> int:
            return await ctx.run_typed(f"n{n}", lambda: n * n, RunOptions(max_attempts=2))

        return await asyncio.gather(*[one(n) for n in range(50)])

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    assert await stage.client.attach(sent.invocation_id) == [n * n for n in range(50)]
    check_journal(stage.journal(sent.invocation_id))


async def test_a_timeout_around_a_step_fires_again_on_replay(stage: Stage):
    """asyncio's timeouts are not journaled: the step runs again and has to be as slow as it was."""
    svc, ledger = Service("Branches"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.01):
                return await ctx.run("slow", slow)
        except TimeoutError:
            found = await ctx.run("instead", ledger.write, "instead")
            if ledger.count("slow") < 3:
                raise ValueError("again") from None
            return found

    async def slow() -> str:
        ledger.write("slow")
        await asyncio.sleep(60)
        return "slow"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "instead"
    assert ledger.counts == {"slow": 3, "instead": 1}
