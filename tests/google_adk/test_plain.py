"""An agent of Google ADK, durable by one line; and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from google.adk.agents.run_config import RunConfig
from google.adk.flows.llm_flows.tools import _caller
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner, Runner
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from agentdur import Context, RunOptions, Service, TerminalError, current_context
from agentdur.core.errors import NotInHandler
from agentdur.integrations.google_adk import (
    Durability,
    DurableRunner,
    LiveRun,
    RunInStep,
    SessionsNotJournaled,
    SyncRun,
    UnknownAdkVersion,
    inline,
    install,
    retried,
    seams,
)
from agentdur.llm import Budget, BudgetExceeded, budget
from agentdur.runtime.views import entry_view
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from agentdur.testing.scripted_llm import Usage as ScriptedUsage
from tests.google_adk.world import (
    LEDGER,
    agent,
    ask,
    asked,
    book,
    calls,
    crash_everywhere,
    meet,
    only_invocation,
    run,
    service_of,
    steps,
    user,
    weather,
)
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
TRIP = [calls(("weather", {"city": "Oslo"}), ("book", {"city": "Oslo"})), Turn(text="Rain. Booked.")]
EPHEMERAL = Durability(allow_ephemeral=True)


async def test_an_agent_is_durable_by_one_line(stage: Stage, llm: ScriptedLLM):
    """Each model call and each tool call is a step; those of tools are in branches named by the calls."""
    llm.replace(TRIP)
    await stage.start(service_of(agent(tools=[weather, book])))
    assert await ask(stage) == "Rain. Booked."
    assert LEDGER == {"weather Oslo": 1, "book Oslo": 1}
    found = [pair for pair in steps(stage, await only_invocation(stage)) if pair[1] != "timestamp"]
    assert [name for _, name in found if name.startswith("llm:")] == ["llm:helper", "llm:helper"]
    tools = {branch.rpartition("/")[2]: name for branch, name in found if name.startswith("tool:")}
    assert sorted(tools.values()) == ["tool:helper/book", "tool:helper/weather"]
    assert all(label.startswith("tool:call_") for label in tools)


@pytest.mark.slow
@IN_MEMORY
async def test_crashed_at_every_commit_each_answer_is_paid_once(stage: Stage, llm: ScriptedLLM):
    llm.replace(TRIP)
    service = service_of(agent(tools=[weather, book]))
    points = await crash_everywhere(stage, llm, service, answer="Rain. Booked.", turns=2, at_once=2)
    assert points >= 8


@IN_MEMORY
async def test_tools_of_one_turn_run_at_the_same_time(stage: Stage, llm: ScriptedLLM):
    """Each waits until the other has begun; synchronous ones as well, in threads of their own."""
    there: dict[str, threading.Event] = {"c": threading.Event(), "d": threading.Event()}

    def meet_in_threads(me: str, other: str) -> str:
        """Wait for the other, and hold the thread."""
        there[me].set()
        assert there[other].wait(10)
        return "met"

    both = [("meet", {"me": "a", "other": "b"}), ("meet", {"me": "b", "other": "a"})]
    more = [("meet_in_threads", {"me": "c", "other": "d"}), ("meet_in_threads", {"me": "d", "other": "c"})]
    llm.replace([calls(*both, *more), Turn(text="done")])
    await stage.start(service_of(agent(tools=[meet, meet_in_threads])))
    assert await ask(stage) == "done"


@IN_MEMORY
async def test_a_model_step_says_what_it_cost_and_budgets_bind_it(stage: Stage, llm: ScriptedLLM):
    """The same note as any model step of agentdur has, and the same budgets."""
    usage = ScriptedUsage(prompt_tokens=60, completion_tokens=20)
    llm.replace([calls(("weather", {"city": "Oslo"}), usage=usage), Turn(text="Rain.", usage=usage)])
    runner, service = DurableRunner(app_name="app", agent=agent(tools=[weather])), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, limit: int) -> str:
        try:
            async with budget(ctx, Budget(tokens=limit)) as account:
                said = await run(runner, "go")
                return f"{said} {account.spent.tokens}"
        except BudgetExceeded as error:
            return f"{error.facts['unit']} {LEDGER['weather Oslo']}"

    await stage.start(service)
    assert await stage.client.service_call(handle, 1000) == "Rain. 160"
    (note,) = [n for n in notes(stage, await only_invocation(stage)) if n.get("messages") == 4]
    assert note["model"] == "scripted"
    assert (note["prompt_tokens"], note["completion_tokens"]) == (60, 20)
    assert note["request_id"].startswith("chatcmpl-")
    assert note["conversation"] and note["tools"]
    assert note["latency_ms"] >= 0
    assert await stage.client.service_call(handle, 70) == "tokens 2"
    assert asked(llm) == 3


def notes(stage: Stage, invocation: str) -> list[dict[str, Any]]:
    """What steps said about themselves."""
    shown = [entry_view(entry) for _, entry in stage.journal(invocation)]
    return [entry["meta"] for entry in shown if entry.get("meta")]


@IN_MEMORY
async def test_an_inline_tool_uses_the_context(stage: Stage, llm: ScriptedLLM):
    """Its steps are steps of the handler; a tool that is a step itself is told so."""

    @inline
    async def fetch(city: str) -> str:
        """Ask in a step."""
        return str(await current_context().run("fetched", lambda: f"sun in {city}"))

    async def wrong(city: str) -> str:
        """Ask in a step, within a step."""
        return str(await current_context().run("fetched", lambda: "never"))

    llm.replace([calls(("fetch", {"city": "Rome"})), Turn(text="Sun.")])
    await stage.start(service_of(agent(tools=[fetch])))
    assert await ask(stage) == "Sun."
    found = [name for branch, name in steps(stage, await only_invocation(stage)) if "tool:" in branch]
    assert found == ["fetched"]
    await stage.close()
    stage.fresh()
    llm.replace([calls(("wrong", {"city": "Rome"})), Turn(text="Sun.")])
    await stage.start(service_of(agent(tools=[wrong])))
    with pytest.raises(TerminalError, match="AD0161"):
        await ask(stage)


@IN_MEMORY
async def test_a_tool_is_tried_as_often_as_it_says(stage: Stage, llm: ScriptedLLM):
    async def flaky(city: str) -> str:
        """Works at the fifth try."""
        LEDGER["tries"] += 1
        if LEDGER["tries"] < 5:
            raise OSError("not yet")
        return "now"

    llm.replace([calls(("flaky", {"city": "Rome"})), Turn(text="At last.")])
    await stage.start(service_of(agent(tools=[retried(flaky, RunOptions(max_attempts=9))])))
    assert await ask(stage) == "At last."
    assert LEDGER["tries"] == 5


@pytest.fixture
def installed() -> Iterator[None]:
    undo = install()
    yield
    undo()


@IN_MEMORY
async def test_code_that_makes_its_runner_at_import_is_durable_when_installed(
    stage: Stage, llm: ScriptedLLM, installed: None
):
    """As ADK's samples do: the sessions of such a runner begin empty with each attempt."""
    llm.replace(TRIP)
    runner, service, attempts = InMemoryRunner(agent(tools=[weather, book])), Service("Agents"), []

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        await runner.session_service.create_session(app_name=runner.app_name, user_id="u", session_id="s")
        said = await run(runner, question)
        await ctx.run("after", lambda: None)
        attempts.append(1)
        if len(attempts) < 3:
            raise RuntimeError("once more")
        return said

    await stage.start(service)
    assert await ask(stage) == "Rain. Booked."
    assert (asked(llm), LEDGER["book Oslo"]) == (2, 1)
    with pytest.raises(NotInHandler):
        await run(runner, "go")


