"""Everything that goes wrong with a provider goes wrong on demand, seen through real clients."""

from __future__ import annotations

import httpx
import pytest

from agentdur.testing.scripted_llm import (
    DropBeforeHeaders,
    DropMidStream,
    EmptyChoices,
    Garbage,
    Hang,
    ScriptedLLM,
    Status,
    Turn,
    requests,
)
from tests.agents.asking_scripted_llm import (
    ASK,
    ask,
    client_of,
    eventually,
    outcomes,
    said,
)

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.asyncio


async def test_a_client_that_honours_retry_after_succeeds_at_the_third_attempt() -> None:
    script = [Turn(text="At last", faults=(Status(status=429, retry_after_s=0.02, times=2),))]
    async with ScriptedLLM(script) as llm, client_of(llm, max_retries=3) as client:
        reply = await client.chat.completions.create(model="gpt-x", messages=ASK)
        entries = requests(llm.ledger())
    assert reply.choices[0].message.content == "At last"
    assert [entry.outcome for entry in entries] == ["status_429", "status_429", "answered"]
    assert [entry.retry_count for entry in entries] == [0, 1, 2]
    assert len({entry.messages_sha256 for entry in entries}) == 1


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, "BadRequestError", None),
        (401, "AuthenticationError", "invalid_api_key"),
        (429, "RateLimitError", "rate_limit_exceeded"),
        (500, "InternalServerError", None),
        (503, "InternalServerError", "service_unavailable"),
    ],
)
async def test_an_error_status_raises_the_error_its_client_has_for_it(
    status: int, error: str, code: str
) -> None:
    async with (
        ScriptedLLM([Turn(text="Hello", faults=(Status(status=status),))]) as llm,
        client_of(llm) as client,
    ):
        with pytest.raises(getattr(openai, error)) as caught:
            await client.chat.completions.create(model="gpt-x", messages=ASK)
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert caught.value.type
        assert caught.value.request_id == llm.ledger()[0].request_id
        assert said(await ask(llm)) == "Hello"


async def test_a_status_carries_the_words_of_the_script() -> None:
    fault = Status(status=418, message="Short and stout", code="teapot", retry_after_s=7)
    async with ScriptedLLM([Turn(text="Hello", faults=(fault,))]) as llm:
        reply = await ask(llm)
    assert (reply.status_code, reply.headers["retry-after"]) == (418, "7")
    assert reply.json() == {
        "error": {
            "message": "Short and stout",
            "type": "invalid_request_error",
            "param": None,
            "code": "teapot",
        }
    }


async def test_a_hanging_model_keeps_silent_until_the_client_gives_up() -> None:
    async with ScriptedLLM([Turn(text="Hello", faults=(Hang(),))]) as llm:
        async with client_of(llm, timeout=0.2) as client:
            with pytest.raises(openai.APITimeoutError):
                await client.chat.completions.create(model="gpt-x", messages=ASK)
        await eventually(lambda: outcomes(llm.ledger()) == ["hang"])
        assert said(await ask(llm)) == "Hello"


async def test_a_connection_dropped_before_the_headers_leaves_no_byte() -> None:
    async with ScriptedLLM([Turn(text="Hello", faults=(DropBeforeHeaders(),))]) as llm:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            await ask(llm)
        assert said(await ask(llm)) == "Hello"
        assert outcomes(llm.ledger()) == ["drop_before_headers", "answered"]


async def test_a_stream_dropped_in_the_middle_has_delivered_exactly_its_first_chunks() -> None:
    turn = Turn(text="one two three", chunk_chars=4, faults=(DropMidStream(after_chunks=3),))
    async with ScriptedLLM([turn]) as llm, client_of(llm) as client:
        seen: list[str | None] = []
        stream = await client.chat.completions.create(model="gpt-x", messages=ASK, stream=True)
        with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content)
        assert seen == ["", "one ", "two "]
        await eventually(lambda: outcomes(llm.ledger()) == ["drop_mid_stream"])


async def test_a_stream_dropped_late_never_says_done() -> None:
    turn = Turn(text="Hello", faults=(DropMidStream(after_chunks=1000),))
    async with ScriptedLLM([turn]) as llm, httpx.AsyncClient(trust_env=False) as http:
        body = {"model": "m", "messages": ASK, "stream": True}
        received = ""
        with pytest.raises(httpx.RemoteProtocolError):
            async with http.stream("POST", f"{llm.url}/v1/chat/completions", json=body) as reply:
                async for text in reply.aiter_text():
                    received += text
    assert '"finish_reason":"stop"' in received
    assert "[DONE]" not in received


async def test_an_answer_that_is_not_streamed_is_dropped_inside_its_body() -> None:
    async with ScriptedLLM([Turn(text="Hello", faults=(DropMidStream(),))]) as llm:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await ask(llm)


@pytest.mark.parametrize("stream", [False, True])
async def test_garbage_is_no_json_and_is_followed_by_an_answer(stream: bool) -> None:
    async with ScriptedLLM([Turn(text="Hello", faults=(Garbage(),))]) as llm, client_of(llm) as client:
        with pytest.raises(ValueError):
            reply = await client.chat.completions.create(model="gpt-x", messages=ASK, stream=stream)
            if stream:
                _ = [chunk async for chunk in reply]
        assert said(await ask(llm)) == "Hello"
        assert outcomes(llm.ledger()) == ["garbage", "answered"]


async def test_an_answer_without_choices_is_well_formed() -> None:
    async with (
        ScriptedLLM([Turn(text="Hello", faults=(EmptyChoices(times=2),))]) as llm,
        client_of(llm) as client,
    ):
        plain = await client.chat.completions.create(model="gpt-x", messages=ASK)
        streamed = await client.chat.completions.create(model="gpt-x", messages=ASK, stream=True)
        assert plain.choices == []
        assert [chunk.choices async for chunk in streamed] == [[]]
        assert outcomes(llm.ledger()) == ["empty_choices", "empty_choices"]


async def test_faults_strike_one_after_the_other_and_then_the_turn_answers() -> None:
    faults = (Status(status=503, times=2), DropBeforeHeaders(), Status(status=500))
    async with ScriptedLLM([Turn(text="Hello", faults=faults)]) as llm:
        for _ in range(6):
            try:
                await ask(llm)
            except httpx.RemoteProtocolError:
                continue
        assert outcomes(llm.ledger()) == [
            "status_503", "status_503", "drop_before_headers", "status_500", "answered", "answered",
        ]  # fmt: skip


async def test_each_conversation_meets_the_fault_unless_the_turn_shares_one_count() -> None:
    other = [{"role": "user", "content": "Something else"}]
    own = Turn(text="Hello", faults=(Status(status=500),))
    shared = Turn(text="Hello", faults=(Status(status=500, per="turn"),))
    async with ScriptedLLM([own]) as llm:
        assert [(await ask(llm, messages)).status_code for messages in (ASK, other, ASK, other)] == [
            500,
            500,
            200,
            200,
        ]
        llm.replace([shared])
        assert [(await ask(llm, messages)).status_code for messages in (ASK, other, ASK, other)] == [
            500,
            200,
            200,
            200,
        ]


async def test_a_fault_without_an_end_needs_no_answer() -> None:
    async with ScriptedLLM([Turn(faults=(Status(status=500, times=None),))]) as llm:
        assert [(await ask(llm)).status_code for _ in range(4)] == [500] * 4
