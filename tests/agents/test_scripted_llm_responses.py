"""The scripted model server speaks OpenAI's Responses API: its own client takes it for a provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentdur.testing.scripted_llm import (
    DropMidStream,
    EmptyChoices,
    ErrorEvent,
    Garbage,
    Script,
    ScriptedLLM,
    Status,
    ToolCall,
    Turn,
    Usage,
)
from tests.agents.asking_scripted_llm import AGENT, WEATHER, client_of, outcomes

openai = pytest.importorskip("openai")
QUESTION = "Weather in Oslo and Rome?"
FULL = Turn(
    reasoning="Two cities.",
    text="I look.",
    tool_calls=WEATHER,
    chunk_chars=4,
    usage=Usage(prompt_tokens=9, completion_tokens=5, cached_tokens=2, reasoning_tokens=1),
)


async def test_a_response_carries_what_the_client_types():
    async with ScriptedLLM([FULL]) as llm, client_of(llm) as client:
        reply = await client.responses.create(model="gpt-x", input=QUESTION, instructions="Be terse.")
    assert (reply.object, reply.status, reply.model) == ("response", "completed", "gpt-x")
    assert [item.type for item in reply.output] == ["reasoning", "message", "function_call", "function_call"]
    assert reply.output_text == "I look."
    assert reply.output[0].summary[0].text == "Two cities."
    assert [json.loads(item.arguments)["city"] for item in reply.output[2:]] == ["Oslo", "Rome"]
    assert reply.usage.total_tokens == 14
    assert reply.usage.input_tokens_details.cached_tokens == 2
    assert reply.usage.output_tokens_details.reasoning_tokens == 1
    assert reply.instructions == "Be terse."


async def test_the_events_of_a_stream_come_in_the_providers_order_and_end_with_the_whole():
    async with ScriptedLLM([FULL]) as llm, client_of(llm) as client:
        stream = await client.responses.create(model="gpt-x", input=QUESTION, stream=True)
        events = [event async for event in stream]
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:2] == ["created", "in_progress"]
    assert kinds[-1] == "completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    once = list(dict.fromkeys(kinds))
    assert once == [
        "created", "in_progress", "output_item.added", "reasoning_summary_part.added",
        "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done",
        "output_item.done", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "function_call_arguments.delta", "function_call_arguments.done", "completed",
    ]  # fmt: skip
    whole = events[-1].response
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    spoken = [e for e in events if e.type == "response.function_call_arguments.delta" and e.output_index == 3]
    assert "".join(e.delta for e in spoken) == whole.output[3].arguments
    assert {event.item_id for event in spoken} == {whole.output[3].id}


async def test_the_clients_own_stream_helper_puts_the_same_response_together():
    async with (
        ScriptedLLM([FULL]) as llm,
        client_of(llm) as client,
        client.responses.stream(model="gpt-x", input=QUESTION) as stream,
    ):
        texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert "".join(texts) == final.output_text == "I look."


async def play(client: Any, **settings: Any) -> list[Any]:
    """An agent's loop: what the model calls is answered, until it has said its last word."""
    items: list[Any] = [{"role": "user", "content": QUESTION}]
    replies: list[Any] = []
    while not replies or replies[-1].output[-1].type == "function_call":
        replies.append(await client.responses.create(model="gpt-x", input=items, **settings))
        items += [item.model_dump(exclude_none=True) for item in replies[-1].output]
        calls = [item for item in replies[-1].output if item.type == "function_call"]
        items += [{"type": "function_call_output", "call_id": c.call_id, "output": "4"} for c in calls]
    return replies


async def test_an_agents_loop_is_played_to_its_end_with_ids_new_on_each_hit_and_calls_that_stay():
    async with ScriptedLLM([FULL, Turn(text="Cold, warm.")]) as llm, client_of(llm) as client:
        once, again = await play(client), await play(client)
        assert [reply.output_text for reply in once] == ["I look.", "Cold, warm."]
        assert [entry.turn for entry in llm.ledger() if entry.outcome] == [0, 1, 0, 1]
        assert len(llm.bodies()[1]["input"]) == 7
    assert once[0].id != again[0].id
    assert [item.id for item in once[0].output] != [item.id for item in again[0].output]
    assert once[0].output[2].call_id == again[0].output[2].call_id


