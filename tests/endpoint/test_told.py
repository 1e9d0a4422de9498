"""What an endpoint sends of conversations, frame by frame; no server is needed to see it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from agentdur import Context, ObjectContext, ObjectSharedContext, Service, VirtualObject
from agentdur.conversations import conversation_object
from agentdur.core import journal as j
from agentdur.core.journal import ChatMessage
from agentdur.llm.conversation import chain, remember
from agentdur.sdk.endpoint import Endpoint
from agentdur.sdk.endpoint_driver import FrameDriver
from agentdur.sdk.told import KEPT_ENDS, SENT_BYTES_MAX, Ends, Keep, Told
from agentdur.wire import messages as m
from tests.endpoint.talk import NAME, Talk

run, diary = Service("Run"), VirtualObject("Diary")
TOOLS = [{"name": "look"}]
START_MS = 1_764_000_000_000
WEEK = timedelta(days=7)
THOUGHTS = 50
"""Turns of the loop: longer than an answer needs from here to there."""
OWN = ("Run", "OneWayCall")
Message = dict[str, str]


class Clock:
    """Time stands still, unless a story moves it."""

    now_ms = START_MS


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(FrameDriver, "now", lambda _: made.now_ms)
    return made


async def ask(messages: list[Message]) -> Message:
    """A model that repeats what it heard last; it thinks for a while."""
    remember(messages, TOOLS)
    for _ in range(THOUGHTS):
        await asyncio.sleep(0)
    return {"role": "assistant", "content": messages[-1]["content"] + "!"}


@run.handler()
async def loop(ctx: Context, turns: int) -> str:
    messages = [{"role": "user", "content": "go"}]
    for _ in range(turns):
        messages.append(await ctx.run("model", ask, list(messages)))
        messages.append({"role": "user", "content": "go on"})
    return messages[-2]["content"]


@run.handler()
async def once_more(ctx: Context) -> None:
    for _ in range(2):
        await ctx.run("model", ask, [{"role": "user", "content": "go"}])


@diary.handler()
async def say(ctx: ObjectContext, text: str) -> list[str]:
    log = await ctx.get("log", type_hint=list[Message]) or []
    log.append({"role": "user", "content": text})
    log.append(await ctx.run("model", ask, list(log)))
    ctx.set("log", log)
    return await ctx.state_keys()


@diary.handler()
async def say_twice(ctx: ObjectContext, text: str) -> None:
    for _ in range(2):
        await ctx.run("model", ask, [{"role": "user", "content": text}])


@diary.handler()
async def burn(ctx: ObjectContext) -> None:
    ctx.clear_all()


@diary.handler(kind="shared")
async def ponder(ctx: ObjectSharedContext) -> list[str]:
    await ctx.run("model", ask, [{"role": "user", "content": "?"}])
    return await ctx.state_keys()


def endpoint(retention: timedelta = WEEK) -> Endpoint:
    return Endpoint([run, diary, conversation_object()], message_retention=retention)


def sent(talk: Talk) -> list[Keep]:
    """What was sent to be kept, in the order of the journal."""
    return [msgspec.json.decode(word.parameter, type=Keep) for word in sends(talk) if word.handler == "keep"]


def sends(talk: Talk) -> list[j.OneWayCall]:
    return [word for word in talk.journal if isinstance(word, j.OneWayCall)]


def texts(keeps: list[Keep]) -> list[str]:
    """What stands in the messages, tools aside."""
    values = [msgspec.json.decode(message.value) for keep in keeps for message in keep.messages]
    return [value["content"] for value in values if "content" in value]


def kinds(words: list[Any]) -> list[str]:
    return [type(word).__name__ for word in words]


@pytest.mark.parametrize("version", [5, 7])
async def test_each_message_is_sent_once_however_many_attempts_there_are(version: int):
    """By request and response every step is replayed by all attempts that come after it."""
    talk = Talk(endpoint(), "Run/loop", b"4", version=version)
    assert await talk.to_the_end() == j.Success(b'"go on!"')
    keeps = sent(talk)
    assert texts(keeps) == ["go", "go!", "go on", "go on!", "go on", "go on!", "go on"]
    assert sum(b"look" in bytes(message.value) for keep in keeps for message in keep.messages) == 1
    assert [keep.first for keep in keeps] == [True, False, False, False]
    assert {(word.service, word.key) for word in sends(talk)} == {("agentdur.Conversation", NAME)}
    assert len({keep.call for keep in keeps}) == 4
    ends = [msgspec.json.decode(keep.about)["conversation"] for keep in keeps]
    assert ends == [keep.messages[-1].hash for keep in keeps]
    said = keeps[-1].messages[-1]
    assert (said.place, said.parent) == (6, keeps[-1].messages[-2].hash)


async def bytes_of(turns: int) -> int:
    talk = Talk(endpoint(), "Run/loop", str(turns).encode())
    await talk.to_the_end()
    return sum(len(word.parameter) for word in sends(talk))


async def test_bytes_grow_with_the_turns_and_no_faster():
    five, ten, twenty = [await bytes_of(turns) for turns in (5, 10, 20)]
    per_turn = (ten - five) / 5
    assert abs((twenty - ten) / 10 - per_turn) < per_turn / 20


async def test_a_send_stands_before_its_result_once_the_server_is_known_to_take_it():
    """The first one stands behind it: a server that was not told of the object refuses the send, and then the
    answer that was paid for is stored already."""
    talk = Talk(endpoint(), "Run/loop", b"2")
    assert kinds(await talk.attempt()) == ["Run", "ProposeRunCompletion", "OneWayCall", "Run", "Suspension"]
    assert kinds(await talk.attempt()) == ["OneWayCall", "ProposeRunCompletion", "Output", "End"]


async def test_a_call_that_is_told_nothing_new_is_told_of_all_the_same():
    talk = Talk(endpoint(), "Run/once_more")
    await talk.to_the_end()
    assert [len(keep.messages) for keep in sent(talk)] == [2, 0]
    assert sent(talk)[1].call


async def test_a_journal_from_before_goes_on_and_all_of_its_conversation_is_sent():
    talk = Talk(endpoint(timedelta(0)), "Run/loop", b"3")
    await talk.attempt()
    await talk.attempt()
    assert not sends(talk)
    talk.app = endpoint()
    assert await talk.to_the_end() == j.Success(b'"go on!"')
    assert texts(sent(talk)) == ["go", "go!", "go on", "go on!", "go on"]


async def test_a_journal_goes_on_where_nothing_is_kept_any_more():
    talk = Talk(endpoint(), "Run/loop", b"3")
    await talk.attempt()
    talk.app = endpoint(timedelta(0))
    assert await talk.to_the_end() == j.Success(b'"go on!"')
    assert len(sent(talk)) == 1


async def test_a_run_that_was_begun_anew_from_another_s_journal_keeps_its_own():
    talk = Talk(endpoint(), "Run/loop", b"2")
    await talk.attempt()
    talk.journal = [
        msgspec.structs.replace(word, key="inv_other") if isinstance(word, j.OneWayCall) else word
        for word in talk.journal
    ]
    await talk.to_the_end()
    assert texts(sent(talk)[1:]) == ["go", "go!", "go on"]


async def test_what_may_be_forgotten_soon_is_sent_again(clock: Clock):
    """A run that slept for nearly as long as messages are kept."""
    talk = Talk(endpoint(), "Run/loop", b"3")
    await talk.attempt()
    clock.now_ms += int(WEEK.total_seconds() * 1000) - 1
    await talk.attempt()
    await talk.to_the_end()
    first, again, more = sent(talk)
    assert (first.first, again.first, more.first) == (True, True, False)
    assert texts([again, more]) == ["go", "go!", "go on", "go on!", "go on"]
    assert again.until == clock.now_ms + int(WEEK.total_seconds() * 1000)


class Server:
    """The state of one object, from one invocation to the next."""

    def __init__(self) -> None:
        self.state: dict[str, bytes] = {}

    async def says(self, handler: str, value: bytes = b"", *, lazily: bool = False) -> Talk:
        state = () if lazily else tuple(self.state.items())
        path = f"Diary/{handler}"
        talk = Talk(endpoint(), path, value, key="ann", state=state, partial_state=lazily)
        await talk.to_the_end(self._answers)
        for word in talk.journal:
            if isinstance(word, j.SetState):
                self.state[word.key] = word.value
            elif isinstance(word, j.ClearAllState):
                self.state.clear()
        return talk

    async def _answers(self, talk: Talk) -> None:
        done = {word.id for word in talk.journal if isinstance(word, j.Completion)}
        for word in [one for one in talk.journal if getattr(one, "completion", None) not in {None, *done}]:
            if isinstance(word, j.GetLazyState):
                value = self.state.get(word.key)
                talk.store(j.Completion(word.completion, "GetState", j.Success(value) if value else j.VOID))
            elif isinstance(word, j.GetLazyStateKeys):
                talk.store(j.Completion(word.completion, "GetStateKeys", j.Keys(tuple(sorted(self.state)))))


def answer(talk: Talk) -> Any:
    (output,) = [word for word in talk.journal if isinstance(word, j.Output)]
    assert isinstance(output.result, j.Success)
    return msgspec.json.decode(output.result.value) if output.result.value else None


async def test_a_session_sends_what_was_not_said_in_its_turns_before():
    """Its handlers do not see the value by which that is known."""
    server = Server()
    first, second = await server.says("say", b'"one"'), await server.says("say", b'"two"')
    assert texts(sent(first)) == ["one"]
    assert texts(sent(second)) == ["one!", "two"]
    assert {word.key for word in (*sends(first), *sends(second))} == {"Diary/ann"}
    assert [keep.first for keep in (*sent(first), *sent(second))] == [True, False]
    assert kinds(second.journal).index("OneWayCall") < kinds(second.journal).index("Completion")
    assert answer(first) == answer(second) == ["log"]
    assert set(server.state) == {"log", KEPT_ENDS}


async def test_where_state_is_fetched_it_is_asked_what_is_stored_while_the_model_thinks():
    """Over HTTP/2 the answer is there before the model's is; it is asked for once in a run."""
    server = Server()
    await server.says("say", b'"one"')
    talk = Talk(endpoint(), "Diary/say", b'"two"', key="ann", partial_state=True, version=7)

    def answers(word: Any, talk: Talk) -> None:
        if isinstance(word, j.GetLazyState):
            value = server.state.get(word.key)
            talk.push(j.Completion(word.completion, "GetState", j.Success(value) if value else j.VOID))
        elif isinstance(word, j.GetLazyStateKeys):
            talk.push(j.Completion(word.completion, "GetStateKeys", j.Keys(tuple(sorted(server.state)))))
        elif isinstance(word, m.ProposeRunCompletion):
            talk.push(m.ProposeRunCompletionAck(word.completion))

    said = await talk.attempt(open_ended=True, answer=answers)
    assert texts(sent(talk)) == ["one!", "two"]
    assert [word.key for word in said if isinstance(word, j.GetLazyState)] == ["log", KEPT_ENDS]
    assert answer(talk) == ["log"]


