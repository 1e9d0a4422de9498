"""Attempts that fail: back off by policy, then pause or end."""

import pytest
from msgspec.structs import replace

from agentdur.core.commands import Fail, Notify
from agentdur.core.effects import ArmRetry, Finished, NoteFailure, Send, Transition
from agentdur.core.journal import Failure, Success
from agentdur.core.retry import RetryPolicy
from agentdur.core.state import Status
from tests.core.builders import (
    INV,
    NOW,
    OOPS,
    backing_off,
    completed,
    head_with,
    paused,
    running,
    say,
    suspended_on,
    waiter,
)

PATIENT = RetryPolicy()
THREE_THEN_PAUSE = RetryPolicy(attempts_max=3)
THREE_THEN_KILL = RetryPolicy(attempts_max=3, on_exhausted="kill")


def failing(attempt: int = 1, policy: RetryPolicy = PATIENT, **fields) -> Fail:
    return Fail(id=INV, attempt=attempt, error=OOPS, policy=policy, **fields)


def noted(attempt: int = 1, place: int | None = None) -> NoteFailure:
    return NoteFailure(INV, attempt, OOPS, place)


def failed(inv, failures: int, **head):
    return head_with(inv, failures=failures, last_failure=OOPS, modified_at=NOW, **head)


def test_the_first_failure_backs_off_for_half_a_second_and_a_little_chance():
    inv = running(attempt=1)
    at = NOW + 500 + 75
    assert say(inv, failing(entry=4, chance=0.5)) == Transition(
        failed(inv, 1, retry_at=at, last_failure_entry=4), (noted(place=4), ArmRetry(INV, 1, at))
    )


def test_each_failure_of_a_stretch_doubles_the_wait():
    inv = running(attempt=4, failures=3)
    at = NOW + 4_000 + 3
    assert say(inv, failing(4)) == Transition(failed(inv, 4, retry_at=at), (noted(4), ArmRetry(INV, 4, at)))


def test_a_delay_the_handler_asked_for_is_exact_and_not_counted():
    """Neither chance nor the maximum of attempts applies to it."""
    inv = running(attempt=3, failures=2)
    at = NOW + 90_000
    assert say(inv, failing(3, THREE_THEN_KILL, delay_ms=90_000, chance=0.9)) == Transition(
        failed(inv, 2, retry_at=at), (noted(3), ArmRetry(INV, 3, at))
    )


def test_a_delay_does_not_save_from_an_exhausted_count_it_only_leaves_it_alone():
    inv = running(attempt=9, failures=3)
    after = say(inv, failing(9, THREE_THEN_KILL, delay_ms=0))
    assert after.effects == (noted(9), ArmRetry(INV, 9, NOW))


def test_three_attempts_are_three_executions_and_then_a_pause():
    second = say(running(attempt=2, failures=1), failing(2, THREE_THEN_PAUSE))
    assert second.effects == (noted(2), ArmRetry(INV, 2, NOW + 1_003))
    inv = running(attempt=3, failures=2)
    assert say(inv, failing(3, THREE_THEN_PAUSE)) == Transition(
        failed(inv, 3, status=Status.PAUSED), (noted(3),)
    )


def test_three_attempts_and_then_an_end_with_the_last_error():
    """Not `killed`: whoever waits learns what went wrong."""
    inv = running(attempt=3, failures=2, waiters=(waiter(),))
    ended = failed(inv, 3, status=Status.COMPLETED, result=OOPS, waiters=(), completed_at=NOW)
    assert say(inv, failing(3, THREE_THEN_KILL)) == Transition(
        ended, (noted(3), Send(Notify(waiter().invocation, 2, OOPS, "Call")), Finished(INV, OOPS))
    )


def test_a_single_attempt_is_no_retry():
    once = RetryPolicy(attempts_max=1)
    state = say(running(), failing(policy=once)).state
    assert state is not None
    assert (state.head.status, state.head.retry_at) == (Status.PAUSED, None)


def test_a_handler_may_ask_to_be_paused_at_once():
    inv = running()
    for delay_ms, failures in ((None, 1), (5, 0)):
        after = say(inv, failing(behavior="pause", delay_ms=delay_ms))
        assert after == Transition(failed(inv, failures, status=Status.PAUSED), (noted(),))


def test_a_wish_to_be_paused_outweighs_a_policy_that_ends_the_invocation():
    """Code that does not fit its journal is mended by a person; ending it would lose what was done."""
    inv = running(attempt=3, failures=2)
    after = say(inv, failing(3, THREE_THEN_KILL, behavior="pause"))
    assert after == Transition(failed(inv, 3, status=Status.PAUSED), (noted(3),))


def test_a_handler_may_ask_to_be_failed_at_once():
    inv = running()
    ended = failed(inv, 1, status=Status.COMPLETED, result=OOPS, completed_at=NOW)
    assert say(inv, failing(behavior="fail")) == Transition(ended, (noted(), Finished(INV, OOPS)))


def test_a_failure_keeps_the_output_that_was_stored_before_it():
    inv = replace(running(length=2), output=Success(b"hello"))
    for policy in (PATIENT, RetryPolicy(attempts_max=1)):
        after = say(inv, failing(policy=policy)).state
        assert after is not None
        assert after.output == Success(b"hello")


def test_another_error_replaces_the_last_one():
    first = backing_off(last_failure_entry=2)
    inv = head_with(first, retry_at=None)
    other = Failure(500, "something else")
    after = say(inv, Fail(id=INV, attempt=1, error=other, policy=PATIENT)).state
    assert after is not None
    assert (after.head.last_failure, after.head.last_failure_entry) == (other, None)


@pytest.mark.parametrize(
    "inv",
    [running(attempt=2), backing_off(attempt=1), suspended_on(1), paused(), completed()],
)
def test_the_failure_of_an_attempt_that_is_over_changes_nothing(inv):
    assert say(inv, failing(1)) == Transition(inv)
