"""Conversations in the state of an object: appended to, found again, forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.tools.tool_context import ToolContext

from agentdur import ObjectContext, ObjectSharedContext, VirtualObject, Workflow, WorkflowContext
from agentdur.core import journal as j
from agentdur.core.ports import Filter
from agentdur.core.target import ObjectAddress
from agentdur.integrations.google_adk import DurableRunner, ObjectSessions, SessionReadOnly
from agentdur.sdk.exceptions import RetryableError, TerminalError
from agentdur.testing.scripted_llm import ScriptedLLM, Turn
from tests.google_adk.world import LEDGER, agent, asked, calls, events, run, user
from tests.support.boundaries import every_boundary
from tests.support.stage import Stage

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
OF_ADA: dict[str, Any] = {"app_name": "app", "user_id": "u", "session_id": "s"}


def remember(word: str, tool_context: ToolContext) -> str:
    """Keep a word for this conversation, for the user, and for everybody."""
    LEDGER[word] += 1
    seen = [*tool_context.state.get("words", []), word]
    tool_context.state["words"] = seen
    tool_context.state["user:last"] = word
    tool_context.state["app:count"] = tool_context.state.get("app:count", 0) + 1
    tool_context.state["temp:gone"] = word
    return f"{len(seen)} words"


def chat(**more: Any) -> tuple[VirtualObject, Any]:
    runner = DurableRunner(app_name="app", agent=agent(tools=[remember]), **more)
    talk = VirtualObject("Talk")

    @talk.handler()
    async def say(ctx: ObjectContext, given: list[str]) -> str:
        session, text = given
        return await run(runner, text, session)

    return talk, say


TALK = [
    calls(("remember", {"word": "fjord"})), Turn(text="Kept."),
    calls(("remember", {"word": "troll"})), Turn(text="Both kept."),
]  # fmt: skip


async def test_a_conversation_goes_on_in_another_process(stage: Stage, llm: ScriptedLLM):
    """The model is told what was said before, and tools find the state as it was left."""
    llm.replace(TALK)
    talk, say = chat()
    await stage.start(talk)
    assert await stage.client.object_call(say, "ada", ["s", "fjord"]) == "Kept."
    await stage.restart()
    assert await stage.client.object_call(say, "ada", ["s", "troll"]) == "Both kept."
    last = llm.bodies()[-1]["messages"]
    one = ["user", "assistant", "tool"]
    assert [m["role"] for m in last[1:]] == [*one, "assistant", *one]
    assert "2 words" in str(last[-1]["content"])
    assert (asked(llm), LEDGER) == (4, {"fjord": 1, "troll": 1})


@pytest.mark.slow
@IN_MEMORY
async def test_crashed_at_every_commit_each_event_is_written_once(stage: Stage, llm: ScriptedLLM):
    """And what a later turn finds is what an undisturbed one would have found."""
    llm.replace(TALK)
    talk, say = chat()

    async def two() -> Any:
        first = await stage.client.object_call(say, "ada", ["s", "fjord"], idempotency_key="1")
        return first, await stage.client.object_call(say, "ada", ["s", "troll"], idempotency_key="2")

    async for point in every_boundary(stage, [talk], two, LEDGER.clear):
        assert point.answer == ("Kept.", "Both kept."), point
        assert max(LEDGER.values()) <= 2
        written = await all_written(stage)
        assert len(written) == len(set(written)) == 8, point


async def all_written(stage: Stage) -> list[str]:
    rows = await stage.engine.list(Filter())
    entries = [entry for row in rows for _, entry in stage.journal(row["id"])]
    return [e.key for e in entries if isinstance(e, j.SetState) and e.key.startswith("adk:event:")]


@IN_MEMORY
async def test_the_services_own_operations(stage: Stage, llm: ScriptedLLM):
    """As ADK has them: list, read a part, append by hand, user state, delete, and begin again."""
    llm.replace(TALK)
    sessions = ObjectSessions()
    talk, say = chat(session_service=sessions)

    @talk.handler()
    async def look(ctx: ObjectContext) -> Any:
        made = await sessions.create_session(
            app_name="app", user_id="u", session_id="t", state={"a": 1, "temp:b": 2}
        )
        changes = EventActions(state_delta={"c": None, "d": 4})
        await sessions.append_event(made, Event(author="user", content=user("by hand"), actions=changes))
        whole = await sessions.get_session(**OF_ADA)
        part = await sessions.get_session(**OF_ADA, config=GetSessionConfig(num_recent_events=2))
        late = GetSessionConfig(after_timestamp=whole.events[2].timestamp)
        after = await sessions.get_session(**OF_ADA, config=late)
        other = await sessions.get_session(app_name="app", user_id="u", session_id="t")
        listed = await sessions.list_sessions(app_name="app", user_id="u")
        await sessions.delete_session(app_name="app", user_id="u", session_id="t")
        gone = await sessions.get_session(app_name="app", user_id="u", session_id="t")
        return {
            "authors": [event.author for event in whole.events],
            "state": whole.state,
            "part": [event.author for event in part.events],
            "after": len(after.events),
            "other": other.state | {"said": other.events[0].content.parts[0].text},
            "listed": [session.id for session in listed.sessions],
            "user": await sessions.get_user_state(app_name="app", user_id="u"),
            "gone": gone is None,
        }

    await stage.start(talk)
    await stage.client.object_call(say, "ada", ["s", "fjord"])
    found = await stage.client.object_call(look, "ada")
    assert found == {
        "authors": ["user", "helper", "helper", "helper"],
        "state": {"words": ["fjord"], "user:last": "fjord", "app:count": 1},
        "part": ["helper", "helper"],
        "after": 2,
        "other": {"a": 1, "c": None, "d": 4, "said": "by hand", "user:last": "fjord", "app:count": 1},
        "listed": ["s", "t"],
        "user": {"last": "fjord"},
        "gone": True,
    }
    assert await kept(stage) == 5
    await stage.client.object_call(say, "ada", ["s", "troll"])
    assert await kept(stage) == 8


async def kept(stage: Stage) -> int:
    """How many events the object holds."""
    _, values = await stage.engine.values(ObjectAddress("Talk", "ada"))
    return len([name for name in values if name.startswith("adk:event:")])


@IN_MEMORY
async def test_what_a_handler_does_with_sessions_is_the_same_on_every_attempt(stage: Stage, llm: ScriptedLLM):
    """Ids and times that nobody gave, too."""
    sessions, attempts = ObjectSessions(), []
    talk = VirtualObject("Talk")

    @talk.handler()
    async def make(ctx: ObjectContext) -> list[Any]:
        session = await sessions.create_session(app_name="app", user_id="u")
        await sessions.append_event(session, Event(author="user", content=user("hello")))
        await ctx.run("after", lambda: None)
        attempts.append([session.id, session.events[0].id, session.last_update_time])
        if len(attempts) < 3:
            raise RetryableError("once more")
        return list(attempts[-1])

    await stage.start(talk)
    assert await stage.client.object_call(make, "ada") == attempts[0] == attempts[1]


@IN_MEMORY
async def test_a_shared_handler_reads_and_does_no_more(stage: Stage, llm: ScriptedLLM):
    llm.replace(TALK)
    sessions = ObjectSessions()
    talk, say = chat(session_service=sessions)
    other = DurableRunner(app_name="app", agent=agent(), session_service=sessions)

    @talk.handler(kind="shared")
    async def look(ctx: ObjectSharedContext) -> list[str]:
        session = await sessions.get_session(**OF_ADA)
        assert session is not None
        with pytest.raises(SessionReadOnly):
            await run(other, "go", "new")
        with pytest.raises(SessionReadOnly):
            await run(other, "go")
        return [event.author for event in session.events]

    await stage.start(talk)
    await stage.client.object_call(say, "ada", ["s", "fjord"])
    assert await stage.client.object_call(look, "ada") == ["user", "helper", "helper", "helper"]


@IN_MEMORY
async def test_a_workflow_has_sessions_too(stage: Stage, llm: ScriptedLLM):
    llm.replace(TALK)
    runner, flow = DurableRunner(app_name="app", agent=agent(tools=[remember])), Workflow("Flow")

    @flow.main()
    async def go(ctx: WorkflowContext) -> list[str]:
        return [await run(runner, "fjord"), await run(runner, "troll")]

    await stage.start(flow)
    assert await stage.client.workflow_call(go, "w") == ["Kept.", "Both kept."]


@IN_MEMORY
async def test_a_run_that_is_left_early_keeps_what_it_told(stage: Stage, llm: ScriptedLLM):
    """As in ADK's own samples, which break at the final answer."""
    llm.replace(TALK)
    runner, talk = DurableRunner(app_name="app", agent=agent(tools=[remember])), VirtualObject("Talk")

    @talk.handler()
    async def say(ctx: ObjectContext, text: str) -> str:
        async for event in events(runner, text):
            if event.is_final_response():
                return str(event.content.parts[0].text)
        return ""

    await stage.start(talk)
    assert await stage.client.object_call(say, "ada", "fjord") == "Kept."
    assert await stage.client.object_call(say, "ada", "troll") == "Both kept."
    assert LEDGER == {"fjord": 1, "troll": 1}