async def test_where_no_answer_comes_in_time_a_turn_sends_its_whole_conversation():
    """By request and response none comes within an attempt; what is sent twice is kept once."""
    server = Server()
    first, second = await server.says("say", b'"one"'), await server.says("say", b'"two"', lazily=True)
    assert texts(sent(second)) == ["one", "one!", "two"]
    assert sent(second)[0].messages[1].hash == sent(first)[0].messages[1].hash
    assert [word.key for word in second.journal if isinstance(word, j.GetLazyState)] == ["log", KEPT_ENDS]
    assert answer(second) == ["log"]


async def test_what_is_stored_is_asked_for_once_in_a_run():
    talk = await Server().says("say_twice", b'"one"', lazily=True)
    assert [word.key for word in talk.journal if isinstance(word, j.GetLazyState)] == [KEPT_ENDS]
    assert texts(sent(talk)) == ["one"]


async def test_who_clears_a_session_forgets_what_was_said_there():
    server = Server()
    await server.says("say", b'"one"')
    burnt = await server.says("burn")
    assert [(word.handler, word.key) for word in sends(burnt)] == [("forget", "Diary/ann")]
    assert kinds(burnt.journal) == ["Input", "OneWayCall", "ClearAllState", "Output"]
    assert server.state == {}
    assert not sends(await server.says("burn"))
    again = await server.says("say", b'"anew"')
    assert (texts(sent(again)), sent(again)[0].first) == (["anew"], True)


