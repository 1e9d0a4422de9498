"""What models were told, kept by a real Restate server: each message once, and whole, whatever is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentdur.testing.scripted_llm import ToolCall, Turn
from tests.endpoint.world import World, world
from tests.support.patience import until

pytestmark = pytest.mark.slow
TELLING = "tests/endpoint/telling.py"
THINKS_MS = 150
"""Longer than it takes to see that an answer is stored, and to kill who asks for the next one."""


@pytest.fixture(scope="module", params=["http2", "request and response"])
def w(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("telling"), request.param, TELLING) as made:
        yield made


def looks(turns: int, delay_ms: int = 0) -> list[Turn]:
    """A model that reads a page in each turn but the last."""
    asked = [
        Turn(tool_calls=(ToolCall(name="look", arguments={"page": n}, id=f"look{n}"),), delay_ms=delay_ms)
        for n in range(turns - 1)
    ]
    return [*asked, Turn(text="It rains.", delay_ms=delay_ms)]


def kept(w: World, key: str) -> dict[str, str]:
    """The state of a conversation's object."""
    rows = w.c.sql(
        "select key, value_utf8 from state where service_name = 'agentdur.Conversation'"
        f" and service_key = '{key}' order by key"
    )
    return {row["key"]: row["value_utf8"] for row in rows}


def messages(found: dict[str, str]) -> list[Any]:
    """As a person reads them: by their names."""
    return [json.loads(value) for name, value in found.items() if name.startswith("message:")]


def complete(w: World, key: str, calls: int) -> dict[str, str]:
    """What is kept once all of it has arrived, which nobody waits for."""

    def arrived() -> dict[str, str] | None:
        found = kept(w, key)
        return found if sum(name.startswith("call:") for name in found) == calls else None

    found: dict[str, str] = until(arrived, f"{calls} calls")
    return found


def roles(said: list[dict[str, Any]]) -> list[str]:
    return [one.get("role", "tools") for one in said]


def run(w: World, turns: int) -> str:
    """An agent's run of so many turns; its id."""
    w.plays(*looks(turns))
    running = w.c.send("/Desk/answer", "Does it rain?")
    assert w.c.result(running).json() == "It rains."
    w.has_answered(turns)
    return running


def test_each_message_is_kept_once_and_bytes_grow_with_the_turns(w: World):
    size = {}
    for turns in (5, 20):
        found = complete(w, run(w, turns), turns)
        said = messages(found)
        assert roles(said) == (["system", "tools"] if "tools" in said[1] else ["tools", "system"]) + [
            "user", *["assistant", "tool"] * (turns - 1),
        ]  # fmt: skip
        size[turns] = sum(map(len, found.values())), len("".join(found))
    values, names = ((size[20][n] - size[5][n]) / 15 for n in (0, 1))
    first = size[5][0] - 5 * values
    print(f"5 turns {size[5]}, 20 turns {size[20]}: {values:.0f} + {names:.0f} bytes a turn")
    assert size[20][0] == pytest.approx(first + 20 * values)
    assert values < 1300  # a page of 500 characters, its call, and what is noted of the model call


def test_a_handler_that_may_know_reads_it_in_its_order(w: World):
    running = run(w, 3)
    complete(w, running, 3)
    told = w.c.call("/Desk/told", running)
    assert roles(told["messages"]) == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert told["whole"] is True
    assert [(call["messages"], call["invocation"]) for call in told["calls"]] == [
        (2, running), (4, running), (6, running),
    ]  # fmt: skip
    assert told["calls"][-1]["conversation"] == told["end"]
    assert told["calls"][0]["model"]
    private = f"{w.c.client.base_url}/agentdur.Conversation/{running}/read"
    assert httpx.post(private, json={}).status_code == 400


def test_nothing_is_kept_under_a_key_that_nobody_had(w: World):
    refused = w.c.client.post("/Desk/told", json="nobody")
    assert refused.status_code == 404


def test_killed_whenever_something_is_stored_the_conversation_is_whole(w: World):
    """The answer and the number of paid calls are those of a run that nobody disturbs."""
    turns = 5
    undisturbed = messages(complete(w, run(w, turns), turns))
    w.plays(*looks(turns, THINKS_MS))
    running = w.c.send("/Desk/answer", "Does it rain?")
    seen, kills = 0, 0
    while True:
        until(lambda seen=seen: w.c.entries(running) > seen or ended(w, running), "an entry")
        if ended(w, running):
            break
        w.c.kill()
        kills += 1
        seen = w.c.entries(running)
    assert kills >= turns
    assert w.c.result(running).json() == "It rains."
    w.has_answered(turns)
    assert w.answered == turns
    assert messages(complete(w, running, turns)) == undisturbed
    assert w.c.call("/Desk/told", running)["whole"] is True


