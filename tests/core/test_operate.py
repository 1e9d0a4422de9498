"""What operators may do, for every status: the table of the semantics, cell by cell. Cancel is a signal."""

import pytest
from msgspec.structs import replace

from agentdur.core.commands import Kill, Notify, Pause, Purge, Release, Resume, SignalTo
from agentdur.core.effects import (
    Append,
    ClearTimer,
    Deliver,
    DropJournal,
    DropPromises,
    DropState,
    Finished,
    Send,
    Start,
    Stop,
    Transition,
)
from agentdur.core.errors import TooEarly, UnknownInvocation, WrongStatus
from agentdur.core.journal import VOID, Failure, Signal
from agentdur.core.state import Invocation, Status
from tests.core.builders import (
    ADD,
    ANN,
    CALLER,
    CHILD,
    INV,
    K1,
    NOW,
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

KILLED = Failure(409, "killed")
CANCELED = Failure(409, "canceled")
CANCEL = SignalTo(INV, 1, VOID)
TIMER = ClearTimer(INV, T0 + 60_000, 0)
TOLD = Send(Notify(CALLER, 2, KILLED, "Call"))


def awake(inv: Invocation, attempt: int, **head) -> Invocation:
    return head_with(
        inv, status=Status.INVOKED, attempt=attempt, failures=0, retry_at=None, awaiting=None, seen=0,
        modified_at=NOW, **head,
    )  # fmt: skip


def dead(inv: Invocation) -> Invocation:
    return head_with(
        inv, status=Status.COMPLETED, result=KILLED, waiters=(), awaiting=None, retry_at=None,
        modified_at=NOW, completed_at=NOW,
    )  # fmt: skip


# Unknown


@pytest.mark.parametrize("message", [Pause(INV), Resume(INV), Purge(INV), Purge(INV, journal_only=True)])
def test_an_operator_hears_that_an_invocation_is_unknown(message):
    with pytest.raises(UnknownInvocation) as error:
        say(None, message)
    assert error.value.detail == INV


@pytest.mark.parametrize("message", [CANCEL, Kill(INV)])
def test_cancel_and_kill_of_nobody_do_nothing(message):
    """They also come from other invocations, whose children may be gone."""
    assert say(None, message) == Transition(None)


# Cancel


@pytest.mark.parametrize(
    ("inv", "first"), [(scheduled(), TIMER), (scheduled(ADD), TIMER), (pending(), Send(Release(K1, INV)))]
)
def test_cancel_before_the_start_leaves_no_record(inv, first):
    inv = head_with(inv, waiters=(waiter(),))
    assert say(inv, CANCEL) == Transition(
        None,
        (first, Send(Notify(CALLER, 2, CANCELED, "Call")), Finished(INV, CANCELED), DropJournal(INV)),
    )


def with_cancel(inv: Invocation) -> Invocation:
    return replace(inv, length=inv.length + 1, signals=((1, inv.length),))


@pytest.mark.parametrize("inv", [running(), backing_off()])
def test_cancel_is_told_to_the_running_attempt_and_shortens_no_back_off(inv):
    entry = Signal(1, VOID)
    assert say(inv, CANCEL) == Transition(with_cancel(inv), (Append(INV, 1, entry), Deliver(INV, 1, entry)))


def test_cancel_wakes_a_suspended_invocation_that_listens_for_it():
    inv = suspended_on(2)
    listening = head_with(inv, awaiting=replace(inv.head.awaiting, signals=(1,)))
    assert say(listening, CANCEL) == Transition(
        awake(with_cancel(listening), 2), (Append(INV, 3, Signal(1, VOID)), Start(INV, 2))
    )
    assert say(inv, CANCEL) == Transition(with_cancel(inv), (Append(INV, 3, Signal(1, VOID)),))


def test_cancel_resumes_a_paused_invocation_so_that_it_can_see_it():
    inv = paused(failures=3)
    assert say(inv, CANCEL) == Transition(
        awake(with_cancel(inv), 2), (Append(INV, 1, Signal(1, VOID)), Start(INV, 2))
    )


def test_cancel_of_the_completed_changes_nothing():
    assert say(completed(), CANCEL) == Transition(completed())


# Kill


@pytest.mark.parametrize(("inv", "first"), [(scheduled(), TIMER), (pending(), Send(Release(K1, INV)))])
def test_kill_before_the_start_leaves_no_record(inv, first):
    inv = head_with(inv, waiters=(waiter(),))
    assert say(inv, Kill(INV)) == Transition(None, (first, TOLD, Finished(INV, KILLED), DropJournal(INV)))


@pytest.mark.parametrize("inv", [running(), backing_off()])
def test_kill_ends_a_running_invocation_and_stops_its_attempt(inv):
    inv = head_with(inv, waiters=(waiter(),))
    assert say(inv, Kill(INV)) == Transition(dead(inv), (Stop(INV, "killed"), TOLD, Finished(INV, KILLED)))


@pytest.mark.parametrize("inv", [suspended_on(2), paused()])
def test_kill_ends_what_rests_and_there_is_no_attempt_to_stop(inv):
    assert say(inv, Kill(INV)) == Transition(dead(inv), (Finished(INV, KILLED),))


def test_kill_reaches_every_child_and_gives_the_key_back():
    inv = running(ADD)
    assert say(inv, Kill(INV, (CHILD, OTHER))) == Transition(
        dead(inv),
        (
            Stop(INV, "killed"),
            Send(Kill(CHILD)),
            Send(Kill(OTHER)),
            Send(Release(K1, INV)),
            Finished(INV, KILLED),
        ),
    )


def test_kill_of_the_completed_changes_nothing_not_even_for_its_children():
    assert say(completed(), Kill(INV, (CHILD,))) == Transition(completed())


def test_kill_without_retention_leaves_nothing():
    inv = unretained(running())
    effects = (Stop(INV, "killed"), Finished(INV, KILLED), DropJournal(INV))
    assert say(inv, Kill(INV)) == Transition(None, effects)


# Pause


@pytest.mark.parametrize("inv", [running(length=2), backing_off(length=2)])
def test_pause_stops_the_attempt_and_the_back_off(inv):
    stopped = head_with(inv, status=Status.PAUSED, retry_at=None, modified_at=NOW)
    assert say(inv, Pause(INV)) == Transition(stopped, (Stop(INV, "paused"),))


@pytest.mark.parametrize("inv", [suspended_on(2), paused()])
def test_pause_of_what_rests_is_nothing(inv):
    assert say(inv, Pause(INV)) == Transition(inv)


@pytest.mark.parametrize("inv", [scheduled(), pending(), completed()])
def test_pause_is_refused_before_the_start_and_after_the_end(inv):
    with pytest.raises(WrongStatus, match=f"{INV}' is not running, cannot be paused"):
        say(inv, Pause(INV))


# Resume


@pytest.mark.parametrize("inv", [backing_off(failures=5), suspended_on(2, failures=0), paused(failures=5)])
def test_resume_gives_an_attempt_now_and_forgets_failures(inv):
    assert say(inv, Resume(INV)) == Transition(awake(inv, 2), (Start(INV, 2),))


def test_resume_of_a_running_invocation_is_nothing():
    inv = running(failures=2, deployment="dp_1")
    assert say(inv, Resume(INV)) == Transition(inv)
    assert say(inv, Resume(INV, "dp_1")) == Transition(inv)


@pytest.mark.parametrize("inv", [suspended_on(2, deployment="dp_1"), paused(deployment="dp_1")])
def test_resume_may_move_what_rests_to_another_deployment(inv):
    moved = awake(inv, 2, deployment="dp_2")
    assert say(inv, Resume(INV, "dp_2")) == Transition(moved, (Start(INV, 2),))


@pytest.mark.parametrize("inv", [running(deployment="dp_1"), backing_off(deployment="dp_1"), running()])
def test_resume_never_moves_what_runs(inv):
    with pytest.raises(WrongStatus, match="its deployment cannot be changed"):
        say(inv, Resume(INV, "dp_2"))


@pytest.mark.parametrize("inv", [suspended_on(2), paused()])
def test_resume_moves_nothing_that_is_not_pinned(inv):
    """Without a pin it runs on the latest deployment anyway."""
    with pytest.raises(WrongStatus, match="has no deployment yet"):
        say(inv, Resume(INV, "dp_2"))


def test_resume_of_a_back_off_on_its_own_deployment_is_a_retry_now():
    inv = backing_off(deployment="dp_1")
    assert say(inv, Resume(INV, "dp_1")) == Transition(awake(inv, 2), (Start(INV, 2),))


@pytest.mark.parametrize("inv", [scheduled(), pending()])
def test_resume_before_the_start_is_too_early(inv):
    with pytest.raises(TooEarly, match=f"{INV}' is either inboxed or scheduled"):
        say(inv, Resume(INV))


def test_resume_after_the_end_is_refused():
    with pytest.raises(WrongStatus, match="is completed"):
        say(completed(), Resume(INV))


# Purge


def test_purge_forgets_a_completed_invocation():
    assert say(completed(), Purge(INV)) == Transition(None, (DropJournal(INV),))


def test_purge_of_a_workflow_run_takes_its_state_and_promises_along():
    assert say(completed(target=RUN), Purge(INV)) == Transition(
        None, (DropJournal(INV), DropState(ANN), DropPromises(ANN))
    )


@pytest.mark.parametrize("inv", [completed(), completed(target=RUN)])
def test_purge_of_the_journal_keeps_the_result(inv):
    assert say(inv, Purge(INV, journal_only=True)) == Transition(
        replace(inv, journal_kept=False), (DropJournal(INV),)
    )


@pytest.mark.parametrize("journal_only", [True, False])
@pytest.mark.parametrize("inv", [scheduled(), pending(), running(), backing_off(), suspended_on(2), paused()])
def test_purge_of_what_has_not_ended_is_refused(inv, journal_only):
    with pytest.raises(WrongStatus, match="is not yet completed"):
        say(inv, Purge(INV, journal_only))