async def test_a_shared_handler_has_a_conversation_of_its_own():
    """It may not write the state of its object."""
    server = Server()
    await server.says("say", b'"one"')
    talk = await server.says("ponder")
    assert {word.key for word in sends(talk)} == {NAME}
    assert not any(isinstance(word, j.SetState) for word in talk.journal)
    assert answer(talk) == ["log"]


async def test_whatever_a_person_wrote_beside_the_state_a_session_goes_on():
    server = Server()
    await server.says("say", b'"one"')
    server.state[KEPT_ENDS] = b"oops"
    assert texts(sent(await server.says("say", b'"two"'))) == ["one", "one!", "two"]


async def test_agents_that_take_turns_in_a_session_send_nothing_twice():
    """Each knows the conversation otherwise: another system prompt, another chain."""
    ends, new = Ends(0), []
    for name, count in (("poet", 3), ("clerk", 2), ("poet", 4), ("clerk", 4)):
        told = await _told(ends)
        _, made = told.sends(j.RunResult(9, j.Success(), messages=_said(name, count)), START_MS)
        call, write = made
        assert isinstance(call, j.OneWayCall)
        assert isinstance(write, j.SetState)
        new.append(len(msgspec.json.decode(call.parameter, type=Keep).messages))
        ends = msgspec.json.decode(write.value, type=Ends)
    assert new == [3, 2, 1, 2]