def ended(w: World, invocation: str) -> bool:
    return w.c.client.get(f"/restate/invocation/{invocation}/output").status_code == 200


def test_a_session_of_two_turns_keeps_each_message_once_and_clears_them_with_it(w: World):
    """The endpoint that answers the second message is another process than that of the first."""
    w.plays(Turn(text="Good morning."), Turn(text="Good night."))
    assert w.c.call("/Talks/ann/turn", "Hello")["text"] == "Good morning."
    w.c.kill()
    assert w.c.call("/Talks/ann/turn", "Bye")["text"] == "Good night."
    found = complete(w, "Talks/ann", 2)
    said = [one.get("content") for one in messages(found) if "role" in one]
    assert said == ["Read, then answer.", "Hello", "Good morning.", "Bye"]
    sent = "select count(*) as n from sys_journal j join sys_invocation i on j.id = i.id" \
        " where i.target_service_key = 'ann' and j.entry_type = 'Command: OneWayCall'"  # fmt: skip
    assert w.c.sql(sent)[0]["n"] == 2
    assert w.c.call("/Talks/ann/clear") is True
    until(lambda: not kept(w, "Talks/ann"), "an empty object")
    assert not w.c.sql("select key from state where service_key = 'ann'")


def test_a_session_whose_state_is_fetched_keeps_each_message_once(w: World):
    """Over HTTP/2 it asks what is stored while the model thinks, and sends what is not."""
    w.plays(*(Turn(text=f"noted {n}", delay_ms=THINKS_MS) for n in range(3)))
    for n in range(3):
        assert w.c.call("/Memo/ann/add", f"thing {n}") == f"noted {n}"
    found = complete(w, "Memo/ann", 3)
    said = [one["content"] for one in messages(found)]
    assert said == ["thing 0", "noted 0", "thing 1", "noted 1", "thing 2"]
    sizes = (
        "select j.entry_json from sys_journal j join sys_invocation i on j.id = i.id"
        " where i.target = 'Memo/ann/add' and j.entry_type = 'Command: OneWayCall' order by created_at"
    )
    once = [len(row["entry_json"]) for row in w.c.sql(sizes)]
    assert len(once) == 3
    assert (once[2] - once[1] < 200) is (w.mode == "http2"), once


def test_two_runs_at_once_keep_their_own(w: World):
    w.plays(*looks(4, 30))
    started = [w.c.send("/Desk/answer", f"Does it rain in {city}?") for city in ("Bergen", "Lisbon")]
    with ThreadPoolExecutor(2) as pool:
        assert [one.json() for one in pool.map(w.c.result, started)] == ["It rains."] * 2
    w.has_answered(8)
    for running, city in zip(started, ("Bergen", "Lisbon"), strict=True):
        said = messages(complete(w, running, 4))
        assert len(said) == 3 + 2 * 3
        assert [one["content"] for one in said if one.get("role") == "user"] == [f"Does it rain in {city}?"]


def test_a_run_begun_before_messages_were_kept_goes_on(tmp_path: Path):
    """The endpoint is replaced at its address while a run is under way, and the server is told later of what
    it serves now. Until then each answer is stored, paid for once, and its messages are refused, loudly."""
    with world(tmp_path, "http2", TELLING, BEFORE="yes") as w:
        w.plays(*looks(5, THINKS_MS))
        running = w.c.send("/Desk/answer", "Does it rain?")
        until(lambda: w.answered >= 1, "an answer")
        del w.c.environment["BEFORE"]
        until(lambda: w.c.entries(running) > 4, "that it is stored")
        w.c.kill()
        until(lambda: w.answered >= 3, "two more")
        assert not kept(w, running)
        w.c.admin.post(
            "/deployments", json={"uri": f"http://127.0.0.1:{w.c.port}", "force": True}
        ).raise_for_status()
        assert w.c.result(running).json() == "It rains."
        w.has_answered(5)
        until(lambda: kept(w, running), "the messages")
        assert w.c.call("/Desk/told", running)["whole"] is True
        assert len(messages(kept(w, running))) == 3 + 2 * 4
