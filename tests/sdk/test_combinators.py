"""Combinators: of what is raced, the same one wins on every attempt; losers of a race are cancelled."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from typing import Any

import pytest

import agentdur
from agentdur import Context, Service, TerminalError
from agentdur.core import journal as j
from agentdur.core.errors import ForeignFuture
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, check_journal, until
from tests.support.stories import every_crash

SOON = timedelta(milliseconds=3)
LATE = timedelta(seconds=60)


class Once:
    """Raises at the first `count` uses, so that the journal is replayed."""

    def __init__(self, count: int = 1) -> None:
        self.left = count

    def again(self) -> None:
        if self.left:
            self.left -= 1
            raise ValueError("again")


async def after(seconds: float, value: Any) -> Any:
    await asyncio.sleep(seconds)
    return value


async def test_select_answers_the_name_and_value_of_the_first(stage: Stage):
    svc, once, ledger = Service("Race"), Once(2), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        slow = ctx.run("slow", after, 0.03, "slow")
        fast = ctx.run("fast", after, 0.002 if ledger.count("seen") == 0 else 0.0, "fast")
        found = await agentdur.select(slow=slow, fast=fast, late=ctx.sleep(LATE))
        ledger.write("seen")
        await slow  # by now both are in the journal, and still the same one wins
        once.again()
        return found

    await stage.start(svc)
    assert await stage.client.service_call(work) == ["fast", "fast"]
    assert ledger.count("seen") == 3


async def test_select_with_a_deadline(stage: Stage):
    svc, once = Service("Race"), Once()

    @svc.handler()
    async def work(ctx: Context) -> Any:
        _, answer = ctx.awakeable()
        match await ctx.select(answer=answer, late=ctx.sleep(SOON)):
            case ["late", None]:
                once.again()
                return "too late"
            case found:
                return found

    await stage.start(svc)
    assert await stage.client.service_call(work) == "too late"


async def test_what_was_first_stays_first_when_others_are_complete_on_replay(stage: Stage):
    """The journal's order decides, not the order in which the code names the futures."""
    svc, once = Service("Race"), Once()
    ids: list[str] = []

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        one_id, one = ctx.awakeable(type_hint=str)
        two_id, two = ctx.awakeable(type_hint=str)
        three_id, three = ctx.awakeable(type_hint=str)
        ids[:] = [one_id, two_id, three_id]
        order = [await future async for future in agentdur.as_completed(one, two, three)]
        done, rest = await agentdur.wait_completed(one, two, three)
        once.again()
        return [order, await done[0], len(rest)]

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: ids)
    for number in (2, 0, 1):
        await stage.client.resolve_awakeable(ids[number], f"n{number}")
    assert await stage.client.attach(sent.invocation_id) == [["n2", "n0", "n1"], "n2", 2]


async def test_gather_waits_for_all_and_answers_the_futures(stage: Stage):
    svc, once = Service("Race"), Once()

    def refuse() -> None:
        raise TerminalError("no")

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        good, bad = ctx.run("good", after, 0.002, 1), ctx.run("bad", refuse)
        futures = await agentdur.gather(good, bad, ctx.sleep(SOON), ctx.time())
        assert all(future.done for future in futures)
        once.again()
        try:
            await futures[1]
        except TerminalError as error:
            return [await futures[0], error.message, await futures[2]]
        return []

    await stage.start(svc)
    assert await stage.client.service_call(work) == [1, "no", None]


async def test_all_gives_values_in_order_and_raises_the_first_failure(stage: Stage):
    svc = Service("Race")

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        return await ctx.all(ctx.run("a", after, 0.004, "a"), ctx.run("b", lambda: "b"), ctx.sleep(SOON))

    @svc.handler()
    async def fails(ctx: Context) -> None:
        await ctx.all(ctx.sleep(LATE), ctx.run("bad", refuse))

    def refuse() -> None:
        raise TerminalError("no")

    await stage.start(svc)
    assert await stage.client.service_call(work) == ["a", "b", None]
    with pytest.raises(TerminalError, match="no"):
        await stage.client.service_call(fails)


async def test_nothing_to_combine(stage: Stage):
    svc = Service("Race")

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        for empty in (agentdur.select(), agentdur.race()):
            with pytest.raises(ValueError, match="at least one"):
                await empty
        return [await agentdur.gather(), *await agentdur.wait_completed()]

    await stage.start(svc)
    assert await stage.client.service_call(work) == [[], [], []]


