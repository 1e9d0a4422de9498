"""The object that keeps conversations at a server: what it writes, when it forgets, and how it is read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from agentdur.conversations import Conversation, conversation_object
from agentdur.core import journal as j
from agentdur.llm.conversation import chain
from agentdur.sdk.endpoint import Endpoint
from agentdur.sdk.endpoint_driver import FrameDriver
from agentdur.sdk.told import Forget, Keep, Kept
from tests.endpoint.talk import Talk

T0, HOUR = 1_764_000_000_000, 3_600_000
APP = Endpoint([conversation_object()])


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameDriver, "now", lambda _: T0)


class Object:
    """One key, as a server keeps it; handlers of it run one after the other."""

    def __init__(self) -> None:
        self.state: dict[str, bytes] = {}
        self.sent: list[j.OneWayCall] = []

    async def hears(self, handler: str, value: Any) -> j.Result:
        talk = Talk(
            APP, f"agentdur.Conversation/{handler}", msgspec.json.encode(value), **self.given(handler)
        )
        result = await talk.to_the_end(self._answers)
        for word in talk.journal:
            if isinstance(word, j.SetState):
                self.state[word.key] = word.value
            elif isinstance(word, j.ClearAllState):
                self.state.clear()
            elif isinstance(word, j.OneWayCall):
                self.sent.append(word)
        return result

    def given(self, handler: str) -> dict[str, Any]:
        """Who reads has all of it at the start, the others ask for what they need."""
        if handler == "read":
            return {"key": "inv_1", "state": tuple(self.state.items())}
        return {"key": "inv_1", "partial_state": True}

    async def _answers(self, talk: Talk) -> None:
        done = {word.id for word in talk.journal if isinstance(word, j.Completion)}
        for word in [one for one in talk.journal if isinstance(one, j.GetLazyState)]:
            if word.completion not in done:
                value = self.state.get(word.key)
                talk.store(j.Completion(word.completion, "GetState", j.Success(value) if value else j.VOID))

    async def read(self, end: str = "") -> Conversation:
        result = await self.hears("read", {"end": end} if end else {})
        assert isinstance(result, j.Success), result
        return msgspec.json.decode(result.value, type=Conversation)

    async def timer(self) -> int:
        """The last delayed send is delivered; when it was due."""
        due = self.sent.pop()
        assert (due.handler, due.key) == ("forget", "inv_1")
        await self.hears("forget", msgspec.json.decode(due.parameter))
        return due.invoke_at


def told(*texts: str, at: int = T0, first: bool = False, after: int = 0) -> Keep:
    """A conversation of which the first `after` messages are known to be there."""
    linked = chain([{"role": "user", "content": text} for text in texts])
    new = [Kept(one.hash, one.parent, n, Raw(one.value)) for n, one in enumerate(linked)][after:]
    about = msgspec.json.encode({"conversation": linked[-1].hash, "model": "m"})
    return Keep(at, at + HOUR, tuple(new), first, f"inv_1:{at}", Raw(about))


def texts(found: Conversation) -> list[str]:
    return [one["content"] for one in found.messages]


async def test_a_conversation_is_read_in_its_order_whatever_came_first():
    kept = Object()
    await kept.hears("keep", told("a", "b", "c", at=T0 + 1, after=2))
    part = await kept.read()
    assert (texts(part), part.whole) == (["c"], False)
    await kept.hears("keep", told("a", "b", first=True))
    whole = await kept.read()
    assert (texts(whole), whole.whole) == (["a", "b", "c"], True)
    assert [(call["at"], call["invocation"]) for call in whole.calls] == [(T0, "inv_1"), (T0 + 1, "inv_1")]


async def test_conversations_that_part_are_told_apart_by_their_ends():
    kept = Object()
    await kept.hears("keep", told("a", "b", first=True))
    other = told("a", "x", at=T0 + 1, after=1)
    await kept.hears("keep", other)
    assert texts(await kept.read()) == ["a", "x"]
    assert texts(await kept.read(told("a", "b").messages[-1].hash)) == ["a", "b"]


async def test_what_comes_twice_is_kept_once_and_a_person_can_read_it():
    kept = Object()
    await kept.hears("keep", told("a", first=True))
    before = dict(kept.state)
    await kept.hears("keep", told("a", first=True))
    assert kept.state == before
    (name,) = [name for name in before if name.startswith("message:00000:")]
    assert before[name] == b'{"content":"a","role":"user"}'


async def test_an_end_that_is_not_there_is_a_404():
    kept = Object()
    for value in ({}, {"end": "ab"}):
        result = await kept.hears("read", value)
        assert isinstance(result, j.Failure)
        assert result.code == 404


async def test_it_forgets_when_nothing_was_added_for_so_long():
    kept = Object()
    await kept.hears("keep", told("a", first=True))
    assert await kept.timer() == T0 + HOUR
    assert kept.state == {}
    assert not kept.sent


async def test_what_was_added_meanwhile_puts_it_off():
    kept = Object()
    await kept.hears("keep", told("a", first=True))
    await kept.hears("keep", told("a", "b", at=T0 + 10, after=1))
    assert len(kept.sent) == 1
    await kept.timer()
    assert texts(await kept.read()) == ["a", "b"]
    assert await kept.timer() == T0 + 10  # that much later than the clock, which is the hour that was over
    assert kept.state == {}


async def test_a_timer_of_what_was_cleared_leaves_alone_what_was_begun_anew():
    kept = Object()
    await kept.hears("keep", told("a", first=True))
    await kept.hears("forget", Forget())
    assert kept.state == {}
    old = kept.sent.pop()
    await kept.hears("keep", told("b", at=T0 + 10, first=True))
    kept.sent.append(old)
    await kept.timer()
    assert texts(await kept.read()) == ["b"]
    assert [msgspec.json.decode(one.parameter)["since"] for one in kept.sent] == [T0 + 10]


async def test_to_keep_reads_nothing():
    """However much is kept already, an attempt carries what is new, and needs no answer."""
    kept = Object()
    await kept.hears("keep", told("a", first=True))
    talk = Talk(
        APP, "agentdur.Conversation/keep", msgspec.json.encode(told("a", "b", after=1)), **kept.given("keep")
    )
    said = await talk.attempt()
    assert {type(word).__name__ for word in said} == {"SetState", "Output", "End"}
    meta = APP.catalog().services["agentdur.Conversation"]
    assert meta.handlers["keep"].options.lazy_state
    assert not meta.handlers["read"].options.lazy_state
    assert not any(handler.public for handler in meta.handlers.values())
    assert meta.options.journal_retention_ms == timedelta(0).total_seconds()
