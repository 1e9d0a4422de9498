"""`useChat`'s own chat and transport, of npm's `ai` under node, against the UI message stream."""

from __future__ import annotations

from typing import Any

import pytest

from agentdur import ObjectContext, current_context
from agentdur.agent import Agent
from agentdur.sdk.stream import stream as say
from agentdur.sessions import chat
from agentdur.sessions.words import Message
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn
from agentdur.tools import ToolError, tool
from tests.sessions.page import Page, needs_ai_sdk, page
from tests.sessions.site import site
from tests.sessions.talk import Desk, said
from tests.sessions.test_routes import Speaker
from tests.support.stage import Stage, until

pytestmark = [
    pytest.mark.slow, needs_ai_sdk, pytest.mark.parametrize("stage", ["memory"], indirect=True),
]  # fmt: skip
paid: list[int] = []


@tool
async def order(number: int) -> dict[str, int]:
    """Look an order up."""
    return {"order": number, "days": 2}


@tool(inline=True)
async def refund(number: int) -> str:
    """Pay an order back."""
    decision = await current_context().approval(f"refund {number}?", {"number": number})
    if not decision:
        raise ToolError(f"not approved: {decision.reason}")
    paid.append(number)
    return "paid"


def support() -> Any:
    return chat(Agent(name="support", model="openai/scripted", tools=[order, refund]))


def kinds(shown: Page) -> list[str]:
    """The kinds of the parts of the last message."""
    return [part["type"] for part in shown.messages[-1]["parts"]]


async def test_a_message_is_answered_and_remembered(stage: Stage):
    talk = chat(Desk(), name="Desk")
    async with site(stage, talk) as web, page(f"{web.url}/sessions/Desk/s/ui") as shown:
        for text in ("a", "b"):
            await shown.did("send", text=text)
            assert (shown.status, shown.text()) == ("ready", f"heard {text}")
        assert [m["role"] for m in shown.messages] == ["user", "assistant"] * 2
        meta = shown.messages[-1]["metadata"]
        assert (meta["turn"], meta["status"]) == (2, "completed")
        assert [content for _, content in await said(stage, talk, "s")] == ["a", "heard a", "b", "heard b"]
        known = (await web.http.get("/sessions/Desk/s/ui")).json()["messages"]
        assert [(m["role"], m["parts"][-1]["text"]) for m in known] == [
            ("user", "a"), ("assistant", "heard a"), ("user", "b"), ("assistant", "heard b"),
        ]  # fmt: skip


async def test_text_and_tools_are_parts_of_the_answer(stage: Stage, llm: ScriptedLLM):
    call = ToolCall(name="order", arguments={"number": 7})
    llm.replace([Turn(text="Let me look.", tool_calls=(call,)), Turn(text="In two days.", chunk_chars=3)])
    async with site(stage, support()) as web, page(f"{web.url}/sessions/support/s/ui") as shown:
        await shown.did("send", text="where is 7?")
        assert kinds(shown) == ["step-start", "text", "tool-order", "step-start", "text"]
        [called] = shown.parts("tool-order")
        assert (called["state"], called["input"]) == ("output-available", {"number": 7})
        assert called["output"] == {"order": 7, "days": 2}
        assert [part["text"] for part in shown.parts("text")] == ["Let me look.", "In two days."]


async def test_the_transport_s_own_addresses_work_with_one_api_for_all_sessions(stage: Stage):
    speaker = Speaker(2)
    async with site(stage, chat(speaker, name="Talk")) as web:
        async with page(f"{web.url}/sessions/Talk/ui", "mine") as shown:
            await shown.did("resume")
            assert shown.messages == []
            shown.do("send", text="w")
            speaker.let(1)
            await shown.until(lambda: shown.text() == "w0 ")
        async with page(f"{web.url}/sessions/Talk/ui", "mine", _first(shown.messages)) as again:
            again.do("resume")
            await again.until(lambda: again.text() == "w0 ")
            speaker.let(1)
            await again.until(lambda: again.count("resume"))
            assert again.text() == "w0 w1 "


