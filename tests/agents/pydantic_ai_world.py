"""Agents of Pydantic AI in a small world: a model with a script, tools that write down what they do, a person
who decides."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic_ai.models import infer_model

from agentdur import Context, Service
from agentdur.core.errors import AgentdurError
from agentdur.core.ports import Filter
from agentdur.runtime.views import entry_view
from agentdur.testing.scripted_llm import ScriptedLLM, Turn, requests
from tests.agents.mcp_tools_served import ToolsServed
from tests.support.stage import InlineCommitter, Stage, check_journal

CHAT, RESPONSES = "openai-chat:scripted", "openai:scripted"
IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
QUESTION = "What is the weather?"
PATIENCE_S = 20


@asynccontextmanager
async def scripted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """A model server that clients of OpenAI's find by their environment."""
    async with ScriptedLLM([Turn(text="hello")]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
async def model_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedLLM]:
    """A model that says hello until it is given another script."""
    async with scripted(monkeypatch) as server:
        yield server


def called(name: str, call: str, **arguments: Any) -> dict[str, Any]:
    """A tool call of the model, whose id is also what the tool writes down."""
    return {"name": name, "id": call, "arguments": arguments}


@dataclass
class World:
    """What the tools did, in their order: a line is the id of the model's call."""

    model: Any = CHAT
    served: ToolsServed | None = None
    lines: list[str] = field(default_factory=list)
    waiting: dict[str, asyncio.Event] = field(default_factory=dict)

    def did(self, call: str | None) -> None:
        self.lines.append(str(call))

    async def together(self, call: str | None, fellow: str) -> None:
        """Two tools that each wait for the other to have begun."""
        self.waiting.setdefault(str(call), asyncio.Event()).set()
        await asyncio.wait_for(self.waiting.setdefault(fellow, asyncio.Event()).wait(), 5)


Handler = Callable[[Context, str], Awaitable[str]]


@dataclass
class Play:
    """An agent at work: the model's script, the handler, and what comes out."""

    script: list[dict[str, Any]]
    handler: Callable[[World], Handler]
    answer: str
    tools: set[str]
    person: Callable[[Stage], Awaitable[None]] | None = None

    def service(self, world: World) -> Service:
        play = Service("Play")
        play.handler(name="ask")(self.handler(world))
        return play


def mine(stage: Stage) -> list[Any]:
    """The records of the invocations that tests make, without those of agentdur's own services."""
    return list(stage.store.list(Filter(internal=False)))


async def _approve_all(stage: Stage) -> None:
    for asked_for in await stage.client.approvals():
        await stage.client.approve(asked_for.id, asked_for.digest, by="ann")


async def approving(stage: Stage) -> None:
    """A person who says yes to everything."""
    while True:
        # Not wait_for: in Python 3.11 it swallows a cancellation that comes when the other has just ended.
        with suppress(AgentdurError, RuntimeError, TimeoutError):
            async with asyncio.timeout(5):
                await _approve_all(stage)
        await asyncio.sleep(0.005)


def journal(stage: Stage) -> list[dict[str, Any]]:
    """What is committed of all invocations, as it is shown."""
    found = mine(stage)
    return [entry_view(entry) for row in found for _, entry in stage.store.journal(row.seq)]


def finished(shown: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
    """Of a journal: the answers it holds, by the provider's request id, and the tool calls with results."""
    metas = [entry["meta"] for entry in shown if entry["kind"] == "Completion" and entry.get("meta")]
    answers = {meta["request_id"].removeprefix("chatcmpl-") for meta in metas if meta.get("request_id")}
    return answers, {meta["tool_call_id"] for meta in metas if meta.get("tool_call_id")}


def turns_of(llm: ScriptedLLM, since: int = 0) -> Counter[int | None]:
    """turn -> how many requests for it reached the model."""
    return Counter(entry.turn for entry in list(requests(llm.ledger()))[since:])


def answered_turns(llm: ScriptedLLM, answers: set[str]) -> set[int | None]:
    """The turns whose answers the journal holds."""
    ids = {answer.removeprefix("resp_") for answer in answers}
    return {e.turn for e in requests(llm.ledger()) if e.request_id.removeprefix("req_") in ids}


async def asked(stage: Stage) -> str:
    """The one invocation, from its beginning or in its middle."""
    shown = await stage.client.generic_call("Play", "ask", b'"' + QUESTION.encode() + b'"', None, "once")
    return shown.decode()


@asynccontextmanager
async def person_at(stage: Stage, play: Play) -> AsyncIterator[None]:
    """Somebody who decides what there is to decide, while the play goes on."""
    if play.person is None:
        yield
        return
    task = asyncio.ensure_future(play.person(stage))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=1)


async def crashed_everywhere(
    stage: Stage,
    llm: ScriptedLLM,
    play: Play,
    named: str = CHAT,
    served: ToolsServed | None = None,
    *,
    after: bool,
) -> int:
    """Play it once for each commit with a crash there, before it is made or after; at last undisturbed. How
    many commits there are."""
    llm.replace(play.script)
    model = infer_model(named)  # one client for all: making one reads all certificates

    def world() -> World:
        return World(model, served)

    points = 0
    for limit in range(1, 200):
        if not await _crash_once(stage, llm, play, (limit, after), world()):
            break
        points += 1
    return points


async def _crash_once(
    stage: Stage, llm: ScriptedLLM, play: Play, point: tuple[int, bool], world: World
) -> bool:
    stage.fresh()
    since = len(requests(llm.ledger()))
    committer = InlineCommitter(*point)
    await stage.start(play.service(world), committer=lambda: committer)
    async with person_at(stage, play):
        asking = asyncio.ensure_future(asked(stage))
        crash = asyncio.ensure_future(committer.crashed.wait())
        await asyncio.wait({asking, crash}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        crash.cancel()
    turns = set(range(len(play.script)))
    if not committer.crashed.is_set():
        assert await asking == play.answer
        assert turns_of(llm, since) == dict.fromkeys(turns, 1)
        assert Counter(world.lines) == dict.fromkeys(play.tools, 1)
        await stage.close()
        return False
    asking.cancel()
    await stage.crash()
    await asyncio.sleep(0.02)  # what the dead had begun comes to its end
    stage.store.open()
    answers, tools = finished(journal(stage))
    stage.store.close()
    stage.reopen()
    kept, before, then = answered_turns(llm, answers), turns_of(llm, since), list(world.lines)
    await stage.start(play.service(world), committer=InlineCommitter)
    async with person_at(stage, play):
        assert await asyncio.wait_for(asked(stage), PATIENCE_S) == play.answer
    again = {turn for turn, times in (turns_of(llm, since) - before).items() if times}
    assert again == turns - kept, f"{point}: the journal held the answers of {kept}"
    assert not tools & set(world.lines[len(then) :]), f"{point}: the journal held {tools}"
    assert set(world.lines) == play.tools
    assert max(turns_of(llm, since).values()) <= 2
    assert max(Counter(world.lines).values(), default=0) <= 2
    (row,) = mine(stage)
    check_journal(stage.store.journal(row.seq))
    await stage.close()
    return True
