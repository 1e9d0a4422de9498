"""What of a log is the conversation, and that no torn pair reaches a model."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentdur.sessions.history import NO_RESULT, conversation, cut_at_user, mended, shown
from agentdur.sessions.words import Message, Stored


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def asks(*ids: str) -> Message:
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def answers(id: str, text: str = "ok") -> Message:
    return {"role": "tool", "tool_call_id": id, "content": text}


def log(*entries: Message | int) -> list[tuple[int, Stored]]:
    """Messages, and numbers for rewinds."""
    return list(
        enumerate(Stored(rewind=e) if isinstance(e, int) else Stored(message=e, id=str(e)) for e in entries)
    )


def test_a_whole_conversation_stays_as_it_is():
    whole = [user("a"), asks("1", "2"), answers("1"), answers("2"), {"role": "assistant", "content": "b"}]
    assert mended(whole) == whole


def test_a_call_without_an_answer_is_told_to_be_without_one():
    assert mended([asks("1", "2"), answers("2"), user("stop")]) == [
        asks("1", "2"), answers("2"), answers("1", NO_RESULT), user("stop"),
    ]  # fmt: skip
    assert mended([asks("1")]) == [asks("1"), answers("1", NO_RESULT)]


def test_an_answer_without_its_call_is_left_out():
    assert mended([answers("9"), user("a"), answers("1")]) == [user("a")]
    assert mended([asks("1"), answers("1"), answers("1", "again")]) == [asks("1"), answers("1")]


def test_what_was_rewound_is_no_longer_said_but_still_shown():
    entries = log(user("a"), {"role": "assistant", "content": "b"}, 1, {"role": "assistant", "content": "c"})
    assert [e.message["content"] for _, e in conversation(entries) if e.message] == ["a", "c"]
    assert [(one.message["content"], one.dropped) for one in shown(entries)] == [
        ("a", False), ("b", True), ("c", False),
    ]  # fmt: skip


def test_a_rewind_does_not_drop_what_came_after_it():
    entries = log(user("a"), user("b"), 0, user("c"), user("d"), 4, user("e"))
    assert [e.message["content"] for _, e in conversation(entries) if e.message] == ["c", "e"]


def test_a_cut_is_made_before_a_user_s_message():
    entries = log(user("a"), asks("1"), answers("1"), user("b"), asks("2"), answers("2"))
    assert cut_at_user(entries, 2) == 3
    assert cut_at_user(entries, 4) == 0
    assert cut_at_user(entries, 100) == 0


IDS = st.sampled_from(["1", "2", "3"])
ANY: st.SearchStrategy[Any] = st.one_of(
    st.just(user("u")),
    st.just({"role": "assistant", "content": "a"}),
    st.lists(IDS, min_size=1, max_size=3, unique=True).map(lambda ids: asks(*ids)),
    IDS.map(answers),
)


@given(st.lists(ANY, max_size=12))
def test_whatever_was_recorded_each_call_has_one_answer_right_behind_it(messages: list[Message]):
    whole = mended(messages)
    position = 0
    while position < len(whole):
        message = whole[position]
        assert message["role"] != "tool"
        calls = [call["id"] for call in message.get("tool_calls") or ()]
        behind = whole[position + 1 : position + 1 + len(calls)]
        assert sorted(one["tool_call_id"] for one in behind) == sorted(calls)
        position += 1 + len(calls)
    assert [m for m in whole if m["role"] != "tool"] == [m for m in messages if m["role"] != "tool"]
    assert mended(whole) == whole
