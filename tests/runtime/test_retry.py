"""Retries of invocations: how often, when, and what happens after the last one."""

from __future__ import annotations

import itertools
import time
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, InvocationRetryPolicy, RetryableError, Service, TerminalError
from agentdur.core.catalog import HandlerOptions
from agentdur.core.ids import InvocationId
from agentdur.core.retry import RetryPolicy
from tests.support.stage import Ledger, Stage, until

KILL = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=1), max_attempts=3, on_max_attempts="kill"
)
PAUSE = InvocationRetryPolicy(initial_interval=timedelta(milliseconds=1), max_attempts=2)


def failing(ledger: Ledger, **options: Any) -> tuple[Service, Any]:
    svc = Service("Fails", **options)

    @svc.handler()
    async def work(ctx: Context) -> str:
        ledger.write("attempt")
        raise ValueError(f"broken {ledger.count('attempt')}")

    return svc, work


async def test_after_the_last_attempt_the_last_error_is_the_result(stage: Stage):
    ledger = Ledger()
    svc, work = failing(ledger, invocation_retry_policy=KILL)
    await stage.start(svc)
    with pytest.raises(TerminalError, match="broken 3") as caught:
        await stage.client.service_call(work)
    assert caught.value.status_code == 500
    assert ledger.count("attempt") == 3


async def test_or_it_is_paused_and_says_why_and_resume_gives_it_new_attempts(stage: Stage):
    ledger = Ledger()
    svc, work = failing(ledger, invocation_retry_policy=PAUSE)
    await stage.start(svc)
    sent = await stage.client.service_send(work)
    shown = await stage.until_status(sent.invocation_id, "paused")
    assert shown["retry_count"] == 2
    assert shown["last_failure"]["message"] == "broken 2"
    assert "ValueError: broken 2" in shown["last_failure"]["stacktrace"]
    assert __file__ in shown["last_failure"]["stacktrace"]
    await stage.restart()
    assert await stage.status(sent.invocation_id) == "paused"
    await stage.engine.operate("resume", InvocationId(sent.invocation_id))
    await until(lambda: ledger.count("attempt") == 4)
    await stage.until_status(sent.invocation_id, "paused")


async def test_a_handlers_policy_goes_before_its_services_field_by_field(stage: Stage):
    svc, ledger = Service("Fails", invocation_retry_policy=KILL), Ledger()

    @svc.handler(invocation_retry_policy=InvocationRetryPolicy(max_attempts=5))
    async def five(ctx: Context) -> None:
        ledger.write("five")
        raise ValueError("broken")

    @svc.handler(invocation_retry_policy=InvocationRetryPolicy(max_attempts=0))
    async def once(ctx: Context) -> None:
        ledger.write("once")
        raise ValueError("broken")

    await stage.start(svc)
    for handler in (five, once):
        with pytest.raises(TerminalError, match="broken"):
            await stage.client.service_call(handler)
    assert ledger.counts == {"five": 5, "once": 1}


@pytest.mark.slow
async def test_progress_does_not_reset_the_count_but_suspension_does(stage: Stage):
    """Semantics §9.2: within one running stretch each failure counts, whatever was stored between them."""
    svc, ledger = Service("Fails", invocation_retry_policy=KILL), Ledger()

    @svc.handler()
    async def progressing(ctx: Context) -> None:
        for number in range(10):
            await ctx.run(f"{number}", ledger.write, f"{number}")
            if ledger.count("fell") <= number:
                ledger.write("fell")
                raise ValueError("broken")

    @svc.handler(inactivity_timeout=timedelta(0))
    async def suspending(ctx: Context) -> str:
        for number in range(6):
            if ledger.count("stumbled") <= number:
                ledger.write("stumbled")
                raise ValueError("broken")
            await ctx.sleep(timedelta(milliseconds=60))
        return "ok"

    await stage.start(svc)
    with pytest.raises(TerminalError, match="broken"):
        await stage.client.service_call(progressing)
    assert ledger.counts == {"0": 1, "1": 1, "2": 1, "fell": 3}
    assert await stage.client.service_call(suspending) == "ok"
    assert ledger.count("stumbled") == 6


