"""Attempts that failed: told after a restart as before it, with what nobody has to pay for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, InvocationRetryPolicy, Service
from agentdur.core.ids import InvocationId
from agentdur.core.ports import Writes
from agentdur.core.state import FailedAttempt
from agentdur.runtime.owner import Knobs
from agentdur.stores import MemoryStore, SqliteStore
from agentdur.stores.batch import DOORS
from tests.support.stage import InlineCommitter, Ledger, Stage, until

HERE = Knobs(node="here", failed_attempts=3)


def failing(ledger: Ledger, times: int, **options: Any) -> tuple[Service, Any]:
    """Fails so often in a step behind another one, then succeeds."""
    svc = Service("Fails", **options)

    def flaky() -> str:
        ledger.write("try")
        if ledger.count("try") <= times:
            raise ValueError(f"broken {ledger.count('try')} " + "x" * 1000)
        return "done"

    @svc.handler()
    async def work(ctx: Context) -> str:
        await ctx.run("before", lambda: 1)
        return await ctx.run("flaky", flaky)

    return svc, work


async def failures(stage: Stage, invocation: str) -> list[dict[str, Any]]:
    watch = stage.engine.watch(InvocationId(invocation))
    try:
        return await watch.failed_attempts()
    finally:
        watch.close()


async def test_they_are_told_after_a_crash_and_after_the_end_and_go_with_the_invocation(stage: Stage):
    ledger = Ledger()
    policy = InvocationRetryPolicy(max_attempts=2)
    svc, work = failing(ledger, 3, invocation_retry_policy=policy)
    await stage.start(svc, knobs=HERE)
    sent = await stage.client.service_send(work, idempotency_key="once")
    await stage.until_status(sent.invocation_id, "paused")
    before = await failures(stage, sent.invocation_id)
    first, second = before
    assert (first["number"], first["attempt"], first["code"], first["node"]) == (1, 1, 500, "here")
    assert "broken 1 x" in first["message"]
    assert len(first["message"]) == 500
    assert first["started_at"] <= first["ended_at"] < first["next_retry_at"] <= second["started_at"]
    assert (first["entry"], first["length"]) == (3, 4)
    assert (second["number"], second["attempt"], "next_retry_at" in second) == (2, 2, False)

    await stage.restart()
    assert await failures(stage, sent.invocation_id) == before
    described = await stage.engine.describe(InvocationId(sent.invocation_id))
    assert described is not None
    assert described["failed_attempts"] == before
    await stage.engine.operate("resume", InvocationId(sent.invocation_id))
    await stage.client.attach(sent.invocation_id)
    assert [one["number"] for one in await failures(stage, sent.invocation_id)] == [1, 2, 3]

    row = stage.store.invocation(InvocationId(sent.invocation_id))
    assert row is not None
    await stage.engine.operate("purge", InvocationId(sent.invocation_id))
    assert stage.store.attempts(row.seq) == await failures(stage, sent.invocation_id) == []


async def test_of_many_the_newest_are_kept_and_the_others_counted(stage: Stage):
    """Also by an engine that found them there, and is told to keep fewer."""
    ledger = Ledger()
    svc, work = failing(ledger, 7, invocation_retry_policy=InvocationRetryPolicy(max_attempts=5))
    await stage.start(svc, knobs=HERE)
    sent = await stage.client.service_send(work, idempotency_key="once")
    await stage.until_status(sent.invocation_id, "paused")
    assert [one["number"] for one in await failures(stage, sent.invocation_id)] == [3, 4, 5]
    await stage.restart(knobs=Knobs(failed_attempts=2))
    await stage.engine.operate("resume", InvocationId(sent.invocation_id))
    await until(lambda: ledger.count("try") == 8)
    await stage.client.attach(sent.invocation_id)
    assert [one["number"] for one in await failures(stage, sent.invocation_id)] == [6, 7]


@pytest.mark.parametrize("stage", ["memory"], indirect=True)
async def test_a_result_that_nobody_keeps_leaves_no_attempts(stage: Stage):
    ledger = Ledger()
    svc, work = failing(ledger, 2, journal_retention=timedelta(0))
    await stage.start(svc)
    assert await stage.client.service_call(work) == "done"
    assert isinstance(stage.store, MemoryStore)
    assert (stage.store._data.invocations, stage.store._data.attempts) == ({}, {})


class Spying(SqliteStore):
    """Sees every commit, and who asks for attempts."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.doors: list[int] = []
        self.told: list[FailedAttempt] = []
        self.alone = self.asked = 0

    def prepare(self, writes: Writes) -> Any:
        batch = super().prepare(writes)
        self.doors.append(batch.door)
        self.told += writes.attempts.values()
        self.alone += sum(seq not in writes.invocations for seq, _ in writes.attempts)
        return batch

    def attempts(self, seq: int) -> list[FailedAttempt]:
        self.asked += 1
        return super().attempts(seq)


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
async def test_who_never_fails_pays_nothing_and_who_fails_no_commit_more(stage: Stage):
    """A failure rides in the commit of the row that says what follows; without one no part of a commit, no
    wider door and no read is there for it."""
    ledger = Ledger()
    svc, work = failing(ledger, 0)
    spy = Spying(str(stage.path))
    await stage.start(svc, store=spy, committer=InlineCommitter)
    await stage.client.service_call(work)
    assert {"attempts_set", "attempts_dropped"}.isdisjoint(name for door in spy.doors for name in DOORS[door])
    assert (spy.told, spy.asked) == ([], 0)
    quiet = len(spy.doors)

    ledger.lines.clear()
    svc, work = failing(ledger, 1)
    await stage.restart(svc, store=(spy := Spying(str(stage.path))), committer=InlineCommitter)
    await stage.client.service_call(work)
    assert [one.number for one in spy.told] == [1]
    assert (spy.alone, spy.asked) == (0, 0)
    # The failure and the start of the next attempt change the row, as ever; the first step is replayed.
    assert len(spy.doors) <= quiet + 2
