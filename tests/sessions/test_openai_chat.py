"""`/v1/chat/completions` as the `openai` package sees it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from agentdur import ObjectContext
from agentdur.agent import Agent
from agentdur.sdk.stream import stream as say
from agentdur.sessions import Chat, chat
from agentdur.sessions.words import Message
from agentdur.testing.scripted_llm import DropMidStream, ScriptedLLM, Status, ToolCall, Turn, requests
from agentdur.tools import tool
from tests.sessions.site import Site, site
from tests.sessions.talk import Desk, said
from tests.support.stage import Stage, until

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
pytestmark = IN_MEMORY
TOOLS = [Turn(text="Let me look.", tool_calls=(ToolCall(name="order", arguments={"number": 7}),)),
         Turn(text="It is on its way.", chunk_chars=4)]  # fmt: skip


@tool
async def order(number: int) -> str:
    """Look an order up."""
    return f"order {number} is on its way"


def support() -> Chat:
    return chat(Agent(name="support", model="openai/scripted", instructions="be kind", tools=[order]))


def client_of(web: Site) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key="any", max_retries=0)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def test_a_conversation_is_completed(stage: Stage, llm: ScriptedLLM):
    llm.replace(TOOLS)
    async with site(stage, support()) as web, client_of(web) as client:
        done = await client.chat.completions.create(model="support", messages=[user("where is 7?")])
        assert done.choices[0].message.content == "Let me look.\n\nIt is on its way."
        assert done.choices[0].finish_reason == "stop"
        assert done.model == "support"
        assert done.usage is not None
        assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0
        assert (await web.http.get("/sessions")).json()["sessions"] == []


async def test_a_stream_says_what_the_whole_answer_says(stage: Stage, llm: ScriptedLLM):
    llm.replace(TOOLS)
    async with site(stage, support()) as web, client_of(web) as client:
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="support", messages=[user("where is 7?")], stream=True,
                stream_options={"include_usage": True},
            )
        ]  # fmt: skip
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Let me look.\n\nIt is on its way."
    # A reader that is slower than the model gets several pieces as one; the two turns are never one.
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) >= 2
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("where", ["body", "metadata", "header"])
async def test_a_session_remembers_for_the_client(stage: Stage, where: str):
    desk = Desk()
    talk = chat(desk, name="Desk")
    how: dict[str, Any] = {
        "body": {"extra_body": {"session_id": "s"}},
        "metadata": {"metadata": {"session": "s"}},
        "header": {"extra_headers": {"x-session-id": "s"}},
    }[where]
    async with site(stage, talk) as web, client_of(web) as client:
        for text in ("a", "b"):
            system = {"role": "system", "content": "be brief"}
            done = await client.chat.completions.create(
                model="Desk",
                messages=[system, user(text)],
                **how,  # type: ignore[list-item]  # plain dicts
            )
            assert done.choices[0].message.content == f"heard {text}"
        assert [content for _, content in await said(stage, talk, "s")] == ["a", "heard a", "b", "heard b"]
    assert [m["content"] for m in desk.seen[-1]] == ["be brief", "a", "heard a", "b"]


async def test_the_same_request_again_is_answered_by_the_same_run(stage: Stage):
    desk = Desk()
    async with site(stage, chat(desk, name="Desk")) as web, client_of(web) as client:
        for _ in range(2):
            done = await client.chat.completions.create(
                model="Desk", messages=[user("a")], extra_headers={"idempotency-key": "once"}
            )
            assert done.choices[0].message.content == "heard a"
    assert desk.runs == 1


async def test_models_are_listed(stage: Stage):
    async with site(stage, chat(Desk(), name="A"), chat(Desk(), name="B")) as web, client_of(web) as client:
        assert [model.id async for model in client.models.list()] == ["A", "B"]
        assert (await client.models.retrieve("A")).owned_by == "agentdur"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("C")


@pytest.mark.parametrize(
    ("how", "error", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        ({"messages": []}, openai.BadRequestError, "AD0148"),
        ({"messages": [{"role": "king", "content": "x"}]}, openai.BadRequestError, "AD0148"),
        ({"messages": "hello"}, openai.BadRequestError, "AD0148"),
        ({"n": 2}, openai.BadRequestError, "AD0151"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "AD0151"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "AD0151"),
        ({"extra_body": {"session_id": "s"}, "messages": [{"role": "assistant", "content": "x"}]},
         openai.BadRequestError, "AD0148"),
        ({"extra_body": {"session_id": 5}}, openai.BadRequestError, "AD0148"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_an_error_of_its_kind(
    stage: Stage, how: dict[str, Any], error: type[openai.APIStatusError], code: str
):
    async with site(stage, chat(Desk(), name="Desk")) as web, client_of(web) as client:
        with pytest.raises(error) as refused:
            await client.chat.completions.create(**{"model": "Desk", "messages": [user("a")], **how})
        assert refused.value.code == code


async def test_a_refusal_of_the_model_reaches_the_client(stage: Stage, llm: ScriptedLLM):
    llm.replace([Turn(text="no", faults=(Status(status=400, times=None),))])
    async with site(stage, support()) as web, client_of(web) as client:
        with pytest.raises(openai.BadRequestError, match="invalid"):
            await client.chat.completions.create(model="support", messages=[user("a")])
        with pytest.raises(openai.APIError, match="invalid"):
            async for _ in await client.chat.completions.create(
                model="support", messages=[user("a")], stream=True
            ):
                pass


async def test_a_provider_that_hangs_up_in_the_middle_is_not_seen_when_it_says_the_same_again(
    stage: Stage, llm: ScriptedLLM
):
    llm.replace([Turn(text="one two three four", chunk_chars=4, faults=(DropMidStream(after_chunks=3),))])
    async with site(stage, support()) as web, client_of(web) as client:
        text = ""
        async for chunk in await client.chat.completions.create(
            model="support", messages=[user("a")], stream=True
        ):
            text += chunk.choices[0].delta.content or ""
    assert text == "one two three four"
    assert len([entry for entry in requests(llm.ledger())]) == 2


async def test_an_answer_that_comes_out_different_is_an_error_and_the_whole_is_kept(stage: Stage):
    """The client has a part of an answer that never was; it is told so, and asks again."""
    attempts: list[int] = []

    async def fickle(ctx: ObjectContext, messages: list[Message]) -> str:
        async def think() -> str:
            attempts.append(1)
            text = f"attempt {len(attempts)}" if len(attempts) < 2 else "the second attempt"
            say({"type": "text", "delta": text})
            if len(attempts) == 1:
                await _read(events)
                raise ConnectionError("cut")
            return text

        return str(await ctx.run("think", think))

    events: list[str] = []
    async with site(stage, chat(fickle)) as web, client_of(web) as client:
        how: dict[str, Any] = {
            "model": "fickle", "messages": [user("a")], "extra_headers": {"idempotency-key": "k"},
        }  # fmt: skip
        with pytest.raises(openai.APIError, match="AD0150"):
            async for chunk in await client.chat.completions.create(stream=True, **how):
                events.append(chunk.choices[0].delta.content or "")
        assert "".join(events) == "attempt 1"
        done = await client.chat.completions.create(**how)
        assert done.choices[0].message.content == "the second attempt"
    assert len(attempts) == 2


async def _read(events: list[str]) -> None:
    await until(lambda: "".join(events))
