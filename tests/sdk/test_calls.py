"""Calls and sends between handlers: exactly once, whatever crashes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, ObjectContext, Service, TerminalError, VirtualObject, Workflow, WorkflowContext
from agentdur.core.errors import BadDefinition
from agentdur.core.ids import InvocationId, parse_invocation_id
from agentdur.core.journal import Success
from agentdur.core.ports import Filter
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import Ledger, Stage, check_journal, until, until_it_is
from tests.support.stories import every_crash

LATE = timedelta(seconds=60)


async def test_a_call_answers_and_its_failure_is_the_callers(stage: Stage):
    svc, obj = Service("Caller"), VirtualObject("Thing")

    @obj.handler()
    async def double(ctx: ObjectContext, number: int) -> str:
        if number < 0:
            raise TerminalError("negative", 422, {"number": str(number)})
        return f"{ctx.key()}={number * 2}"

    @svc.handler()
    async def inner(ctx: Context) -> dict[str, str]:
        return ctx.request().headers

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        out: list[Any] = [
            await ctx.object_call(double, "a", 2),
            await ctx.service_call(inner, headers={"x-one": "1"}),
            await ctx.generic_call("Thing", "double", b"5", key="b"),
        ]
        try:
            await ctx.object_call(double, "a", -1)
        except TerminalError as error:
            out += [error.message, error.status_code, error.metadata]
        out[2] = out[2].decode()
        return out

    await stage.start(svc, obj)
    assert await stage.client.service_call(work, headers={"x-outer": "2"}) == [
        "a=4", {"x-one": "1"}, '"b=10"', "negative", 422, {"number": "-1"},
    ]  # fmt: skip


async def test_a_handle_knows_the_id_and_cancels(stage: Stage):
    svc, ledger = Service("Caller"), Ledger()

    @svc.handler()
    async def nap(ctx: Context, name: str) -> None:
        ledger.write(name)
        try:
            await ctx.sleep(LATE)
        except TerminalError:
            ledger.write(f"{name} cancelled")
            raise

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        call, sent = ctx.service_call(nap, "call"), ctx.service_send(nap, "send")
        third = ctx.service_send(nap, "third")
        ids = [await call.invocation_id(), await sent.invocation_id(), await third.invocation_id()]
        await ctx.run("both run", until, lambda: {"call", "send", "third"} <= set(ledger.lines))
        await call.cancel_invocation()
        await sent.cancel_invocation()
        ctx.cancel_invocation(ids[2])
        with pytest.raises(TerminalError, match="cancelled"):
            await call
        return ids

    await stage.start(svc)
    ids = await stage.client.service_call(work)
    assert len({parse_invocation_id(text) for text in ids}) == 3
    await until(lambda: {"call cancelled", "send cancelled", "third cancelled"} <= set(ledger.lines))


async def test_sends_start_and_delayed_sends_start_later(stage: Stage):
    svc, ledger = Service("Caller"), Ledger()

    @svc.handler()
    async def note(ctx: Context, name: str) -> None:
        ledger.write(name)

    @svc.handler()
    async def work(ctx: Context) -> list[str]:
        later = ctx.service_send(note, "later", send_delay=timedelta(milliseconds=30))
        past = ctx.service_send(note, "past", send_delay=timedelta(seconds=-5))
        now = ctx.generic_send("Caller", "note", b'"now"', headers={"a": "b"})
        return [await handle.invocation_id() for handle in (later, past, now)]

    await stage.start(svc)
    ids = await stage.client.service_call(work)
    assert await stage.status(ids[0]) == "scheduled"
    await until(lambda: len(ledger.lines) == 3)
    assert ledger.lines[-1] == "later"


async def test_sends_of_one_invocation_to_one_key_keep_their_order(stage: Stage):
    svc, obj, ledger = Service("Caller"), VirtualObject("Log"), Ledger()

    @obj.handler()
    async def append(ctx: ObjectContext, number: int) -> None:
        await ctx.run("write", ledger.write, str(number))

    @svc.handler()
    async def work(ctx: Context) -> None:
        for number in range(20):
            ctx.object_send(append, "k", number)

    await stage.start(svc, obj)
    await stage.client.service_call(work)
    await until(lambda: len(ledger.lines) == 20)
    assert ledger.lines == [str(number) for number in range(20)]


async def test_an_idempotency_key_makes_two_calls_one(stage: Stage):
    svc, ledger = Service("Caller"), Ledger()

    @svc.handler()
    async def pay(ctx: Context, amount: int) -> int:
        await ctx.run("pay", ledger.write, f"paid {amount}")
        return amount

    @svc.handler()
    async def work(ctx: Context) -> list[int]:
        return [
            *await asyncio.gather(
                ctx.service_call(pay, 1, idempotency_key="k"), ctx.service_call(pay, 2, idempotency_key="k")
            ),
            await ctx.service_call(pay, 3, idempotency_key="k"),
            await ctx.service_call(pay, 4, idempotency_key="other"),
        ]

    await stage.start(svc)
    assert await stage.client.service_call(work) == [1, 1, 1, 4]
    assert await stage.client.service_call(pay, 9, idempotency_key="k") == 1  # one namespace with the outside
    assert ledger.counts == {"paid 1": 1, "paid 4": 1}


@IN_MEMORY_AT_ONCE
async def test_calls_and_sends_happen_exactly_once_whatever_crashes(stage: Stage):
    """Each callee counts in its own state: exactly once inside."""
    svc, obj = Service("Caller"), VirtualObject("Counter")

    @obj.handler()
    async def add(ctx: ObjectContext, amount: int) -> int:
        total = (await ctx.get("total", type_hint=int) or 0) + amount
        ctx.set("total", total)
        return total

    @obj.handler(kind="shared")
    async def total(ctx: Any) -> int:
        return await ctx.get("total", type_hint=int) or 0

    @svc.handler()
    async def work(ctx: Context) -> int:
        ctx.object_send(add, "sent", 1)
        first = await ctx.object_call(add, "called", 10)
        await asyncio.gather(*[ctx.object_call(add, "called", 1) for _ in range(3)])
        ctx.object_send(add, "sent", 1, send_delay=timedelta(milliseconds=2))
        return first

    async def ask(on: Stage) -> list[int]:
        first = await on.client.service_call(work, idempotency_key="one")
        await until_it_is(lambda: on.client.object_call(total, "sent"), 2)
        return [first, await on.client.object_call(total, "called")]

    def check(answer: Any, crashed: bool) -> None:
        assert answer == [10, 13]

    stride = 1 if stage.kind == "memory" else 3
    assert await every_crash(stage, (svc, obj), ask, check, stride=stride) >= 4


async def test_a_handler_nobody_serves_is_called_again_until_somebody_does(stage: Stage):
    """RT0018 is transient: the caller backs off."""
    svc, other = Service("Caller"), Service("Other")

    @svc.handler()
    async def work(ctx: Context) -> str:
        return (await ctx.generic_call("Other", "hello", b"")).decode()

    @other.handler()
    async def hello(ctx: Context) -> str:
        return "hello"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    shown = await stage.until_status(sent.invocation_id, "backing-off")
    assert shown["last_failure"]["metadata"] == {"restate_code": "RT0018"}
    assert "Other/hello" in shown["last_failure"]["message"]
    await stage.restart(svc, other)
    assert await stage.client.attach(sent.invocation_id) == '"hello"'


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (lambda ctx: ctx.generic_call("Caller", "work", b"", key="k"), "RT0017"),
        (lambda ctx: ctx.generic_call("Thing", "touch", b""), "RT0017"),
        (lambda ctx: ctx.generic_call("Caller", "work", b"", idempotency_key=""), "RT0017"),
        (lambda ctx: ctx.generic_send("Caller", "nobody", b""), "RT0018"),
        (lambda ctx: ctx.cancel_invocation("inv_nonsense"), "RT0017"),
        (lambda ctx: ctx.resolve_awakeable("sign_nonsense", 1), "RT0017"),
    ],
)
async def test_a_command_that_breaks_a_rule_fails_the_attempt_and_nothing_after_it_happens(
    stage: Stage, said: Any, code: str
):
    svc, obj, ledger = Service("Caller"), VirtualObject("Thing"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> str:
        said(ctx)
        await ctx.run("after", ledger.write, "after")
        return "ok"

    @obj.handler()
    async def touch(ctx: ObjectContext) -> None:
        return None

    await stage.start(svc, obj)
    sent = await stage.client.service_send(work)
    shown = await stage.until_status(sent.invocation_id, "backing-off", "completed")
    assert shown["status"] == "backing-off"
    assert shown["last_failure"]["metadata"]["restate_code"] == code
    assert ledger.lines == []
    assert [entry["kind"] for entry in shown["journal"]] == ["Input"]


async def test_attach_waits_for_another_invocation(stage: Stage):
    svc = Service("Caller")

    @svc.handler()
    async def slow(ctx: Context) -> int:
        await ctx.sleep(timedelta(milliseconds=10))
        return 7

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        handle = ctx.service_send(slow)
        found = await ctx.attach_invocation(await handle.invocation_id(), type_hint=int)
        again = await ctx.attach_invocation(await handle.invocation_id())
        return [found, again]

    @svc.handler()
    async def unknown(ctx: Context, invocation: str) -> None:
        await ctx.attach_invocation(invocation)

    await stage.start(svc)
    assert await stage.client.service_call(work) == [7, 7]
    gone = (await stage.client.service_send(slow)).invocation_id
    await stage.client.attach(gone)
    await stage.engine.operate("purge", InvocationId(gone))
    with pytest.raises(TerminalError, match="not found") as caught:
        await stage.client.service_call(unknown, gone)
    assert caught.value.status_code == 404


async def test_workflows_are_called_and_sent_to_by_key(stage: Stage):
    svc, wf = Service("Caller"), Workflow("Signup")

    @wf.main()
    async def run(ctx: WorkflowContext, name: str) -> str:
        return f"{ctx.key()}: {name}"

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        first = await ctx.workflow_call(run, "k", "ada")
        twice: list[Any] = []
        try:
            await ctx.workflow_call(run, "k", "eve", idempotency_key="ignored")
        except TerminalError as error:
            twice = [error.status_code, error.message]
        handle = ctx.workflow_send(run, "k", "mallory")
        return [first, twice, await ctx.attach_invocation(await handle.invocation_id())]

    await stage.start(svc, wf)
    assert await stage.client.service_call(work) == [
        "k: ada", [409, "the workflow method was already invoked"], "k: ada",
    ]  # fmt: skip


async def test_scopes_are_refused_while_they_are_off_or_kept_apart(stage: Stage):
    """A scope is part of what is called; calls within one find each other, others do not."""
    svc, obj = Service("Caller"), VirtualObject("Thing")

    @obj.handler()
    async def mark(ctx: ObjectContext, text: str) -> list[str]:
        seen = [*(await ctx.get("seen", type_hint=list) or []), text]
        ctx.set("seen", seen)
        return seen

    @svc.handler()
    async def plain(ctx: Context, text: str) -> str:
        return f"{ctx.request().scope} {text}"

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        scoped = ctx.scope("s1")
        return [
            await scoped.service_call(plain, "a"),
            await scoped.object_call(mark, "k", "b", idempotency_key="1"),
            await scoped.workflow_call(mark, "k", "c", headers={"x": "y"}),
            await ctx.object_call(mark, "k", "d"),
            await ctx.attach_invocation(await scoped.service_send(plain, "e").invocation_id()),
            await ctx.attach_invocation(
                await scoped.object_send(mark, "k", "f", send_delay=timedelta(0)).invocation_id()
            ),
        ]

    await stage.start(svc, obj)
    assert await stage.client.service_call(work) == [
        "s1 a", ["b"], ["b", "c"], ["d"], "s1 e", ["b", "c", "f"],
    ]  # fmt: skip


async def test_only_handlers_are_called_by_function(stage: Stage):
    svc = Service("Caller")

    async def stranger(ctx: Context) -> None:
        return None

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            ctx.service_call(stranger)
        except BadDefinition as error:
            return error.code
        return "called"

    await stage.start(svc)
    assert await stage.client.service_call(work) == "AD0038"


async def test_a_parent_waits_through_a_restart(stage: Stage):
    svc = Service("Caller")

    @svc.handler()
    async def child(ctx: Context) -> str:
        _, answer = ctx.awakeable(type_hint=str)
        return await answer

    @svc.handler()
    async def work(ctx: Context) -> str:
        return "child said " + await ctx.service_call(child)

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    for _ in range(3):
        await until(lambda: stage.store.count() and sum(stage.store.count().values()) == 2)
        await stage.restart()
    children = await stage.engine.list(Filter(handler="child"))
    assert children[0]["invoked_by"] == "service"
    assert children[0]["invoked_by_id"] == sent.invocation_id
    await stage.engine.signal(InvocationId(children[0]["id"]), 17, Success(b'"hi"'))
    assert await stage.client.attach(sent.invocation_id) == "child said hi"
    check_journal(stage.journal(sent.invocation_id))
