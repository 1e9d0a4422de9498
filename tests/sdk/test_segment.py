"""Segments: what belongs together is one chunk, in whatever portions it is read; and they have a limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agentdur.core.ids import InvocationId
from agentdur.sdk.segment import START, Segment
from tests.support.listening import joined


class Nobody:
    def grown(self, segment: Segment) -> None:
        """Nobody reads."""

    def left(self, segment: Segment) -> None:
        """Nobody holds."""


def segment(bytes_max: int = 1_000_000) -> Segment:
    return Segment(Nobody(), InvocationId("inv"), 1, 1, bytes_max)


TEXTS = some.text("aé😀", max_size=2)
CHUNKS = some.one_of(
    TEXTS,
    some.fixed_dictionaries({"type": some.sampled_from("ab"), "delta": TEXTS}),
    some.fixed_dictionaries({"type": some.sampled_from("ab"), "delta": some.integers(0, 1)}),
    some.fixed_dictionaries({"type": some.sampled_from("ab")}),
    some.none(),
    some.lists(TEXTS, max_size=1),
)


@given(some.lists(CHUNKS), some.data())
def test_what_is_read_in_portions_is_what_is_sealed(chunks: list[Any], data: Any):
    made, cursor, read = segment(), START, []
    for chunk in chunks:
        made.add(chunk)
        if data.draw(some.booleans()):
            newer, cursor = made.since(cursor)
            read += newer
    read += made.since(cursor)[0]
    assert joined(read) == made.seal() == joined(chunks)
    made.add("too late")
    assert made.seal() == joined(chunks)


@pytest.mark.parametrize(
    ("chunk", "kept"),
    [
        ("é" * 5, ["é" * 10]),
        ({"delta": "abc"}, [{"delta": "abcabc"}]),
        ([1, 2, 3], [[1, 2, 3], [1, 2, 3]]),
        ({"n": 1}, [{"n": 1}, {"n": 1}]),
    ],
)
def test_chunks_over_the_limit_are_left_out_and_the_last_one_says_so(chunk: Any, kept: list[Any]):
    """What is counted is what the journal gets: bytes, and of a joined chunk only its delta."""
    made = segment(20)
    for _ in range(20):
        made.add(chunk)
    assert made.seal() == [*kept, {"type": "truncated", "limit": 20}]
