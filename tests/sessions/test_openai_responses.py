"""`/v1/responses` as the `openai` package sees it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from agentdur import current_context
from agentdur.agent import Agent
from agentdur.sessions import Chat, chat
from agentdur.testing.scripted_llm import ScriptedLLM, ToolCall, Turn
from agentdur.tools import tool
from tests.sessions.site import site
from tests.sessions.talk import Desk
from tests.sessions.test_openai_chat import TOOLS, client_of, order
from tests.sessions.test_routes import Speaker
from tests.support.stage import Stage, until, until_it_is

IN_MEMORY = pytest.mark.parametrize("stage", ["memory"], indirect=True)
pytestmark = IN_MEMORY


@tool(inline=True)
async def refund(number: int) -> str:
    """Pay an order back."""
    return "paid" if await current_context().approval(f"refund {number}?", {"number": number}) else "refused"


def support() -> Chat:
    return chat(Agent(name="support", model="openai/scripted", tools=[order, refund]))


async def test_a_response_has_what_was_said_and_done(stage: Stage, llm: ScriptedLLM):
    llm.replace(TOOLS)
    async with site(stage, support()) as web, client_of(web) as client:
        made = await client.responses.create(model="support", input="where is 7?", metadata={"a": "b"})
        assert made.output_text == "Let me look.It is on its way."
        assert [item.type for item in made.output] == ["message", "mcp_call", "message"]
        call: Any = made.output[1]
        assert (call.name, call.arguments, call.output) == (
            "order", '{"number":7}', "order 7 is on its way",
        )  # fmt: skip
        assert made.status == "completed"
        assert made.usage is not None
        assert made.usage.total_tokens > 0
        again = await client.responses.retrieve(made.id)
        assert again.output == made.output


async def test_a_streamed_response_adds_up_to_the_whole(stage: Stage, llm: ScriptedLLM):
    llm.replace(TOOLS)
    async with site(stage, support()) as web, client_of(web) as client:
        events = [
            e async for e in await client.responses.create(model="support", input="where?", stream=True)
        ]
        numbers = [event.sequence_number for event in events]
        assert numbers == sorted(set(numbers))
        kinds = [event.type for event in events]
        assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
        assert kinds[-1] == "response.completed"
        text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        last: Any = events[-1]
        assert text == last.response.output_text
        assert (await client.responses.retrieve(last.response.id)).output == last.response.output


async def test_each_place_of_a_stream_is_one_to_read_on_from(stage: Stage):
    """Left after every event, and read on by its number, live and when all is over: the same text."""
    speaker = Speaker(4)
    async with site(stage, chat(speaker, name="Talk")) as web, client_of(web) as client:
        made = await client.responses.create(model="Talk", input="w", background=True)
        assert made.status in ("queued", "in_progress")
        texts, after = "", -1
        for number in range(1, 5):
            speaker.let()
            await until(lambda n=number: speaker.said == n)
            stream = await client.responses.retrieve(made.id, stream=True, starting_after=after)
            async for event in stream:
                after = event.sequence_number
                if event.type == "response.output_text.delta":
                    texts += event.delta
                    break
            await stream.close()
        assert texts == "w0 w1 w2 w3 "

        async def status() -> Any:
            return (await client.responses.retrieve(made.id)).status

        await until_it_is(status, "completed")
        numbers = range(-1, 40)
        for number in numbers:
            stream = await client.responses.retrieve(made.id, stream=True, starting_after=number)
            rest = [event async for event in stream]
            text = "".join(e.delta for e in rest if e.type == "response.output_text.delta")
            assert "w0 w1 w2 w3 ".endswith(text)
            assert all(event.sequence_number > number for event in rest)


async def test_responses_follow_each_other_and_fork(stage: Stage):
    desk = Desk()
    async with site(stage, chat(desk, name="Desk")) as web, client_of(web) as client:
        first = await client.responses.create(model="Desk", input="a")
        second = await client.responses.create(model="Desk", input="b", previous_response_id=first.id)
        assert second.conversation is not None
        assert second.conversation == first.conversation
        other = await client.responses.create(model="Desk", input="c", previous_response_id=first.id)
        assert other.conversation != first.conversation
        told = [[m["content"] for m in messages] for messages in desk.seen]
        assert told == [["a"], ["a", "heard a", "b"], ["a", "heard a", "c"]]
        third = await client.responses.create(model="Desk", input="d", previous_response_id=other.id)
        assert third.conversation == other.conversation


async def test_a_conversation_is_a_session(stage: Stage):
    desk = Desk()
    async with site(stage, chat(desk, name="Desk")) as web, client_of(web) as client:
        for text in ("a", "b"):
            await client.responses.create(model="Desk", input=text, conversation="mine")
        shown = (await web.http.get("/sessions/Desk/mine")).json()
        assert shown["turns"] == 2
        items: Any = [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "y"}]},
            {"role": "user", "content": "z"},
        ]
        await client.responses.create(model="Desk", input=items, instructions="in Latin")
        assert [m["content"] for m in desk.seen[-1]] == ["in Latin\nbe brief", "x", "y", "z"]


async def test_what_is_not_stored_cannot_be_followed(stage: Stage):
    async with site(stage, chat(Desk(), name="Desk")) as web, client_of(web) as client:
        made = await client.responses.create(model="Desk", input="a", store=False)
        assert made.output_text == "heard a"
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.responses.create(model="Desk", input="b", previous_response_id=made.id)
        assert unknown.value.code == "AD0152"


async def test_a_response_in_the_background_is_cancelled(stage: Stage):
    desk = Desk()
    desk.hold()
    async with site(stage, chat(desk, name="Desk")) as web, client_of(web) as client:
        made = await client.responses.create(model="Desk", input="a", background=True)
        await desk.began.wait()
        assert (await client.responses.retrieve(made.id)).status == "in_progress"
        assert (await client.responses.cancel(made.id)).status == "cancelled"
        assert (await client.responses.retrieve(made.id)).status == "cancelled"


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_approval_is_asked_for_and_given(stage: Stage, llm: ScriptedLLM, streamed: bool):
    call = ToolCall(name="refund", arguments={"number": 7})
    llm.replace([Turn(text="I will.", tool_calls=(call,)), Turn(text="Done.")])

    async def create(**how: Any) -> Any:
        if not streamed:
            return await client.responses.create(model="support", **how)
        events = [e async for e in await client.responses.create(model="support", stream=True, **how)]
        last: Any = events[-1]
        return last.response

    async with site(stage, support()) as web, client_of(web) as client:
        made = await create(input="money!")
        assert [item.type for item in made.output] == ["message", "mcp_approval_request"]
        asked = made.output[-1]
        assert (asked.arguments, made.status) == ('{"number":7}', "completed")
        answer = {"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": True}
        rest = await create(input=[answer], previous_response_id=made.id)
        assert [item.type for item in rest.output] == ["mcp_call", "message"]
        assert (rest.output[0].output, rest.output_text) == ("paid", "Done.")


@pytest.mark.parametrize(
    ("how", "error", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        ({"input": []}, openai.BadRequestError, "AD0148"),
        ({"input": [{"role": "assistant", "content": "x"}]}, openai.BadRequestError, "AD0148"),
        ({"input": [{"type": "computer_call"}]}, openai.BadRequestError, "AD0148"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "AD0151"),
        ({"previous_response_id": "resp_x"}, openai.NotFoundError, "AD0152"),
        ({"previous_response_id": "resp_1", "conversation": "c"}, openai.BadRequestError, "AD0148"),
    ],
)
async def test_what_cannot_be_done_is_an_error_of_its_kind(
    stage: Stage, how: dict[str, Any], error: type[openai.APIStatusError], code: str
):
    async with site(stage, chat(Desk(), name="Desk")) as web, client_of(web) as client:
        with pytest.raises(error) as refused:
            await client.responses.create(**{"model": "Desk", "input": "a", **how})
        assert refused.value.code == code
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_nonsense")
