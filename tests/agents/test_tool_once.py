"""Tools whose effect must not happen twice: what became of a try is found out before another one is made."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from agentdur import RunOptions
from agentdur.core.errors import BadDefinition
from agentdur.tools import NOT_DONE, Tool, ToolError, ToolKey, tool, tool_key
from tests.agents.test_tool_approval import begin, contents
from tests.agents.test_tools import agent, calls
from tests.support.stage import Ledger, Stage, until
from tests.support.stories import every_crash

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
QUICK: RunOptions[Any] = RunOptions(max_attempts=3, initial_retry_interval=timedelta(milliseconds=1))


class Bank:
    """The world: it keeps what was done, by key, and can be slow or angry after it was done, or before."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.ledger = Ledger()
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.before: list[Exception] = []
        self.after: list[Exception] = []

    async def transfer(self, key: str, euros: int) -> str:
        if self.before:
            raise self.before.pop(0)
        self.done[key] = euros
        self.ledger.write(f"transfer {euros}")
        await self.gate.wait()
        if self.after:
            raise self.after.pop(0)
        return f"sent {euros}"

    def look_up(self, key: str) -> Any:
        self.asked.append(key)
        return f"found {self.done[key]}" if key in self.done else NOT_DONE


def transfer(bank: Bank, **how: Any) -> Tool:
    @tool(idempotent=False, options=QUICK, **how)
    async def transfer(euros: int, key: ToolKey) -> str:
        """Send money."""
        assert key == tool_key()
        return await bank.transfer(key, euros)

    return transfer


def test_the_model_does_not_see_the_key():
    assert list(transfer(Bank()).schema["properties"]) == ["euros"]


async def test_undisturbed_it_runs_once_and_nobody_is_asked(stage: Stage):
    bank = Bank()
    invocation = await begin(stage, [transfer(bank, reconcile=bank.look_up)], ("transfer", {"euros": 5}))
    assert await contents(stage, invocation) == ["sent 5"]
    assert (bank.ledger.counts, bank.asked) == ({"transfer 5": 1}, [])
    assert await stage.client.approvals("all") == []


async def test_after_a_crash_reconcile_is_asked_and_its_answer_is_taken(stage: Stage):
    """The effect was there, its commit was not: it does not happen again."""
    bank = Bank()
    bank.gate.clear()
    invocation = await begin(stage, [transfer(bank, reconcile=bank.look_up)], ("transfer", {"euros": 5}))
    await until(lambda: bank.done, "the effect")
    await stage.restart()
    assert await contents(stage, invocation) == ["found 5"]
    assert bank.ledger.counts == {"transfer 5": 1}
    assert bank.asked == list(bank.done)


async def test_what_had_no_effect_is_done_now(stage: Stage):
    """The process died between the intent and the effect: the key is the same, so reconcile knows."""
    bank = Bank()
    reached = asyncio.Event()

    @tool(idempotent=False, options=QUICK, reconcile=bank.look_up)
    async def transfer(euros: int) -> str:
        if not reached.is_set():
            reached.set()
            await asyncio.sleep(3600)
        return await bank.transfer(tool_key(), euros)

    invocation = await begin(stage, [transfer], ("transfer", {"euros": 5}))
    await reached.wait()
    await stage.restart()
    assert await contents(stage, invocation) == ["sent 5"]
    assert (bank.ledger.counts, bank.asked) == ({"transfer 5": 1}, list(bank.done))


@IN_MEMORY
async def test_a_failure_after_the_effect_is_no_failure(stage: Stage):
    """The answer was lost on its way; a failure before the effect is retried as ever."""
    bank = Bank()
    bank.before, bank.after = [OSError("no line")], [OSError("line cut")]
    invocation = await begin(stage, [transfer(bank, reconcile=bank.look_up)], ("transfer", {"euros": 5}))
    assert await contents(stage, invocation) == ["found 5"]
    assert bank.ledger.counts == {"transfer 5": 1}


@IN_MEMORY
async def test_a_tool_that_keeps_failing_without_effect_is_told_to_the_model(stage: Stage):
    bank = Bank()
    bank.before = [OSError("no line")] * 3
    invocation = await begin(stage, [transfer(bank, reconcile=bank.look_up)], ("transfer", {"euros": 5}))
    assert await contents(stage, invocation) == ["Error: OSError('no line')"]
    assert bank.ledger.counts == {}


@IN_MEMORY
async def test_a_tool_error_says_that_nothing_happened(stage: Stage):
    bank = Bank()
    bank.before = [ToolError("the account is closed")]
    invocation = await begin(stage, [transfer(bank)], ("transfer", {"euros": 5}))
    assert await contents(stage, invocation) == ["Error: the account is closed"]
    assert await stage.client.approvals("all") == []


@pytest.mark.parametrize(
    ("decision", "told", "times"),
    [
        ({}, "sent 5", 2),
        ({"payload": {"result": "sent 5, says the bank"}}, "sent 5, says the bank", 1),
        ({"approved": False, "reason": "ask again tomorrow"}, "or not: ask again tomorrow", 1),
    ],
    ids=["again", "result", "failed"],
)
async def test_without_reconcile_a_person_says_what_became_of_it(
    stage: Stage, decision: dict[str, Any], told: str, times: int
):
    """Run it again, take this result, or it failed."""
    bank = Bank()
    bank.gate.clear()
    invocation = await begin(stage, [transfer(bank)], ("transfer", {"euros": 5}))
    await until(lambda: bank.done, "the effect")
    await stage.restart()
    (question,) = await stage.questions()
    assert "may have had its effect" in question.question and "crash" in question.question
    assert question.payload["arguments"] == {"euros": 5}
    assert question.payload["key"] == next(iter(bank.done))
    bank.gate.set()
    await stage.restart()
    await stage.decide(**decision)
    (answer,) = await contents(stage, invocation)
    assert told in answer
    assert bank.ledger.counts == {"transfer 5": times}


@IN_MEMORY
async def test_a_failure_nobody_can_explain_is_for_a_person_too(stage: Stage):
    bank = Bank()
    bank.after = [OSError("line cut")]
    invocation = await begin(stage, [transfer(bank)], ("transfer", {"euros": 5}))
    (question,) = await stage.questions()
    assert "line cut" in question.question
    await stage.decide(payload="no result in it")
    await stage.decide(payload={"result": None})
    assert await contents(stage, invocation) == ["null"]
    assert bank.ledger.counts == {"transfer 5": 1}


@pytest.mark.parametrize("how", [{"inline": True}, {"idempotent": True, "reconcile": print}])
def test_what_makes_no_sense_is_refused(how: dict[str, Any]):
    async def odd(n: int) -> str:
        return str(n)

    with pytest.raises(BadDefinition, match="odd"):
        tool(**{"idempotent": False, **how})(odd)


@pytest.mark.slow
async def test_crashed_at_every_commit_the_money_is_sent_once(stage: Stage):
    """Before each commit and after it: never twice, and the answer is the bank's."""
    bank = Bank()
    run, service = agent([transfer(bank, reconcile=bank.look_up)], calls(("transfer", {"euros": 5})))

    async def ask(stage: Stage) -> Any:
        return await stage.client.service_call(run, idempotency_key="once")

    def check(answer: Any, crashed: bool) -> None:
        assert answer[0]["content"] in ("sent 5", *(["found 5"] if crashed else []))
        assert bank.ledger.counts == {"transfer 5": 1}
        bank.ledger.lines.clear()
        bank.done.clear()

    assert await every_crash(stage, (service,), ask, check) >= 4
