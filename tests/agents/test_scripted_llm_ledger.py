"""The ledger knows every request and its end; control changes the script while it is played."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from agentdur.testing.scripted_llm import (
    Ledger,
    ScriptedLLM,
    Status,
    Turn,
    read_ledger,
)
from tests.agents.asking_scripted_llm import (
    AGENT,
    ASK,
    ask,
    eventually,
    outcomes,
    said,
)

pytestmark = pytest.mark.asyncio


async def test_a_request_is_in_the_ledger_before_it_is_answered() -> None:
    async with ScriptedLLM([Turn(text="Hello", delay_ms=600_000)]) as llm:
        asking = asyncio.create_task(ask(llm))
        await eventually(lambda: len(llm.ledger()) == 1)
        (entry,) = llm.ledger()
        assert (entry.event, entry.outcome, entry.turn, entry.model) == ("received", None, 0, "scripted")
        asking.cancel()
        await eventually(lambda: len(llm.ledger()) == 2)


async def test_a_client_that_leaves_while_the_model_thinks_is_gone() -> None:
    async with ScriptedLLM([Turn(text="Hello", delay_ms=600_000)]) as llm:
        with pytest.raises(httpx.ReadTimeout):
            async with httpx.AsyncClient(trust_env=False, timeout=0.2) as http:
                await http.post(f"{llm.url}/v1/chat/completions", json={"model": "m", "messages": ASK})
        await eventually(lambda: outcomes(llm.ledger()) == ["client_gone"])


async def test_a_client_that_leaves_in_the_middle_of_a_stream_is_gone() -> None:
    turn = Turn(text="a long story " * 1000, chunk_delay_ms=20, chunk_chars=5)
    async with ScriptedLLM([turn]) as llm:
        body = {"model": "m", "messages": ASK, "stream": True}
        async with (
            httpx.AsyncClient(trust_env=False) as http,
            http.stream("POST", f"{llm.url}/v1/chat/completions", json=body) as reply,
        ):
            texts = reply.aiter_text()
            assert '"role":"assistant"' in await anext(texts)
        await eventually(lambda: outcomes(llm.ledger()) == ["client_gone"])


async def test_a_client_killed_without_goodbye_is_gone(tmp_path: Path) -> None:
    program = (
        "import sys, urllib.request as u\n"
        "u.build_opener(u.ProxyHandler({})).open(u.Request(sys.argv[1], data=sys.argv[2].encode()))\n"
    )
    body = json.dumps({"model": "m", "messages": ASK})
    path = tmp_path / "ledger.jsonl"
    async with ScriptedLLM([Turn(text="Hello", delay_ms=600_000)], ledger=path) as llm:
        address = f"{llm.url}/v1/chat/completions"
        victim = await asyncio.create_subprocess_exec(sys.executable, "-c", program, address, body)
        await eventually(lambda: len(llm.ledger()) == 1)
        victim.kill()
        await victim.wait()
        await eventually(lambda: outcomes(llm.ledger()) == ["client_gone"])
        assert read_ledger(path) == llm.ledger()


async def test_requests_that_are_open_when_the_server_stops_do_not_hold_it_up() -> None:
    async with ScriptedLLM([Turn(text="Hello", delay_ms=600_000)]) as llm:
        asking = asyncio.create_task(ask(llm))
        await eventually(lambda: len(llm.ledger()) == 1)
    with pytest.raises(httpx.RemoteProtocolError):
        await asking
    assert outcomes(llm.ledger()) == ["server_stopped"]


async def test_the_ledger_is_served_and_kept_with_one_line_per_event(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    async with ScriptedLLM(AGENT, ledger=path) as llm, httpx.AsyncClient(trust_env=False) as http:
        await ask(llm)
        await ask(llm, stream=True)
        served = (await http.get(f"{llm.url}/ledger")).json()["entries"]
        health = (await http.get(f"{llm.url}/health")).json()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == served
    assert [(line["seq"], line["event"], line["stream"]) for line in lines] == [
        (1, "received", False), (1, "finished", False), (2, "received", True), (2, "finished", True),
    ]  # fmt: skip
    assert health == {"status": "ok", "turns": 2, "requests": 2}


async def test_many_clients_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    async with ScriptedLLM(AGENT, ledger=path) as llm:
        questions = [[{"role": "user", "content": f"Question {n}"}] for n in range(40)]
        await asyncio.gather(*(ask(llm, question, stream=n % 2 == 0) for n, question in enumerate(questions)))
    entries = read_ledger(path)
    assert outcomes(entries) == ["answered"] * 40
    assert [entry.seq for entry in entries if entry.event == "received"] == list(range(1, 41))
    assert len({entry.messages_sha256 for entry in entries}) == 40


async def test_a_line_torn_by_a_crash_of_the_machine_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    async with ScriptedLLM(AGENT, ledger=path) as llm:
        await ask(llm)
    with path.open("ab") as file:
        file.write(b'{"seq":2,"event":"rece')
    assert len(read_ledger(path)) == 2
    ledger = Ledger(path)
    ledger.append(msgspec.structs.replace(ledger.entries[0], seq=ledger.next_seq()))
    ledger.close()
    assert [entry.seq for entry in read_ledger(path)] == [1, 1, 2]


async def test_faults_can_be_added_while_it_runs() -> None:
    async with ScriptedLLM(AGENT) as llm:
        assert (await ask(llm)).status_code == 200
        llm.add_faults(Status(status=503), turn=0)
        llm.add_faults(Status(status=500, per="turn"))
        later = [*ASK, {"role": "assistant", "content": "..."}]
        assert [(await ask(llm)).status_code, (await ask(llm, later)).status_code] == [503, 500]
        assert [(await ask(llm)).status_code, (await ask(llm, later)).status_code] == [200, 200]


async def test_control_replaces_the_script_and_adds_faults_in_one_go() -> None:
    async with ScriptedLLM(AGENT) as llm, httpx.AsyncClient(trust_env=False) as http:
        wanted = {
            "script": {"turns": [{"text": "New"}]},
            "add_faults": [{"turn": 0, "faults": [{"kind": "status", "status": 429, "retry_after_s": 1}]}],
        }
        reply = await http.post(f"{llm.url}/control", json=wanted)
        assert reply.json() == {"status": "ok", "turns": 1, "requests": 0}
        assert (await ask(llm)).headers["retry-after"] == "1"
        assert said(await ask(llm)) == "New"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({}, "give a script, or add_faults"),
        (
            {"add_faults": [{"turn": 9, "faults": [{"kind": "hang"}]}]},
            "turn 9: there is no such turn, the last one is",
        ),
        ({"add_faults": [{"faults": [{"kind": "hang", "times": 0}]}]}, "add_faults[0].faults[0].times"),
        ({"script": {"turns": [{"text": "New"}, {"text": 3}]}}, "turn 1, field text: Expected `str | null`"),
        (
            {
                "script": {"turns": [{"text": "New"}]},
                "add_faults": [{"turn": 1, "faults": [{"kind": "hang"}]}],
            },
            "turn 1",
        ),
    ],
)
async def test_control_refuses_what_makes_no_sense_and_changes_nothing(wanted: Any, reason: str) -> None:
    async with (
        ScriptedLLM([Turn(text="Old"), Turn(text="Older")]) as llm,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        reply = await http.post(f"{llm.url}/control", json=wanted)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_script")
        assert reason in reply.json()["error"]["message"]
        assert said(await ask(llm)) == "Old"
