"""Completions and signals arriving, and others who want the result."""

import pytest
from msgspec.structs import replace

from agentdur.core.commands import (
    Attach,
    End,
    Fail,
    Granted,
    Notify,
    Pin,
    Propose,
    Recover,
    RetryDue,
    SignalTo,
    StartDue,
    Suspend,
)
from agentdur.core.effects import Append, Deliver, Send, Start, Transition
from agentdur.core.journal import VOID, Awaiting, Completion, Failure, Signal, Success
from agentdur.core.retry import RetryPolicy
from agentdur.core.state import Status, Waiter
from tests.core.builders import (
    CALLER,
    INV,
    NOW,
    OOPS,
    OTHER,
    backing_off,
    bits,
    completed,
    head_with,
    paused,
    pending,
    running,
    say,
    scheduled,
    suspended_on,
    waiter,
)

OK = Success(b"ok")


def got(inv, completion: int, *, failed: bool = False):
    """The invocation after its completion was stored."""
    return replace(
        inv,
        length=inv.length + 1,
        open=inv.open & ~bits(completion),
        done=inv.done | bits(completion),
        failed=bits(completion) if failed else 0,
    )


def awake(inv, attempt: int):
    return head_with(
        inv, status=Status.INVOKED, attempt=attempt, failures=0, awaiting=None, seen=0, modified_at=NOW
    )


# Completions


def test_a_running_attempt_is_told_what_was_stored():
    inv = running(length=3, open=(2, 4))
    entry = Completion(4, "Sleep", VOID)
    assert say(inv, Notify(INV, 4, VOID, "Sleep")) == Transition(
        got(inv, 4), (Append(INV, 3, entry), Deliver(INV, 3, entry))
    )


def test_a_failed_completion_is_remembered_as_one():
    inv = running(length=3, open=(2,))
    assert say(inv, Notify(INV, 2, OOPS)).state == got(inv, 2, failed=True)


def test_a_completion_that_arrives_twice_is_kept_once():
    """Redelivery is normal; the journal grows by one entry only."""
    once = say(suspended_on(7), Notify(INV, 7, OK))
    twice = say(once.state, Notify(INV, 7, Success(b"other")))
    assert once == Transition(
        awake(got(suspended_on(7), 7), 2), (Append(INV, 3, Completion(7, "Call", OK)), Start(INV, 2))
    )
    assert twice == Transition(once.state)


def test_a_completion_nobody_asked_for_is_ignored():
    assert say(running(open=(2,)), Notify(INV, 3, OK)) == Transition(running(open=(2,)))


def test_a_suspended_invocation_sleeps_on_until_what_it_waits_for_is_there():
    inv = head_with(suspended_on(2, 5), awaiting=Awaiting((5,)))
    first = say(inv, Notify(INV, 2, OK))
    assert first == Transition(got(inv, 2), (Append(INV, 3, Completion(2, "Call", OK)),))
    second = say(first.state, Notify(INV, 5, OK))
    assert second.effects == (Append(INV, 4, Completion(5, "Call", OK)), Start(INV, 2))


def test_a_paused_invocation_stores_completions_and_stays_paused():
    """Timers and children go on while it is paused."""
    inv = paused(open=(2,), awaiting=Awaiting((2,)))
    assert say(inv, Notify(INV, 2, OK)) == Transition(
        got(inv, 2), (Append(INV, 1, Completion(2, "Call", OK)),)
    )


def test_a_back_off_stores_completions_and_is_not_shortened():
    inv = backing_off(open=(2,))
    after = say(inv, Notify(INV, 2, OK))
    assert after.state == got(inv, 2)
    assert Start(INV, 2) not in after.effects


def test_a_completion_for_the_completed_comes_too_late():
    inv = replace(completed(), open=bits(2))
    assert say(inv, Notify(INV, 2, OK)) == Transition(inv)


@pytest.mark.parametrize(
    "message",
    [
        Notify(INV, 2, OK),
        SignalTo(INV, 17, OK),
        Propose(INV, 1, ()),
        End(INV, 1),
        Suspend(INV, 1, Awaiting((1,)), 1),
        Fail(id=INV, attempt=1, error=OOPS, policy=RetryPolicy()),
        Pin(INV, "dp_1", 6),
        Granted(INV),
        StartDue(INV),
        RetryDue(INV, 1),
        Recover(INV),
    ],
)
def test_what_comes_for_nobody_is_dropped(message):
    assert say(None, message) == Transition(None)


