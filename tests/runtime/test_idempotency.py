"""One idempotency key, one invocation: while it runs and after, from outside and from handlers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, ObjectContext, Service, TerminalError, VirtualObject
from agentdur.core.errors import UnknownInvocation
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Request
from tests.support.stage import Ledger, Stage


def paying(ledger: Ledger) -> tuple[Service, Any, asyncio.Event]:
    svc, go = Service("Pay"), asyncio.Event()

    @svc.handler()
    async def pay(ctx: Context, amount: int) -> int:
        await ctx.run("pay", ledger.write, f"paid {amount}")
        await ctx.run("wait", go.wait)
        if amount < 0:
            raise TerminalError("negative", 422)
        return amount

    return svc, pay, go


async def test_duplicates_while_it_runs_get_the_same_result(stage: Stage):
    ledger = Ledger()
    svc, pay, go = paying(ledger)
    await stage.start(svc)
    callers = [
        asyncio.create_task(stage.client.service_call(pay, n, idempotency_key="k")) for n in range(1, 5)
    ]
    await asyncio.sleep(0.005)
    sent = await stage.client.service_send(pay, 9, idempotency_key="k")
    assert not sent.fresh
    assert await stage.client.output(sent.invocation_id) is None
    go.set()
    assert await asyncio.gather(*callers) == [1, 1, 1, 1]
    assert ledger.lines == ["paid 1"]


async def test_duplicates_afterwards_get_the_stored_result_also_a_failure_and_through_a_restart(stage: Stage):
    ledger = Ledger()
    svc, pay, go = paying(ledger)
    go.set()
    await stage.start(svc)
    assert await stage.client.service_call(pay, 1, idempotency_key="good") == 1
    with pytest.raises(TerminalError, match="negative"):
        await stage.client.service_call(pay, -1, idempotency_key="bad")
    for _ in range(2):
        assert await stage.client.service_call(pay, 2, idempotency_key="good") == 1
        with pytest.raises(TerminalError, match="negative"):
            await stage.client.service_call(pay, 2, idempotency_key="bad")
        sent = await stage.client.service_send(pay, 2, idempotency_key="good")
        assert not sent.fresh
        assert (await stage.client.output(sent.invocation_id, pay)) is not None
        await stage.restart()
    assert ledger.lines == ["paid 1", "paid -1"]


async def test_a_key_belongs_to_its_handler_and_object(stage: Stage):
    obj, ledger = VirtualObject("Cart"), Ledger()

    @obj.handler()
    async def add(ctx: ObjectContext, item: str) -> str:
        return ledger.write(f"{ctx.key()} {item}")

    @obj.handler()
    async def drop(ctx: ObjectContext, item: str) -> str:
        return ledger.write(f"{ctx.key()} no {item}")

    await stage.start(obj)
    client = stage.client
    for handler in (add, drop):
        for key in ("ada", "eve"):
            for item in ("tea", "milk"):
                await client.object_call(handler, key, item, idempotency_key="same")
    assert ledger.lines == ["ada tea", "eve tea", "ada no tea", "eve no tea"]


async def test_a_purged_or_withdrawn_key_is_free_again(stage: Stage):
    ledger = Ledger()
    svc, pay, go = paying(ledger)
    go.set()
    await stage.start(svc)
    assert await stage.client.service_call(pay, 1, idempotency_key="k") == 1
    known = await stage.client.service_send(pay, 2, idempotency_key="k")
    await stage.engine.operate("purge", InvocationId(known.invocation_id))
    with pytest.raises(UnknownInvocation):
        await stage.client.attach(known.invocation_id)
    assert await stage.client.service_call(pay, 3, idempotency_key="k") == 3
    late = await stage.client.service_send(pay, 4, send_delay=timedelta(seconds=60), idempotency_key="late")
    again = await stage.client.service_send(pay, 5, idempotency_key="late")
    assert (again.invocation_id, again.fresh) == (late.invocation_id, False)
    await stage.engine.operate("cancel", InvocationId(late.invocation_id))
    assert await stage.client.service_call(pay, 6, idempotency_key="late") == 6
    assert ledger.lines == ["paid 1", "paid 3", "paid 6"]


async def test_the_receipt_of_a_scheduled_duplicate_says_when(stage: Stage):
    ledger = Ledger()
    svc, _, _ = paying(ledger)
    await stage.start(svc)
    target = stage.engine.catalog.target("Pay", "pay")
    assert target is not None
    request = Request(target=target, value=b"1", idempotency_key="k", delay_ms=60_000)
    first = await stage.engine.send(request)[1]
    second = await stage.engine.send(request)[1]
    assert first.execute_at is not None
    assert (second.fresh, second.execute_at) == (False, first.execute_at)


async def test_a_caller_that_leaves_does_not_take_the_others_with_it(stage: Stage):
    ledger = Ledger()
    svc, pay, go = paying(ledger)
    await stage.start(svc)
    callers = [asyncio.create_task(stage.client.service_call(pay, 1, idempotency_key="k")) for _ in range(3)]
    await asyncio.sleep(0.005)
    callers[0].cancel()
    callers[2].cancel()
    await asyncio.sleep(0)
    go.set()
    assert await callers[1] == 1
    assert ledger.lines == ["paid 1"]
