"""Acceptance: deduplicate, then schedule, queue or start; and what a restart brings along."""

import pytest
from msgspec.structs import replace

from agentdur.core.commands import Acquire, End, Notify, Submit
from agentdur.core.effects import Append, DropJournal, Finished, Send, SetTimer, Start, Transition
from agentdur.core.journal import (
    VOID,
    Completion,
    Failure,
    Input,
    Output,
    Run,
    Signal,
    Sleep,
    Success,
)
from agentdur.core.state import Accepted, Head, Invocation, Status
from tests.core.builders import (
    ADD,
    APPROVE,
    CALLER,
    DAY,
    GREET,
    INV,
    K1,
    NOW,
    OTHER,
    PEEK,
    RUN,
    T0,
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

INPUT = Input(headers=(("traceparent", "00-1"),), value=b"ann")


def submit(target=GREET, **fields) -> Submit:
    return Submit(id=INV, target=target, value=b"ann", headers=INPUT.headers, **fields)


def accepted(target=GREET, *, status=Status.INVOKED, attempt=1, waiters=(), **spec) -> Invocation:
    head = Head(status=status, attempt=attempt, waiters=waiters, modified_at=NOW)
    return Invocation(Accepted(id=INV, target=target, created_at=NOW, **spec), head, 1)


@pytest.mark.parametrize("target", [GREET, PEEK, RUN, APPROVE])
def test_whoever_needs_no_lock_starts_at_once(target):
    assert say(None, submit(target)) == Transition(accepted(target), (Append(INV, 0, INPUT), Start(INV, 1)))


def test_an_exclusive_handler_asks_for_its_key_first():
    assert say(None, submit(ADD)) == Transition(
        accepted(ADD, status=Status.INBOXED, attempt=0),
        (Append(INV, 0, INPUT), Send(Acquire(K1, INV))),
    )


@pytest.mark.parametrize("target", [GREET, ADD, RUN])
@pytest.mark.parametrize("at", [NOW + 60_000, NOW - 60_000, 0])
def test_a_time_to_execute_is_armed_even_when_it_is_past(target, at):
    assert say(None, submit(target, execute_at=at)) == Transition(
        accepted(target, status=Status.SCHEDULED, attempt=0, execute_at=at),
        (Append(INV, 0, INPUT), SetTimer(INV, at, 0)),
    )


def test_all_that_is_fixed_at_acceptance_is_kept():
    message = submit(
        invoked_by="service", caller=waiter(), parent=CALLER, idempotency_key="once",
        completion_retention_ms=DAY, journal_retention_ms=DAY // 2, restarted_from=OTHER, seed=42,
    )  # fmt: skip
    kept = accepted(
        waiters=(waiter(),), invoked_by="service", caller=CALLER, idempotency_key="once",
        completion_retention_ms=DAY, journal_retention_ms=DAY // 2, restarted_from=OTHER, seed=42,
    )  # fmt: skip
    assert say(None, message).state == kept


# The same id again

ALIVE = [running(), scheduled(), pending(), suspended_on(1), paused()]


@pytest.mark.parametrize("inv", ALIVE)
def test_a_second_caller_joins_whoever_waits(inv):
    """The first submission wins: value, headers and delay of the second are ignored."""
    inv = head_with(inv, waiters=(waiter(),))
    joined = head_with(inv, waiters=(waiter(), waiter(OTHER, 5)))
    second = replace(submit(inv.spec.target), value=b"bob", caller=waiter(OTHER, 5), execute_at=NOW + 9)
    assert say(inv, second) == Transition(joined)


def test_a_second_caller_of_what_is_completed_gets_the_stored_result():
    for result in (Success(b"hello"), Failure(404, "no such greeting")):
        inv = completed(result)
        assert say(inv, submit(caller=waiter())) == Transition(
            inv, (Send(Notify(CALLER, 2, result, "Call")),)
        )


@pytest.mark.parametrize("inv", [*ALIVE, completed()])
def test_a_second_one_way_submission_is_absorbed(inv):
    assert say(inv, submit(inv.spec.target)) == Transition(inv)


@pytest.mark.parametrize(
    "inv", [running(RUN), scheduled(RUN), suspended_on(1, target=RUN), paused(RUN), completed(target=RUN)]
)
def test_a_workflow_runs_once_and_a_second_caller_is_told(inv):
    already = Failure(409, "the workflow method was already invoked")
    assert say(inv, submit(RUN, caller=waiter())) == Transition(
        inv, (Send(Notify(CALLER, 2, already, "Call")),)
    )
    assert say(inv, submit(RUN)) == Transition(inv)


def test_shared_handlers_of_a_workflow_are_joined_like_any_other():
    inv = running(APPROVE)
    assert say(inv, submit(APPROVE, caller=waiter())) == Transition(head_with(inv, waiters=(waiter(),)))


# Restart as new

PREFIX = (
    INPUT,
    Run(name="fetch", completion=1),
    Sleep(wake_at=T0, completion=2),
    Run(name="store", completion=3),
    Completion(1, "Run", Success(b"page")),
    Signal(17, Success(b"yes")),
    Signal("go", Failure(500, "no")),
    Completion(3, "Run", Failure(500, "disk full")),
    Signal(17, Success(b"again")),
    Signal("go", Success(b"now")),
    Completion(2, "Sleep", VOID),
)


def test_a_restart_brings_the_copied_journal_along():
    """Its input comes from the prefix; what was completed is known, and which of it failed."""
    restarted = say(None, submit(prefix=PREFIX, restarted_from=OTHER, invoked_by="restart_as_new"))
    expected = replace(
        accepted(restarted_from=OTHER, invoked_by="restart_as_new"),
        length=11, done=bits(1, 2, 3), failed=bits(3), signals=((17, 8), ("go", 9)), rejected=(("go", 6),),
    )  # fmt: skip
    copies = tuple(Append(INV, index, entry) for index, entry in enumerate(PREFIX))
    assert restarted == Transition(expected, (*copies, Start(INV, 1)))


def test_a_restarted_exclusive_invocation_waits_for_its_key_with_its_journal():
    restarted = say(None, submit(ADD, prefix=PREFIX[:1]))
    assert restarted.state == accepted(ADD, status=Status.INBOXED, attempt=0)
    assert restarted.effects == (Append(INV, 0, INPUT), Send(Acquire(K1, INV)))


def test_a_restart_from_the_output_only_has_to_end():
    prefix = (INPUT, Output(result=Success(b"draft")), Output(result=Success(b"hello")))
    restarted = say(None, submit(prefix=prefix))
    ended = say(restarted.state, End(INV, 1))
    assert restarted.state is not None
    assert restarted.state.length == 3
    assert ended == Transition(None, (Finished(INV, Success(b"hello")), DropJournal(INV)))