async def test_only_durable_futures_of_one_invocation_are_combined(stage: Stage):
    svc = Service("Race")
    kept: list[Any] = []

    @svc.handler()
    async def keep(ctx: Context) -> None:
        kept.append(ctx.sleep(LATE))
        await kept[0]

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        out = []
        task = asyncio.ensure_future(after(0, 1))
        for futures in ([ctx.sleep(SOON), task], [ctx.sleep(SOON), kept[0]]):
            with pytest.raises(ForeignFuture) as caught:
                await agentdur.gather(*futures)
            out.append(caught.value.code)
        return out

    await stage.start(svc)
    await stage.client.service_send(keep)
    await until(lambda: kept)
    assert await stage.client.service_call(work) == ["AD0040", "AD0040"]


async def test_a_race_outside_of_a_handler_is_refused():
    racer = after(0, 1)
    with pytest.raises(ForeignFuture):
        await agentdur.race(racer)
    racer.close()


class Sink:
    """A server that never answers; `gone` counts connections that were closed by the other side."""

    def __init__(self) -> None:
        self.came = self.gone = 0

    async def __aenter__(self) -> Sink:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, family=socket.AF_INET)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        await reader.read()
        self.gone += 1
        writer.close()

    async def ask(self) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()


async def test_losing_steps_of_a_race_stop_and_close_their_sockets(stage: Stage):
    svc = Service("Race")

    @svc.handler()
    async def steps(ctx: Context) -> Any:
        found = await ctx.race(ctx.run("ask", sink.ask), ctx.run("win", wait_for_it, 1))
        return [found, await ctx.run("next", lambda: "next")]

    @svc.handler()
    async def coroutines(ctx: Context) -> Any:
        async def asks() -> str:
            return await ctx.run("ask", sink.ask)

        return await ctx.race(asks(), ctx.run("win", wait_for_it, 2))

    async def wait_for_it(count: int) -> str:
        await until(lambda: sink.came == count)
        return "won"

    async with Sink() as sink:
        await stage.start(svc)
        assert await stage.client.service_call(steps) == ["won", "next"]
        await until(lambda: sink.gone == 1)
        assert await stage.client.service_call(coroutines) == "won"
        await until(lambda: sink.gone == 2)


