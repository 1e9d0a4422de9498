"""What the code does now against what the journal recorded."""

import pytest

from agentdur.core import journal as j
from agentdur.core.replay import Mismatch, Recorded, check, describe
from tests.core.builders import OTHER

OK = j.Success(b"ok")
SEARCH = j.Run(name="search", completion=1)
CALL = j.Call(service="Greeter", handler="greet", parameter=b"ann", id_completion=2, completion=3)
NOTE = j.Run(name="note", branch="/notes#0", completion=4)
DEEP = j.Run(name="deep", branch="/notes#0/inner#0", completion=5)
LATER = j.Call(service="Counter", handler="add", key="k1", branch="/notes#0", id_completion=6, completion=7)


def journal(*entries: j.Entry) -> Recorded:
    return Recorded(list(enumerate((j.Input(value=b"in"), *entries))))


def test_most_attempts_replay_nothing_but_their_input():
    fresh = journal()
    assert (fresh.input.value, fresh.length, fresh.last_completion) == (b"in", 1, 0)
    assert fresh.leftover() is None
    assert fresh.calls_before(9) == []


def test_each_branch_has_its_own_commands_in_order():
    """The next one of a branch is at the end of its list."""
    recorded = journal(SEARCH, NOTE, CALL)
    assert recorded.branches == {"": [(3, CALL), (1, SEARCH)], "/notes#0": [(2, NOTE)]}
    assert (recorded.length, recorded.last_completion) == (4, 4)


def test_completions_and_signals_keep_their_place():
    done, cancel = j.Completion(1, "Run", OK), j.Signal(j.CANCEL_SIGNAL, j.VOID)
    first, second = j.Signal("go", OK), j.Signal("go", j.Failure())
    recorded = journal(SEARCH, first, done, cancel, second)
    assert recorded.completions == {1: (3, done)}
    assert recorded.signals == {"go": [(2, first), (5, second)], 1: [(4, cancel)]}
    assert recorded.cancels == (4,)


def test_a_signal_that_comes_later_belongs_to_this_attempt_only():
    one, other = journal(), journal()
    one.store_signal(1, j.Signal("go", OK))
    assert one.signals == {"go": [(1, j.Signal("go", OK))]}
    assert other.signals == {}


def test_the_first_command_the_code_did_not_make_is_found():
    recorded = journal(NOTE, SEARCH, DEEP)
    assert recorded.leftover() == (1, NOTE)
    assert recorded.leftover(frozenset({"/notes#0"})) == (2, SEARCH)
    recorded.branches[""].pop()
    assert recorded.leftover(frozenset({"/notes#0"})) is None


def test_a_branch_that_only_begins_alike_is_not_abandoned():
    assert journal(NOTE).leftover(frozenset({"/notes"})) == (1, NOTE)


def test_the_calls_made_so_far_are_found_in_every_branch():
    recorded = journal(LATER, SEARCH, CALL)
    assert recorded.calls_before(9) == [(1, LATER), (3, CALL)]
    assert recorded.calls_before(3) == [(1, LATER)]


SAME = [
    (SEARCH, j.Run(name="search", completion=9)),
    (j.Sleep(wake_at=1, completion=1), j.Sleep(wake_at=2, completion=1)),
    (j.GetEagerState(key="a", value=b"1"), j.GetEagerState(key="a", value=b"2")),
    (
        j.OneWayCall(service="Greeter", handler="greet", invoke_at=5, id_completion=1),
        j.OneWayCall(service="Greeter", handler="greet", invoke_at=9, id_completion=1),
    ),
]


@pytest.mark.parametrize(("recorded", "made"), SAME)
def test_numbers_clocks_and_what_was_read_come_from_the_journal(recorded, made):
    check(3, recorded, made)


OTHERS = [
    (SEARCH, j.Run(name="fetch", completion=1), "Run 'search'", "Run 'fetch'"),
    (SEARCH, j.Sleep(wake_at=1, completion=1), "Run 'search'", "Sleep"),
    (
        j.SetState(key="a", value=b"1"),
        j.SetState(key="a", value=b"2"),
        "SetState 'a' [value]",
        "SetState 'a' with another value",
    ),
    (
        CALL,
        j.Call(service="Greeter", handler="greet", parameter=b"bob", id_completion=2, completion=3),
        "Call Greeter/greet [parameter]",
        "Call Greeter/greet with another parameter",
    ),
]


@pytest.mark.parametrize(("recorded", "made", "was", "now"), OTHERS)
def test_another_command_is_a_mismatch_that_says_both(recorded, made, was, now):
    with pytest.raises(Mismatch) as mismatch:
        check(3, recorded, made)
    assert (mismatch.value.index, mismatch.value.recorded, mismatch.value.made) == (3, was, now)
    assert str(mismatch.value) == f"entry 3 is {was}, but the code made {now}"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (CALL, "Call Greeter/greet"),
        (LATER, "Call Counter/k1/add"),
        (j.GetLazyState(key="a", completion=1), "GetLazyState 'a'"),
        (j.PeekPromise(key="p", completion=1), "PeekPromise 'p'"),
        (SEARCH, "Run 'search'"),
        (j.SendSignal(target=OTHER, signal="go", outcome=j.VOID), "SendSignal"),
    ],
)
def test_a_command_reads_as_a_person_would_say_it(command, text):
    assert describe(command) == text
