"""Budgets bind the agents of every framework: what their models answer counts, once, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.core.ports import Filter
from agentdur.llm import Budget, BudgetExceeded, budget, completion
from agentdur.llm.shared import SharedAccount
from agentdur.runtime.views import entry_view
from agentdur.testing.scripted_llm import ScriptedLLM, requests
from tests.frameworks.world import CHEAP, DESKS, DID, MODEL, OTHER, TRIP, Desk, led, models, within
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

litellm = pytest.importorskip("litellm")
pytestmark = pytest.mark.parametrize("stage", ["memory"], indirect=True)


@pytest.fixture(autouse=True)
def prices() -> Iterator[None]:
    """A cent a token."""
    each = {"input_cost_per_token": 0.01, "output_cost_per_token": 0.01, "litellm_provider": "openai"}
    litellm.register_model({MODEL: {**each, "mode": "chat"}})
    yield
    litellm.model_cost.pop(MODEL, None)


async def ask(stage: Stage, key: str = "once") -> Any:
    raw = await stage.client.generic_call("Desk", "ask", json.dumps("go").encode(), None, key)
    return json.loads(raw)


def notes(stage: Stage) -> list[dict[str, Any]]:
    """What the model steps said about themselves."""
    rows = stage.store.list(Filter(internal=False))
    shown = [entry_view(entry) for row in rows for _, entry in stage.journal(row.spec.id)]
    return [entry["meta"] for entry in shown if "model" in entry.get("meta", {})]


async def test_what_models_answer_is_counted_in_calls_tokens_and_money(
    stage: Stage, llm: ScriptedLLM, desk: Desk
):
    llm.replace(TRIP)
    await stage.start(within(desk.helper(None), Budget(calls=2, tokens=1000, cost=5.0)))
    assert await ask(stage) == {"said": "Rain.", "calls": 2, "tokens": 20, "cost": 0.2}
    (first, last) = notes(stage)
    assert (first["prompt_tokens"], first["completion_tokens"], first["cost"]) == (6, 4, 0.1)
    assert (first["finish_reason"], last["finish_reason"]) == ("tool_calls", "stop")
    assert (last["messages"] > first["messages"]) and last["tools"] == first["tools"]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (Budget(calls=1), "calls: 1 of 1"),
        (Budget(tokens=10), "tokens: 10 of 10"),
        (Budget(cost=0.1), "cost: 0.1 of 0.1"),
    ],
    ids=["calls", "tokens", "cost"],
)
async def test_a_budget_that_ends_in_the_middle_of_a_run_ends_the_run(
    stage: Stage, llm: ScriptedLLM, desk: Desk, *, limit: Budget, said: str
):
    """The answer that reached the limit is kept, and its tool runs; the next call is not made."""
    llm.replace(TRIP)
    await stage.start(within(desk.helper(None), limit))
    assert await ask(stage) == {"said": said, "calls": 1, "tokens": 10, "cost": 0.1}
    assert (models(llm), DID) == (["scripted"], {"Oslo": 1})


async def test_time_ends_a_call_that_is_under_way(stage: Stage, llm: ScriptedLLM, desk: Desk):
    llm.replace([TRIP[0], {"text": "too late", "delay_ms": 60_000}])
    await stage.start(within(desk.helper(None), Budget(seconds=0.4)))
    found = await ask(stage)
    assert found["said"].startswith("seconds:")
    assert found["calls"] <= 1


async def test_a_person_is_asked_in_the_middle_of_a_run_and_it_goes_on(
    stage: Stage, llm: ScriptedLLM, desk: Desk
):
    """Over a crash while the person thinks."""
    llm.replace(TRIP)
    await stage.start(within(desk.helper(None), Budget(calls=1, on_limit="approve", name="desk")))
    sent = await stage.client.generic_send("Desk", "ask", b'"go"')
    (question,) = await stage.questions()
    assert "desk is used up: 1 of 1 calls" in question.question
    await stage.restart()
    await stage.decide()
    assert (await stage.client.attach(sent.invocation_id))["said"] == "Rain."
    assert (len(models(llm)), DID) == (2, {"Oslo": 1})


async def test_a_person_who_refuses_ends_the_run(stage: Stage, llm: ScriptedLLM, desk: Desk):
    llm.replace(TRIP)
    await stage.start(within(desk.helper(None), Budget(calls=1, on_limit="approve")))
    sent = await stage.client.generic_send("Desk", "ask", b'"go"')
    await stage.decide(approved=False)
    assert (await stage.client.attach(sent.invocation_id))["said"] == "calls: 1 of 1"
    assert len(models(llm)) == 1


async def test_a_cheaper_model_goes_on_in_the_middle_of_a_run(stage: Stage, llm: ScriptedLLM, desk: Desk):
    llm.replace([*CHEAP, *TRIP])
    await stage.start(within(desk.helper(None), Budget(tokens=5, on_limit=OTHER)))
    assert await ask(stage) == {"said": "cheap", "calls": 2, "tokens": 20, "cost": 0.1}
    assert models(llm) == ["scripted", "other"]
    (first, last) = notes(stage)
    assert (first.get("why"), last["why"], last["asked"]) == (None, "budget", MODEL)


async def test_sub_agents_spend_from_the_budget_around_their_boss(stage: Stage, llm: ScriptedLLM, desk: Desk):
    llm.replace(led(desk))
    await stage.start(within(desk.family(), Budget(calls=4)))
    assert await ask(stage) == {"said": "rain and snow", "calls": 4, "tokens": 40, "cost": 0.4}


@pytest.mark.parametrize("calls", [2, 3])
async def test_two_sub_agents_at_once_never_spend_more_than_there_is(
    stage: Stage, llm: ScriptedLLM, desk: Desk, *, calls: int
):
    """With room for two only one of the writers is asked; with room for three the boss is not asked again."""
    llm.replace(led(desk))
    await stage.start(within(desk.family(), Budget(calls=calls)))
    found = await ask(stage)
    assert (found["said"], found["calls"]) == (f"calls: {calls} of {calls}", calls)
    assert len(models(llm)) == calls


async def test_a_budget_over_several_handlers_is_shared(stage: Stage, llm: ScriptedLLM, desk: Desk):
    """The caller asks by itself once, then its callee by the framework; what is left is for one more."""
    llm.replace([*led(desk)[2:3], *TRIP])
    service, run = Service("Desk"), desk.helper(None)

    @service.handler("help")
    async def helped(ctx: Context, question: str) -> str:
        try:
            return await run(question)
        except BudgetExceeded as exceeded:
            return exceeded.facts["unit"]

    @service.handler("ask")
    async def handle(ctx: Context, shared: bool) -> list[str]:
        async with budget(ctx, Budget(calls=3 if shared else 9, shared=shared)):
            system = [{"role": "system", "content": "You write."}, {"role": "user", "content": "rain"}]
            own = (await completion(ctx, MODEL, system)).text
            return [own, *[await ctx.service_call(helped, "go") for _ in range(2)]]

    await stage.start(service)
    assert await stage.client.service_call(handle, True) == ["wet", "Rain.", "calls"]
    assert len(models(llm)) == 3
    with pytest.raises(TerminalError) as untold:
        await stage.client.service_call(handle, False)
    assert (untold.value.metadata or {})["agentdur_code"] == "AD0105"


@pytest.mark.slow
@pytest.mark.parametrize("calls", [3, 9])
async def test_crashed_at_every_commit_the_budget_counts_each_answer_once(
    stage: Stage, llm: ScriptedLLM, desk: Desk, *, calls: int
):
    """Whether the budget ends in the middle or not: the decision is the same, and so is what was spent."""
    llm.replace(led(desk))
    service = within(desk.family(), Budget(calls=calls))
    spent = min(calls, 4)
    said = "rain and snow" if calls > 3 else "calls: 3 of 3"
    points, before = 0, 0

    def begin() -> None:
        nonlocal before
        before = len(models(llm))

    async for point in every_boundary(stage, [service], lambda: ask(stage), begin):
        points += 1
        assert point.answer == {"said": said, "calls": spent, "tokens": 10 * spent, "cost": spent / 10}, point
        answered = [entry for entry in requests(llm.ledger())[before:] if entry.outcome == "answered"]
        assert spent <= len(answered) <= spent + 2, point
    assert points >= 10


@pytest.mark.slow
@pytest.mark.parametrize("desk", [DESKS[1]], ids=lambda desk: desk.name)
async def test_crashed_at_every_commit_a_shared_account_hears_of_each_answer_once(
    stage: Stage, llm: ScriptedLLM, desk: Desk
):
    llm.replace(TRIP)
    service, run = Service("Desk"), desk.helper(None)

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> list[Any]:
        async with budget(ctx, Budget(calls=5), key="all") as account:
            said = await run(question)
            assert isinstance(account, SharedAccount)
            while (total := await account.total(ctx)).calls < 2:  # what an account is told takes its time
                await ctx.sleep(timedelta(milliseconds=1))
            return [said, total.calls, total.tokens]

    async for point in every_boundary(stage, [service], lambda: ask(stage)):
        assert point.answer == ["Rain.", 2, 20], point
