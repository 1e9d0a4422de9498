"""The queue that is never changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentdur.core.fifo import Fifo

EMPTY: Fifo[int] = Fifo()


def test_first_in_first_out():
    queue = EMPTY.push(1).push(2).push(3)
    first, rest = queue.pop()
    second, rest = rest.pop()
    third, rest = rest.push(4).pop()
    assert (first, second, third) == (1, 2, 3)
    assert list(rest) == [4]


def test_an_older_queue_stays_what_it_was():
    queue = EMPTY.push(1).push(2)
    queue.push(3)
    queue.pop()
    assert list(queue) == [1, 2]
    assert len(queue) == 2


def test_of_keeps_the_order():
    assert list(Fifo.of([1, 2, 3])) == [1, 2, 3]
    assert Fifo.of([1, 2, 3]).pop()[0] == 1


def test_equal_is_what_holds_the_same_however_it_was_built():
    assert Fifo.of([1, 2]) == EMPTY.push(0).push(1).pop()[1].push(2)
    assert Fifo.of([1, 2]) != Fifo.of([2, 1])
    assert Fifo.of([1, 2]) != Fifo.of([1])
    assert Fifo.of([1, 2]) != [1, 2]


def test_two_queues_are_either_equal_or_not():
    """A comparison that says both lets a store skip what has changed, or write what has not."""
    for other, same in ((Fifo.of([1, 2]), True), (Fifo.of([2, 1]), False), (Fifo.of([1]), False)):
        queue = EMPTY.push(1).push(2)
        assert (queue == other, queue != other) == (same, not same)


def test_the_one_who_leaves_is_taken_out_wherever_it_stands():
    queue = Fifo.of([1, 2]).push(3).push(4)
    assert list(queue.without(1)) == [2, 3, 4]
    assert list(queue.without(3)) == [1, 2, 4]
    assert queue.without(9) == queue
    assert len(queue.without(4)) == 3


def test_a_queue_is_no_key():
    with pytest.raises(TypeError):
        hash(EMPTY)


def test_nothing_can_be_taken_from_an_empty_queue():
    with pytest.raises(AssertionError):
        EMPTY.pop()


STEPS = st.lists(
    st.one_of(st.tuples(st.just("push"), st.integers(0, 5)), st.just(("pop", 0)), st.just(("without", 3)))
)


@given(STEPS)
def test_a_queue_behaves_as_a_list(steps):
    queue, model = EMPTY, []
    for step, item in steps:
        if step == "push":
            queue, model = queue.push(item), [*model, item]
        elif step == "without":
            queue, model = queue.without(item), [each for each in model if each != item]
        elif model:
            first, queue = queue.pop()
            assert first == model[0]
            model = model[1:]
        assert (list(queue), len(queue)) == (model, len(model))
        assert queue == Fifo.of(model)
