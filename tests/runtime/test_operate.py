"""What operators do: cancel, kill, pause, resume, purge, restart as new (semantics §9.5)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import (
    Context,
    ObjectContext,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
)
from agentdur.core.errors import (
    BadRequest,
    CallerError,
    JournalGone,
    NotForWorkflows,
    TooEarly,
    UnknownInvocation,
    WrongStatus,
)
from agentdur.core.ids import InvocationId
from agentdur.core.journal import Success
from agentdur.core.ports import Filter
from tests.support.stage import Ledger, Stage, check_journal, until

LATE = timedelta(seconds=60)
NOBODY = InvocationId("inv_1klSBfLnjVre6j9CbWrSsAeVFXEsDv5y0C")
STATUSES = ("scheduled", "pending", "running", "backing-off", "suspended", "paused", "completed")

# True: done at once. False: under way. An error: refused, and nothing changes. One per status, in that order.
TABLE: dict[str, tuple[Any, ...]] = {
    "cancel": (True, True, False, False, False, False, WrongStatus),
    "kill": (True, True, True, True, True, True, WrongStatus),
    "pause": (WrongStatus, WrongStatus, False, False, True, True, WrongStatus),
    "resume": (TooEarly, TooEarly, True, True, True, True, WrongStatus),
    "purge": (WrongStatus,) * 6 + (True,),
    "purge-journal": (WrongStatus,) * 6 + (True,),
    "restart": (TooEarly, TooEarly) + (WrongStatus,) * 4 + (True,),
}


async def in_status(stage: Stage, status: str) -> InvocationId:
    """An invocation in that status, on an engine that runs."""
    svc, obj = Service("Op"), VirtualObject("Key")

    @svc.handler()
    async def waits(ctx: Context) -> None:
        await ctx.sleep(LATE)

    @svc.handler(inactivity_timeout=timedelta(0))
    async def suspends(ctx: Context) -> None:
        await ctx.sleep(LATE)

    @svc.handler()
    async def fails(ctx: Context) -> None:
        from_now = timedelta(seconds=60)
        await ctx.run_typed("bad", broken, _options(from_now))

    @svc.handler()
    async def ends(ctx: Context) -> str:
        return "done"

    @obj.handler()
    async def holds(ctx: ObjectContext) -> None:
        await ctx.sleep(LATE)

    def broken() -> None:
        raise ValueError("broken")

    await stage.start(svc, obj)
    client = stage.client
    match status:
        case "scheduled":
            sent = await client.service_send(waits, send_delay=LATE)
        case "pending":
            await client.object_send(holds, "k")
            sent = await client.object_send(holds, "k")
        case "backing-off":
            sent = await client.service_send(fails)
        case "suspended":
            sent = await client.service_send(suspends)
        case "completed":
            sent = await client.service_send(ends)
        case _:
            sent = await client.service_send(waits)
            await until(lambda: len(stage.journal(sent.invocation_id)) == 2)
            if status == "paused":
                await stage.engine.operate("pause", InvocationId(sent.invocation_id))
    await stage.until_status(sent.invocation_id, status)
    return InvocationId(sent.invocation_id)


def _options(delay: timedelta) -> Any:
    return RunOptions(initial_retry_interval=delay, max_retry_interval=delay)


@pytest.mark.parametrize("action", TABLE)
@pytest.mark.parametrize("status", STATUSES)
async def test_every_action_in_every_status(stage: Stage, action: str, status: str):
    invocation = await in_status(stage, status)
    expected = TABLE[action][STATUSES.index(status)]

    async def act() -> Any:
        if action == "restart":
            return bool(await stage.engine.restart_as_new(invocation))
        return await stage.engine.operate(action, invocation)

    if isinstance(expected, bool):
        assert await act() is expected
    else:
        with pytest.raises(expected):
            await act()
        assert await stage.status(invocation) == status
        return
    after = {
        "cancel": ("unknown",) if status in STATUSES[:2] else ("completed", "backing-off"),
        "kill": ("unknown",) if status in STATUSES[:2] else ("completed",),
        "pause": ("suspended",) if status == "suspended" else ("paused",),
        "resume": ("running", "backing-off", "suspended"),
        "purge": ("unknown",),
        "purge-journal": ("completed",),
        "restart": ("completed",),
    }[action]
    await stage.until_status(invocation, *after)


@pytest.mark.parametrize("action", ["cancel", "kill", "pause", "resume", "purge", "purge-journal"])
async def test_nobody_is_unknown(stage: Stage, action: Any):
    await in_status(stage, "completed")
    with pytest.raises(UnknownInvocation):
        await stage.engine.operate(action, NOBODY)
    assert issubclass(UnknownInvocation, CallerError)


# -- kill


async def test_kill_reaches_calls_and_sends_also_delayed_ones(stage: Stage):
    svc, ledger = Service("Op"), Ledger()

    @svc.handler()
    async def child(ctx: Context, name: str) -> None:
        ledger.write(name)
        await ctx.sleep(LATE)

    @svc.handler()
    async def middle(ctx: Context) -> None:
        await ctx.service_call(child, "grandchild")

    @svc.handler()
    async def work(ctx: Context) -> None:
        ctx.service_send(child, "sent")
        ctx.service_send(child, "delayed", send_delay=LATE)
        await asyncio.gather(ctx.service_call(middle), ctx.service_call(child, "called"))

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: len(ledger.lines) == 3)
    await stage.until_status(sent.invocation_id, "running")
    waiting = asyncio.create_task(stage.client.attach(sent.invocation_id))
    await asyncio.sleep(0.005)
    assert await stage.engine.operate("kill", InvocationId(sent.invocation_id))
    with pytest.raises(TerminalError, match="killed") as caught:
        await waiting
    assert caught.value.status_code == 409
    left = await stage.engine.list(Filter())
    assert len(left) == 5  # all but the delayed one: it has not begun, and leaves no record
    assert {shown["completion_failure"] for shown in left} == {"[409] killed"}
    await until(lambda: not stage.engine.driver.live)


async def test_a_killed_child_fails_its_parent_and_a_killed_handler_stops(stage: Stage):
    svc, ledger = Service("Op"), Ledger()

    @svc.handler()
    async def child(ctx: Context) -> None:
        ledger.write("child")
        try:
            await ctx.run("hang", asyncio.sleep, 60)
        finally:
            ledger.write("stopped")

    @svc.handler()
    async def work(ctx: Context) -> str:
        try:
            await ctx.service_call(child)
        except TerminalError as error:
            return f"{error.status_code} {error.message}"
        return "never"

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await until(lambda: ledger.lines)
    [shown] = await stage.engine.list(Filter(handler="child"))
    await stage.engine.operate("kill", InvocationId(shown["id"]))
    assert await stage.client.attach(sent.invocation_id) == "409 killed"
    await until(lambda: ledger.count("stopped"))


async def test_a_killed_holder_keeps_the_state_and_gives_up_the_lock(stage: Stage):
    obj = VirtualObject("Key")

    @obj.handler()
    async def holds(ctx: ObjectContext) -> None:
        ctx.set("n", 7)
        await ctx.sleep(LATE)

    @obj.handler()
    async def reads(ctx: ObjectContext) -> Any:
        return await ctx.get("n")

    await stage.start(obj)
    held = await stage.client.object_send(holds, "k")
    await until(lambda: len(stage.journal(held.invocation_id)) == 3)
    waiting = asyncio.create_task(stage.client.object_call(reads, "k"))
    await asyncio.sleep(0.005)
    await stage.engine.operate("kill", InvocationId(held.invocation_id))
    assert await waiting == 7


async def test_children_made_before_a_restart_are_killed_too(stage: Stage):
    svc = Service("Op")

    @svc.handler(inactivity_timeout=timedelta(0))
    async def child(ctx: Context) -> None:
        await ctx.sleep(LATE)

    @svc.handler(inactivity_timeout=timedelta(0))
    async def work(ctx: Context) -> None:
        ctx.service_send(child)
        await ctx.service_call(child)

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await stage.until_status(sent.invocation_id, "suspended")
    await stage.restart()
    await stage.engine.operate("kill", InvocationId(sent.invocation_id))
    assert {shown["status"] for shown in await stage.engine.list(Filter())} == {"completed"}


# -- pause and resume


async def test_a_paused_invocation_rests_until_it_is_resumed_and_collects_what_comes(stage: Stage):
    svc, ledger = Service("Op"), Ledger()

    @svc.handler()
    async def work(ctx: Context) -> list[Any]:
        ledger.write("attempt")
        await ctx.run("step", ledger.write, "step")
        return [await ctx.signal("go"), await ctx.sleep(timedelta(milliseconds=20))]

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    invocation = InvocationId(sent.invocation_id)
    await until(lambda: len(stage.journal(invocation)) == 3)
    assert await stage.engine.operate("pause", invocation) is False
    await stage.engine.signal(invocation, "go", Success(b"1"))
    await asyncio.sleep(0.01)
    assert await stage.status(invocation) == "paused"
    await stage.restart()
    assert await stage.status(invocation) == "paused"
    await stage.engine.operate("resume", invocation)
    assert await stage.client.attach(invocation) == [1, None]
    assert ledger.counts == {"attempt": 2, "step": 1}


# -- restart as new


async def test_a_restart_keeps_what_is_before_and_runs_the_rest_again(stage: Stage):
    svc, ledger = Service("Op"), Ledger()

    @svc.handler()
    async def work(ctx: Context, name: str) -> list[str]:
        one = await ctx.run("one", ledger.write, "one")
        child = await ctx.service_call(echo, "hi")
        two = await ctx.run("two", ledger.write, "two")
        return [name, one, child, two]

    @svc.handler()
    async def echo(ctx: Context, text: str) -> str:
        return ledger.write(text)

    await stage.start(svc)
    sent = await stage.client.service_send(work, "input", idempotency_key="k")
    old = InvocationId(sent.invocation_id)
    assert await stage.client.attach(old) == ["input", "one", "hi", "two"]
    again = await stage.engine.restart_as_new(old)
    assert await stage.client.attach(again) == ["input", "one", "hi", "two"]
    assert ledger.counts == {"one": 2, "hi": 2, "two": 2}
    kinds = [type(entry).__name__ for _, entry in stage.journal(old)]
    assert kinds[:6] == ["Input", "Run", "Completion", "Call", "Completion", "Completion"]
    for at, counts in ((1, {"one": 2, "hi": 3, "two": 3}), (3, {"one": 2, "hi": 3, "two": 4})):
        from_here = await stage.engine.restart_as_new(old, at)
        assert await stage.client.attach(from_here) == ["input", "one", "hi", "two"]
        assert ledger.counts == counts
        check_journal(stage.journal(from_here))
    shown = await stage.engine.describe(from_here)
    assert shown is not None
    assert (shown["invoked_by"], shown["restarted_from"]) == ("restart_as_new", old)
    assert "idempotency_key" not in shown
    whole = await stage.engine.restart_as_new(old, len(stage.journal(old)) - 1)
    assert await stage.client.attach(whole) == ["input", "one", "hi", "two"]
    assert ledger.counts == {"one": 2, "hi": 3, "two": 4}


async def test_a_restart_from_nowhere_or_from_what_has_no_result_is_refused(stage: Stage):
    svc = Service("Op")

    @svc.handler()
    async def work(ctx: Context) -> str:
        ctx.run("never awaited", lambda: None)
        return await ctx.run("step", lambda: "ok")

    await stage.start(svc)
    sent = await stage.client.service_send(work)
    await stage.client.attach(sent.invocation_id)
    for at in (-1, 1, 2, 99):
        with pytest.raises(BadRequest, match=f"from={at}"):
            await stage.engine.restart_as_new(InvocationId(sent.invocation_id), at)


async def test_workflows_and_what_has_no_journal_are_not_restarted(stage: Stage):
    wf, svc = Workflow("Flow"), Service("Op")

    @wf.main()
    async def run(ctx: WorkflowContext) -> None:
        return None

    @svc.handler()
    async def work(ctx: Context) -> None:
        return None

    await stage.start(wf, svc)
    flow = await stage.client.workflow_send(run, "k")
    await stage.client.attach(flow.invocation_id)
    with pytest.raises(NotForWorkflows):
        await stage.engine.restart_as_new(InvocationId(flow.invocation_id))
    plain = await stage.client.service_send(work)
    await stage.client.attach(plain.invocation_id)
    await stage.engine.operate("purge-journal", InvocationId(plain.invocation_id))
    assert stage.journal(plain.invocation_id) == []
    assert await stage.client.attach(plain.invocation_id) is None
    with pytest.raises(JournalGone):
        await stage.engine.restart_as_new(InvocationId(plain.invocation_id))


async def test_a_failed_exclusive_handler_is_restarted_behind_those_who_wait(stage: Stage):
    obj, ledger = VirtualObject("Key"), Ledger()
    broken = True

    @obj.handler()
    async def work(ctx: ObjectContext, name: str) -> str:
        await ctx.run("note", ledger.write, name)
        if broken:
            raise TerminalError("broken")
        return name

    await stage.start(obj)
    sent = await stage.client.object_send(work, "k", "one")
    with pytest.raises(TerminalError, match="broken"):
        await stage.client.attach(sent.invocation_id)
    broken = False
    again = await stage.engine.restart_as_new(InvocationId(sent.invocation_id), 1)
    assert await stage.client.attach(again) == "one"
    assert ledger.lines == ["one"]


# -- views


async def test_a_description_shows_everything_in_words(stage: Stage):
    svc, wf = Service("Op"), Workflow("Flow")

    @svc.handler()
    async def work(ctx: Context, text: str) -> str:
        await ctx.run("step", lambda: {"a": 1})
        await ctx.run("big", lambda: "x" * 20_000)
        await ctx.sleep(timedelta(milliseconds=1), name="nap")
        with pytest.raises(TerminalError):
            await ctx.run("bad", refuse)
        await ctx.workflow_call(run, "k")
        ctx.generic_send("Op", "raw", b"\xff\xfe")
        token, answer = ctx.awakeable()
        ctx.resolve_awakeable(token, "yes")
        await answer
        return text

    @svc.handler()
    async def raw(ctx: Context, data: bytes) -> None:
        return None

    @wf.main()
    async def run(ctx: WorkflowContext) -> list[str]:
        ctx.set("n", 1)
        await ctx.promise("p").resolve("x")
        await ctx.promise("p").value()
        return await ctx.state_keys()

    def refuse() -> None:
        raise TerminalError("no", 418, {"why": "test"})

    await stage.start(svc, wf)
    sent = await stage.client.service_send(work, "hi")
    assert await stage.client.attach(sent.invocation_id) == "hi"
    shown = await stage.engine.describe(InvocationId(sent.invocation_id))
    assert shown is not None
    assert (shown["status"], shown["completion_result"], shown["output"]) == ("completed", "success", "hi")
    assert shown["target"] == "Op/work"
    journal = shown["journal"]
    assert [entry["index"] for entry in journal] == list(range(len(journal)))
    by_text = {entry.get("text"): entry for entry in journal}
    assert {"Run 'step'", "Sleep 'nap'", "Call Flow/k/run", "OneWayCall Op/raw"} <= set(by_text)
    values = [entry.get("value") for entry in journal]
    assert {"a": 1} in values
    assert {"bytes": 20_002, "preview": '"' + "x" * 199} in values
    failures = [entry["failure"] for entry in journal if "failure" in entry]
    assert failures == [{"code": 418, "message": "no", "metadata": {"why": "test"}}]
    assert any(entry.get("invocation_id", "").startswith("inv_1") for entry in journal)
    [flow] = await stage.engine.list(Filter(service="Flow"))
    flow_journal = (await stage.engine.describe(InvocationId(flow["id"])) or {})["journal"]
    assert [entry.get("text", entry["kind"]) for entry in flow_journal] == [
        "Input", "SetState 'n'", "CompletePromise 'p'", "Completion", "GetPromise 'p'", "Completion",
        "GetEagerStateKeys", "Output",
    ]  # fmt: skip
    [rawed] = await stage.engine.list(Filter(handler="raw"))
    raw_input = (await stage.engine.describe(InvocationId(rawed["id"])) or {})["journal"][0]
    assert raw_input["value"]["bytes"] == 2
