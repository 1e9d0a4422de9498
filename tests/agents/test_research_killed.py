"""Real processes, real SIGKILL: `agentdur serve` with the research agent, killed three times; the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agentdur.testing.scripted_llm import ScriptedLLMProcess, requests, scripted_llm_process
from examples.agents import demo, demo_world
from examples.agents.demo_world import ANSWER, Server
from tests.agents.research_world import finished

pytestmark = pytest.mark.slow
PATIENCE_S = 60
DEMO_S = 120
SECONDS = {"bergen": 0.5, "lisbon": 0.0, "cherrapunji": 2.0}
THINKING_MS = 700


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def begun(ledger: Path) -> Counter[str]:
    lines = demo_world.read_lines(ledger)
    return Counter(str(line["what"]).rpartition("/")[2] for line in lines if line["event"] == "begin")


def asked(llm: ScriptedLLMProcess) -> Counter[int | None]:
    return Counter(entry.turn for entry in requests(llm.ledger()))


def test_killed_three_times_in_different_places_it_answers_and_repeats_only_what_was_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While the model thinks about its first turn, while two pages are read, and while the model thinks about
    the last turn. What the file has at each of these moments never happens again."""
    pytest.importorskip("litellm")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(Path(sys.prefix, "demo-pycache")))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    ledger = tmp_path / "tools.jsonl"
    with demo_world.pages_served(SECONDS) as pages:
        script = [
            {"tool_calls": t.tool_calls, "text": t.text, "delay_ms": THINKING_MS}
            for t in demo_world.script(pages)
        ]
        with scripted_llm_process(script) as llm:
            server = Server(tmp_path, demo_world.environment_for("openai/scripted", llm.base_url, ledger))
            try:
                _killed_three_times(server, llm, ledger, demo_world.question(pages))
            finally:
                server.stop()


def _killed_three_times(server: Server, llm: ScriptedLLMProcess, ledger: Path, question: str) -> None:
    server.start()
    server.wait_ready()
    _, invocation = demo.ask(server, question)
    moments: list[tuple[str, Callable[[], bool]]] = [
        ("the first turn is asked for", lambda: asked(llm)[0] == 1),
        ("the long page is read", lambda: begun(ledger)["cherrapunji"] == 1),
        ("the last turn is asked for", lambda: asked(llm)[3] == 1),
    ]
    memories = []
    for number, (what, moment) in enumerate(moments):
        wait_until(moment, what)
        server.kill()
        journal = demo_world.read_journal(server.store, invocation, server.folder / f"kill-{number}")
        turns, tools = finished(journal)
        before = (asked(llm), begun(ledger))
        server.start()
        server.wait_ready()
        memories.append((turns, {what.rpartition("/")[2] for _, what in tools}, before))
    assert demo.attach(server, invocation) == ANSWER
    for turns, tools, (asked_before, begun_before) in memories:
        asked_after, begun_after = asked(llm) - asked_before, begun(ledger) - begun_before
        assert not {turn for turn in asked_after if turn is not None and turn < turns}
        assert not tools & set(begun_after)
    assert set(asked(llm)) == set(range(4))
    assert sum(asked(llm).values()) <= 4 + 2  # at most the two turns a kill found unanswered
    assert set(begun(ledger).values()) <= {1, 2}
    server.stop()
    journal = demo_world.read_journal(server.store, invocation, server.folder / "at-the-end")
    assert finished(journal)[0] == 4


def run_demo(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.agents.demo"],
        cwd=demo_world.ROOT,
        env={**os.environ, "TERM": "dumb", **environment},
        capture_output=True,
        text=True,
        timeout=DEMO_S,
        check=False,
    )


def test_the_demo_ends_well_within_its_time():
    done = run_demo(AGENTDUR_DEMO_MODEL="scripted")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✔") == 5
    assert "✘" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_the_demo_asks_a_provider_when_it_is_told_to():
    """Nobody shows us a provider's ledger: that one witness is missing, the others agree."""
    slowly = {name: 1.0 for name in demo_world.PAGES}
    with demo_world.pages_served(slowly) as pages, scripted_llm_process(demo_world.script(pages)) as llm:
        done = run_demo(
            AGENTDUR_DEMO_MODEL="openai/scripted", OPENAI_API_KEY="any", OPENAI_BASE_URL=llm.base_url,
            OPENAI_API_BASE=llm.base_url, NO_PROXY="127.0.0.1",
        )  # fmt: skip
        assert asked(llm) == {turn: 1 for turn in range(4)}
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✔") == 4
    assert "model    openai/scripted" in done.stdout


def test_the_demo_says_so_when_no_tool_was_called():
    """A model that answers from memory leaves nothing to kill."""
    with scripted_llm_process([{"text": "42", "tool_calls": []}]) as llm:
        done = run_demo(
            AGENTDUR_DEMO_MODEL="openai/scripted", OPENAI_API_KEY="any", OPENAI_BASE_URL=llm.base_url,
            OPENAI_API_BASE=llm.base_url, NO_PROXY="127.0.0.1",
        )  # fmt: skip
    assert done.returncode == 1
    assert "the model answered without a tool at work: 42" in done.stdout
