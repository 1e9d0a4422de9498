"""Budgets over several invocations: whoever is called under one is bound by it, and what it spends counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.ingress.requests import forwarded
from agentdur.llm import Budget, BudgetExceeded, budget, completion
from agentdur.llm.shared import SharedAccount
from agentdur.sdk.along import BUDGETS
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, When
from agentdur.testing.scripted_llm import Usage as ScriptedUsage
from tests.agents.llm_world import HI, IN_MEMORY, MODEL, OTHER, models, outcomes
from tests.support.stage import InlineCommitter, Stage

TEN = ScriptedUsage(prompt_tokens=6, completion_tokens=4)


@pytest.fixture(autouse=True)
def ten_tokens(llm: ScriptedLLM) -> None:
    """Each answer takes ten tokens."""
    llm.replace([Turn(text="hello", usage=TEN), Turn(text="cheap", usage=TEN, when=When(model="other"))])


family = Service("Family")


@family.handler()
async def child(ctx: Context, calls: int) -> str:
    """Asks so often, or as often as its caller's budget lets it."""
    said = []
    try:
        for _ in range(calls):
            said.append((await completion(ctx, MODEL, HI)).text)
    except BudgetExceeded as exceeded:
        said.append(exceeded.facts["unit"])
    return " ".join(said)


@family.handler()
async def grandparent(ctx: Context, calls: int) -> str:
    """Calls who calls: what binds it binds both."""
    return str(await ctx.service_call(child, calls))


@family.handler()
async def parent(ctx: Context, limit: dict[str, Any]) -> dict[str, Any]:
    """One call of its own, then children."""
    async with budget(ctx, Budget(**limit, shared=True, name="family")) as account:
        own = (await completion(ctx, MODEL, HI)).text
        first = await ctx.service_call(child, 2)
        second = await ctx.service_call(grandparent, 9)
        try:
            own += " " + (await completion(ctx, MODEL, HI)).text
        except BudgetExceeded as exceeded:
            own += " " + exceeded.facts["budget"]
        assert isinstance(account, SharedAccount)
        total = await account.total(ctx)
    return {"own": own, "first": first, "second": second, "calls": total.calls, "tokens": total.tokens}


@IN_MEMORY
async def test_children_are_bound_by_the_callers_budget_and_count_to_it(stage: Stage, llm: ScriptedLLM):
    await stage.start(family)
    assert await stage.client.service_call(parent, {"calls": 5}) == {
        "own": "hello family", "first": "hello hello", "second": "hello hello calls", "calls": 5,
        "tokens": 50,
    }  # fmt: skip
    assert len(outcomes(llm)) == 5


@IN_MEMORY
async def test_at_the_limit_all_of_them_go_on_with_the_cheaper_model(stage: Stage, llm: ScriptedLLM):
    await stage.start(family)
    found = await stage.client.service_call(parent, {"tokens": 20, "on_limit": OTHER})
    assert (found["own"], found["first"]) == ("hello cheap", "hello cheap")
    assert models(llm)[:2] == ["scripted"] * 2
    assert set(models(llm)[2:]) == {"other"}


@IN_MEMORY
async def test_a_budget_of_one_handler_does_not_bind_another_in_silence(stage: Stage, llm: ScriptedLLM):
    service = Service("Alone")

    @service.handler()
    async def other(ctx: Context) -> str:
        return (await completion(ctx, MODEL, HI)).text

    @service.handler()
    async def silent(ctx: Context) -> str:
        return "no model"

    @service.handler()
    async def caller(ctx: Context, which: str) -> str:
        async with budget(ctx, Budget(calls=5, name="mine")):
            return str(await ctx.service_call(other if which == "other" else silent))

    await stage.start(service)
    assert await stage.client.service_call(caller, "silent") == "no model"
    with pytest.raises(TerminalError, match="mine") as loud:
        await stage.client.service_call(caller, "other")
    assert (loud.value.metadata or {})["agentdur_code"] == "AD0105"
    assert outcomes(llm) == []


@IN_MEMORY
async def test_a_session_has_one_account_over_all_its_invocations(stage: Stage, llm: ScriptedLLM):
    service = Service("Session")

    @service.handler()
    async def say(ctx: Context, session: str) -> str:
        async with budget(ctx, Budget(calls=2), key=session):
            return (await completion(ctx, MODEL, HI)).text

    await stage.start(service)
    assert [await stage.client.service_call(say, "ann") for _ in range(2)] == ["hello"] * 2
    with pytest.raises(TerminalError, match="2 of 2 calls"):
        await stage.client.service_call(say, "ann")
    assert await stage.client.service_call(say, "bob") == "hello"


@IN_MEMORY
async def test_children_at_the_same_time_go_at_most_one_answer_beyond(stage: Stage, llm: ScriptedLLM):
    service = Service("Crowd")

    @service.handler()
    async def one(ctx: Context) -> bool:
        try:
            await completion(ctx, MODEL, HI, max_tokens=4)
        except BudgetExceeded:
            return False
        return True

    @service.handler()
    async def many(ctx: Context) -> int:
        async with budget(ctx, Budget(calls=3, shared=True)):
            return sum(await asyncio.gather(*(ctx.service_call(one) for _ in range(8))))

    await stage.start(service)
    assert await stage.client.service_call(many) == 3
    assert outcomes(llm) == ["answered"] * 3


@IN_MEMORY
async def test_a_refused_call_gives_back_what_it_held(stage: Stage, llm: ScriptedLLM):
    service = Service("Refused")

    @service.handler()
    async def ask(ctx: Context) -> str:
        async with budget(ctx, Budget(calls=1, shared=True)):
            try:
                await completion(ctx, "openai/other", [*HI, {"role": "assistant", "content": "?"}])
            except TerminalError:
                return (await completion(ctx, MODEL, HI)).text
        return "not refused"

    await stage.start(service)
    assert await stage.client.service_call(ask) == "hello"


@IN_MEMORY
@pytest.mark.slow
async def test_a_crash_at_any_commit_leaves_the_family_with_the_same_decisions(
    stage: Stage, llm: ScriptedLLM
):
    for limit in range(1, 40, 3):
        stage.fresh()
        seen = len(outcomes(llm))
        committer = InlineCommitter(limit, limit % 2 == 0)
        await stage.start(family, committer=lambda made=committer: made)
        sent = asyncio.ensure_future(stage.client.service_call(parent, {"calls": 4}, idempotency_key="k"))
        crashed = asyncio.ensure_future(committer.crashed.wait())
        await asyncio.wait([sent, crashed], return_when=asyncio.FIRST_COMPLETED)
        died = committer.crashed.is_set()
        sent.cancel()
        crashed.cancel()
        await stage.restart()
        assert await stage.client.service_call(parent, {"calls": 4}, idempotency_key="k") == {
            "own": "hello family", "first": "hello hello", "second": "hello calls", "calls": 4, "tokens": 40,
        }, limit  # fmt: skip
        assert outcomes(llm)[seen:].count("answered") <= 4 + died
        await stage.stop()


def test_nobody_outside_says_under_which_budget_a_handler_is_called():
    """The header is between handlers; the ingress does not pass it on."""
    kept = forwarded({BUDGETS.encode(): b"[]", b"x-user": b"ann"}, b"/Family/child", b"")
    assert [name for name, _ in kept] == ["x-restate-ingress-path", "x-user"]
