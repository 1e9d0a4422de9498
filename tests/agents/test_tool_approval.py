"""Tools that need a person's yes: exactly these arguments, the approver's own, or the reason why not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.core.errors import ApprovalDecided, ApprovalForged
from agentdur.tools import Approve, Tool, run_tools, tool
from tests.agents.test_tools import agent, calls
from tests.support.stage import Ledger, Stage, until
from tests.support.stories import every_crash

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)


def payment(ledger: Ledger, rule: Any) -> Tool:
    @tool(approval=rule)
    async def pay(to: str, euros: int, urgent: bool = False) -> str:
        """Pay."""
        return ledger.write(f"paid {to} {euros}{' at once' if urgent else ''}")

    return pay


async def begin(stage: Stage, tools: list[Tool], *wanted: tuple[str, Any]) -> str:
    run, service = agent(tools, calls(*wanted))
    await stage.start(service)
    return (await stage.client.service_send(run)).invocation_id


async def contents(stage: Stage, invocation: str) -> list[str]:
    return [message["content"] for message in await stage.client.attach(invocation)]


async def test_a_tool_runs_once_a_person_has_seen_its_arguments(stage: Stage):
    """All of them, defaults too; the calls beside it do not wait; a crash in between changes nothing."""
    ledger = Ledger()

    @tool
    def look() -> str:
        return ledger.write("looked")

    invocation = await begin(
        stage, [payment(ledger, True), look], ("pay", {"to": "ann", "euros": 5}), ("look", {})
    )
    (question,) = await stage.questions()
    assert question.question == "Run the tool pay?"
    assert question.payload == {"tool": "pay", "arguments": {"to": "ann", "euros": 5, "urgent": False}}
    assert question.tool == "pay"
    await until(
        lambda: any(getattr(e, "meta", "") for _, e in stage.journal(invocation)), "the other tool's answer"
    )
    await stage.restart()
    assert ledger.count("paid ann 5") == 0
    await stage.decide(by="ada")
    assert await contents(stage, invocation) == ["paid ann 5", "looked"]
    assert ledger.counts == {"paid ann 5": 1, "looked": 1}


@IN_MEMORY
async def test_a_predicate_says_which_arguments_need_it(stage: Stage):
    ledger = Ledger()
    pay = payment(ledger, lambda arguments: arguments["euros"] > 100)
    wanted = [("pay", {"to": "ann", "euros": euros}) for euros in (5, 500)]
    invocation = await begin(stage, [pay], *wanted)
    (question,) = await stage.questions()
    assert question.payload["arguments"]["euros"] == 500
    await stage.decide(False, reason="too much")
    small, large = await contents(stage, invocation)
    assert (small, ledger.counts) == ("paid ann 5", {"paid ann 5": 1})
    assert large == "Error: a person has to approve this, and did not: too much"


@IN_MEMORY
async def test_a_decision_is_about_these_arguments_only(stage: Stage):
    ledger = Ledger()
    wanted = [("pay", {"to": "ann", "euros": euros}) for euros in (5, 500)]
    invocation = await begin(stage, [payment(ledger, True)], *wanted)
    one, other = await stage.questions(2)
    with pytest.raises(ApprovalForged):
        await stage.client.approve(one.id, other.digest)
    for question in (one, other):
        await stage.client.approve(question.id, question.digest)
    assert await contents(stage, invocation) == ["paid ann 5", "paid ann 500"]


@IN_MEMORY
async def test_an_approver_s_own_arguments_are_used_and_the_model_is_told(stage: Stage):
    ledger = Ledger()
    invocation = await begin(stage, [payment(ledger, True)], ("pay", {"to": "ann", "euros": 500}))
    await stage.decide(payload={"tool": "pay", "arguments": {"to": "ann", "euros": 20}})
    (told,) = await contents(stage, invocation)
    assert told.startswith("A person approved this with other arguments: ")
    assert told.endswith('"euros":20,"urgent":false}\npaid ann 20')
    assert ledger.counts == {"paid ann 20": 1}


@IN_MEMORY
@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"arguments": {"to": "ann", "euros": "many"}}, "euros: Input should be a valid integer"),
        ({"to": "ann", "euros": 20}, "expected"),
        ({"tool": "spend", "arguments": {"to": "ann", "euros": 20}}, "the tool stays pay"),
        (None, "expected"),
    ],
)
async def test_arguments_that_do_not_fit_are_asked_about_again(stage: Stage, edit: Any, why: str):
    ledger = Ledger()
    invocation = await begin(stage, [payment(ledger, True)], ("pay", {"to": "ann", "euros": 500}))
    first = await stage.decide(payload=edit)
    (again,) = await stage.questions()
    assert again.id != first.id and why in again.question
    await stage.decide(payload={"arguments": {"to": "ann", "euros": 20}})
    await contents(stage, invocation)
    assert ledger.counts == {"paid ann 20": 1}


@IN_MEMORY
async def test_nobody_decides_in_time(stage: Stage):
    ledger = Ledger()
    soon = Approve(question=lambda a: f"Pay {a['euros']} €?", timeout=timedelta(milliseconds=5))
    invocation = await begin(stage, [payment(ledger, soon)], ("pay", {"to": "ann", "euros": 7}))
    (told,) = await contents(stage, invocation)
    assert told.endswith("nobody decided in time")
    (record,) = await stage.client.approvals("decided")
    assert record.question == "Pay 7 €?"
    assert ledger.counts == {}


@IN_MEMORY
async def test_what_does_not_fit_is_told_to_the_model_before_anybody_is_asked(stage: Stage):
    ledger = Ledger()
    invocation = await begin(stage, [payment(ledger, True)], ("pay", {"to": "ann"}))
    assert "euros: Field required" in (await contents(stage, invocation))[0]
    assert await stage.client.approvals("all") == []


@pytest.mark.slow
async def test_crashed_at_every_commit_what_was_approved_is_paid_once(stage: Stage):
    """Two tools at once, one of which waits for a person, then another turn: the same answers, and of the
    ledger only what ran while the process died is there twice."""
    ledger = Ledger()

    @tool
    async def look(n: int) -> str:
        return ledger.write(f"looked {n}")

    tools = [look, payment(ledger, True)]
    service = Service("Agent")

    @service.handler()
    async def run(ctx: Context) -> list[Any]:
        first = calls(("look", {"n": 1}), ("pay", {"to": "ann", "euros": 50}))
        told = await run_tools(ctx, first, tools)
        return told + await run_tools(ctx, calls(("look", {"n": 2})), tools)

    async def ask(stage: Stage) -> Any:
        answer = asyncio.ensure_future(stage.client.service_call(run, idempotency_key="once"))
        try:
            while not answer.done():
                for question in await stage.client.approvals():
                    edit = {"arguments": {"to": "ann", "euros": 20}}
                    with suppress(ApprovalDecided):  # by what was said just before the crash
                        await stage.client.approve(question.id, question.digest, payload=edit)
                await asyncio.sleep(0.001)
            return await answer
        finally:
            answer.cancel()

    def check(answer: Any, crashed: bool) -> None:
        assert [message["content"][-11:] for message in answer] == ["looked 1", "paid ann 20", "looked 2"]
        assert set(ledger.counts) == {"looked 1", "looked 2", "paid ann 20"}
        assert ledger.counts.total() <= 3 + crashed
        ledger.lines.clear()

    assert await every_crash(stage, (service,), ask, check) >= 12
