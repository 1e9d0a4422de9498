"""What a fork does otherwise: how it is written into headers, and what is told and asked because of it."""

from __future__ import annotations

from typing import Any

import pytest

from agentdur.core.edits import (
    EDITS,
    Edit,
    MessageEdit,
    ModelEdit,
    ValueEdit,
    edits_of,
    nth_of,
    retold,
    switched,
    with_edits,
)

OF = "inv_1"
ORIGIN = ("x-restate-ingress-path", "/Desk/answer")
YES: dict[str, Any] = {"role": "user", "content": "yes"}
NO: dict[str, Any] = {"role": "user", "content": "no"}


def says(told: dict[str, Any], content: Any, nth: int = 0) -> MessageEdit:
    return MessageEdit(OF, 3, "llm:desk", 0, nth, told, content)


def asks(model: str, step: str = "llm:desk") -> ModelEdit:
    return ModelEdit(OF, 3, step, "small", model)


def test_what_is_written_into_the_headers_is_read_from_them():
    edits: list[Edit] = [ValueEdit(OF, 0), says(YES, [{"type": "text", "text": "é"}]), asks("large")]
    headers = with_edits((ORIGIN,), edits)
    assert edits_of(headers) == tuple(edits)
    assert headers[1:] == (ORIGIN,)


def test_a_fork_of_a_fork_has_the_edits_of_both_in_their_order():
    first = with_edits((ORIGIN,), [asks("large")])
    second = with_edits(first, [asks("huge")])
    assert edits_of(second) == (asks("large"), asks("huge"))
    assert [name for name, _ in second] == [EDITS, ORIGIN[0]]


def test_without_edits_the_headers_stay_as_they_are():
    assert with_edits((ORIGIN,), []) == (ORIGIN,)
    assert edits_of(()) == edits_of((ORIGIN,)) == ()


def test_only_the_first_header_is_believed():
    """What comes from outside stands behind what an ingress says of it."""
    (forged,) = with_edits((), [asks("expensive")])
    assert edits_of((ORIGIN, forged)) == ()


@pytest.mark.parametrize("said", ["", "yes", "{}", '[{"what":"spell"}]', '[{"what":"value","of":1}]'])
def test_what_cannot_be_read_edits_nothing(said: str):
    assert edits_of(((EDITS, said),)) == ()


def test_equal_messages_are_told_apart_by_how_many_came_before():
    messages = [YES, NO, dict(reversed(YES.items())), YES]
    assert [nth_of(messages, at) for at in range(4)] == [0, 0, 1, 2]
    told, used = retold(messages, [says(YES, "perhaps", nth=1)])
    assert [one["content"] for one in told] == ["yes", "no", "perhaps", "yes"]
    assert used == (0,)
    assert messages[2]["content"] == "yes", "the caller's own list stays"


def test_a_message_that_is_not_told_uses_no_edit():
    assert retold([NO], [says(YES, "perhaps"), says(NO, "never", nth=1)]) == ([NO], ())


def test_an_edit_of_what_was_edited_holds_too():
    once = {**YES, "content": "perhaps"}
    told, used = retold([YES], [says(YES, "perhaps"), asks("large"), says(once, "surely")])
    assert (told, used) == ([{**YES, "content": "surely"}], (0, 2))


def test_all_but_the_words_of_a_message_stays():
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    told, _ = retold([called], [says(called, "wait")])
    assert told == [{**called, "content": "wait"}]


def test_another_model_is_asked_by_the_turns_of_that_name_and_their_repairs():
    edits = [asks("large"), says(YES, "no"), asks("other", "llm:judge"), asks("huge")]
    assert switched("llm:desk", edits) == ("huge", (0, 3))
    assert switched("llm:desk/repair", edits) == ("huge", (0, 3))
    assert switched("llm:judge", edits) == ("other", (2,))
    assert switched("llm:desks", edits) == (None, ())
