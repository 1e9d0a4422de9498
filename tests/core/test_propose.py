"""What a running attempt wants to do: steps, state, sleeps, promises, signals; and what is refused."""

import pytest
from msgspec.structs import replace

from agentdur.core.commands import Propose, ReadPromise, Release, SettlePromise, SignalTo
from agentdur.core.effects import (
    Append,
    DropState,
    Find,
    Finished,
    PutState,
    ReadState,
    Refuse,
    Send,
    SetTimer,
    Transition,
)
from agentdur.core.ids import InvocationId, awakeable_id
from agentdur.core.journal import (
    VOID,
    AttachInvocation,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    IdempotentRef,
    Input,
    InvocationRef,
    Output,
    PeekPromise,
    Run,
    RunResult,
    SendSignal,
    SetState,
    Sleep,
    Success,
    WorkflowRef,
)
from agentdur.core.state import Status
from agentdur.core.target import PromiseAddress, Target
from tests.core.builders import (
    ADD,
    ANN,
    APPROVE,
    GREET,
    INV,
    K1,
    NOW,
    OOPS,
    OTHER,
    PEEK,
    RUN,
    bits,
    head_with,
    running,
    say,
)

OK = Success(b"ok")


def propose(target: Target, *entries):
    """What follows when the first attempt of `target` wants these, its journal holding the input only."""
    return say(running(target), Propose(INV, 1, entries))


def after(target: Target = GREET, *, length: int, open: tuple[int, ...] = (), done: tuple[int, ...] = ()):
    return running(target, length=length, open=open, done=done)


def refused(message: str, code: str = "RT0017") -> Refuse:
    return Refuse(INV, 1, Failure(500, message, (("restate_code", code),)))


# Steps, output, sleep


def test_a_step_is_stored_before_its_action_runs():
    step = Run(name="search", completion=1)
    assert propose(GREET, step) == Transition(after(length=2, open=(1,)), (Append(INV, 1, step),))


def test_the_result_of_a_step_becomes_its_completion():
    """It is not delivered back: whoever proposed it has it already."""
    inv = running(length=2, open=(1,))
    stored = Completion(1, "Run", OK, '{"tokens":3}')
    assert say(inv, Propose(INV, 1, (RunResult(1, OK, '{"tokens":3}'),))) == Transition(
        after(length=3, done=(1,)), (Append(INV, 2, stored),)
    )


def test_a_step_may_fail_for_good():
    state = say(running(length=2, open=(1,)), Propose(INV, 1, (RunResult(1, OOPS),))).state
    assert state == replace(after(length=3, done=(1,)), failed=bits(1))


def test_a_step_and_its_result_may_come_together():
    both = propose(GREET, Run(completion=1), RunResult(1, OK))
    assert both.state == after(length=3, done=(1,))
    assert [type(effect) for effect in both.effects] == [Append, Append]


@pytest.mark.parametrize("done", [(), (1,)])
def test_a_result_is_accepted_only_while_its_step_is_open(done):
    inv = running(length=2, done=done)
    assert say(inv, Propose(INV, 1, (RunResult(1, OK),))) == Transition(
        inv, (refused("no Run command is open with completion id 1"),)
    )


def test_the_last_output_wins():
    first, last = Output(result=OK), Output(result=OOPS)
    assert propose(GREET, first, last) == Transition(
        replace(after(length=3), output=OOPS), (Append(INV, 1, first), Append(INV, 2, last))
    )


@pytest.mark.parametrize("wake_at", [NOW + 60_000, NOW - 60_000])
def test_a_sleep_arms_a_timer_even_for_the_past(wake_at):
    sleep = Sleep(wake_at=wake_at, completion=4)
    assert propose(GREET, sleep) == Transition(
        after(length=2, open=(4,)), (Append(INV, 1, sleep), SetTimer(INV, wake_at, 4))
    )


def test_nothing_proposed_is_nothing_done():
    assert propose(GREET) == Transition(running())


def test_the_input_is_the_engines_to_write():
    assert propose(GREET, Input(value=b"mine")) == Transition(
        running(), (refused("Input is written by the engine"),)
    )