def _first(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return messages[:1]


async def test_edited_and_regenerated(stage: Stage):
    desk = Desk()
    talk = chat(desk, name="Desk")
    async with site(stage, talk) as web, page(f"{web.url}/sessions/Desk/s/ui") as shown:
        await shown.did("send", text="a")
        await shown.did("send", text="b")
        await shown.did("regenerate")
        assert shown.text() == "heard b"
        first = shown.messages[0]["id"]
        await shown.did("send", text="A", messageId=first)
        assert shown.text() == "heard A"
        await shown.did("send", text="AA", messageId=first)
        assert [content for _, content in await said(stage, talk, "s")] == ["AA", "heard AA"]
    assert desk.runs == 5


@pytest.mark.parametrize("approved", [True, False])
async def test_an_approval_is_answered_in_the_page(stage: Stage, llm: ScriptedLLM, approved: bool):
    paid.clear()
    call = ToolCall(name="refund", arguments={"number": 7})
    llm.replace([Turn(text="I will refund.", tool_calls=(call,)), Turn(text="Settled.")])
    async with site(stage, support()) as web, page(f"{web.url}/sessions/support/s/ui") as shown:
        await shown.did("send", text="money!")
        [asked] = shown.parts("tool-refund")
        assert (asked["state"], asked["input"]) == ("approval-requested", {"number": 7})
        assert paid == []
        shown.do("approve", approval=asked["approval"]["id"], approved=approved, reason="so it is")
        await shown.until(lambda: "Settled." in shown.text() and shown.status == "ready")
        assert kinds(shown) == ["step-start", "text", "tool-refund", "step-start", "text"]
        [answered] = shown.parts("tool-refund")
        assert paid == ([7] if approved else [])
        assert answered["state"] in ("output-available", "output-error")
        assert [m["role"] for m in shown.messages] == ["user", "assistant"]


async def test_a_page_that_is_closed_stops_nothing_and_a_new_one_comes_in_between(stage: Stage):
    speaker = Speaker(3)
    async with site(stage, chat(speaker, name="Talk")) as web:
        async with page(f"{web.url}/sessions/Talk/s/ui") as shown:
            shown.do("send", text="w")
            speaker.let(1)
            await shown.until(lambda: shown.text() == "w0 ")
        known = (await web.http.get("/sessions/Talk/s/ui")).json()["messages"]
        async with page(f"{web.url}/sessions/Talk/s/ui", "s", known) as again:
            again.do("resume")
            await again.until(lambda: again.text() == "w0 ")
            speaker.let(2)
            await again.until(lambda: again.count("resume"))
            assert again.text() == "w0 w1 w2 "
            assert (await again.did("resume"))["status"] == "ready"  # 204: nothing runs
    assert speaker.runs == 1


async def test_the_same_page_goes_on_after_the_server_was_killed(stage: Stage):
    """The model call runs again; what the page had of the first attempt is dropped."""
    speaker = Speaker(3)
    talk = chat(speaker, name="Talk")
    async with site(stage, talk) as web:
        port = int(web.url.rpartition(":")[2])
        browser = page(f"{web.url}/sessions/Talk/s/ui")
        shown = await browser.__aenter__()
        shown.do("send", text="w")
        speaker.let(1)
        await shown.until(lambda: shown.text() == "w0 ")
        await stage.crash()
    await shown.until(lambda: shown.status == "error")
    async with site(stage, talk, port=port) as web:
        shown.do("resume")
        await shown.until(lambda: shown.status == "submitted")
        speaker.let(3)
        await shown.until(lambda: shown.count("resume"))
        assert (shown.status, shown.text()) == ("ready", "w0 w1 w2 ")
        assert len(shown.messages) == 2
        await browser.__aexit__(None, None, None)
    assert speaker.runs == 2


async def test_a_part_of_an_answer_that_never_was_is_taken_back(stage: Stage):
    """On the stream that was posted, by an error after which the page asks again; on one that replays, at
    once."""
    attempts: list[int] = []
    heard: list[Page] = []

    async def fickle(ctx: ObjectContext, messages: list[Message]) -> str:
        async def think() -> str:
            attempts.append(1)
            if len(attempts) < 3:
                say({"type": "text", "delta": f"attempt {len(attempts)}"})
                await until(lambda: heard and heard[-1].text() == f"attempt {len(attempts)}")
                raise ConnectionError("cut")
            say({"type": "text", "delta": "the third"})
            return "the third"

        return str(await ctx.run("think", think))

    async with site(stage, chat(fickle)) as web, page(f"{web.url}/sessions/fickle/s/ui") as shown:
        heard.append(shown)
        await shown.did("send", text="a")
        assert "AD0150" in shown.error
        heard.pop()
        shown.do("resume")
        await shown.until(lambda: shown.text() == "attempt 2")
        heard.append(shown)
        await shown.until(lambda: shown.count("resume"))
        assert (shown.status, shown.text()) == ("ready", "the third")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 400),
        (b'{"messages": []}', 400),
        (b'{"messages": [{"role": "user", "parts": [{"type": "text", "text": ""}]}]}', 400),
        (b'{"messages": [{"role": "user", "parts": [{"type": "tool-x"}]}]}', 400),
        (b'{"messages": [{"role": "assistant", "parts": []}]}', 400),
        (b'{"messages": [{"role": "assistant", "parts": [{"state": "approval-responded"}]}]}', 404),
        (b'{"messages": [{"role": "user", "parts": []}], "trigger": "regenerate-message"}', 404),
    ],
)
async def test_what_no_page_would_send_is_refused(stage: Stage, body: bytes, status: int):
    async with site(stage, chat(Desk(), name="Desk")) as web:
        answer = await web.http.post("/sessions/Desk/s/ui", content=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"].startswith("AD01")
