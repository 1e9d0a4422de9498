"""Budgets: they bind, they add up what the journal says, and a crash changes none of their decisions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from agentdur import Context, Service, TerminalError
from agentdur.core import journal as j
from agentdur.core.errors import BadDefinition
from agentdur.llm import Budget, BudgetExceeded, budget, completion
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, When
from agentdur.testing.scripted_llm import Usage as ScriptedUsage
from tests.agents.llm_world import HI, IN_MEMORY, MODEL, OTHER, models, outcomes, steps
from tests.support.stage import InlineCommitter, Stage, until

litellm = pytest.importorskip("litellm")
TEN = ScriptedUsage(prompt_tokens=6, completion_tokens=4)
CHEAP = When(model="other")


@pytest.fixture(autouse=True)
def ten_tokens(llm: ScriptedLLM) -> None:
    """Each answer takes ten tokens."""
    llm.replace([Turn(text="hello", usage=TEN), Turn(text="cheap", usage=TEN, when=CHEAP)])


@pytest.fixture
def prices() -> Iterator[None]:
    """A cent a token, for one of the two models."""
    each = {"input_cost_per_token": 0.01, "output_cost_per_token": 0.01, "litellm_provider": "openai"}
    litellm.register_model({MODEL: {**each, "mode": "chat"}})
    yield
    litellm.model_cost.pop(MODEL, None)


def asking(limit: Budget, times: int) -> tuple[Service, Any]:
    """A handler that asks so often under a budget and tells how far it came."""
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> dict[str, Any]:
        said: list[str] = []
        async with budget(ctx, limit) as account:
            try:
                for _ in range(times):
                    said.append((await completion(ctx, MODEL, HI)).text)
            except BudgetExceeded as exceeded:
                facts = exceeded.facts
                return {"said": said, "unit": facts["unit"], "spent": facts["spent"], "limit": facts["limit"]}
        spent = account.spent
        return {"said": said, "tokens": spent.tokens, "calls": spent.calls, "cost": spent.cost}

    return service, ask


@IN_MEMORY
@pytest.mark.parametrize(
    ("limit", "unit", "answered"),
    [(Budget(tokens=25), "tokens", 3), (Budget(calls=2), "calls", 2), (Budget(cost=0.25), "cost", 3)],
)
async def test_when_a_limit_is_reached_no_further_call_is_made(
    stage: Stage, llm: ScriptedLLM, prices: None, *, limit: Budget, unit: str, answered: int
):
    """The answer that crosses the limit is kept; the next call does not happen."""
    service, ask = asking(limit, 9)
    await stage.start(service)
    found = await stage.client.service_call(ask)
    assert (found["unit"], len(found["said"])) == (unit, answered)
    assert len(outcomes(llm)) == answered


@IN_MEMORY
async def test_within_the_limit_the_account_says_what_was_spent(stage: Stage, llm: ScriptedLLM, prices: None):
    service, ask = asking(Budget(tokens=1000, cost=5.0), 3)
    await stage.start(service)
    found = await stage.client.service_call(ask)
    assert found == {"said": ["hello"] * 3, "tokens": 30, "calls": 3, "cost": pytest.approx(0.3)}


@IN_MEMORY
async def test_a_budget_that_is_not_caught_ends_the_invocation_with_its_code(stage: Stage, llm: ScriptedLLM):
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> None:
        async with budget(ctx, Budget(calls=1, name="tests")):
            for _ in range(2):
                await completion(ctx, MODEL, HI)

    await stage.start(service)
    with pytest.raises(TerminalError, match="tests is used up: 1 of 1 calls") as ended:
        await stage.client.service_call(ask)
    assert (ended.value.status_code, (ended.value.metadata or {})["agentdur_code"]) == (429, "AD0102")


@IN_MEMORY
async def test_a_budget_in_money_refuses_a_model_without_a_price(stage: Stage, llm: ScriptedLLM):
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> None:
        async with budget(ctx, Budget(cost=1.0)):
            await completion(ctx, "openai/without-a-price", HI)

    await stage.start(service)
    with pytest.raises(TerminalError) as unknown:
        await stage.client.service_call(ask)
    assert (unknown.value.metadata or {})["agentdur_code"] == "AD0104"
    assert outcomes(llm) == []


@IN_MEMORY
async def test_a_call_must_be_within_all_budgets_around_it(stage: Stage, llm: ScriptedLLM):
    """The inner one ends first, then the outer one, which has counted what the inner one counted."""
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> list[str]:
        ends = []
        try:
            async with budget(ctx, Budget(calls=5, name="outer")):
                for _ in range(3):
                    try:
                        async with budget(ctx, Budget(tokens=20, name="inner")):
                            while True:
                                await completion(ctx, MODEL, HI)
                    except BudgetExceeded as exceeded:
                        ends.append(exceeded.facts["budget"])
                        if ends[-1] == "outer":
                            raise
        except BudgetExceeded:
            return ends
        return ["nobody ended it"]

    await stage.start(service)
    assert await stage.client.service_call(ask) == ["inner", "inner", "outer"]
    assert len(outcomes(llm)) == 5


@IN_MEMORY
async def test_calls_at_the_same_time_hold_what_they_may_cost(stage: Stage, llm: ScriptedLLM):
    """Ten at once under a limit for two and a half: without holds all ten would be made."""
    llm.replace([Turn(text="hello", usage=TEN, delay_ms=20)])
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> int:
        async def one() -> bool:
            try:
                await completion(ctx, MODEL, HI, max_tokens=4)
            except BudgetExceeded:
                return False
            return True

        async with budget(ctx, Budget(tokens=25)):
            return sum(await asyncio.gather(*(one() for _ in range(10))))

    await stage.start(service)
    assert await stage.client.service_call(ask) == 3
    assert outcomes(llm) == ["answered"] * 3


@IN_MEMORY
async def test_at_the_limit_a_cheaper_model_goes_on(stage: Stage, llm: ScriptedLLM):
    """The step has the same name, and its note says why another model answered."""
    service, ask = asking(Budget(tokens=15, on_limit=OTHER), 4)
    await stage.start(service)
    sent = await stage.client.service_send(ask)
    shown = await stage.until_status(sent.invocation_id, "completed")
    assert shown["output"]["said"] == ["hello", "hello", "cheap", "cheap"]
    assert models(llm) == ["scripted", "scripted", "other", "other"]
    assert {name for name, _ in steps(stage, sent.invocation_id)} == {"llm:Chat"}
    metas = [e["meta"] for e in shown["journal"] if e.get("meta")]
    assert [meta.get("why") for meta in metas] == [None, None, "budget", "budget"]
    assert metas[-1]["asked"] == MODEL


@IN_MEMORY
async def test_time_is_a_limit_for_a_call_that_is_under_way_too(stage: Stage, llm: ScriptedLLM):
    await completion(None, MODEL, HI, allow_ephemeral=True)  # what a first call loads is loaded
    llm.replace([Turn(text="too late", delay_ms=60_000)])
    service, ask = asking(Budget(seconds=1.0), 1)
    await stage.start(service)
    found = await stage.client.service_call(ask)
    assert (found["unit"], found["said"]) == ("seconds", [])
    await until(lambda: outcomes(llm)[1:] == ["client_gone"], "the closed connection")


PLACES = [(number, after) for number in range(1, 14) for after in (False, True)]


async def test_a_crash_at_any_commit_changes_no_decision_and_pays_no_answer_twice(
    stage: Stage, llm: ScriptedLLM
):
    """Two branches under one budget, nested in another: dies at every commit, before and after it."""
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> list[str]:
        async def talk(name: str) -> list[str]:
            said = []
            try:
                for number in range(3):
                    hi = [{"role": "user", "content": f"{name} {number}"}]
                    said.append((await completion(ctx, MODEL, hi, role=name)).text)
            except BudgetExceeded as exceeded:
                said.append(exceeded.facts["budget"])
            return said

        async with budget(ctx, Budget(calls=9, name="outer")), budget(ctx, Budget(tokens=30, name="inner")):
            both = await asyncio.gather(talk("one"), talk("two"))
        return sorted(word for said in both for word in said)

    wanted = ["hello"] * 3 + ["inner"] * 2
    for limit, after in itertools.chain(PLACES, [(None, False)]):
        stage.fresh()
        llm.replace([Turn(text="hello", usage=TEN)])
        before = len(outcomes(llm))
        committer = InlineCommitter(limit, after)
        await stage.start(service, committer=lambda made=committer: made)
        sent = asyncio.ensure_future(stage.client.service_send(ask, idempotency_key="1"))
        if limit is not None:
            ended = asyncio.ensure_future(committer.crashed.wait())
            await asyncio.wait([ended, _until_idle(stage, sent)], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            await stage.restart()
            sent.cancel()
        answer = await stage.client.service_call(ask, idempotency_key="1")
        assert answer == wanted, (limit, after)
        answered = outcomes(llm)[before:]
        # What was being answered when it died may be paid once more: one answer for each branch at most.
        assert len([o for o in answered if o == "answered"]) <= 3 + 2 * (limit is not None), (limit, after)
        await stage.stop()


def _until_idle(stage: Stage, sent: asyncio.Future[Any]) -> asyncio.Future[Any]:
    async def wait() -> None:
        receipt = await sent
        await stage.until_status(receipt.invocation_id, "completed")

    return asyncio.ensure_future(wait())


@IN_MEMORY
async def test_a_replay_finds_the_account_as_it_was(stage: Stage, llm: ScriptedLLM):
    """After a crash the third call is refused, although this process has paid for none."""
    gate = asyncio.Event()
    service = Service("Chat")

    @service.handler()
    async def ask(ctx: Context) -> str:
        async with budget(ctx, Budget(calls=2)) as account:
            await completion(ctx, MODEL, HI)
            await completion(ctx, MODEL, HI)
            await ctx.run("wait", gate.wait)
            assert account.spent.calls == 2
            try:
                await completion(ctx, MODEL, HI)
            except BudgetExceeded as exceeded:
                return exceeded.facts["spent"]
        return "not refused"

    await stage.start(service)
    sent = await stage.client.service_send(ask)
    await until(lambda: len(stage.journal(sent.invocation_id)) == 6, "two answers and a wait")
    await stage.restart()
    gate.set()
    assert (await stage.until_status(sent.invocation_id, "completed"))["output"] == "2"
    failures = [e for _, e in stage.journal(sent.invocation_id) if isinstance(e, j.Completion)]
    assert isinstance(failures[-1].outcome, j.Failure)
    assert outcomes(llm) == ["answered", "answered"]


@pytest.mark.parametrize("given", [{}, {"tokens": 0}, {"cost": -1.0}, {"calls": 1, "on_limit": ""}], ids=str)
def test_a_budget_that_binds_nothing_is_refused(given: dict[str, Any]):
    with pytest.raises(BadDefinition, match="Budget"):
        Budget(**given)
