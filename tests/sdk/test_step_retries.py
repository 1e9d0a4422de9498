"""Steps that fail: retried by their own policy or the invocation's, and what they may not return."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import (
    Context,
    InvocationRetryPolicy,
    RetryableError,
    RunOptions,
    Service,
    TerminalError,
)
from agentdur.runtime.owner import Knobs
from tests.support.stage import Ledger, Stage


async def test_max_attempts_counts_executions_and_ends_with_the_exceptions_repr(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    def fail() -> None:
        ledger.write("tried")
        raise ValueError("broken")

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            await ctx.run("try", fail, max_attempts=3)
        except TerminalError as error:
            return f"{error.status_code} {error.message}"
        return "never"

    quick = RunOptions(max_attempts=3, initial_retry_interval=timedelta(milliseconds=1))

    @svc.handler()
    async def typed(ctx: Context) -> None:
        await ctx.run_typed("try", fail, quick)

    await stage.start(svc)
    assert await stage.client.service_call(work) == "500 ValueError('broken')"
    assert ledger.count("tried") == 3
    with pytest.raises(TerminalError, match=r"ValueError\('broken'\)"):
        await stage.client.service_call(typed)
    assert ledger.count("tried") == 6


async def test_a_steps_own_policy_does_not_use_up_the_invocations_attempts(stage: Stage):
    """Semantics §7: explicit delays are not counted; the step fails 8 times, the policy allows 3."""
    policy = InvocationRetryPolicy(max_attempts=3, on_max_attempts="kill")
    svc, ledger = Service("Steps", invocation_retry_policy=policy), Ledger()

    def flaky() -> str:
        ledger.write("tried")
        if len(ledger.lines) <= 8:
            raise ValueError("not yet")
        return "ok"

    options = RunOptions[str](
        initial_retry_interval=timedelta(milliseconds=1), max_retry_interval=timedelta(milliseconds=2)
    )

    @svc.handler()
    async def work(ctx: Context) -> str:
        return await ctx.run_typed("try", flaky, options)

    await stage.start(svc)
    assert await stage.client.service_call(work) == "ok"
    assert ledger.count("tried") == 9


async def test_without_a_policy_of_its_own_a_step_is_retried_by_the_invocations(stage: Stage):
    policy = InvocationRetryPolicy(max_attempts=2, on_max_attempts="kill")
    svc, ledger = Service("Steps", invocation_retry_policy=policy), Ledger()

    def fail() -> None:
        ledger.write("tried")
        raise ValueError("broken")

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.run("try", fail)

    await stage.start(svc)
    with pytest.raises(TerminalError, match="step 'try': ValueError"):
        await stage.client.service_call(work)
    assert ledger.count("tried") == 2


async def test_a_step_gives_up_when_its_time_is_over(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    def fail() -> None:
        ledger.write("tried")
        raise ValueError("broken")

    options: RunOptions[None] = RunOptions(
        max_duration=timedelta(milliseconds=250), initial_retry_interval=timedelta(milliseconds=10)
    )

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.run_typed("try", fail, options)

    @svc.handler()
    async def at_once(ctx: Context) -> None:
        await ctx.run("try", fail, max_retry_duration=timedelta(0))

    await stage.start(svc)
    with pytest.raises(TerminalError, match="broken"):
        await stage.client.service_call(work)
    assert 2 <= ledger.count("tried") <= 7
    ledger.lines.clear()
    with pytest.raises(TerminalError, match="broken"):
        await stage.client.service_call(at_once)
    assert ledger.count("tried") == 1


def test_delays_grow_by_their_factor_up_to_the_maximum():
    options: RunOptions[None] = RunOptions(
        initial_retry_interval=timedelta(seconds=1), retry_interval_factor=3.0,
        max_retry_interval=timedelta(seconds=20),
    )  # fmt: skip
    assert [options.delay(n).total_seconds() for n in (1, 2, 3, 4, 5, 5000)] == [1, 3, 9, 20, 20, 20]
    defaults: RunOptions[None] = RunOptions(max_attempts=9)
    assert [defaults.delay(n).total_seconds() for n in (1, 2, 3, 9, 5000)] == [0.05, 0.1, 0.2, 10, 10]


async def test_a_retryable_error_says_when_to_come_back(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    def busy() -> str:
        ledger.write("tried")
        if len(ledger.lines) == 1:
            raise RetryableError("busy", 503, retry_after=timedelta(milliseconds=60))
        return "ok"

    @svc.handler()
    async def work(ctx: Context) -> str:
        return await ctx.run("try", busy)

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    shown = await stage.until_status(sent.invocation_id, "backing-off")
    assert shown["last_failure"]["code"] == 503
    assert shown["retry_count"] == 0
    assert await stage.client.attach(sent.invocation_id) == "ok"


# -- what a step may not return


async def test_a_result_that_is_no_data_is_a_terminal_failure(stage: Stage):
    svc, ledger = Service("Steps"), Ledger()

    def odd() -> Any:
        ledger.write("ran")
        return object()

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.run("odd", odd)

    await stage.start(svc)
    with pytest.raises(TerminalError) as caught:
        await stage.client.service_call(work)
    assert caught.value.metadata == {"agentdur_code": "AD0032"}
    assert ledger.count("ran") == 1


async def test_a_result_over_the_limit_is_a_terminal_failure_that_names_the_step(stage: Stage):
    svc = Service("Steps")

    @svc.handler()
    async def work(ctx: Context, size: int) -> int:
        return len(await ctx.run("big", lambda: "x" * size))

    await stage.start(svc, knobs=Knobs(entry_size=1000))
    assert await stage.client.service_call(work, 998) == 998
    with pytest.raises(TerminalError, match="step 'big' has 1001 bytes, the limit is 1000"):
        await stage.client.service_call(work, 999)


# -- exceptions that are hard to carry


async def test_a_plain_step_that_raises_stop_iteration_fails_as_others_do(stage: Stage):
    """asyncio cannot carry it out of a thread: the step would never end."""
    svc = Service("Steps")

    @svc.handler()
    async def work(ctx: Context) -> None:
        await ctx.run("next", lambda: next(iter([])), max_attempts=2)

    await stage.start(svc)
    with pytest.raises(TerminalError, match="StopIteration"):
        await asyncio.wait_for(stage.client.service_call(work), 5)


async def test_a_step_whose_own_work_was_cancelled_has_failed(stage: Stage):
    """Something inside the action cancelled something: nobody cancelled the step, so its policy applies."""
    svc, ledger = Service("Steps"), Ledger()

    async def impatient() -> None:
        ledger.write("tried")
        inner = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            await ctx.run("impatient", impatient, max_attempts=2)
        except TerminalError as error:
            return error.message
        return "never"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "CancelledError()"
    assert ledger.count("tried") == 2
