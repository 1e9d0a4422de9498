"""A person decides: ctx.approval, the object that judges, and what changes nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentdur import Approval, Context, Service, TerminalError
from agentdur.core.errors import ApprovalDecided, ApprovalForged, BadDefinition, UnknownApproval
from agentdur.core.ids import InvocationId, awakeable_id
from agentdur.core.ports import Filter
from agentdur.sdk.approval import SERVICE, ApprovalRecord, digest_of
from tests.support.stage import InlineCommitter, Stage, until, until_it_is

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
DAY_MS = 24 * 60 * 60 * 1000


def publishing(default: bool = False) -> tuple[Service, Any]:
    svc = Service("Publish")

    @svc.handler(inactivity_timeout=timedelta(0))
    async def publish(ctx: Context, timeout_ms: int | None) -> dict[str, Any]:
        timeout = None if timeout_ms is None else timedelta(milliseconds=timeout_ms)
        said = await ctx.approval("publish?", {"text": "hello"}, timeout, default=default)
        await ctx.run("after", lambda: None)
        assert said.at is not None
        return {
            "ok": bool(said), "reason": said.reason, "by": said.by, "late": said.timed_out,
            "payload": said.payload, "edited": said.edited,
        }  # fmt: skip

    return svc, publish


async def asked(stage: Stage, count: int = 1) -> list[ApprovalRecord]:
    """The questions, when there are so many."""
    found: list[ApprovalRecord] = []

    async def how_many() -> int:
        found[:] = await stage.client.approvals()
        return len(found)

    await until_it_is(how_many, count)
    return found


async def told(stage: Stage, sent: Any) -> Any:
    return await stage.client.attach(sent.invocation_id)


YES = {"ok": True, "reason": "", "by": "", "late": False, "payload": {"text": "hello"}, "edited": False}


async def test_who_asks_waits_in_no_memory_and_goes_on_with_what_was_decided(stage: Stage):
    """Across a crash; the question says all that is needed to decide it."""
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, None)
    (question,) = await asked(stage)
    await stage.until_status(sent.invocation_id, "suspended")
    assert (question.question, question.payload, question.status) == (
        "publish?",
        {"text": "hello"},
        "pending",
    )
    assert (question.service, question.invocation) == ("Publish", sent.invocation_id)
    assert question.digest == digest_of("publish?", {"text": "hello"})
    await stage.restart()
    decided = await stage.client.approve(question.id, question.digest, by="ada", reason="fine")
    assert (decided.status, decided.by, decided.reason, decided.approved) == ("approved", "ada", "fine", True)
    assert await told(stage, sent) == YES | {"by": "ada", "reason": "fine"}
    assert await stage.client.approvals() == []
    assert await stage.client.approvals("decided") == [decided]
    assert await stage.client.approval(question.id) == decided


@IN_MEMORY
async def test_a_rejection_has_its_reason(stage: Stage):
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, None)
    (question,) = await asked(stage)
    await stage.client.reject(question.id, question.digest, by="bob", reason="too soon")
    assert await told(stage, sent) == YES | {"ok": False, "by": "bob", "reason": "too soon"}


@IN_MEMORY
@pytest.mark.parametrize("version", [{"text": "hi"}, None, [1]])
async def test_an_approver_may_give_a_version_of_their_own(stage: Stage, version: Any):
    """Also one that is nothing; the question as it was asked is kept beside it."""
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, None)
    (question,) = await asked(stage)
    record = await stage.client.approve(question.id, question.digest, payload=version)
    assert (record.edited, record.edited_payload, record.payload) == (True, version, {"text": "hello"})
    assert await told(stage, sent) == YES | {"payload": version, "edited": True}


async def test_the_first_decision_counts_and_every_later_one_is_told_which_that_was(stage: Stage):
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, None)
    (question,) = await asked(stage)
    client = stage.client
    outcomes = await asyncio.gather(
        client.approve(question.id, question.digest, by="ada"),
        client.reject(question.id, question.digest, by="eve"),
        client.approve(question.id, "another", by="mallory"),
        return_exceptions=True,
    )
    refusals = [outcome for outcome in outcomes if isinstance(outcome, ApprovalDecided)]
    (record,) = [outcome for outcome in outcomes if isinstance(outcome, ApprovalRecord)]
    assert refusals and all(refusal.record == record for refusal in refusals)
    assert f"is {record.status} by {record.by}, {record.decided_at:%Y-%m-%dT%H:%M:%S}Z" in str(refusals[0])
    assert (await told(stage, sent))["by"] == record.by
    await stage.restart()
    with pytest.raises(ApprovalDecided) as late:
        await stage.client.reject(question.id, question.digest, by="eve", reason="no")
    assert late.value.record == record
    assert await stage.client.approval(question.id) == record


@IN_MEMORY
async def test_a_decision_about_something_else_changes_nothing(stage: Stage):
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, None)
    (question,) = await asked(stage)
    for digest in (digest_of("publish?", {"text": "bye"}), "", question.digest.upper()):
        with pytest.raises(ApprovalForged, match="AD0121"):
            await stage.client.approve(question.id, digest, by="mallory")
    assert await stage.client.approvals() == [question]
    await stage.client.approve(question.id, question.digest, by="ada")
    assert (await told(stage, sent))["by"] == "ada"


@IN_MEMORY
async def test_nobody_but_the_object_completes_what_the_asker_waits_for(stage: Stage):
    """Awakeable ids can be computed from the invocation's id; the asker waits for none of them."""
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, None)
    (question,) = await asked(stage)
    await stage.until_status(sent.invocation_id, "suspended")
    for index in range(17, 40):
        forged = awakeable_id(InvocationId(sent.invocation_id), index)
        await stage.client.resolve_awakeable(forged, {"approved": True, "at": "2026-01-01T00:00:00Z"})
    assert await stage.client.approvals() == [question]
    assert "approval/" not in question.digest + str(question)  # the secret name is nobody's business
    await stage.client.reject(question.id, question.digest)
    assert (await told(stage, sent))["ok"] is False


