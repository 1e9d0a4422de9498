"""The life of attempts: start, suspend, end; and whoever speaks too late is not heard."""

import pytest
from msgspec.structs import replace

from agentdur.core.awaiting import NESTING_MAX
from agentdur.core.commands import (
    Acquire,
    End,
    Granted,
    Notify,
    Pin,
    Propose,
    Recover,
    Release,
    RetryDue,
    StartDue,
    Suspend,
)
from agentdur.core.effects import (
    Append,
    ClearTimer,
    DropJournal,
    DropPromises,
    DropState,
    Finished,
    NoteFailure,
    Refuse,
    Send,
    Start,
    Stop,
    Transition,
)
from agentdur.core.journal import Awaiting, Failure, Output, Run, Success
from agentdur.core.state import Status
from tests.core.builders import (
    ADD,
    ANN,
    INV,
    K1,
    NOW,
    OOPS,
    OTHER,
    RUN,
    T0,
    backing_off,
    completed,
    head_with,
    paused,
    pending,
    running,
    say,
    scheduled,
    suspended_on,
    unretained,
    waiter,
)

ANSWER = Success(b"hello")


def begun(before, attempt: int):
    """The same invocation in a new attempt that has forgotten the last stretch."""
    return head_with(
        before, status=Status.INVOKED, attempt=attempt, failures=0, retry_at=None, awaiting=None, seen=0,
        modified_at=NOW,
    )  # fmt: skip


# Starting


def test_a_scheduled_invocation_starts_when_its_time_has_come():
    inv = scheduled()
    expected = (ClearTimer(INV, T0 + 60_000, 0), Start(INV, 1))
    assert say(inv, StartDue(INV)) == Transition(begun(inv, 1), expected)


def test_a_scheduled_exclusive_invocation_first_asks_for_its_key():
    """It enters the inbox when its timer fires, not when it was submitted."""
    inv = scheduled(ADD)
    waiting = head_with(inv, status=Status.INBOXED, modified_at=NOW)
    expected = (ClearTimer(INV, T0 + 60_000, 0), Send(Acquire(K1, INV)))
    assert say(inv, StartDue(INV)) == Transition(waiting, expected)


@pytest.mark.parametrize("inv", [running(), suspended_on(1), paused(), pending(), completed()])
def test_a_start_timer_that_fires_twice_starts_once(inv):
    assert say(inv, StartDue(INV)) == Transition(inv)


def test_a_granted_key_starts_the_first_attempt():
    inv = pending()
    assert say(inv, Granted(INV)) == Transition(begun(inv, 1), (Start(INV, 1),))


def test_the_owners_restart_gives_what_was_running_a_new_attempt():
    """The count of failures lives with the owner, so it begins again."""
    for inv in (running(attempt=4, failures=2), backing_off(attempt=4, failures=2)):
        assert say(inv, Recover(INV)) == Transition(begun(inv, 5), (Start(INV, 5),))


@pytest.mark.parametrize("inv", [scheduled(), pending(), suspended_on(1), paused(), completed()])
def test_the_owners_restart_wakes_nobody_who_rested(inv):
    assert say(inv, Recover(INV)) == Transition(inv)


# Retrying


def test_the_back_off_ends_with_the_next_attempt_and_keeps_the_count():
    inv = backing_off(attempt=2, failures=2)
    again = head_with(inv, attempt=3, retry_at=None, modified_at=NOW)
    assert say(inv, RetryDue(INV, 2)) == Transition(again, (Start(INV, 3),))


@pytest.mark.parametrize(
    "inv",
    [
        backing_off(attempt=3),
        running(attempt=2),
        paused(attempt=2),
        paused(attempt=2, retry_at=NOW),
        suspended_on(1, attempt=2),
        completed(attempt=2),
    ],
)
def test_a_retry_timer_of_another_stretch_is_ignored(inv):
    assert say(inv, RetryDue(INV, 2)) == Transition(inv)


# Who may speak

LATE = [
    running(attempt=3),
    backing_off(attempt=2),
    suspended_on(1, attempt=2),
    paused(attempt=2),
    completed(attempt=2),
    scheduled(),
]


@pytest.mark.parametrize("inv", LATE)
@pytest.mark.parametrize(
    "message",
    [
        Propose(INV, 2, (Run(completion=1),)),
        End(INV, 2),
        Suspend(INV, 2, Awaiting((1,)), 1),
    ],
)
def test_an_attempt_that_is_over_is_not_heard(inv, message):
    inv = replace(inv, output=ANSWER)
    assert say(inv, message) == Transition(inv)


# The deployment


def test_the_first_stored_entry_pins_the_deployment():
    pinned = head_with(running(), deployment="dp_1", protocol=6)
    assert say(running(), Pin(INV, "dp_1", 6)) == Transition(pinned)
    assert say(pinned, Pin(INV, "dp_2", 5)) == Transition(pinned)


@pytest.mark.parametrize("inv", [scheduled(), pending(), suspended_on(1), paused(), completed()])
def test_only_a_running_invocation_is_pinned(inv):
    """What has ended never changes; what rests is pinned by the attempt that wakes it."""
    assert say(inv, Pin(INV, "dp_1", 6)) == Transition(inv)


# Suspending


def test_a_suspended_invocation_remembers_what_it_waits_for_and_forgets_failures():
    inv = running(length=3, open=(2,), attempt=2, failures=4)
    asleep = head_with(
        inv, status=Status.SUSPENDED, awaiting=Awaiting((2,), (1,)), seen=3, failures=0, modified_at=NOW
    )
    assert say(inv, Suspend(INV, 2, Awaiting((2,), (1,)), 3)) == Transition(asleep)


