"""What is sent after a crash is what would have been sent without it; and real processes, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from google.adk.runners import InMemoryRunner

from agentdur.testing.scripted_llm import ScriptedLLM, Turn, requests, scripted_llm_process
from tests.google_adk.test_many_agents import TRIP
from tests.google_adk.world import agent, ask, calls, run, service_of, weather
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

pytestmark = pytest.mark.slow
IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
THREE = [
    Turn(reasoning="Hm.", text="Look.", tool_calls=calls(("weather", {"city": "Oslo"})).tool_calls),
    calls(("weather", {"city": "Rome"})),
    Turn(text="Go."),
]


@IN_MEMORY
async def test_every_request_body_is_the_same_with_and_without_a_replay(stage: Stage, llm: ScriptedLLM):
    """To the last field; and the same as without agentdur."""
    llm.replace(THREE)
    root = agent(instruction="Plan.", tools=[weather])
    service = service_of(root)
    await stage.start(service)
    assert await ask(stage) == "Go."
    undisturbed = list(llm.bodies())
    await stage.close()
    bare = InMemoryRunner(root)
    await bare.session_service.create_session(app_name=bare.app_name, user_id="u", session_id="s")
    assert await run(bare, "go") == "Go."
    assert llm.bodies()[len(undisturbed) :] == undisturbed
    seen = len(llm.bodies())
    async for point in every_boundary(stage, [service], lambda: ask(stage)):
        for body in llm.bodies()[seen:]:
            assert body in undisturbed, point
        seen = len(llm.bodies())


PROGRAM = Path(__file__).with_name("killed_app.py")


def test_a_killed_process_goes_on_in_the_next_one(tmp_path: Path):
    """SIGKILL while the tool of one of two agents that work at once runs: answers are paid once, and what the
    new process draws by chance and reads from its clock is what the journal holds."""
    with scripted_llm_process(TRIP, ledger=tmp_path / "llm.jsonl") as llm:
        environment: dict[str, Any] = {
            **os.environ, "OPENAI_BASE_URL": llm.base_url, "OPENAI_API_KEY": "any", "NO_PROXY": "127.0.0.1",
            "WORLD": str(tmp_path),
        }  # fmt: skip
        command = [sys.executable, str(PROGRAM)]
        first = subprocess.Popen(command, env={**environment, "HANG": "1", "PYTHONHASHSEED": "1"})
        try:
            wait_for(tmp_path / "hanging")
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        before = len(list(requests(llm.ledger())))
        done = subprocess.run(
            command, env={**environment, "PYTHONHASHSEED": "2"}, timeout=300, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout.strip() == "Boots and fish."
        assert before >= 3
        assert len(list(requests(llm.ledger()))) == 5
    assert (tmp_path / "weather.txt").read_text().split() == ["Bergen", "Bergen"], (
        "the call that was under way"
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)
