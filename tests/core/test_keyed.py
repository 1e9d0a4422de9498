"""A key's lock and inbox: one exclusive invocation at a time, first come first served."""

from agentdur.core.commands import Acquire, EditState, Granted, Release
from agentdur.core.effects import Dequeue, Enqueue, ReplaceState, Send, Transition
from agentdur.core.fifo import Fifo
from agentdur.core.machine import apply_object
from agentdur.core.state import Edit, ObjectState, Place
from tests.core.builders import K1, inv_id

A, B, C = inv_id(1), inv_id(2), inv_id(3)
EDIT = Edit((("count", b"7"),), "v1")


def held(by, *items, first: int = 0) -> ObjectState:
    """Locked, with these waiting at positions from `first` on."""
    places = [Place(position, item) for position, item in enumerate(items, first)]
    return ObjectState(by, Fifo.of(places), first + len(items))


def test_a_free_key_is_granted_at_once():
    assert apply_object(None, Acquire(K1, A)) == Transition(ObjectState(A), (Send(Granted(A)),))


def test_a_locked_key_is_queued_for_in_order_of_arrival():
    second = apply_object(held(A), Acquire(K1, B))
    third = apply_object(second.state, Acquire(K1, C))
    assert second == Transition(held(A, B), (Enqueue(K1, Place(0, B)),))
    assert third == Transition(held(A, B, C), (Enqueue(K1, Place(1, C)),))


def test_the_next_in_line_is_granted_when_the_holder_leaves():
    after = apply_object(held(A, B, C, first=4), Release(K1, A))
    assert after == Transition(held(B, C, first=5), (Dequeue(K1, 4), Send(Granted(B))))


def test_positions_grow_while_the_key_is_in_use():
    alone = apply_object(held(A, B), Release(K1, A)).state
    assert apply_object(alone, Acquire(K1, C)).effects == (Enqueue(K1, Place(1, C)),)


def test_a_key_nobody_wants_leaves_no_record():
    assert apply_object(held(A), Release(K1, A)) == Transition(None)


def test_who_gives_up_waiting_leaves_its_place_and_nobody_elses():
    after = apply_object(held(A, B, C), Release(K1, B))
    kept = ObjectState(A, Fifo.of([Place(1, C)]), 2)
    assert after == Transition(kept, (Dequeue(K1, 0),))


def test_who_neither_holds_nor_waits_changes_nothing():
    assert apply_object(held(A, B), Release(K1, C)) == Transition(held(A, B))
    assert apply_object(None, Release(K1, C)) == Transition(None)


def test_an_edit_of_a_free_key_takes_effect_at_once():
    assert apply_object(None, EditState(K1, EDIT)) == Transition(None, (ReplaceState(K1, EDIT),))


def test_an_edit_never_changes_state_under_a_running_handler():
    assert apply_object(held(A), EditState(K1, EDIT)) == Transition(
        held(A, EDIT), (Enqueue(K1, Place(0, EDIT)),)
    )


def test_edits_in_line_take_effect_before_the_next_handler_starts():
    after = apply_object(held(A, EDIT, EDIT, B, C), Release(K1, A))
    replaced = ReplaceState(K1, EDIT)
    assert after == Transition(
        held(B, C, first=3),
        (Dequeue(K1, 0), replaced, Dequeue(K1, 1), replaced, Dequeue(K1, 2), Send(Granted(B))),
    )


def test_an_edit_behind_the_last_holder_frees_the_key():
    assert apply_object(held(A, EDIT), Release(K1, A)) == Transition(
        None, (Dequeue(K1, 0), ReplaceState(K1, EDIT))
    )


def test_who_gives_up_behind_an_edit_leaves_the_edit_in_line():
    after = apply_object(held(A, EDIT, B), Release(K1, B))
    assert after == Transition(ObjectState(A, Fifo.of([Place(0, EDIT)]), 2), (Dequeue(K1, 1),))