async def test_delays_grow_and_carry_a_little_chance(stage: Stage):
    """min(max, first * factor^n), and up to 30 % (at least 3 ms) on top."""
    svc, ledger = Service("Fails"), Ledger()
    begun: list[float] = []
    policy = RetryPolicy(delay_ms_initial=20, factor=2.0, delay_ms_max=40, attempts_max=5)

    @svc.handler()
    async def work(ctx: Context) -> str:
        begun.append(time.monotonic())
        if len(begun) < 5:
            raise ValueError("broken")
        return ledger.write("ok")

    await stage.start(svc, defaults=HandlerOptions(retry=policy))
    assert await stage.client.service_call(work) == "ok"
    gaps = [(after - before) * 1000 for before, after in itertools.pairwise(begun)]
    for gap, least in zip(gaps, (23, 43, 43, 43), strict=True):
        assert least - 1 <= gap < least * 4


async def test_a_retryable_error_sets_its_own_delay_and_is_not_counted(stage: Stage):
    svc, ledger = Service("Fails", invocation_retry_policy=KILL), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> str:
        ledger.write("attempt")
        if ledger.count("attempt") < 9:
            raise RetryableError("busy", 503, retry_after=timedelta(milliseconds=1))
        return "ok"

    @svc.handler()
    async def without(ctx: Context) -> None:
        raise RetryableError("busy", 429)

    await stage.start(svc)
    assert await stage.client.service_call(work) == "ok"
    with pytest.raises(TerminalError, match="busy") as caught:
        await stage.client.service_call(without)
    assert caught.value.status_code == 429


async def test_while_it_backs_off_it_says_until_when_and_resume_is_now(stage: Stage):
    svc, ledger = Service("Fails"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> str:
        ledger.write("attempt")
        if ledger.count("attempt") == 1:
            raise RetryableError("later", retry_after=timedelta(seconds=60))
        return "ok"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    shown = await stage.until_status(sent.invocation_id, "backing-off")
    assert shown["next_retry_at"] > shown["modified_at"]
    assert shown["last_failure"] == {
        "code": 500, "message": "later", "stacktrace": shown["last_failure"]["stacktrace"],
    }  # fmt: skip
    await stage.engine.operate("resume", InvocationId(sent.invocation_id))
    assert await stage.client.attach(sent.invocation_id) == "ok"


async def test_what_is_killed_or_paused_in_its_back_off_stays_so(stage: Stage):
    svc, ledger = Service("Fails"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> None:
        ledger.write("attempt")
        raise RetryableError("later", retry_after=timedelta(milliseconds=30))

    await stage.start(svc)
    killed, paused = [await stage.client.service_send(work) for _ in range(2)]
    for one, action in ((killed, "kill"), (paused, "pause")):
        await stage.until_status(one.invocation_id, "backing-off")
        await stage.engine.operate(action, InvocationId(one.invocation_id))
    before = await stage.until_status(paused.invocation_id, "paused")
    await stage.client.service_send(work)
    seen = ledger.count("attempt")
    await until(lambda: ledger.count("attempt") >= seen + 4)
    with pytest.raises(TerminalError, match="killed"):
        await stage.client.attach(killed.invocation_id)
    after = await stage.until_status(paused.invocation_id, "paused")
    assert after["attempt"] == before["attempt"]


async def test_an_exception_without_a_message_is_named_by_its_type(stage: Stage):
    svc = Service("Fails", invocation_retry_policy=KILL)

    @svc.handler()
    async def work(ctx: Context) -> None:
        raise KeyError

    await stage.start(svc)
    with pytest.raises(TerminalError, match="KeyError"):
        await stage.client.service_call(work)
