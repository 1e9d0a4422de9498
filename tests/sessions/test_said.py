"""Text that a client cannot give back is sent once."""

from __future__ import annotations

import pytest

from agentdur.sessions.errors import StreamVoided
from agentdur.sessions.openai_words import Said
from agentdur.sessions.responses_teller import since
from agentdur.sessions.words import Reply


def reply(text: str) -> Reply:
    return Reply(id="m", turn=1, status="completed", text=text)


def test_several_model_calls_are_told_apart():
    one = Said()
    assert [one.hear(1, "a"), one.hear(1, "b"), one.hear(2, "c")] == ["a", "b", "\n\nc"]
    assert one.rest(reply("c")) == ""
    assert one.text == "ab\n\nc"


def test_what_was_sent_is_not_sent_again():
    one = Said()
    one.hear(1, "hello ")
    one.void(1)
    assert [one.hear(1, "hel"), one.hear(1, "lo wor"), one.hear(1, "ld")] == ["", "wor", "ld"]
    assert one.text == "hello world"


def test_void_twice_it_is_owed_once():
    one = Said()
    one.hear(1, "hello world")
    one.void(1)
    one.hear(1, "hello")
    one.void(1)
    assert one.hear(1, "hello world!") == "!"


def test_another_text_is_an_error():
    one = Said()
    one.hear(1, "hello")
    one.void(1)
    with pytest.raises(StreamVoided):
        one.hear(1, "hi")


def test_an_answer_that_was_not_streamed_is_sent_at_the_end():
    one = Said()
    assert one.rest(reply("all of it")) == "all of it"


def test_an_answer_shorter_than_what_was_sent_is_an_error():
    one = Said()
    one.hear(1, "hello world")
    one.void(1)
    with pytest.raises(StreamVoided):
        one.rest(reply("hello"))


def test_of_a_delta_what_comes_after_a_number_is_sent():
    delta = {"type": "d", "sequence_number": 9, "delta": "hello"}  # the characters are 5 to 9
    assert since(delta, 4) == delta
    assert since(delta, 6) == {**delta, "delta": "llo"}
    assert since(delta, 9) is None
    assert since({"type": "x", "sequence_number": 3}, 2) is not None
