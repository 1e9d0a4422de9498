"""Which turn of the script answers depends on the request alone; what cannot be played is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest

from agentdur.testing.scripted_llm import (
    Hang,
    Script,
    ScriptedLLM,
    ScriptError,
    Status,
    Turn,
    When,
    load_script,
    requests,
)
from agentdur.testing.scripted_llm.exchange import REQUEST_BYTES_MAX
from tests.agents.asking_scripted_llm import (
    AGENT,
    ASK,
    PATIENCE_S,
    WEATHER,
    ask,
    client_of,
    outcomes,
    said,
)

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.asyncio


async def test_the_same_question_gets_the_same_answer_however_often_and_whenever_it_comes() -> None:
    """A crash replays the first call after the second; the model must not answer with its third thought."""
    later = [*ASK, {"role": "assistant", "content": "Let me look."}]
    async with ScriptedLLM(AGENT) as llm:
        first = (await ask(llm)).json()
        assert said(await ask(llm, later)) == "Oslo is cold, Rome is warm."
        again = (await ask(llm)).json()
        assert again["choices"] == first["choices"]
        assert again["id"] != first["id"]
        shas = [entry.messages_sha256 for entry in requests(llm.ledger())]
    assert shas[0] == shas[2] != shas[1]


async def test_two_conversations_at_one_turn_get_tool_calls_of_their_own() -> None:
    async with ScriptedLLM(AGENT) as llm:
        one = (await ask(llm)).json()["choices"][0]["message"]["tool_calls"]
        other = (await ask(llm, [{"role": "user", "content": "And in Bergen?"}])).json()
    assert {call["id"] for call in one}.isdisjoint(
        call["id"] for call in other["choices"][0]["message"]["tool_calls"]
    )


async def test_agents_that_share_a_server_follow_their_own_turns() -> None:
    writer, critic = When(system="You write"), When(system="You criticise")
    script = [
        Turn(when=writer, text="Draft one"),
        Turn(when=critic, text="Too short"),
        Turn(when=writer, text="Draft two"),
        Turn(when=critic, text="Good"),
        Turn(text="Who are you?"),
    ]

    def conversation(prompt: str, answered: int) -> list[Any]:
        said_so_far = [{"role": "assistant", "content": "..."}] * answered
        return [{"role": "developer", "content": prompt}, {"role": "user", "content": "Go"}, *said_so_far]

    async with ScriptedLLM(script) as llm:
        assert said(await ask(llm, conversation("You write prose", 0))) == "Draft one"
        assert said(await ask(llm, conversation("You write prose", 1))) == "Draft two"
        assert said(await ask(llm, conversation("You criticise", 0))) == "Too short"
        assert said(await ask(llm, conversation("You criticise", 1))) == "Good"
        assert said(await ask(llm, conversation("You sing", 0))) == "Who are you?"


async def test_a_turn_can_be_for_a_question_or_for_a_model() -> None:
    script = [
        Turn(when=When(last_user="refund", model="large"), text="Large: refunded"),
        Turn(when=When(last_user="refund"), text="Refunded"),
        Turn(text="Hello"),
    ]
    refund = [{"role": "user", "content": [{"type": "text", "text": "I want a refund"}]}]
    no_longer = [*refund, {"role": "user", "content": "Never mind"}]
    async with ScriptedLLM(script) as llm:
        assert said(await ask(llm, refund)) == "Refunded"
        assert said(await ask(llm, refund, model="large")) == "Large: refunded"
        assert said(await ask(llm, no_longer)) == "Hello"
        assert said(await ask(llm, refund, model="larger")) == "Refunded"


async def test_a_sequence_can_start_later_for_an_agent_that_inherits_a_conversation() -> None:
    heir = When(system="heir")
    script = [Turn(when=heir, at=2, text="Second hand"), Turn(when=heir, text="Third hand")]
    spoken = [{"role": "system", "content": "heir"}, *[{"role": "assistant", "content": "..."}] * 2]
    async with ScriptedLLM(script) as llm:
        assert said(await ask(llm, spoken)) == "Second hand"
        assert said(await ask(llm, [*spoken, {"role": "assistant", "content": "..."}])) == "Third hand"


async def test_a_chat_counts_all_its_answers_or_those_since_the_last_question() -> None:
    session = [*ASK, {"role": "assistant", "content": "..."}, {"role": "user", "content": "And tomorrow?"}]
    async with ScriptedLLM(AGENT) as llm:
        assert said(await ask(llm, session)) == "Oslo is cold, Rome is warm."
        llm.replace(Script(turns=tuple(AGENT), count="since_last_user"))
        assert (await ask(llm, session)).json()["choices"][0]["finish_reason"] == "tool_calls"
        session.append({"role": "assistant", "content": "..."})
        assert said(await ask(llm, session)) == "Oslo is cold, Rome is warm."


async def test_a_conversation_longer_than_the_script_is_refused_unless_the_last_turn_repeats() -> None:
    long = [*ASK, *[{"role": "assistant", "content": "..."}] * 7]
    async with ScriptedLLM(AGENT) as llm:
        refused = await ask(llm, long)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "no_turn"
        assert "7 assistant messages; this sequence answers 0, 1" in refused.json()["error"]["message"]
        assert outcomes(llm.ledger()) == ["no_turn"]
        llm.replace(Script(turns=tuple(AGENT), after_last="repeat"))
        assert said(await ask(llm, long)) == "Oslo is cold, Rome is warm."


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "truncated"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": []}', "must not be empty"),
        (b'{"model": "m", "messages": [{"role": "user"}], "n": 2}', "one choice"),
    ],
)
async def test_a_request_that_is_none_is_refused_and_written_down(body: bytes, reason: str) -> None:
    async with ScriptedLLM(AGENT) as llm, httpx.AsyncClient(trust_env=False) as http:
        reply = await http.post(f"{llm.url}/v1/chat/completions", content=body)
        assert reply.status_code == 400
        assert reason in reply.json()["error"]["message"]
        assert outcomes(llm.ledger()) == ["bad_request"]


async def test_a_request_beyond_the_limit_is_refused() -> None:
    async with ScriptedLLM(AGENT) as llm, httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
        reply = await http.post(f"{llm.url}/v1/chat/completions", content=b" " * (REQUEST_BYTES_MAX + 1))
        assert f"more than {REQUEST_BYTES_MAX} bytes" in reply.json()["error"]["message"]


async def test_an_unknown_route_says_what_is_known() -> None:
    async with ScriptedLLM(AGENT) as llm, client_of(llm) as client:
        with pytest.raises(
            openai.NotFoundError, match="POST /v1/embeddings: this server knows chat/completions"
        ):
            await client.embeddings.create(model="gpt-x", input="Hello")


@pytest.mark.parametrize(
    ("script", "turn", "field", "reason"),
    [
        ([{"text": "a"}, {"txt": "b"}], 1, "txt", "unknown field"),
        ([{"text": "a", "delay_ms": -1}], 0, "delay_ms", ">= 0"),
        ([{"text": "a", "chunk_chars": 0}], 0, "chunk_chars", ">= 1"),
        ([{"text": "a"}, {}], 1, "text", "give a text"),
        ([{"tool_calls": [{"arguments": {}}]}], 0, "tool_calls[0].name", "missing required field"),
        (
            [{"tool_calls": [{"name": "t", "id": "x"}, {"name": "t", "id": "x"}]}],
            0,
            "tool_calls[0].id",
            "used twice",
        ),
        ([{"text": "a", "faults": [{"kind": "explode"}]}], 0, "faults[0].kind", "explode"),
        ([{"text": "a", "faults": [{"kind": "status", "status": 200}]}], 0, "faults[0].status", ">= 400"),
        ([{"text": "a", "faults": [{"kind": "hang", "times": 0}]}], 0, "faults[0].times", ">= 1"),
        (
            [{"text": "a", "faults": [{"kind": "hang", "times": None}, {"kind": "hang"}]}],
            0,
            "faults[0].times",
            "never",
        ),
        (
            [{"text": "a", "faults": [{"kind": "hang"}]}, {"faults": [{"kind": "hang"}]}],
            1,
            "text",
            "give a text",
        ),
        ([{"text": "a", "when": {}}], 0, "when", "no condition"),
        ([{"text": "a", "when": {"system": ""}}], 0, "when.system", "length >= 1"),
        ([{"text": "a"}, {"text": "b", "at": 0}], 1, "at", "turn 0 answers 0"),
        (
            [{"text": "a", "usage": {"prompt_tokens": 3}}],
            0,
            "usage.completion_tokens",
            "missing required field",
        ),
        ([{"text": "a", "finish_reason": "bored"}], 0, "finish_reason", "bored"),
        ([], None, "turns", "length >= 1"),
        ({"turns": [{"text": "a"}], "count": "sheep"}, None, "count", "sheep"),
        ("[", None, None, "not JSON"),
        ([{"tool_calls": [{"name": "t", "arguments": {"x": object()}}]}], None, None, "JSON cannot carry"),
        ([Turn(text="a", delay_ms=-5)], 0, "delay_ms", ">= 0"),
    ],
)
async def test_a_bad_script_is_refused_with_its_turn_and_field(
    script: Any, turn: int | None, field: str | None, reason: str
) -> None:
    with pytest.raises(ScriptError) as caught:
        ScriptedLLM(script)
    assert (caught.value.turn, caught.value.field) == (turn, field)
    assert reason in str(caught.value)
    assert turn is None or f"turn {turn}" in str(caught.value)


async def test_a_script_in_json_and_in_python_is_the_same_script() -> None:
    script = Script(turns=(Turn(tool_calls=WEATHER, faults=(Hang(), Status(status=429, times=None))),))
    text = msgspec.json.encode(script)
    assert load_script(text) == load_script(script) == script
    assert load_script(json.dumps(json.loads(text)["turns"])) == script