async def test_outside_of_a_handler_nothing_runs_unless_it_may(llm: ScriptedLLM):
    runner = DurableRunner(app_name="app", agent=agent())
    with pytest.raises(NotInHandler, match="allow_ephemeral"):
        await run(runner, "go")
    assert asked(llm) == 0
    free = InMemoryRunner(agent())
    await free.session_service.create_session(app_name=free.app_name, user_id="u", session_id="s")
    assert await run(free, "go") == "hello"
    allowed = DurableRunner(
        app_name="app", agent=agent(), durability=EPHEMERAL, session_service=free.session_service
    )
    assert await run(allowed, "go") == "hello"


@IN_MEMORY
async def test_what_a_replay_could_not_repeat_is_refused(stage: Stage, llm: ScriptedLLM, tmp_path: Any):
    """A run in a step, a synchronous one, a live one, and sessions in a database of their own."""
    elsewhere = SqliteSessionService(str(tmp_path / "sessions.db"))
    runner, service = DurableRunner(app_name="app", agent=agent()), Service("Agents")
    other = DurableRunner(app_name="app", agent=agent(), session_service=elsewhere)
    live = RunConfig(support_cfc=True)
    refused: dict[str, Any] = {}

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        async def in_step() -> None:
            refused["step"] = await caught(lambda: run(runner, question))

        await ctx.run("step", in_step)
        refused["sync"] = await caught(
            lambda: list(runner.run(user_id="u", session_id="s", new_message=user("go")))
        )
        refused["live"] = await caught(lambda: runner.run_live(user_id="u", session_id="s"))
        refused["cfc"] = await caught(lambda: run(runner, question, run_config=live))
        refused["sessions"] = await caught(lambda: run(other, question))
        return "done"

    await stage.start(service)
    assert await ask(stage) == "done"
    kinds = {
        "step": RunInStep,
        "sync": SyncRun,
        "live": LiveRun,
        "cfc": LiveRun,
        "sessions": SessionsNotJournaled,
    }
    assert {name: type(error) for name, error in refused.items()} == kinds
    assert asked(llm) == 0


async def caught(act: Any) -> BaseException | None:
    try:
        made = act()
        if hasattr(made, "__await__"):
            await made
    except Exception as error:
        return error
    return None


def test_a_version_that_calls_its_tools_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch):
    """And nothing of it was changed."""

    async def called(tool: Any, context: Any) -> None:
        """As another version might."""

    monkeypatch.setattr(seams, "_taken", [])
    monkeypatch.setattr(_caller, "_call_tool_async", called)
    before = Runner.run_async
    with pytest.raises(UnknownAdkVersion, match="_call_tool_async"):
        DurableRunner(app_name="app", agent=agent())
    assert Runner.run_async is before


@IN_MEMORY
async def test_a_model_of_the_users_own_is_a_step_as_well(stage: Stage, llm: ScriptedLLM):
    """Given as an object, of a class nobody here knows."""

    class Parrot(BaseLlm):
        """Says what it is told."""

        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
            LEDGER["parrot"] += 1
            yield LlmResponse(content=user(llm_request.contents[-1].parts[0].text))

    parrot = agent("parrot")
    parrot.model = Parrot(model="parrot")
    attempts: list[int] = []
    runner, service = DurableRunner(app_name="app", agent=parrot), Service("Agents")

    @service.handler(name="ask")
    async def handle(ctx: Context, question: str) -> str:
        said = await run(runner, question)
        attempts.append(1)
        if len(attempts) < 2:
            raise RuntimeError("once more")
        return said

    await stage.start(service)
    assert await ask(stage, "Polly") == "Polly"
    assert LEDGER["parrot"] == 1