@IN_MEMORY
async def test_an_unknown_approval_is_unknown(stage: Stage):
    await stage.start()
    with pytest.raises(UnknownApproval, match="apr_none"):
        await stage.client.approval("apr_none")
    with pytest.raises(UnknownApproval):
        await stage.client.approve("apr_none", "digest")
    assert await stage.client.approvals("all") == []


@pytest.mark.parametrize("default", [False, True])
async def test_after_the_deadline_the_default_is_taken(stage: Stage, default: bool):
    svc, publish = publishing(default)
    await stage.start(svc)
    answer = await stage.client.service_call(publish, 5)
    assert answer == YES | {"ok": default, "late": True}
    (record,) = await stage.client.approvals("decided")
    assert (record.timed_out, record.approved, record.by) == (True, default, "")
    with pytest.raises(ApprovalDecided, match="by nobody in time"):
        await stage.client.approve(record.id, record.digest)


@IN_MEMORY
async def test_a_decision_after_the_deadline_is_late_even_when_nobody_has_said_so_yet(stage: Stage):
    """The alarm was lost; the object looks at the clock itself."""
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, 100)
    (question,) = await asked(stage)
    (alarm,) = await stage.engine.list(Filter(service=SERVICE, handler="expire"))
    await stage.engine.operate("kill", alarm["id"])
    assert question.deadline is not None
    deadline = question.deadline
    await until(lambda: datetime.now(UTC) > deadline, "the deadline")
    with pytest.raises(ApprovalDecided, match="by nobody in time"):
        await stage.client.approve(question.id, question.digest, by="ada")
    assert await told(stage, sent) == YES | {"ok": False, "late": True}


