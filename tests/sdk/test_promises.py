"""Durable promises, and workflows as the one thing per key that has them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import TerminalError, Workflow, WorkflowContext, WorkflowSharedContext
from agentdur.core.errors import IdempotencyNotAllowed
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Success
from agentdur.core.ports import Request
from agentdur.core.target import PromiseAddress
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Stage, until_it_is
from tests.support.stories import every_crash

LATE = timedelta(seconds=60)


def signup() -> tuple[Workflow, Any, Any, Any, Any]:
    """A workflow that waits for a promise; shared handlers that resolve, reject and look."""
    wf = Workflow("Signup")

    @wf.main()
    async def run(ctx: WorkflowContext) -> str:
        ctx.set("stage", "waiting")
        clicked = await ctx.promise("clicked", type_hint=str)
        ctx.set("stage", "done")
        return f"{ctx.key()} {clicked}"

    @wf.handler()
    async def click(ctx: WorkflowSharedContext, text: str) -> None:
        await ctx.promise("clicked", type_hint=str).resolve(text)

    @wf.handler()
    async def refuse(ctx: WorkflowSharedContext, why: str) -> None:
        await ctx.promise("clicked").reject(why, 418)

    @wf.handler()
    async def look(ctx: WorkflowSharedContext) -> list[Any]:
        return [await ctx.get("stage"), await ctx.promise("clicked", type_hint=str).peek()]

    return wf, run, click, refuse, look


async def test_a_promise_is_resolved_by_a_shared_handler(stage: Stage):
    wf, run, click, _, look = signup()
    await stage.start(wf)
    assert await stage.client.workflow_call(look, "ada") == [None, None]
    sent = await stage.client.workflow_send(run, "ada")
    await until_it_is(lambda: stage.client.workflow_call(look, "ada"), ["waiting", None])
    await stage.restart()
    await stage.client.workflow_call(click, "ada", "yes")
    assert await stage.client.attach(sent.invocation_id) == "ada yes"
    assert await stage.client.workflow_call(look, "ada") == ["done", "yes"]
    assert await stage.client.workflow_attach(run, "ada") == "ada yes"


async def test_a_promise_may_be_completed_before_the_run_and_only_once(stage: Stage):
    wf, run, click, refuse, _ = signup()
    await stage.start(wf)
    await stage.client.workflow_call(click, "ada", "early")
    for handler in (click, refuse):
        with pytest.raises(TerminalError, match="promise was already completed") as caught:
            await stage.client.workflow_call(handler, "ada", "again")
        assert caught.value.status_code == 409
    assert await stage.client.workflow_call(run, "ada") == "ada early"


async def test_a_rejected_promise_fails_all_who_wait(stage: Stage):
    wf = Workflow("Flow")

    @wf.main()
    async def run(ctx: WorkflowContext) -> list[Any]:
        out: list[Any] = []
        for wait in (
            lambda: ctx.promise("p"),
            lambda: ctx.promise("p").value(),
            lambda: ctx.promise("p").peek(),
        ):
            try:
                await wait()
            except TerminalError as error:
                out.append([error.message, error.status_code])
        return out

    @wf.handler()
    async def refuse(ctx: WorkflowSharedContext) -> None:
        await ctx.promise("p").reject("no", 418)

    await stage.start(wf)
    sent = await stage.client.workflow_send(run, "k")
    await stage.client.workflow_call(refuse, "k")
    assert await stage.client.attach(sent.invocation_id) == [["no", 418]] * 3


@IN_MEMORY_AT_ONCE
async def test_promises_and_state_survive_a_crash_at_any_commit(stage: Stage):
    wf, run, click, _, look = signup()

    async def ask(on: Stage) -> Any:
        sent = await on.client.workflow_send(run, "ada")
        try:
            await on.client.workflow_call(click, "ada", "yes", idempotency_key="click")
        except TerminalError as error:
            assert error.status_code == 409
        found = await on.client.attach(sent.invocation_id)
        return [found, await on.client.workflow_call(look, "ada")]

    def check(answer: Any, crashed: bool) -> None:
        assert answer == ["ada yes", ["done", "yes"]]

    assert await every_crash(stage, (wf,), ask, check, stride=1 if stage.kind == "memory" else 2) >= 4


async def test_the_engine_settles_promises_from_outside(stage: Stage):
    wf, run, _, _, look = signup()
    await stage.start(wf)
    address = PromiseAddress("Signup", "ada", "clicked")
    sent = await stage.client.workflow_send(run, "ada")
    assert await stage.engine.settle(address, Success(b'"by hand"'))
    assert not await stage.engine.settle(address, Success(b'"again"'))
    assert await stage.client.attach(sent.invocation_id) == "ada by hand"
    await stage.restart()
    assert not await stage.engine.settle(address, Success(b'"again"'))
    assert await stage.client.workflow_call(look, "ada") == ["done", "by hand"]


async def test_a_workflow_runs_once_per_key_until_it_is_purged(stage: Stage):
    wf, run, click, _, look = signup()
    await stage.start(wf)
    await stage.client.workflow_call(click, "ada", "yes")
    first = await stage.client.workflow_send(run, "ada")
    assert first.fresh
    second = await stage.client.workflow_send(run, "ada")
    assert (second.invocation_id, second.fresh) == (first.invocation_id, False)
    with pytest.raises(TerminalError, match="the workflow method was already invoked") as caught:
        await stage.client.workflow_call(run, "ada")
    assert caught.value.status_code == 409
    await stage.client.attach(first.invocation_id)
    await stage.restart()
    with pytest.raises(TerminalError, match="already invoked"):
        await stage.client.workflow_call(run, "ada")
    await stage.engine.operate("purge", InvocationId(first.invocation_id))
    assert await stage.client.workflow_call(look, "ada") == [None, None]
    await stage.client.workflow_call(click, "ada", "later")
    assert await stage.client.workflow_call(run, "ada") == "ada later"
    assert await stage.client.workflow_call(look, "ada") == ["done", "later"]


async def test_a_purged_workflow_may_run_again_at_once(stage: Stage):
    """Purge and the next run ride in one commit."""
    wf, run, click, _, look = signup()
    await stage.start(wf)
    await stage.client.workflow_call(click, "ada", "one")
    first = await stage.client.workflow_send(run, "ada")
    await stage.client.attach(first.invocation_id)
    target = stage.engine.catalog.target("Signup", "run", "ada")
    assert target is not None
    purge = asyncio.create_task(stage.engine.operate("purge", InvocationId(first.invocation_id)))
    await asyncio.sleep(0)
    _, receipt = stage.engine.send(Request(target=target))
    assert (await receipt).fresh
    await purge
    await stage.client.workflow_call(click, "ada", "two")
    assert await stage.client.workflow_attach(run, "ada") == "ada two"
    await stage.restart()
    assert await stage.client.workflow_attach(run, "ada") == "ada two"
    assert await stage.client.workflow_call(look, "ada") == ["done", "two"]
    assert len(stage.journal(first.invocation_id)) > 3


async def test_a_failed_or_killed_run_keeps_its_key(stage: Stage):
    wf = Workflow("Flow")

    @wf.main()
    async def run(ctx: WorkflowContext, fail: bool) -> None:
        if fail:
            raise TerminalError("no", 418)
        await ctx.sleep(LATE)

    await stage.start(wf)
    with pytest.raises(TerminalError, match="no"):
        await stage.client.workflow_call(run, "a", True)
    sent = await stage.client.workflow_send(run, "b", False)
    await stage.engine.operate("kill", InvocationId(sent.invocation_id))
    for key in "ab":
        with pytest.raises(TerminalError, match="already invoked"):
            await stage.client.workflow_call(run, key, True)
    with pytest.raises(TerminalError, match="killed"):
        await stage.client.workflow_attach(run, "b")


@pytest.mark.slow
async def test_a_scheduled_run_that_is_cancelled_frees_its_key(stage: Stage):
    wf = Workflow("Flow")

    @wf.main()
    async def run(ctx: WorkflowContext, text: str) -> str:
        return text

    await stage.start(wf)
    target = stage.engine.catalog.target("Flow", "run", "k")
    assert target is not None
    sent = await stage.client.workflow_send(run, "k", "late", send_delay=timedelta(milliseconds=400))
    cancel = asyncio.create_task(stage.engine.operate("cancel", InvocationId(sent.invocation_id)))
    await asyncio.sleep(0)
    _, receipt = stage.engine.send(Request(target=target, value=b'"later"', delay_ms=1200))
    again = await receipt
    assert await cancel is True
    assert again.fresh
    assert again.id == sent.invocation_id
    await asyncio.sleep(0.5)
    assert await stage.status(again.id) == "scheduled"  # the timer of the first one starts nothing
    assert await stage.client.workflow_attach(run, "k") == "later"
    await stage.restart()
    assert await stage.client.workflow_attach(run, "k") == "later"


async def test_a_run_takes_no_idempotency_key_from_outside(stage: Stage):
    wf, run, _, _, _ = signup()
    await stage.start(wf)
    target = stage.engine.catalog.target("Signup", "run", "k")
    assert target is not None
    with pytest.raises(IdempotencyNotAllowed):
        stage.engine.call(Request(target=target, idempotency_key="x"))
    with pytest.raises(IdempotencyNotAllowed):
        await stage.client.workflow_call(run, "k", idempotency_key="x")