def _said(system: str, count: int) -> tuple[ChatMessage, ...]:
    return chain([{"role": "system", "content": system}] + [{"role": "user"}] * (count - 1))


async def _told(ends: Ends) -> Told:
    """That of a handler that holds its object's lock."""
    made: list[Told] = []
    peek = VirtualObject("Peek")

    @peek.handler()
    async def look(ctx: ObjectContext) -> None:
        made.append(Told(ctx._attempt, 10_000, msgspec.json.encode(ends)))

    await Talk(Endpoint([peek]), "Peek/look", key="k").attempt()
    return made[0]


async def test_what_is_large_goes_in_parts_and_what_is_too_large_is_left_out_and_said():
    half = {"role": "user", "content": "x" * (SENT_BYTES_MAX // 2)}
    all_ = chain([half, half, half, {"role": "user", "content": "y" * SENT_BYTES_MAX}])
    told = await _told(Ends(0))
    _, made = told.sends(j.RunResult(9, j.Success(), messages=all_), START_MS)
    keeps = [
        msgspec.json.decode(word.parameter, type=Keep) for word in made if isinstance(word, j.OneWayCall)
    ]
    assert [len(keep.messages) for keep in keeps] == [1, 1, 2]
    assert [(keep.first, bool(keep.call)) for keep in keeps] == [(True, False), (False, False), (False, True)]
    last = keeps[-1].messages[-1]
    assert b"left_out" in bytes(last.value)
    assert last.hash == all_[-1].hash


async def test_within_one_attempt_it_is_the_same_as_in_many():
    """Over HTTP/2 results are acknowledged, and the attempt goes on."""

    def acknowledge(word: Any, talk: Talk) -> None:
        if isinstance(word, m.ProposeRunCompletion):
            talk.push(m.ProposeRunCompletionAck(word.completion))

    talk = Talk(endpoint(), "Run/loop", b"3", version=7)
    said = await talk.attempt(open_ended=True, answer=acknowledge)
    assert kinds(said) == [
        "Run", "ProposeRunCompletion", "OneWayCall", "Run", "OneWayCall", "ProposeRunCompletion",
        "Run", "OneWayCall", "ProposeRunCompletion", "Output", "End",
    ]  # fmt: skip
    assert texts(sent(talk)) == ["go", "go!", "go on", "go on!", "go on"]
    owned = [getattr(word, "id_completion", 0) or word.completion for word in said if kinds([word])[0] in OWN]
    assert sorted(owned) == list(range(1, 7))  # steps and sends share the numbers of what completes them
