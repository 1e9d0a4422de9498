"""Durable promises: completed once, seen by everyone who asks."""

import pytest

from agentdur.core.commands import Notify, ReadPromise, SettlePromise
from agentdur.core.effects import Send, Transition
from agentdur.core.journal import VOID, Failure, Success
from agentdur.core.machine import apply_promise
from agentdur.core.state import PromiseState
from agentdur.core.target import PromiseAddress
from tests.core.builders import CALLER, INV, OTHER

APPROVAL = PromiseAddress("Signup", "ann", "approval")
YES, NO = Success(b"yes"), Failure(403, "no")


def test_an_open_promise_keeps_everyone_waiting():
    first = apply_promise(None, ReadPromise(APPROVAL, INV, 2, wait=True))
    second = apply_promise(first.state, ReadPromise(APPROVAL, OTHER, 5, wait=True))
    assert first == Transition(PromiseState(None, ((INV, 2),)))
    assert second == Transition(PromiseState(None, ((INV, 2), (OTHER, 5))))


def test_a_look_at_an_open_promise_waits_for_nothing():
    assert apply_promise(None, ReadPromise(APPROVAL, INV, 2, wait=False)) == Transition(
        PromiseState(), (Send(Notify(INV, 2, VOID, "PeekPromise")),)
    )


@pytest.mark.parametrize("result", [YES, NO])
def test_a_completed_promise_answers_at_once(result):
    state = PromiseState(result)
    assert apply_promise(state, ReadPromise(APPROVAL, INV, 2, wait=True)) == Transition(
        state, (Send(Notify(INV, 2, result, "GetPromise")),)
    )
    assert apply_promise(state, ReadPromise(APPROVAL, INV, 2, wait=False)) == Transition(
        state, (Send(Notify(INV, 2, result, "PeekPromise")),)
    )


@pytest.mark.parametrize("result", [YES, NO])
def test_completing_it_tells_everyone_who_waits_and_the_one_who_did_it(result):
    waiting = PromiseState(None, ((INV, 2), (OTHER, 5)))
    assert apply_promise(waiting, SettlePromise(APPROVAL, result, CALLER, 9)) == Transition(
        PromiseState(result),
        (
            Send(Notify(CALLER, 9, VOID, "CompletePromise")),
            Send(Notify(INV, 2, result, "GetPromise")),
            Send(Notify(OTHER, 5, result, "GetPromise")),
        ),
    )


def test_from_outside_it_is_completed_without_an_answer_to_an_invocation():
    assert apply_promise(None, SettlePromise(APPROVAL, YES)) == Transition(PromiseState(YES))


def test_it_is_completed_once():
    state = PromiseState(YES)
    already = Failure(409, "promise was already completed")
    assert apply_promise(state, SettlePromise(APPROVAL, NO, CALLER, 9)) == Transition(
        state, (Send(Notify(CALLER, 9, already, "CompletePromise")),)
    )
    assert apply_promise(state, SettlePromise(APPROVAL, NO)) == Transition(state)
