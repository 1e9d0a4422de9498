"""A budget that asks a person: once, however many are at the limit, and over a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentdur import Context, Service
from agentdur.llm import Budget, BudgetExceeded, budget, completion
from agentdur.sdk.approval import ApprovalRecord
from agentdur.testing.scripted_llm import ScriptedLLM
from tests.agents.llm_world import IN_MEMORY, MODEL, outcomes
from tests.support.stage import Stage, until_it_is


def talking(limit: Budget) -> tuple[Service, Any]:
    """Two branches that ask twice each under one budget."""
    service = Service("Chat")

    @service.handler()
    async def talk(ctx: Context) -> list[str]:
        async def branch(name: str) -> list[str]:
            said = []
            for number in range(2):
                hi = [{"role": "user", "content": f"{name} {number}"}]
                try:
                    said.append((await completion(ctx, MODEL, hi, max_tokens=4)).text)
                except BudgetExceeded:
                    said.append("no")
            return said

        async with budget(ctx, limit):
            both = await asyncio.gather(branch("one"), branch("two"))
        return sorted(word for said in both for word in said)

    return service, talk


async def the_question(stage: Stage) -> ApprovalRecord:
    found: list[ApprovalRecord] = []

    async def how_many() -> int:
        found[:] = await stage.client.approvals()
        return len(found)

    await until_it_is(how_many, 1)
    return found[0]


@IN_MEMORY
@pytest.mark.parametrize(
    ("payload", "answers"), [(None, ["hello"] * 4), ({"calls": 1}, ["hello"] * 3 + ["no"])], ids=str
)
async def test_a_person_grants_as_much_again_or_what_they_say(
    stage: Stage, llm: ScriptedLLM, payload: Any, answers: list[str]
):
    """Two branches are at the limit, one question is asked, and it is still there after a crash."""
    service, talk = talking(Budget(calls=2, on_limit="approve", name="chat"))
    await stage.start(service)
    sent = await stage.client.service_send(talk)
    first = await the_question(stage)
    await stage.restart()
    question = await the_question(stage)
    assert question.id == first.id
    assert "chat is used up: 2 of 2 calls" in question.question
    assert question.payload["calls"] == 2
    if payload is None:
        await stage.client.approve(question.id, question.digest)
    else:
        await stage.client.approve(question.id, question.digest, payload=payload)
        again = await the_question(stage)  # the one call more is used up, too
        await stage.client.reject(again.id, again.digest)
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert shown["output"] == answers
    assert outcomes(llm).count("answered") == len([word for word in answers if word == "hello"])


@IN_MEMORY
async def test_a_person_who_refuses_ends_it_for_all_branches(stage: Stage, llm: ScriptedLLM):
    service, talk = talking(Budget(calls=2, on_limit="approve"))
    await stage.start(service)
    sent = await stage.client.service_send(talk)
    question = await the_question(stage)
    await stage.client.reject(question.id, question.digest)
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert shown["output"] == ["hello", "hello", "no", "no"]
    assert len(await stage.client.approvals("decided")) == 1


@IN_MEMORY
async def test_a_shared_budget_asks_as_well(stage: Stage, llm: ScriptedLLM):
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> list[str]:
        said = []
        async with budget(ctx, Budget(calls=1, on_limit="approve", shared=True)):
            for number in range(2):
                hi = [{"role": "user", "content": f"{number}"}]
                said.append((await completion(ctx, MODEL, hi)).text)
        return said

    await stage.start(service)
    sent = await stage.client.service_send(ask)
    question = await the_question(stage)
    assert outcomes(llm) == ["answered"]
    await stage.client.approve(question.id, question.digest)
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert shown["output"] == ["hello", "hello"]