async def test_a_race_of_coroutines_is_decided_once(stage: Stage):
    """On replay the winner wins although it is slower now, and the losers do not run again."""
    svc, ledger = Service("Race"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        attempt = ledger.count("attempt")
        ledger.write("attempt")

        async def runner(name: str, seconds: float) -> str:
            ledger.write(f"{name} begins")
            await asyncio.sleep(seconds)
            return await ctx.run(name, ledger.write, name)

        slow_first = 0.001 if attempt else 0.05
        already = asyncio.create_task(runner("task", 0.2))
        found = await ctx.race(runner("loser", slow_first), runner("winner", 0.004), already)
        if attempt < 2:
            raise ValueError("again")
        return [found, await ctx.run("after", lambda: "after")]

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    assert await stage.client.attach(sent.invocation_id) == ["winner", "after"]
    assert ledger.count("winner") == 1
    assert ledger.count("loser") == ledger.count("task") == 0
    assert ledger.count("loser begins") == 1
    check_journal(stage.journal(sent.invocation_id))


async def test_a_loser_that_did_something_before_it_lost_leaves_it_behind(stage: Stage):
    svc, ledger, once = Service("Race"), Ledger(), Once(2)

    @svc.handler()
    async def work(ctx: Context) -> str:
        async def loser() -> None:
            await ctx.run("did", ledger.write, "did")
            await asyncio.create_task(inner())
            await ctx.sleep(LATE)

        async def inner() -> None:
            await ctx.run("inner", ledger.write, "inner")

        async def winner() -> str:
            await until(lambda: ledger.count("inner"))
            return await ctx.run("won", lambda: "won")

        found: str = await ctx.race(loser(), winner())
        once.again()
        return found

    await stage.start(svc)
    assert await stage.client.service_call(work) == "won"
    assert ledger.counts == {"did": 1, "inner": 1}


async def test_a_race_that_fails_first_fails(stage: Stage):
    svc, once = Service("Race"), Once()

    @svc.handler()
    async def futures(ctx: Context) -> Any:
        return await ctx.race(ctx.run("bad", refuse), ctx.sleep(LATE))

    @svc.handler()
    async def coroutines(ctx: Context) -> Any:
        async def bad() -> None:
            await ctx.run("bad", refuse)

        try:
            await ctx.race(bad(), ctx.sleep(LATE))
        except TerminalError as error:
            once.again()
            return f"lost: {error.message}"

    def refuse() -> None:
        raise TerminalError("no")

    await stage.start(svc)
    with pytest.raises(TerminalError, match="no"):
        await stage.client.service_call(futures)
    assert await stage.client.service_call(coroutines) == "lost: no"


async def test_calls_that_lose_a_race_are_cancelled(stage: Stage):
    svc, ledger = Service("Race"), Ledger()

    @svc.handler()
    async def slow(ctx: Context, name: str) -> None:
        ledger.write(f"{name} begins")
        try:
            await ctx.sleep(LATE)
        except TerminalError as error:
            ledger.write(f"{name} {error.message}")
            raise

    @svc.handler()
    async def futures(ctx: Context) -> str:
        loser = ctx.service_call(slow, "one")
        found = await ctx.race(loser, ctx.run("win", won, "one"))
        assert not loser.done
        return str(found)

    @svc.handler()
    async def coroutines(ctx: Context) -> str:
        async def calls() -> None:
            await ctx.service_call(slow, "two")

        return str(await ctx.race(calls(), ctx.service_call(slow, "three"), ctx.run("win", won, "two")))

    async def won(name: str) -> str:
        await until(lambda: ledger.count(f"{name} begins"))
        return "won"

    await stage.start(svc)
    assert await stage.client.service_call(futures) == "won"
    await until(lambda: ledger.count("one cancelled"))
    assert await stage.client.service_call(coroutines) == "won"
    await until(lambda: ledger.count("three cancelled"))


@IN_MEMORY_AT_ONCE
@pytest.mark.parametrize("kind", ["futures", "coroutines"])
@pytest.mark.slow
async def test_a_race_is_decided_once_whenever_the_process_dies(stage: Stage, kind: str):
    """Whoever won before the crash has won."""
    svc, ledger = Service("Race"), Ledger()
    attempts = iter(range(100_000))

    @svc.handler()
    async def futures(ctx: Context) -> list[Any]:
        turn = next(attempts) % 2
        found = await ctx.race(
            ctx.run("a", after, 0.003 * turn, "a"), ctx.run("b", after, 0.003 * (1 - turn), "b")
        )
        ledger.write(found)
        return [found, await ctx.run("c", lambda: f"{found}c"), await ctx.run("d", lambda: f"{found}d")]

    @svc.handler()
    async def coroutines(ctx: Context) -> list[Any]:
        turn = next(attempts) % 2

        async def runner(name: str, seconds: float) -> str:
            await asyncio.sleep(seconds)
            await ctx.run(name, after, 0, name)
            return name

        found = await ctx.race(runner("a", 0.003 * turn), runner("b", 0.003 * (1 - turn)))
        ledger.write(found)
        return [found, await ctx.run("c", lambda: f"{found}c"), await ctx.run("d", lambda: f"{found}d")]

    async def ask(on: Stage) -> Any:
        handler = futures if kind == "futures" else coroutines
        return await on.client.service_call(handler, idempotency_key="one")

    def check(answer: Any, crashed: bool) -> None:
        first = answer[0]
        assert answer == [first, f"{first}c", f"{first}d"]
        ledger.lines.clear()

    stride = 1 if stage.kind == "memory" else 2
    assert await every_crash(stage, (svc,), ask, check, stride=stride) >= 4


async def test_losing_steps_have_no_result_in_the_journal(stage: Stage):
    svc = Service("Race")

    @svc.handler()
    async def work(ctx: Context) -> Any:
        return await ctx.race(ctx.run("never", after, 60, 1), ctx.run("first", after, 0.001, "first"))

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    assert await stage.client.attach(sent.invocation_id) == "first"
    entries = [entry for _, entry in stage.journal(sent.invocation_id)]
    assert sum(isinstance(entry, j.Run) for entry in entries) == 2
    assert sum(isinstance(entry, j.Completion) for entry in entries) == 1


async def test_races_of_tasks_and_coroutines_follow_each_other(stage: Stage):
    """A task that lost keeps its own name: it takes none away from the coroutines of later races."""
    svc, once = Service("Race"), Once(2)

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        async def runner(name: str, seconds: float) -> str:
            await asyncio.sleep(seconds)
            return await ctx.run(name, lambda: name)

        task = asyncio.create_task(runner("task", 0.1))
        one = await ctx.race(task, runner("one", 0.001))
        two = await ctx.race(runner("two", 0.001), runner("three", 0.1))
        once.again()
        return [one, two]

    await stage.start(svc)
    assert await stage.client.service_call(work) == ["one", "two"]