@IN_MEMORY
async def test_a_failed_run_leaves_what_was_said(stage: Stage, llm: ScriptedLLM):
    """The failure is the invocation's or the handler's to handle; the conversation goes on after it."""

    def broken() -> str:
        """Never works."""
        raise ValueError("no")

    llm.replace([calls(("broken", {})), Turn(text="Never mind.", at=1)])
    runner, talk = DurableRunner(app_name="app", agent=agent(tools=[broken])), VirtualObject("Talk")
    sessions = ObjectSessions()

    @talk.handler()
    async def say(ctx: ObjectContext, text: str) -> list[str]:
        try:
            await run(runner, text)
        except TerminalError as error:
            assert "ValueError" in error.message
        session = await sessions.get_session(**OF_ADA)
        assert session is not None
        return [event.error_code or event.author for event in session.events]

    await stage.start(talk)
    heard = await stage.client.object_call(say, "ada", "go")
    assert heard[:2] == ["user", "helper"]
    assert len(heard) == 3


@pytest.mark.slow
@IN_MEMORY
async def test_a_turn_writes_what_is_new(stage: Stage, llm: ScriptedLLM):
    """Bytes grow with the turns, not with their square: the journal of a late turn is as long as that of an
    early one."""
    llm.replace([Turn(text="x" * 400, at=number) for number in range(40)])
    talk, say = chat()
    await stage.start(talk)
    for number in range(40):
        await stage.client.object_call(say, "ada", ["s", f"{number}"], idempotency_key=f"{number}")
    rows = [row for row in await stage.engine.list(Filter()) if row["target"].startswith("Talk")]
    sizes = sorted((row["created_at"], size_of(stage, row["id"])) for row in rows)
    early, late = sizes[2][1], sizes[-1][1]
    assert len(sizes) == 40
    assert late < early + 200, (early, late)


def size_of(stage: Stage, invocation: str) -> int:
    return sum(len(repr(entry)) for _, entry in stage.journal(invocation))
