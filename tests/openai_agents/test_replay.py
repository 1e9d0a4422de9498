"""What is sent and told after a crash is what would have been sent and told without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.models import openai_chatcompletions, openai_responses
from agents.tracing import TracingProcessor
from openai import AsyncOpenAI
from pydantic import BaseModel

from agentdur import Context, Service
from agentdur.integrations.openai_agents import Durability, DurableRunner, install, trace_to
from agentdur.sdk.exceptions import RetryableError
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, requests, scripted_llm_process
from tests.openai_agents.test_many_agents import TRIP
from tests.openai_agents.world import LEDGER, ask, calls, crash_everywhere, service_of, weather
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
THREE = [
    Turn(reasoning="Hm.", text="Look.", tool_calls=calls(("weather", {"city": "Oslo"})).tool_calls),
    calls(("weather", {"city": "Rome"})),
    Turn(text="Go."),
]


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_every_request_body_is_the_same_with_and_without_a_replay(
    stage: Stage, llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch, api: str
):
    """To the last field, the key of the provider's prompt cache among them; and the journal's JSON adds
    none."""
    for module in (openai_responses.OpenAIResponsesModel, openai_chatcompletions.OpenAIChatCompletionsModel):
        monkeypatch.setattr(module, "_supports_default_prompt_cache_key", lambda self: True)
    llm.replace(
        [turn if api == "responses" else Turn(text=turn.text, tool_calls=turn.tool_calls) for turn in THREE]
    )
    model = (
        openai_chatcompletions.OpenAIChatCompletionsModel
        if api == "chat"
        else openai_responses.OpenAIResponsesModel
    )
    agent = Agent(name="A", instructions="Plan.", tools=[weather], model=fresh_model(model))
    service = service_of(agent)
    await stage.start(service)
    assert await ask(stage) == "Go."
    undisturbed = [without_ids(body) for body in llm.bodies()]
    assert len({str(body.get("prompt_cache_key")) for body in undisturbed}) == 1
    assert undisturbed[0].get("prompt_cache_key")
    seen = len(llm.bodies())
    await DurableRunner.run(agent, "go", durability=Durability(allow_ephemeral=True))
    bare = [without_ids(body) for body in llm.bodies()[seen:]]
    assert [unkeyed(body) for body in bare] == [unkeyed(body) for body in undisturbed]
    await stage.close()
    seen = len(llm.bodies())
    async for _ in every_boundary(stage, [service], lambda: ask(stage)):
        for body in llm.bodies()[seen:]:
            assert without_ids(body) in undisturbed
        seen = len(llm.bodies())


def fresh_model(kind: Any) -> Any:
    return kind("m", AsyncOpenAI())


def unkeyed(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "prompt_cache_key"}


def without_ids(body: Any) -> Any:
    """The body without the ids that the server made up for this hit."""
    if isinstance(body, dict):
        return {
            k: without_ids(v)
            for k, v in body.items()
            if not (k == "id" and str(v)[:3] in ("msg", "fc_", "rs_"))
        }
    return [without_ids(item) for item in body] if isinstance(body, list) else body


class Basket(BaseModel):
    """A run's own context."""

    items: list[str] = []
    total: float = 0


@dataclass
class Counter:
    """Another one; its client is no data."""

    seen: dict[str, int] = field(default_factory=dict)
    client: Any = field(default_factory=object)


@function_tool
def put(ctx: RunContextWrapper[Any], item: str) -> str:
    """Put something in."""
    LEDGER[item] += 1
    state = ctx.context
    if isinstance(state, Basket):
        state.items.append(item)
        state.total += 1.5
    else:
        state.seen[item] = state.seen.get(item, 0) + 1
    return "ok"


@pytest.mark.slow
@IN_MEMORY
@pytest.mark.parametrize("kind", [Basket, Counter])
async def test_crashed_at_every_commit_the_runs_own_context_is_what_tools_made_of_it(
    stage: Stage, llm: ScriptedLLM, kind: Any
):
    llm.replace([calls(("put", {"item": "a"})), calls(("put", {"item": "b"})), Turn(text="done")])
    agent = Agent(name="A", tools=[put])
    service = Service("Agents")

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        state = kind()
        await Runner.run(agent, question, context=state)
        return state.model_dump() if isinstance(state, Basket) else state.seen

    answer = {"items": ["a", "b"], "total": 3.0} if kind is Basket else {"a": 1, "b": 1}
    await crash_everywhere(stage, llm, service, answer=answer, turns=3)


class Listener(TracingProcessor):
    """Writes down which spans ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, str]] = []
        self.traces: list[str] = []

    def on_trace_start(self, trace: Any) -> None:
        """Nothing."""

    def on_trace_end(self, trace: Any) -> None:
        """A run is over."""
        self.traces.append(trace.trace_id)

    def on_span_start(self, span: Any) -> None:
        """Nothing."""

    def on_span_end(self, span: Any) -> None:
        """A span is over."""
        self.ended.append((span.trace_id, span.span_id, span.span_data.type))

    def shutdown(self) -> None:
        """Nothing."""

    def force_flush(self) -> None:
        """Nothing."""


@IN_MEMORY
async def test_a_replay_tells_no_span_again(stage: Stage, llm: ScriptedLLM):
    """Three attempts, one trace, each span once: those of the steps, and those around them."""
    listener = Listener()
    trace_to(listener)
    undo = install(tracing=True)
    llm.replace(THREE)
    attempts: list[int] = []
    service = Service("Agents")
    agent = Agent(name="A", tools=[weather])

    @service.handler("ask")
    async def run(ctx: Context, question: str) -> Any:
        attempts.append(1)
        result = await Runner.run(agent, question)
        await ctx.run("after", lambda: None)
        if len(attempts) < 3:
            raise RetryableError("once more")
        return result.final_output

    try:
        await stage.start(service)
        assert await ask(stage) == "Go."
    finally:
        undo()
        trace_to()
    assert len(attempts) == 3
    kinds = sorted(kind for _, _, kind in listener.ended)
    assert [kinds.count(kind) for kind in ("response", "function", "agent")] == [3, 2, 1]
    assert len(listener.ended) == len(set(listener.ended))
    assert len({trace for trace, _, _ in listener.ended}) == 1
    assert len(listener.traces) == 1


@pytest.mark.slow
@IN_MEMORY
async def test_without_more_no_span_leaves_a_durable_run(stage: Stage, llm: ScriptedLLM):
    listener = Listener()
    trace_to(listener)
    try:
        await stage.start(service_of(Agent(name="A")))
        assert await ask(stage) == "hello"
    finally:
        trace_to()
    assert listener.ended == []


PROGRAM = Path(__file__).with_name("killed_app.py")


@pytest.mark.slow
def test_a_killed_process_goes_on_in_the_next_one(tmp_path: Path):
    """SIGKILL while the second of two agents' tools runs: the models' answers are paid once."""
    with scripted_llm_process(TRIP, ledger=tmp_path / "llm.jsonl") as llm:
        environment = {
            **os.environ, "OPENAI_BASE_URL": llm.base_url, "OPENAI_API_KEY": "any", "NO_PROXY": "127.0.0.1",
            "WORLD": str(tmp_path),
        }  # fmt: skip
        command = [sys.executable, str(PROGRAM)]
        first = subprocess.Popen(command, env={**environment, "HANG": "1"})
        try:
            wait_for(tmp_path / "hanging")
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        before = len(list(requests(llm.ledger())))
        done = subprocess.run(
            command, env=environment, timeout=300, capture_output=True, text=True, check=True
        )
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