async def test_a_response_goes_on_from_an_earlier_one():
    async with ScriptedLLM(AGENT) as llm, client_of(llm) as client:
        first = await client.responses.create(model="gpt-x", input=QUESTION)
        outputs = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "4"} for item in first.output
        ]
        second = await client.responses.create(
            model="gpt-x", input=outputs, previous_response_id=first.id, store=False
        )
        assert second.output_text == "Oslo is cold, Rome is warm."
        assert second.previous_response_id == first.id
        for unknown in ("resp_never", second.id):
            with pytest.raises(openai.BadRequestError, match="not found"):
                await client.responses.create(model="gpt-x", input="?", previous_response_id=unknown)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (
            [{"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}],
            "No tool output found",
        ),
        ([{"type": "function_call_output", "call_id": "c1", "output": "4"}], "No tool call found"),
        ([{"type": "item_reference", "id": "msg_1"}], "not found"),
        ([{"type": "compaction", "encrypted_content": "forged"}], "could not be verified"),
        ([], "must not be empty"),
    ],
)
async def test_what_a_provider_refuses_is_refused(items: list[Any], reason: str):
    async with ScriptedLLM([Turn(text="Hello")]) as llm, client_of(llm) as client:
        with pytest.raises(openai.BadRequestError, match=reason):
            await client.responses.create(model="gpt-x", input=items)
        assert outcomes(llm.ledger()) == ["bad_request"]


async def test_kept_responses_are_retrieved_listed_streamed_again_and_deleted():
    async with ScriptedLLM([FULL]) as llm, client_of(llm) as client:
        made = await client.responses.create(model="gpt-x", input=QUESTION)
        found = await client.responses.retrieve(made.id)
        assert found.output_text == made.output_text
        stream = await client.responses.retrieve(made.id, stream=True, starting_after=3)
        assert next(iter([event.sequence_number async for event in stream])) == 4
        [item] = (await client.responses.input_items.list(made.id)).data
        assert item.content[0].text == QUESTION
        await client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)
        assert len(llm.ledger()) == 2


async def test_a_response_in_the_background_is_cancelled_while_it_is_not_done():
    async with ScriptedLLM([Turn(text="Late", delay_ms=60_000)]) as llm, client_of(llm) as client:
        made = await client.responses.create(model="gpt-x", input=QUESTION, background=True)
        assert made.status == "queued"
        assert (await client.responses.retrieve(made.id)).status == "in_progress"
        assert (await client.responses.cancel(made.id)).status == "cancelled"
        assert (await client.responses.retrieve(made.id)).output == []


async def test_a_finished_response_in_the_background_and_one_in_the_foreground_are_not_cancelled():
    async with ScriptedLLM([Turn(text="Soon")]) as llm, client_of(llm) as client:
        made = await client.responses.create(model="gpt-x", input=QUESTION, background=True)
        assert (await client.responses.cancel(made.id)).status == "completed"
        assert (await client.responses.retrieve(made.id)).output_text == "Soon"
        front = await client.responses.create(model="gpt-x", input=QUESTION)
        with pytest.raises(openai.BadRequestError, match="background"):
            await client.responses.cancel(front.id)


async def test_tokens_are_counted_and_a_compacted_conversation_goes_on_where_it_was():
    async with ScriptedLLM(AGENT) as llm, client_of(llm) as client:
        first = await client.responses.create(model="gpt-x", input=QUESTION)
        outputs = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "4"} for item in first.output
        ]
        items = [{"role": "user", "content": QUESTION}, *(i.model_dump() for i in first.output), *outputs]
        counted = await client.responses.input_tokens.count(model="gpt-x", input=items)
        assert counted.input_tokens > 10
        compact = await client.responses.compact(model="gpt-x", input=items)
        assert [item.type for item in compact.output] == ["message", "compaction"]
        items = [item.model_dump(exclude_none=True) for item in compact.output]
        second = await client.responses.create(model="gpt-x", input=items)
        assert second.output_text == "Oslo is cold, Rome is warm."


