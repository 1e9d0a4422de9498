"""Shared budgets where a Restate server keeps the accounts: of a tree of agents, of a session; with a person
who grants more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from agentdur.core.book import Amounts, Book
from agentdur.testing.scripted_llm import Turn, Usage
from tests.endpoint.world import World, agree, questions, world
from tests.support.patience import until

pytestmark = pytest.mark.slow
TEN = Usage(prompt_tokens=6, completion_tokens=4)
UNDISTURBED = {
    "own": "hello",
    "children": [["hello", "hello"], ["hello", "hello", "no more calls"]],
    "last": ["hello", "no more calls"],
    "calls": 6,
}
"""Of six calls; the grandchild has but two of them."""
AT_ONCE = 2
"""Model calls that are under way together, at most."""


@pytest.fixture(scope="module", params=["http2", "request and response"])
def w(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("purse"), request.param, "tests/endpoint/spending.py") as made:
        yield made


def hello(delay_ms: int = 0) -> Turn:
    return Turn(text="hello", usage=TEN, delay_ms=delay_ms)


def book(w: World, account: str) -> Book:
    """What the account's object has written, when nobody is on the way to it: what is settled is sent."""
    under_way = (
        "select id from sys_invocation where target_service_name = 'agentdur.Budget'"
        " and status not in ('completed', 'scheduled')"
    )
    until(lambda: not w.c.sql(under_way), "the end of all that is sent to accounts")
    query = (
        f"select value_utf8 from state where service_name = 'agentdur.Budget' and service_key = '{account}'"
    )
    (row,) = w.c.sql(query)
    return msgspec.json.decode(row["value_utf8"], type=Book)


def told(answer: Any) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "account"}


def test_whoever_is_called_under_a_budget_spends_from_it(w: World):
    w.plays(hello())
    answer = w.c.call("/Family/parent", {"calls": 6})
    assert told(answer) == UNDISTURBED
    w.has_answered(6)
    kept = book(w, answer["account"])
    assert (kept.spent, kept.holds) == (Amounts(6, 60), {})


def test_killed_at_every_answer_the_family_spends_the_same_once(w: World):
    """What was answered and lost is paid to the provider twice, and counted once."""
    w.plays(hello(delay_ms=100))
    running = w.c.send("/Family/parent", {"calls": 6})
    kills = 0
    for _ in range(5):
        seen = w.answered
        until(lambda seen=seen: w.answered > seen or ended(w, running), "an answer")
        w.c.kill()
        kills += 1
    answer = w.c.result(running).json()
    assert told(answer) == UNDISTURBED
    assert 6 <= w.answered <= 6 + AT_ONCE * kills
    kept = book(w, answer["account"])
    assert (kept.spent, kept.holds) == (Amounts(6, 60), {})


def ended(w: World, invocation: str) -> bool:
    return w.c.client.get(f"/restate/invocation/{invocation}/output").status_code == 200


def test_a_session_s_account_lasts_from_call_to_call_and_nobody_outside_spends_from_it(w: World):
    """The header that tells a callee is a header; who comes from outside may say what he likes in it."""
    w.plays(hello())
    assert w.c.call("/Diary/ann/say", "one") == "hello"
    w.c.kill()
    said = json.dumps([{"key": "diary-ann", "named": True, "limits": {"calls": 100}}])
    forged = w.c.client.post("/Family/child", json=["x"], headers={"x-agentdur-budgets": said})
    assert forged.json() == ["hello"]
    private = f"{w.c.client.base_url}/agentdur.Budget/diary-ann/settle"
    assert httpx.post(private, json={}).status_code == 400  # a connection of its own: the server closes it
    assert [w.c.call("/Diary/ann/say", text) for text in ("two", "three")] == ["hello"] * 2
    refused = w.c.client.post("/Diary/ann/say", json="four")
    assert refused.status_code == 429
    assert "diary is used up: 3 of 3 calls" in refused.json()["message"]
    assert w.c.call("/Diary/bob/say", "one") == "hello"
    assert book(w, "diary-ann").limits.calls == 3


def test_a_person_grants_more_once(w: World):
    """Killed while the question waits; what is granted is as much again."""
    w.plays(hello())
    before = questions(w.c)
    running = w.c.send("/Family/spoiled", ["a", "b", "c"])
    until(lambda: questions(w.c) - before, "the question")
    w.c.kill()
    assert agree(w, before) == "purse is used up: 2 of 2 calls. Go on?"
    answer = w.c.result(running).json()
    assert (answer["own"], answer["child"]) == ("hello", ["hello"] * 3)
    kept = book(w, answer["account"])
    assert (kept.raises, kept.limit("calls"), kept.spent.calls) == (1, 4, 4)