def test_what_arrived_before_the_suspension_starts_the_next_attempt_at_once():
    inv = running(length=4, done=(2,), attempt=2, failures=4)
    assert say(inv, Suspend(INV, 2, Awaiting((2,)), 3)) == Transition(begun(inv, 3), (Start(INV, 3),))


def test_a_signal_the_attempt_could_not_see_starts_the_next_one_at_once():
    inv = replace(running(length=4), signals=((17, 3),))
    assert say(inv, Suspend(INV, 1, Awaiting(signals=(17,)), 3)).effects == (Start(INV, 2),)
    assert say(inv, Suspend(INV, 1, Awaiting(signals=(17,)), 4)).effects == ()


def nested(levels: int) -> Awaiting:
    tree = Awaiting((2,))
    for _ in range(levels - 1):
        tree = Awaiting(nested=(tree,))
    return tree


def test_a_tree_at_the_limit_is_waited_for():
    inv = running(open=(2,))
    state = say(inv, Suspend(INV, 1, nested(NESTING_MAX), 1)).state
    assert state is not None
    assert state.head.status is Status.SUSPENDED


def test_a_tree_that_is_too_deep_pauses_with_the_reason():
    inv = running(open=(2,))
    too_deep = Failure(500, "the awaited futures are nested too deeply", (("restate_code", "RT0025"),))
    stopped = head_with(inv, status=Status.PAUSED, last_failure=too_deep, modified_at=NOW)
    message = Suspend(INV, 1, nested(NESTING_MAX + 1), 1)
    assert say(inv, message) == Transition(stopped, (NoteFailure(INV, 1, too_deep), Stop(INV, "paused")))


# Ending


def ended(inv, result=ANSWER, *, journal_kept: bool = True):
    after = head_with(
        inv, status=Status.COMPLETED, result=result, waiters=(), awaiting=None, retry_at=None,
        modified_at=NOW, completed_at=NOW,
    )  # fmt: skip
    return replace(after, output=None, journal_kept=journal_kept)


def test_the_stored_output_is_the_result_and_everybody_hears_it():
    waiters = (waiter(), replace(waiter(OTHER, 9), of="Attach"))
    inv = replace(running(length=2, waiters=waiters), output=ANSWER)
    assert say(inv, End(INV, 1)) == Transition(
        ended(inv),
        (
            Send(Notify(waiters[0].invocation, 2, ANSWER, "Call")),
            Send(Notify(OTHER, 9, ANSWER, "Attach")),
            Finished(INV, ANSWER),
        ),
    )


def test_a_failure_is_a_result_too():
    inv = replace(running(length=2), output=Failure(404, "no such greeting"))
    assert say(inv, End(INV, 1)) == Transition(
        ended(inv, Failure(404, "no such greeting")), (Finished(INV, Failure(404, "no such greeting")),)
    )


def test_an_end_without_an_output_is_a_failed_attempt():
    inv = running(length=2)
    error = Failure(500, "the handler ended without an output")
    assert say(inv, End(INV, 1)) == Transition(inv, (Refuse(INV, 1, error),))


def test_an_output_outlives_its_attempt():
    """The stream broke between Output and End: the next attempt replays the Output and says End."""
    stored = say(running(), Propose(INV, 1, (Output(result=ANSWER),)))
    assert stored == Transition(
        replace(running(length=2), output=ANSWER), (Append(INV, 1, Output(result=ANSWER)),)
    )
    for lost in (
        say(stored.state, Recover(INV)),
        say(replace(backing_off(length=2), output=ANSWER), RetryDue(INV, 1)),
    ):
        assert lost.state is not None
        assert lost.state.head.attempt == 2
        done = say(lost.state, End(INV, 2))
        assert done.effects == (Finished(INV, ANSWER),)


def test_an_exclusive_invocation_gives_its_key_back_when_it_ends():
    inv = replace(running(ADD, length=2), output=ANSWER)
    assert say(inv, End(INV, 1)) == Transition(ended(inv), (Send(Release(K1, INV)), Finished(INV, ANSWER)))


def test_without_retention_nothing_is_left():
    inv = unretained(replace(running(ADD, length=2, waiters=(waiter(),)), output=ANSWER))
    assert say(inv, End(INV, 1)) == Transition(
        None,
        (
            Send(Release(K1, INV)),
            Send(Notify(waiter().invocation, 2, ANSWER, "Call")),
            Finished(INV, ANSWER),
            DropJournal(INV),
        ),
    )


def test_a_workflow_run_without_retention_takes_its_state_and_promises_along():
    inv = unretained(replace(running(RUN, length=2), output=ANSWER))
    assert say(inv, End(INV, 1)) == Transition(
        None, (Finished(INV, ANSWER), DropJournal(INV), DropState(ANN), DropPromises(ANN))
    )


def test_a_journal_that_is_not_retained_goes_at_the_end():
    inv = replace(running(length=2), output=ANSWER)
    inv = replace(inv, spec=replace(inv.spec, journal_retention_ms=0))
    assert say(inv, End(INV, 1)) == Transition(
        ended(inv, journal_kept=False), (Finished(INV, ANSWER), DropJournal(INV))
    )


def test_what_was_known_of_the_attempts_stays_readable_after_the_end():
    inv = replace(
        running(length=2, attempt=3, failures=2, last_failure=OOPS, deployment="dp_1"), output=ANSWER
    )
    after = say(inv, End(INV, 3)).state
    assert after is not None
    assert (after.head.attempt, after.head.last_failure, after.head.deployment) == (3, OOPS, "dp_1")