def test_what_follows_a_refused_entry_is_discarded_and_what_came_before_is_kept():
    sleep, late = Sleep(wake_at=NOW, completion=1), Run(completion=2)
    assert propose(GREET, sleep, SetState(key="a", value=b"1"), late) == Transition(
        after(length=2, open=(1,)),
        (Append(INV, 1, sleep), SetTimer(INV, NOW, 1), refused("a plain service has no state")),
    )


# The end, in the same breath


def ended(inv, result=OK):
    return head_with(inv, status=Status.COMPLETED, result=result, modified_at=NOW, completed_at=NOW)


def test_an_output_and_the_end_may_come_together():
    """One commit for the last step of a handler: what it stored, its result, and everyone's answer."""
    output = Output(result=OK)
    transition = say(running(ADD), Propose(INV, 1, (output,), (), True))
    assert transition == Transition(
        ended(after(ADD, length=2)),
        (Append(INV, 1, output), Send(Release(K1, INV)), Finished(INV, OK)),
    )


def test_the_end_may_come_alone_when_the_output_was_stored_before():
    inv = replace(running(length=2), output=OOPS)
    assert say(inv, Propose(INV, 1, (), (), True)) == Transition(
        ended(running(length=2), OOPS), (Finished(INV, OOPS),)
    )


def test_an_end_without_an_output_is_a_failed_attempt():
    step = Run(completion=1)
    error = Failure(500, "the handler ended without an output")
    assert say(running(), Propose(INV, 1, (step,), (), True)) == Transition(
        after(length=2, open=(1,)), (Append(INV, 1, step), Refuse(INV, 1, error))
    )


def test_an_end_behind_a_refused_entry_is_discarded_with_the_rest():
    output = Output(result=OK)
    assert say(running(), Propose(INV, 1, (output, ClearAllState()), (), True)) == Transition(
        replace(after(length=2), output=OK),
        (Append(INV, 1, output), refused("a plain service has no state")),
    )


# State

READS = [
    GetEagerState(key="a", value=b"1"),
    GetEagerState(key="a", value=None),
    GetEagerStateKeys(keys=("a",)),
]
LAZY = [(GetLazyState(key="a", completion=1), "a"), (GetLazyStateKeys(completion=1), None)]
WRITES = [
    (SetState(key="a", value=b""), "a", b""),
    (SetState(key="a", value=b"1"), "a", b"1"),
    (ClearState(key="a"), "a", None),
]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("target", [ADD, PEEK, RUN, APPROVE])
def test_a_read_that_was_at_hand_is_only_stored(read, target):
    assert propose(target, read) == Transition(after(target, length=2), (Append(INV, 1, read),))


@pytest.mark.parametrize(("read", "name"), LAZY)
@pytest.mark.parametrize(("target", "key"), [(ADD, K1), (PEEK, K1), (RUN, ANN), (APPROVE, ANN)])
def test_a_lazy_read_is_answered_by_the_engine(read, name, target, key):
    assert propose(target, read) == Transition(
        after(target, length=2, open=(1,)), (Append(INV, 1, read), ReadState(INV, key, 1, name))
    )


@pytest.mark.parametrize(("write", "name", "value"), WRITES)
@pytest.mark.parametrize(("target", "key"), [(ADD, K1), (RUN, ANN)])
def test_a_write_takes_effect_when_it_is_stored(write, name, value, target, key):
    """Not at the end of the handler: there is no rollback."""
    assert propose(target, write) == Transition(
        after(target, length=2), (Append(INV, 1, write), PutState(key, name, value))
    )


@pytest.mark.parametrize(("target", "key"), [(ADD, K1), (RUN, ANN)])
def test_clearing_all_drops_the_state_of_the_key(target, key):
    clear = ClearAllState()
    assert propose(target, clear) == Transition(
        after(target, length=2), (Append(INV, 1, clear), DropState(key))
    )


@pytest.mark.parametrize("entry", [*READS, *(each[0] for each in (*LAZY, *WRITES)), ClearAllState()])
def test_a_plain_service_has_no_state(entry):
    assert propose(GREET, entry) == Transition(running(), (refused("a plain service has no state"),))