# Signals


@pytest.mark.parametrize("name", [17, "go"])
def test_a_signal_is_stored_and_told_to_the_running_attempt(name):
    inv = running(length=3)
    entry = Signal(name, OK)
    assert say(inv, SignalTo(INV, name, OK)) == Transition(
        replace(inv, length=4, signals=((name, 3),)), (Append(INV, 3, entry), Deliver(INV, 3, entry))
    )


def test_a_second_signal_of_a_name_is_stored_as_well():
    """Signals queue: each await of the name takes the next one."""
    inv = replace(running(length=5), signals=(("go", 3), (17, 4)))
    after = say(inv, SignalTo(INV, "go", OK))
    assert after.state == replace(inv, length=6, signals=((17, 4), ("go", 5)))
    assert after.effects[0] == Append(INV, 5, Signal("go", OK))


def test_a_rejection_is_remembered_as_one():
    inv = replace(running(length=5), signals=(("go", 3),), rejected=(("go", 2), (17, 4)))
    assert say(inv, SignalTo(INV, "go", OOPS)).state == replace(inv, length=6, rejected=((17, 4), ("go", 5)))


def test_an_awakeable_wakes_who_waits_for_it():
    inv = head_with(suspended_on(), awaiting=Awaiting(signals=(17, 1)))
    assert say(inv, SignalTo(INV, 17, OK)) == Transition(
        awake(replace(inv, length=4, signals=((17, 3),)), 2),
        (Append(INV, 3, Signal(17, OK)), Start(INV, 2)),
    )


def test_a_signal_nobody_waits_for_yet_is_kept_for_later():
    inv = suspended_on(2)
    assert say(inv, SignalTo(INV, "go", OK)) == Transition(
        replace(inv, length=4, signals=(("go", 3),)), (Append(INV, 3, Signal("go", OK)),)
    )


def test_a_paused_invocation_stores_signals_and_stays_paused():
    inv = paused()
    assert say(inv, SignalTo(INV, 17, OK)) == Transition(
        replace(inv, length=2, signals=((17, 1),)), (Append(INV, 1, Signal(17, OK)),)
    )


@pytest.mark.parametrize("inv", [scheduled(), pending(), completed()])
@pytest.mark.parametrize("name", [17, "go"])
def test_a_signal_vanishes_before_the_start_and_after_the_end(inv, name):
    assert say(inv, SignalTo(INV, name, OK)) == Transition(inv)


# Attaching


def joins(wait: bool = True, completion: int = 3) -> Attach:
    return Attach(INV, Waiter(CALLER, completion, "Attach"), wait)


@pytest.mark.parametrize("inv", [running(), scheduled(), pending(), suspended_on(2), paused()])
def test_who_attaches_waits_beside_the_others(inv):
    inv = head_with(inv, waiters=(waiter(OTHER),))
    joined = head_with(inv, waiters=(waiter(OTHER), Waiter(CALLER, 3, "Attach")))
    assert say(inv, joins()) == Transition(joined)


@pytest.mark.parametrize("inv", [running(), scheduled(), pending(), suspended_on(2), paused()])
def test_who_only_looks_is_told_that_there_is_no_result_yet(inv):
    assert say(inv, joins(wait=False)) == Transition(inv, (Send(Notify(CALLER, 3, VOID, "Output")),))


@pytest.mark.parametrize("result", [OK, Success(b""), OOPS])
def test_the_stored_result_is_given_at_once(result):
    inv = completed(result)
    assert say(inv, joins()) == Transition(inv, (Send(Notify(CALLER, 3, result, "Attach")),))
    assert say(inv, joins(wait=False)) == Transition(inv, (Send(Notify(CALLER, 3, result, "Output")),))


def test_nobody_can_attach_to_nothing():
    missing = Failure(404, "not found")
    assert say(None, joins()) == Transition(None, (Send(Notify(CALLER, 3, missing, "Attach")),))
    assert say(None, joins(wait=False)) == Transition(None, (Send(Notify(CALLER, 3, missing, "Output")),))
