"""The scripted model server answers as a provider does, so that real clients take it for one."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from agentdur.testing.scripted_llm import (
    Script,
    ScriptedLLM,
    ToolCall,
    Turn,
    Usage,
    requests,
)
from tests.agents.asking_scripted_llm import (
    AGENT,
    ASK,
    WEATHER,
    ask,
    client_of,
    events,
)

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.asyncio


async def test_a_completion_carries_everything_a_provider_sends() -> None:
    usage = Usage(prompt_tokens=11, completion_tokens=4, cached_tokens=8, reasoning_tokens=1)
    async with ScriptedLLM([Turn(text="It rains.", usage=usage)]) as llm, client_of(llm) as client:
        before = int(time.time())
        raw = await client.chat.completions.with_raw_response.create(model="gpt-x", messages=ASK)
        reply = raw.parse()
    assert reply.choices[0].message.content == "It rains."
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.object, reply.model) == ("chat.completion", "gpt-x")
    assert reply.id.startswith("chatcmpl-")
    assert before <= reply.created <= time.time()
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (11, 4, 15)
    assert reply.usage.prompt_tokens_details.cached_tokens == 8
    assert reply.usage.completion_tokens_details.reasoning_tokens == 1
    assert raw.headers["x-request-id"] == llm.ledger()[0].request_id


async def test_parallel_tool_calls_reach_the_client_as_one_message() -> None:
    async with ScriptedLLM(AGENT) as llm, client_of(llm) as client:
        reply = await client.chat.completions.create(model="gpt-x", messages=ASK)
    calls = reply.choices[0].message.tool_calls
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.choices[0].message.content is None
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("weather", {"city": "Oslo"}),
        ("weather", {"city": "Rome", "unit": "celsius"}),
    ]
    assert len({call.id for call in calls}) == 2


async def test_an_agent_loop_is_played_to_its_end() -> None:
    """Each answer lengthens the conversation, and the longer conversation gets the next turn."""
    async with ScriptedLLM(AGENT) as llm, client_of(llm) as client:
        messages: list[Any] = list(ASK)
        first = await client.chat.completions.create(model="gpt-x", messages=messages)
        messages.append(first.choices[0].message.model_dump(exclude_none=True))
        for call in first.choices[0].message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "4 degrees"})
        second = await client.chat.completions.create(model="gpt-x", messages=messages)
        assert second.choices[0].message.content == "Oslo is cold, Rome is warm."
        assert [(entry.turn, entry.message_count) for entry in requests(llm.ledger())] == [(0, 2), (1, 5)]


async def test_a_streamed_text_arrives_in_pieces_and_ends_with_its_usage() -> None:
    turn = Turn(text="Oslo is cold.", chunk_chars=4, usage=Usage(prompt_tokens=7, completion_tokens=3))
    async with ScriptedLLM([turn]) as llm, client_of(llm) as client:
        stream = await client.chat.completions.create(
            model="gpt-x", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert [delta.content for delta in deltas[1:-1]] == ["Oslo", " is ", "cold", "."]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-2:] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 10
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_streamed_tool_calls_are_put_together_by_their_index() -> None:
    turn = Turn(tool_calls=WEATHER, chunk_chars=5)
    async with ScriptedLLM([turn]) as llm, client_of(llm) as client:
        stream = await client.chat.completions.create(model="gpt-x", messages=ASK, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]
        whole = (await ask(llm)).json()["choices"][0]["message"]["tool_calls"]
    pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
    for index, expected in enumerate(whole):
        mine = [piece for piece in pieces if piece.index == index]
        assert (mine[0].id, mine[0].function.name) == (expected["id"], "weather")
        assert all(piece.id is None and piece.function.name is None for piece in mine[1:])
        assert len(mine) > 3
        assert "".join(piece.function.arguments for piece in mine) == expected["function"]["arguments"]


async def test_a_stream_ends_with_done_and_keeps_usage_to_itself_unless_asked() -> None:
    async with ScriptedLLM([Turn(text="Hello")]) as llm:
        reply = await ask(llm, stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, done = events(reply.text)
    assert done == "[DONE]"
    assert all("usage" not in json.loads(chunk) for chunk in chunks)


async def test_usage_that_is_not_scripted_is_estimated_from_the_words() -> None:
    async with ScriptedLLM([Turn(text="eight ch")]) as llm:
        short = (await ask(llm, [{"role": "user", "content": "Hi"}])).json()["usage"]
        long = (await ask(llm, [{"role": "user", "content": "Hi" * 500}])).json()["usage"]
    assert short["completion_tokens"] == 2
    assert long["prompt_tokens"] - short["prompt_tokens"] == pytest.approx(250, abs=1)
    assert short["total_tokens"] == short["prompt_tokens"] + 2


async def test_broken_arguments_and_a_cut_answer_are_sent_as_scripted() -> None:
    broken = Turn(
        tool_calls=(ToolCall(name="weather", arguments='{"city": "Os', id="call_1"),), finish_reason="length"
    )
    async with ScriptedLLM([broken]) as llm:
        choice = (await ask(llm)).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["id"] == "call_1"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Os'


async def test_models_are_listed_with_and_without_the_version_in_the_path() -> None:
    script = Script(turns=(Turn(text="Hello"),), models=("small", "large"))
    async with ScriptedLLM(script) as llm, client_of(llm) as client:
        assert [model.id async for model in client.models.list()] == ["small", "large"]
        bare = openai.AsyncOpenAI(base_url=llm.url, api_key="any")
        async with bare:
            assert [model.id async for model in bare.models.list()] == ["small", "large"]


async def test_delays_hold_back_the_answer_and_each_of_its_chunks() -> None:
    turn = Turn(text="abcd", delay_ms=60, chunk_delay_ms=20, chunk_chars=1)
    async with ScriptedLLM([turn]) as llm:
        start = time.monotonic()
        await ask(llm)
        plain_s = time.monotonic() - start
        await ask(llm, stream=True)
        streamed_s = time.monotonic() - start - plain_s
    assert plain_s >= 0.06
    assert streamed_s >= 0.06 + 5 * 0.02  # six chunks, five gaps


@pytest.mark.slow
async def test_litellm_talks_to_it_plain_and_streamed() -> None:
    litellm = pytest.importorskip("litellm")
    where = {"model": "openai/gpt-x", "api_key": "any"}
    async with ScriptedLLM(AGENT) as llm:
        where["api_base"] = llm.base_url
        reply = await litellm.acompletion(messages=ASK, **where)
        assert [call.function.name for call in reply.choices[0].message.tool_calls] == ["weather", "weather"]
        later = [*ASK, {"role": "assistant", "content": "Let me look."}, {"role": "user", "content": "And?"}]
        text = ""
        async for chunk in await litellm.acompletion(messages=later, stream=True, **where):
            text += chunk.choices[0].delta.content or ""
        assert text == "Oslo is cold, Rome is warm."
        assert [entry.model for entry in requests(llm.ledger())] == ["gpt-x", "gpt-x"]