@pytest.mark.parametrize("write", [*(each[0] for each in WRITES), ClearAllState()])
@pytest.mark.parametrize("target", [PEEK, APPROVE])
def test_a_shared_handler_may_not_write(write, target):
    reason = f"{target.service}/{target.key}/{target.handler} is a shared handler and may not write state"
    assert propose(target, write) == Transition(running(target), (refused(reason),))


# Promises

APPROVAL = PromiseAddress("Signup", "ann", "approval")
PROMISES = [
    (GetPromise(key="approval", completion=1), ReadPromise(APPROVAL, INV, 1, wait=True)),
    (PeekPromise(key="approval", completion=1), ReadPromise(APPROVAL, INV, 1, wait=False)),
    (CompletePromise(key="approval", result=OK, completion=1), SettlePromise(APPROVAL, OK, INV, 1)),
    (CompletePromise(key="approval", result=OOPS, completion=1), SettlePromise(APPROVAL, OOPS, INV, 1)),
]


@pytest.mark.parametrize(("command", "message"), PROMISES)
@pytest.mark.parametrize("target", [RUN, APPROVE])
def test_every_handler_of_a_workflow_has_its_promises(command, message, target):
    assert propose(target, command) == Transition(
        after(target, length=2, open=(1,)), (Append(INV, 1, command), Send(message))
    )


@pytest.mark.parametrize("command", [each[0] for each in PROMISES])
@pytest.mark.parametrize("target", [GREET, ADD, PEEK])
def test_only_workflows_have_promises(command, target):
    assert propose(target, command) == Transition(
        running(target), (refused(f"{target} is not a workflow and has no promises"),)
    )


def test_promises_of_one_key_in_two_scopes_are_two():
    scoped = replace(RUN, scope="eu")
    sent = propose(scoped, GetPromise(key="approval", completion=1)).effects[1]
    address = PromiseAddress("Signup", "ann", "approval", "eu")
    assert sent == Send(ReadPromise(address, INV, 1, wait=True))


# Signals and awakeables


@pytest.mark.parametrize(("signal", "outcome"), [(1, VOID), ("go", OK), (17, OOPS)])
def test_a_signal_goes_to_the_invocation_it_names(signal, outcome):
    command = SendSignal(target=OTHER, signal=signal, outcome=outcome)
    assert propose(GREET, command) == Transition(
        after(length=2), (Append(INV, 1, command), Send(SignalTo(OTHER, signal, outcome)))
    )


def test_a_signal_to_something_that_is_no_invocation_is_refused():
    command = SendSignal(target=InvocationId("inv_1nonsense"), signal="go", outcome=VOID)
    assert propose(GREET, command) == Transition(
        running(), (refused("bad invocation id 'inv_1nonsense': bad length"),)
    )


@pytest.mark.parametrize("result", [OK, OOPS])
def test_an_awakeable_is_a_signal_to_its_invocation(result):
    command = CompleteAwakeable(awakeable=awakeable_id(OTHER, 17), result=result)
    assert propose(GREET, command) == Transition(
        after(length=2), (Append(INV, 1, command), Send(SignalTo(OTHER, 17, result)))
    )


def test_an_awakeable_nobody_can_have_made_is_refused():
    transition = propose(GREET, CompleteAwakeable(awakeable="sign_1nonsense", result=OK))
    assert transition.state == running()
    (refusal,) = transition.effects
    assert isinstance(refusal, Refuse)
    assert refusal.error.metadata == (("restate_code", "RT0017"),)
    assert "sign_1nonsense" in refusal.error.message


# Attaching

REFS = [InvocationRef(OTHER), WorkflowRef("Signup", "bob"), IdempotentRef("Greeter", "greet", "once")]


@pytest.mark.parametrize("ref", REFS)
def test_attach_waits_for_the_result_and_output_only_looks(ref):
    attach = AttachInvocation(target=ref, completion=1)
    assert propose(GREET, attach) == Transition(
        after(length=2, open=(1,)), (Append(INV, 1, attach), Find(INV, ref, 1, wait=True))
    )
    look = GetInvocationOutput(target=ref, completion=1)
    assert propose(GREET, look) == Transition(
        after(length=2, open=(1,)), (Append(INV, 1, look), Find(INV, ref, 1, wait=False))
    )