@IN_MEMORY
async def test_in_time_is_in_time(stage: Stage):
    """And the alarm that is not needed any more is taken back."""
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, DAY_MS)
    (question,) = await asked(stage)
    await stage.client.approve(question.id, question.digest)
    assert await told(stage, sent) == YES

    async def alarms() -> int:
        return len(await stage.engine.list(Filter(service=SERVICE, handler="expire")))

    await until_it_is(alarms, 0)


@pytest.mark.parametrize("end", ["cancel", "kill"])
async def test_a_question_is_withdrawn_when_its_asker_is_gone(stage: Stage, end: Any):
    svc, publish = publishing()
    await stage.start(svc)
    sent = await stage.client.service_send(publish, None)
    (question,) = await asked(stage)
    await stage.restart()
    await stage.engine.operate(end, InvocationId(sent.invocation_id))
    await asked(stage, 0)
    (record,) = await stage.client.approvals("decided")
    assert (record.id, record.status, record.approved) == (question.id, "withdrawn", None)
    with pytest.raises(ApprovalDecided, match="is withdrawn"):
        await stage.client.approve(question.id, question.digest)


@IN_MEMORY
async def test_a_question_nobody_waits_for_any_more_is_withdrawn(stage: Stage):
    """Of two questions that race, the one that loses; and one that its handler left behind."""
    svc = Service("Two")

    @svc.handler()
    async def ask(ctx: Context) -> str:
        tasks = [ctx.approval(name) for name in ("one", "two")]
        left = asyncio.ensure_future(ctx.approval("three"))
        winner: Approval = await ctx.race(*tasks)
        await ctx.run("after", lambda: None)
        left.cancel()
        return winner.by

    await stage.start(svc)
    sent = await stage.client.service_send(ask)
    questions = {question.question: question for question in await asked(stage, 3)}
    await stage.client.approve(questions["two"].id, questions["two"].digest, by="ada")
    assert await told(stage, sent) == "ada"
    await asked(stage, 0)
    ends = {record.question: record.status for record in await stage.client.approvals("decided")}
    assert ends == {"one": "withdrawn", "two": "approved", "three": "withdrawn"}


async def test_what_was_decided_is_forgotten_after_its_retention(stage: Stage):
    svc, publish = publishing()
    await stage.start(svc)
    stage.app.approvals.retention = timedelta(milliseconds=5)
    sent = await stage.client.service_send(publish, None)
    (question,) = await asked(stage)
    await stage.client.approve(question.id, question.digest)
    await told(stage, sent)

    async def kept() -> int:
        return len(await stage.client.approvals("all"))

    await until_it_is(kept, 0)
    with pytest.raises(UnknownApproval):
        await stage.client.approval(question.id)


async def test_questions_are_listed_oldest_first_page_by_page(stage: Stage):
    """Of all invocations, or of one service; a page begins after the last id of the one before."""
    svc, publish = publishing()
    other = Service("Other")

    @other.handler()
    async def ask(ctx: Context, name: str) -> bool:
        return bool(await ctx.approval(name))

    await stage.start(svc, other)
    for n in range(5):
        await stage.client.service_send(ask, f"question {n}")
        await asked(stage, n + 1)
        await asyncio.sleep(0.002)  # ages are told in milliseconds
    await stage.client.service_send(publish, None)
    everything = await asked(stage, 6)
    assert [record.question for record in everything] == [f"question {n}" for n in range(5)] + ["publish?"]
    assert await stage.client.approvals(limit=2) == everything[:2]
    assert await stage.client.approvals(limit=3, after=everything[1].id) == everything[2:5]
    assert await stage.client.approvals(service="Publish", limit=1) == everything[5:]
    decided = await stage.client.reject(everything[1].id, everything[1].digest)
    assert await stage.client.approvals("all", limit=3) == [everything[0], decided, everything[2]]
    assert await stage.client.approvals("decided", service="Publish") == []


