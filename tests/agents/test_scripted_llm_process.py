"""The server as a process of its own: it is controlled, killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agentdur.testing.scripted_llm import (
    Hang,
    ScriptedLLM,
    ScriptedLLMProcess,
    ScriptError,
    Status,
    Turn,
    read_ledger,
    requests,
    scripted_llm_process,
)
from tests.agents.asking_scripted_llm import (
    AGENT,
    ASK,
    PATIENCE_S,
    REPO,
    ask,
    client_of,
    eventually,
    outcomes,
    said,
)

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ScriptedLLMProcess]:
    with scripted_llm_process(AGENT, ledger=tmp_path / "ledger.jsonl") as llm:
        yield llm


async def test_a_process_serves_is_controlled_and_ends(shop: ScriptedLLMProcess, tmp_path: Path) -> None:
    async with client_of(shop) as client:
        reply = await client.chat.completions.create(model="gpt-x", messages=ASK)
        assert len(reply.choices[0].message.tool_calls) == 2
    shop.add_faults(Status(status=503), turn=0)
    assert (await ask(shop)).status_code == 503
    with pytest.raises(ScriptError, match="no such turn"):
        shop.add_faults(Hang(), turn=5)
    shop.replace([Turn(text="New")])
    assert said(await ask(shop)) == "New"
    assert outcomes(shop.ledger()) == ["answered", "status_503", "answered"]
    shop.stop()
    assert shop.ledger() == read_ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(httpx.ConnectError):
        await ask(shop)


@pytest.mark.slow
async def test_a_ledger_outlives_its_killed_server_and_the_next_one_counts_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with scripted_llm_process([Turn(text="Hello", faults=(Hang(per="turn"),))], ledger=path) as llm:
        asking = asyncio.create_task(ask(llm))
        await eventually(lambda: len(read_ledger(path)) == 1)
        assert said(await ask(llm)) == "Hello"
        await eventually(lambda: outcomes(llm.ledger()) == [None, "answered"])  # who is answered may be first
        port = int(llm.url.rpartition(":")[2])
        llm.kill()
        with pytest.raises(httpx.TransportError):
            await asking
        assert outcomes(llm.ledger()) == [None, "answered"]
    with scripted_llm_process(AGENT, ledger=path, port=port) as again:
        assert again.url == llm.url
        await ask(again)
        assert [entry.seq for entry in requests(again.ledger())] == [1, 2, 3]
    assert outcomes(read_ledger(path)) == [None, "answered", "answered"]


@pytest.mark.slow
async def test_a_server_does_not_outlive_the_test_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from agentdur.testing.scripted_llm import Turn, scripted_llm_process\n"
        "with scripted_llm_process([Turn(text='Hello')]) as llm:\n"
        "    print(llm.url, flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO), "TMPDIR": str(tmp_path)}
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=PIPE, env=environment)
    assert parent.stdout is not None
    url = (await parent.stdout.readline()).decode().strip()
    assert accepts(url)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not accepts(url))


def accepts(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
async def test_the_command_prints_its_url_and_stops_when_asked(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"text": "Hello"}]')
    command = [sys.executable, "-m", "agentdur.testing.scripted_llm", "--script", str(script), "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=REPO)
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    assert (ready["pid"], ready["base_url"]) == (process.pid, f"{ready['url']}/v1")
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{ready['url']}/health")).json()["turns"] == 1
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == 0


@pytest.mark.slow
async def test_the_command_refuses_a_bad_script_with_its_reason(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"text": "Hello"}, {"text": "Bye", "delay_ms": "long"}]')
    command = [sys.executable, "-m", "agentdur.testing.scripted_llm", "--script", str(script)]
    ended = await asyncio.to_thread(
        subprocess.run, command, cwd=REPO, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "turn 1, field delay_ms: Expected `int`, got `str`" in ended.stderr


@pytest.mark.slow
async def test_a_process_that_cannot_start_says_why() -> None:
    async with ScriptedLLM(AGENT) as first:
        port = int(first.url.rpartition(":")[2])
        process = scripted_llm_process(AGENT, port=port)
        with pytest.raises(RuntimeError, match=r"did not start[\s\S]*Address already in use"):
            process.__enter__()
