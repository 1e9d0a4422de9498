"""A real process with an agent of Pydantic AI, killed with SIGKILL while the model thinks."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

pytest.importorskip("agentdur.integrations.pydantic_ai", exc_type=ImportError)


from agentdur.testing.scripted_llm import ScriptedLLMProcess, requests, scripted_llm_process
from examples.agents import demo_world
from examples.agents.demo_world import Server
from tests.agents.test_research_killed import wait_until

pytestmark = pytest.mark.slow
EXAMPLE = demo_world.ROOT / "examples/agents/pydantic_ai_agent.py"
THINKING_MS = 700
SAID = {"text": "On its way.", "escalate": False}


def asked(llm: ScriptedLLMProcess) -> Counter[int | None]:
    return Counter(entry.turn for entry in requests(llm.ledger()))


def test_killed_at_each_turn_it_answers_and_the_answered_turn_is_paid_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(demo_world, "AGENT", EXAMPLE)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(Path(sys.prefix, "demo-pycache")))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("AGENT_MODEL", "openai/scripted")
    calls = [{"name": "order", "arguments": {"number": 7}}, {"name": "opening_hours", "arguments": {}}]
    script = [
        {"tool_calls": calls, "delay_ms": THINKING_MS},
        {"tool_calls": [{"name": "final_result", "arguments": SAID}], "delay_ms": THINKING_MS},
    ]
    with scripted_llm_process(script) as llm:
        server = Server(
            tmp_path, demo_world.environment_for("openai/scripted", llm.base_url, tmp_path / "ledger")
        )
        try:
            server.start()
            server.wait_ready()
            url = f"{server.url}/Support/ann/ask"
            with httpx.Client(trust_env=False, timeout=60, headers={"idempotency-key": "once"}) as client:
                client.post(f"{url}/send", json="Where is it?").raise_for_status()
                for turn in (0, 1):
                    wait_until(lambda turn=turn: asked(llm)[turn] == 1, f"turn {turn}")
                    server.kill()
                    server.start()
                    server.wait_ready()
                answer = client.post(url, json="Where is it?").raise_for_status().json()
        finally:
            server.stop()
        assert answer == SAID
        assert asked(llm) == {0: 2, 1: 2}  # each was asked again that was not answered when the kill came