async def test_cut_and_refused_answers_say_so():
    turns = [
        Turn(text="Oslo is c", finish_reason="length", when={"last_user": "cut"}),
        Turn(refusal="I will not.", when={"last_user": "bad"}),
    ]
    async with ScriptedLLM(turns) as llm, client_of(llm) as client:
        cut = await client.responses.create(model="gpt-x", input="cut")
        assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        stream = await client.responses.create(model="gpt-x", input="cut", stream=True)
        assert [event.type async for event in stream][-1] == "response.incomplete"
        refused = await client.responses.create(model="gpt-x", input="bad")
        assert refused.output[0].content[0].refusal == "I will not."
        chat = await client.chat.completions.create(
            model="gpt-x", messages=[{"role": "user", "content": "bad"}]
        )
        assert chat.choices[0].message.refusal == "I will not."


async def test_faults_strike_a_response_as_they_strike_a_completion():
    faults = (Status(status=429, retry_after_s=0.5), Garbage(), EmptyChoices())
    async with ScriptedLLM([Turn(text="Hello", faults=faults)]) as llm, client_of(llm) as client:
        with pytest.raises(openai.RateLimitError) as busy:
            await client.responses.create(model="gpt-x", input=QUESTION)
        assert busy.value.response.headers["retry-after"] == "0.5"
        with pytest.raises((openai.APIError, ValueError)):
            await client.responses.create(model="gpt-x", input=QUESTION)
        empty = await client.responses.create(model="gpt-x", input=QUESTION)
        assert empty.output == []
        assert (await client.responses.create(model="gpt-x", input=QUESTION)).output_text == "Hello"
        assert outcomes(llm.ledger()) == ["status_429", "garbage", "empty_choices", "answered"]


async def test_a_stream_is_cut_or_ends_with_an_error_after_some_events():
    faults = (DropMidStream(after_chunks=3), ErrorEvent(after_chunks=4))
    async with ScriptedLLM([Turn(text="Hello", faults=faults)]) as llm, client_of(llm) as client:
        stream = await client.responses.create(model="gpt-x", input=QUESTION, stream=True)
        # The newer client reports a cut as its own error, the older one as its transport's.
        with pytest.raises(Exception, match=r"(?i)connection|peer closed"):
            _ = [event async for event in stream]
        stream = await client.responses.create(model="gpt-x", input=QUESTION, stream=True)
        kinds = [event.type async for event in stream]
        assert kinds[-1] == "error"
        assert len(kinds) == 5
        assert "response.completed" not in kinds


async def test_a_completion_whose_stream_ends_with_an_error_raises_in_the_client():
    messages = [{"role": "user", "content": QUESTION}]
    turn = Turn(text="Hello", faults=(ErrorEvent(), ErrorEvent()))
    async with ScriptedLLM(Script(turns=(turn,))) as llm, client_of(llm) as client:
        with pytest.raises(openai.APIError, match="The server had an error"):
            stream = await client.chat.completions.create(model="gpt-x", messages=messages, stream=True)
            _ = [chunk async for chunk in stream]
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="gpt-x", messages=messages)


async def test_several_calls_are_one_turn_of_the_model():
    calls = (ToolCall(name="a", id="c1"), ToolCall(name="b", id="c2"))
    items = [
        {"role": "user", "content": "go"},
        {"type": "function_call", "call_id": "c1", "name": "a", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "b", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": "2"},
    ]
    async with ScriptedLLM([Turn(tool_calls=calls), Turn(text="done")]) as llm, client_of(llm) as client:
        assert (await client.responses.create(model="gpt-x", input=items)).output_text == "done"