@IN_MEMORY
async def test_the_questions_of_branches_are_told_apart_on_every_attempt(stage: Stage):
    svc = Service("Many")

    @svc.handler(inactivity_timeout=timedelta(0))
    async def many(ctx: Context) -> list[str]:
        async def one(n: int) -> str:
            first = await ctx.approval(f"{n}a")
            return f"{first.by}{(await ctx.approval(f'{n}b')).by}"

        return list(await asyncio.gather(*(one(n) for n in range(3))))

    await stage.start(svc)
    sent = await stage.client.service_send(many)
    for which in "ab":
        for question in reversed(await asked(stage, 3)):
            assert question.question.endswith(which)
        await stage.restart()
        for question in reversed(await asked(stage, 3)):
            await stage.client.approve(question.id, question.digest, by=question.question)
    assert await told(stage, sent) == ["0a0b", "1a1b", "2a2b"]


@pytest.mark.slow
async def test_crashed_at_every_commit_there_is_one_question_and_one_decision(stage: Stage):
    """Before each commit is made, and after it."""
    svc, publish = publishing()
    crashes = 0
    for after in (False, True):
        for limit in range(1, 200):
            stage.fresh()
            committer = InlineCommitter(limit, after)
            await stage.start(svc, committer=lambda made=committer: made)
            asking = asyncio.ensure_future(ask_and_decide(stage, publish))
            dying = asyncio.ensure_future(committer.crashed.wait())
            await asyncio.wait({asking, dying}, return_when=asyncio.FIRST_COMPLETED)
            crashed = committer.crashed.is_set()
            if crashed:
                crashes += 1
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await stage.restart(committer=InlineCommitter)
                asking = asyncio.ensure_future(ask_and_decide(stage, publish))
            dying.cancel()
            assert await asyncio.wait_for(asking, 10) == YES | {"by": "ada"}
            assert await stage.client.approvals() == []
            (record,) = await stage.client.approvals("decided")
            assert record.by == "ada"
            await stage.close()
            if not crashed:
                break
    assert crashes >= 12


async def ask_and_decide(stage: Stage, publish: Any) -> Any:
    """Somebody asks, once; somebody decides, as often as it takes."""
    asking = asyncio.ensure_future(stage.client.service_call(publish, None, idempotency_key="once"))
    while not asking.done():
        for question in await stage.client.approvals():
            with suppress(ApprovalDecided):  # by what was said just before the crash
                await stage.client.approve(question.id, question.digest, by="ada")
        await asyncio.sleep(0.001)
    return await asking


def test_an_approval_is_true_only_when_approved():
    assert Approval(True)
    assert not Approval(False, timed_out=True)


@IN_MEMORY
async def test_agentdur_s_own_services_are_served_and_shown_to_nobody(stage: Stage):
    svc, publish = publishing()
    await stage.start(svc)
    assert await stage.client.health() == ["Publish"]
    await stage.client.service_send(publish, None)
    await asked(stage)
    shown = await stage.engine.list(Filter(internal=False))
    assert {one["target_service_name"] for one in shown} == {"Publish"}
    assert await stage.engine.list(Filter(service=SERVICE, internal=False)) != []


@pytest.mark.parametrize("name", ["agentdur.Mine", "AgentDur.mine"])
def test_their_names_are_reserved(name: str):
    with pytest.raises(BadDefinition, match="reserved"):
        Service(name)


@IN_MEMORY
async def test_a_question_that_is_no_text_is_refused(stage: Stage):
    svc = Service("Odd")

    @svc.handler()
    async def odd(ctx: Context) -> None:
        try:
            await ctx.approval(7)  # type: ignore[arg-type]  # that is what the test is about
        except Exception as error:
            raise TerminalError(str(error), 400) from error

    await stage.start(svc)
    with pytest.raises(TerminalError, match="a question"):
        await stage.client.service_call(odd)
