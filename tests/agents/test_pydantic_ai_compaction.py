"""A history that the provider compacts (`OpenAICompaction`): a model call like others, journaled, counted by
budgets, and not made again."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import Any

import pytest

pytest.importorskip("agentdur.integrations.pydantic_ai", exc_type=ImportError)

from pydantic_ai import Agent, RunContext
from pydantic_ai.models.openai import OpenAICompaction, OpenAIResponsesModel

from agentdur import Context, Service
from agentdur.core import journal as j
from agentdur.core.ports import Filter
from agentdur.integrations.pydantic_ai import Durable
from agentdur.integrations.pydantic_ai_errors import RunNotReplayable
from agentdur.llm import Budget, BudgetExceeded, budget
from agentdur.testing.scripted_llm import ScriptedLLM, requests
from tests.agents.pydantic_ai_world import IN_MEMORY, called, model_server
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

__all__ = ["model_server"]
pytestmark = IN_MEMORY
DID: Counter[str] = Counter()
SCRIPT = [
    {"tool_calls": [called("weather", "bergen", city="bergen")]},
    {"text": "It rains."},
    {"tool_calls": [called("weather", "oslo", city="oslo")]},
    {"text": "There, too."},
]
UNDISTURBED = {"asked": 4, "compacted": 1, "bergen": 1, "oslo": 1}
ANSWER = b'["There, too.",5,true]'


RELEASE = tuple(int(part) for part in version("pydantic-ai-slim").split(".")[:2])
IN_STEPS = pytest.mark.skipif(
    RELEASE < (2, 68), reason=f"pydantic-ai-slim {RELEASE} compacts past the journal"
)


class Counting(OpenAIResponsesModel):
    """Counts how often the provider is asked to compact."""

    async def compact_messages(self, request_context: Any, **more: Any) -> Any:
        DID["compacted"] += 1
        return await super().compact_messages(request_context, **more)


def compacting(limit: Budget) -> Service:
    """When it is asked a second time, what was said before is compacted."""
    capabilities: list[Any] = [OpenAICompaction(message_count_threshold=4), Durable()]
    agent = Agent(Counting("scripted"), name="long", capabilities=capabilities)

    @agent.tool
    def weather(ctx: RunContext, city: str) -> str:
        """The weather of a city."""
        DID[str(ctx.tool_call_id)] += 1
        return f"rain in {city}"

    service = Service("Long")

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> list[Any]:
        async with budget(ctx, limit) as account:
            try:
                known = (await agent.run(question)).all_messages()
                said = (await agent.run("and in Oslo?", message_history=known)).output
            except BudgetExceeded:
                said = "enough"
            except RunNotReplayable:
                said = "refused"
        return [said, account.spent.calls, account.spent.tokens > 0]

    return service


async def ask(stage: Stage) -> bytes:
    """Asked again, it is the same invocation."""
    return await stage.client.generic_call("Long", "ask", b'"?"', None, "once")


def did(llm: ScriptedLLM, before: int) -> dict[str, int]:
    """What the model was asked, and what else was done."""
    return {"asked": len(requests(llm.ledger())) - before, **DID}


@pytest.mark.slow
@IN_STEPS
async def test_crashed_at_every_commit_a_history_is_compacted_once(stage: Stage, model_server: ScriptedLLM):
    """The next request is made of the compaction that the journal holds."""
    model_server.replace(SCRIPT)
    before = points = 0

    def begin() -> None:
        nonlocal before
        DID.clear()
        before = len(requests(model_server.ledger()))

    async for point in every_boundary(stage, [compacting(Budget(calls=9))], lambda: ask(stage), begin):
        points += 1
        assert point.answer == ANSWER, point
        again = Counter(did(model_server, before)) - Counter(UNDISTURBED)
        assert again.total() <= (0 if point.after else 1), (point, again)
    assert points >= 10


@IN_STEPS
async def test_the_model_is_told_the_compaction_in_place_of_the_history(
    stage: Stage, model_server: ScriptedLLM
):
    DID.clear()
    model_server.replace(SCRIPT)
    await stage.start(compacting(Budget(calls=9)))
    assert await ask(stage) == ANSWER
    assert did(model_server, 0) == UNDISTURBED
    told = [[item.get("type") or item["role"] for item in body["input"]] for body in model_server.bodies()]
    assert told[2:] == [
        ["compaction", "user"],
        ["compaction", "user", "function_call", "function_call_output"],
    ]
    (row,) = stage.store.list(Filter(internal=False))
    names = [entry.name for _, entry in stage.journal(row.spec.id) if isinstance(entry, j.Run)]
    assert [name for name in names if "__model." in name] == [
        "long__model.request", "long__model.request", "long__model.compact_messages",
        "long__model.request", "long__model.request",
    ]  # fmt: skip


@IN_STEPS
async def test_a_budget_that_is_used_up_ends_the_run_before_the_compaction(
    stage: Stage, model_server: ScriptedLLM
):
    DID.clear()
    model_server.replace(SCRIPT)
    await stage.start(compacting(Budget(calls=2)))
    assert await ask(stage) == b'["enough",2,true]'
    assert did(model_server, 0) == {"asked": 2, "bergen": 1}


@pytest.mark.skipif(RELEASE >= (2, 68), reason="it compacts in steps")
async def test_a_release_that_compacts_past_the_journal_is_refused(stage: Stage, model_server: ScriptedLLM):
    model_server.replace(SCRIPT)
    await stage.start(compacting(Budget(calls=9)))
    assert await ask(stage) == b'["refused",2,true]'


async def test_nothing_in_a_handler_compacts_past_the_journal(stage: Stage, model_server: ScriptedLLM):
    """Also when it is called by hand; from the first durable run on."""
    service = Service("Long")
    agent: Agent[None, str] = Agent(Counting("scripted"), name="short", capabilities=[Durable()])

    @service.handler("ask")
    async def handle(ctx: Context, question: str) -> str:
        await agent.run(question)
        try:
            await Counting("scripted").compact_messages(None)
        except RunNotReplayable:
            return "refused"
        return "compacted"

    await stage.start(service)
    assert await ask(stage) == b'"refused"'
