"""What every store does: what was committed is read, before and after it was closed."""

from __future__ import annotations

import pytest
from msgspec import structs

from agentdur.core.errors import StoreFailed
from agentdur.core.fifo import Fifo
from agentdur.core.journal import (
    Awaiting,
    CalleeId,
    Combinator,
    Completion,
    Failure,
    Input,
    Output,
    Run,
    Success,
)
from agentdur.core.ports import Filter, Row, Saved, Timer, Writes
from agentdur.core.state import (
    Accepted,
    Edit,
    FailedAttempt,
    Head,
    ObjectState,
    Place,
    PromiseState,
    Status,
    Waiter,
)
from agentdur.core.target import HandlerKind, ObjectAddress, PromiseAddress, ServiceKind, Target
from tests.stores.homes import Home, commit
from tests.stores.samples import (
    CALLEE,
    CART,
    ENTRIES,
    REFUSED,
    T0,
    accepted,
    ended,
    invocation_id,
    new,
)

RICH = Saved(
    7,
    Accepted(
        id=invocation_id(7),
        target=Target("Signup", "run", "ann/ü", ServiceKind.WORKFLOW, HandlerKind.WORKFLOW, "eu"),
        created_at=T0, invoked_by="restart_as_new", caller=invocation_id(3), idempotency_key="once",
        completion_retention_ms=1, journal_retention_ms=2, execute_at=T0 + 9, restarted_from=invocation_id(4),
        seed=2**64 - 1, traceparent="00-11-22-01",
    ),
    Head(
        status=Status.SUSPENDED, attempt=3, failures=2, retry_at=T0 + 8, last_failure=REFUSED,
        last_failure_entry=5, deployment="dp_1", protocol=7,
        awaiting=Awaiting((1, 2), ("go", 17), (Awaiting((3,)),), Combinator.ALL_COMPLETED), seen=4,
        waiters=(Waiter(invocation_id(1), 2), Waiter(invocation_id(2), 3, "Attach")), result=REFUSED,
        modified_at=T0 + 1, completed_at=T0 + 2,
    ),
    True, True, T0 + 3, T0 + 4,
)  # fmt: skip


def test_an_invocation_comes_back_with_every_field(home: Home) -> None:
    writes = Writes()
    writes.invocations = {7: RICH, 8: new(8)}
    commit(home.store, writes)
    home.reopen()
    assert home.store.invocation(invocation_id(7)) == Row(7, RICH.spec, RICH.head, True)
    assert home.store.invocation(invocation_id(8)) == Row(8, accepted(8), new(8).head, True)
    assert home.store.invocation(invocation_id(9)) is None


def test_the_last_head_counts_and_the_spec_stays(home: Home) -> None:
    """An invocation that changes is written again; what was accepted is not."""
    for saved in (new(1), ended(1, kept=False)):
        writes = Writes()
        writes.invocations[1] = saved
        commit(home.store, writes)
    home.reopen()
    assert home.store.invocation(invocation_id(1)) == Row(1, accepted(1), ended(1).head, False)


@pytest.mark.parametrize("result", [None, Success(b""), Success(b"\x00\xff"), REFUSED], ids=str)
def test_a_result_is_value_failure_or_not_there_yet(home: Home, result: Success | Failure | None) -> None:
    """Also when it is there from the beginning: an invocation that was canceled before it began."""
    writes = Writes()
    writes.invocations[1] = new(1, Status.COMPLETED, result=result)
    commit(home.store, writes)
    found = home.store.invocation(invocation_id(1))
    assert found is not None and found.head.result == result


def test_an_id_comes_back_under_another_number(home: Home) -> None:
    """A record is purged and the same idempotent request comes again, in one commit."""
    first = Writes()
    first.invocations[1] = new(1)
    commit(home.store, first)
    again = Writes()
    again.invocations[2] = Saved(2, accepted(1), Head(status=Status.INVOKED), True, True)
    again.invocations[1] = None
    commit(home.store, again)
    home.reopen()
    found = home.store.invocation(invocation_id(1))
    assert found is not None and found.seq == 2
    assert [row.seq for row in home.store.list(Filter())] == [2]


def test_a_journal_comes_back_in_order_whatever_its_kinds(home: Home) -> None:
    entries = list(ENTRIES.values())
    writes = Writes()
    writes.journal = [(4, n, entry, T0 + n) for n, entry in reversed(list(enumerate(entries)))]
    writes.journal.append((5, 0, Input(), T0))
    commit(home.store, writes)
    home.reopen()
    assert home.store.journal(4) == list(enumerate(entries))
    assert home.store.times(4) == [(n, T0 + n) for n in range(len(entries))]
    assert home.store.journal(5) == [(0, Input())]
    assert home.store.journal(6) == home.store.times(6) == []


def test_a_journal_grows_and_goes(home: Home) -> None:
    """A drop takes what the same commit adds."""
    for index in range(3):
        writes = Writes()
        writes.journal = [(1, index, Run(completion=index), T0), (2, index, Run(completion=index), T0)]
        commit(home.store, writes)
    drop = Writes()
    drop.journal = [(1, 3, Output(result=Success()), T0)]
    drop.journal_drops = {1}
    commit(home.store, drop)
    home.reopen()
    assert home.store.journal(1) == []
    assert [index for index, _ in home.store.journal(2)] == [0, 1, 2]


def test_failed_attempts_come_in_order_and_go_by_number_or_all_at_once(home: Home) -> None:
    """Every field comes back; drops take what the same commit adds; the invocation's row is not asked."""
    full = FailedAttempt(
        number=3, attempt=7, started_at=T0, ended_at=T0 + 5, code=418, message="ü\n", reason="AD0031",
        entry=4, length=6, deployment="dp_1", node="here", retry_at=T0 + 9,
    )  # fmt: skip
    plain = [FailedAttempt(number=n, attempt=n, ended_at=T0, code=500, message="") for n in (1, 2)]
    writes = Writes()
    writes.attempts = {(1, 3): full, (1, 1): plain[0], (1, 2): plain[1], (2, 1): plain[0], (3, 1): plain[0]}
    commit(home.store, writes)
    home.reopen()
    assert home.store.attempts(1) == [*plain, full]
    drops = Writes()
    drops.attempts = {(1, 4): structs.replace(full, number=4), (3, 2): plain[1]}
    drops.attempt_drops = [(1, 1), (1, 2), (1, 9)]
    drops.attempts_gone = {3, 4}
    commit(home.store, drops)
    home.reopen()
    assert [one.number for one in home.store.attempts(1)] == [3, 4]
    assert home.store.attempts(2) == [plain[0]]
    assert home.store.attempts(3) == home.store.attempts(4) == []


def test_history_is_not_written_twice(home: Home) -> None:
    """The second commit is refused as a whole, and nothing of it is seen."""
    writes = Writes()
    writes.invocations[1] = new(1)
    writes.journal = [(1, 0, Input(value=b"first"), T0)]
    commit(home.store, writes)
    other_entry, other_id, same_seq, twice = Writes(), Writes(), Writes(), Writes()
    other_entry.journal = [(1, 1, Run(completion=1), T0), (1, 0, Input(value=b"second"), T0)]
    other_id.invocations[2] = Saved(2, accepted(1), Head(status=Status.INVOKED), True, True)
    same_seq.invocations[1] = Saved(1, accepted(9), Head(status=Status.INVOKED), True, True)
    twice.journal = [(1, 1, Run(completion=1), T0), (1, 1, Run(completion=1), T0)]
    for refused in (other_entry, other_id, same_seq, twice):
        refused.timers = {Timer(T0, 1, 1)}
        with pytest.raises(StoreFailed):
            commit(home.store, refused)
        home.reopen()
        assert home.store.timers(1) == []
    assert home.store.journal(1) == [(0, Input(value=b"first"))]


def test_the_callees_are_those_that_were_given_an_id(home: Home) -> None:
    writes = Writes()
    writes.journal = [
        (1, 0, ENTRIES["Call"], T0),
        (1, 1, Completion(8, "CallId", CalleeId(CALLEE)), T0),
        (1, 2, Completion(9, "Call", Success(b"1")), T0),
        (1, 3, Completion(10, "CallId", CalleeId(invocation_id(5))), T0),
        (2, 0, Completion(1, "CallId", CalleeId(invocation_id(6))), T0),
    ]
    commit(home.store, writes)
    assert home.store.callees(1) == [CALLEE, invocation_id(5)]
    assert home.store.callees(3) == []


def test_state_is_kept_by_key_and_dropped_before_it_is_set(home: Home) -> None:
    other = ObjectAddress("Cart", "ann", "eu")
    first = Writes()
    first.values = {(CART, "a"): b"1", (CART, "b"): b"", (other, "a"): b"9"}
    commit(home.store, first)
    second = Writes()
    second.values = {(CART, "a"): None, (CART, "c"): b"3", (CART, "never"): None}
    commit(home.store, second)
    home.reopen()
    assert home.store.values(CART) == {"b": b"", "c": b"3"}
    assert [home.store.value(CART, name) for name in ("a", "b", "c")] == [None, b"", b"3"]
    third = Writes()
    third.values_dropped = {CART}
    third.values = {(CART, "new"): b"4"}
    commit(home.store, third)
    home.reopen()
    assert home.store.values(CART) == {"new": b"4"}
    assert home.store.values(other) == {"a": b"9"}
    assert home.store.values(ObjectAddress("Cart", "bob")) == {}


def test_a_key_is_locked_waited_for_and_free_again(home: Home) -> None:
    edit = Edit((("a", b"\x00"), ("b", b"")), "v1")
    writes = Writes()
    writes.locks[CART] = invocation_id(1)
    writes.inbox = {(CART, 10): invocation_id(3), (CART, 2): invocation_id(2), (CART, 11): edit}
    commit(home.store, writes)
    home.reopen()
    places = [Place(2, invocation_id(2)), Place(10, invocation_id(3)), Place(11, edit)]
    assert home.store.object(CART) == ObjectState(invocation_id(1), Fifo.of(places), 12)
    leave = Writes()
    leave.locks[CART] = None
    leave.inbox = {(CART, 12): invocation_id(4)}
    leave.inbox_drops = [(CART, 2), (CART, 11), (CART, 12)]
    commit(home.store, leave)
    assert home.store.object(CART) == ObjectState(None, Fifo.of([Place(10, invocation_id(3))]), 11)
    last = Writes()
    last.inbox_drops = [(CART, 10)]
    commit(home.store, last)
    home.reopen()
    assert home.store.object(CART) is None


@pytest.mark.parametrize("result", [None, Success(b""), Success(b"1"), REFUSED], ids=str)
def test_a_promise_is_open_resolved_or_rejected(home: Home, result: Success | Failure | None) -> None:
    address = PromiseAddress("Signup", "ann", "approved")
    waiting = PromiseState(None, ((invocation_id(1), 3), (invocation_id(2), 4)))
    for state in (PromiseState(), waiting, PromiseState(result)):
        writes = Writes()
        writes.promises[address] = state
        commit(home.store, writes)
        home.reopen()
        assert home.store.promise(address) == state
    assert home.store.promise(address._replace(name="other")) is None


def test_the_promises_of_a_key_go_before_new_ones_come(home: Home) -> None:
    signup = ObjectAddress("Signup", "ann")
    old, kept = PromiseAddress("Signup", "ann", "old"), PromiseAddress("Signup", "bob", "old")
    writes = Writes()
    writes.promises = {old: PromiseState(), kept: PromiseState()}
    commit(home.store, writes)
    again = Writes()
    again.promise_drops = {signup}
    again.promises = {old._replace(name="new"): PromiseState(Success(b"1"))}
    commit(home.store, again)
    home.reopen()
    assert home.store.promise(old) is None
    assert home.store.promise(kept) == PromiseState()
    assert home.store.promise(old._replace(name="new")) == PromiseState(Success(b"1"))


def test_timers_come_by_time_with_the_id_of_their_invocation(home: Home) -> None:
    """One of an invocation that is gone is not shown; one further away than time goes is the last."""
    writes = Writes()
    writes.invocations = {1: new(1), 2: new(2)}
    writes.timers = {
        Timer(T0 + 9, 1, 3),
        Timer(T0, 2, 0),
        Timer(T0, 1, 1),
        Timer(T0, 5, 1),
        Timer(2**64, 1, 4),
    }
    commit(home.store, writes)
    home.reopen()
    one, two = invocation_id(1), invocation_id(2)
    first, second = Timer(T0, 1, 1, one), Timer(T0, 2, 0, two)
    assert home.store.timers(2) == [first, second]
    assert home.store.timers(9)[2:] == [Timer(T0 + 9, 1, 3, one), Timer(2**63 - 1, 1, 4, one)]
    fired = Writes()
    fired.timer_drops = {first, Timer(2**64, 1, 4), Timer(T0 + 1, 7, 7)}
    commit(home.store, fired)
    assert home.store.timers(9) == [second, Timer(T0 + 9, 1, 3, one)]


def test_recovery_finds_exactly_what_runs(home: Home) -> None:
    writes = Writes()
    writes.invocations = {n + 1: new(n + 1, status) for n, status in enumerate([*Status, Status.INVOKED])}
    commit(home.store, writes)
    home.reopen()
    running = [row for row in home.store.running()]
    assert [row.head.status for row in running] == [Status.INVOKED] * 2
    assert [row.seq for row in running] == sorted(row.seq for row in running)
    assert home.store.count() == {s.value: 2 if s is Status.INVOKED else 1 for s in Status}
    assert home.store.next_seq() == len(Status) + 2


def test_an_empty_store_has_nothing(home: Home) -> None:
    commit(home.store, Writes())
    assert home.store.next_seq() == 1
    assert list(home.store.running()) == home.store.timers(9) == list(home.store.list(Filter())) == []
    assert home.store.expired(T0, 9) == ([], [])
    assert home.store.count() == {}


def test_the_next_number_is_above_a_journal_that_stayed_alone(home: Home) -> None:
    writes = Writes()
    writes.invocations[3] = new(3)
    writes.journal = [(8, 0, Input(), T0)]
    commit(home.store, writes)
    home.reopen()
    assert home.store.next_seq() == 9


def test_what_is_past_its_retention_comes_longest_overdue_first(home: Home) -> None:
    """A record at its time, a journal only while it is kept; what is still running never."""
    writes = Writes()
    writes.invocations = {n: new(n) for n in range(1, 6)}
    commit(home.store, writes)
    ends = Writes()
    ends.invocations = {
        1: ended(1, expires_at=T0 + 20),
        2: ended(2, expires_at=T0 + 10, kept=False),
        3: ended(3, expires_at=T0 + 30),
        4: ended(4),
    }
    commit(home.store, ends)
    home.reopen()
    records, journals = home.store.expired(T0 + 20, 9)
    assert ([row.seq for row in records], [row.seq for row in journals]) == ([2, 1], [1])
    records, journals = home.store.expired(T0 + 99, 1)
    assert ([row.seq for row in records], [row.seq for row in journals]) == ([2], [1])


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (Filter(), [6, 5, 4, 3, 2, 1]),
        (Filter(limit=2), [6, 5]),
        (Filter(limit=2, after_seq=5), [4, 3]),
        (Filter(service="Cart"), [6, 4, 2]),
        (Filter(service="Cart", key="ann"), [6, 2]),
        (Filter(key="bob"), [4]),
        (Filter(handler="send"), [5, 3, 1]),
        (Filter(statuses=("completed",)), [6, 1]),
        (Filter(statuses=("pending", "running"), service="Mail"), [5, 3]),
        (Filter(statuses=("completed", "running"), key="ann"), [6, 2]),
        (Filter(service="Nobody"), []),
        (Filter(deployment="dp_1"), [5]),
        (Filter(deployment="dp_1", statuses=("suspended", "completed")), []),
        (Filter(deployment="dp_2"), []),
    ],
    ids=str,
)
def test_a_list_shows_the_newest_of_what_was_asked_for(home: Home, which: Filter, found: list[int]) -> None:
    writes = Writes()
    writes.invocations = {
        1: new(1, Status.COMPLETED), 2: new(2, key="ann"), 3: new(3, Status.INBOXED),
        4: new(4, Status.SUSPENDED, key="bob"), 5: new(5, deployment="dp_1"),
        6: new(6, Status.COMPLETED, key="ann"),
    }  # fmt: skip
    commit(home.store, writes)
    assert [row.seq for row in home.store.list(which)] == found


def test_text_that_is_hard_to_say_stays_what_it_is(home: Home) -> None:
    """A key with a NUL character is another key than what stands before it."""
    texts = ["ann\0bob", "ann", '"', "\\u0000", "ü€😀", "", "null", "17", "\ud7ff\uffff", "[]"]
    writes = Writes()
    for n, text in enumerate(texts, 1):
        address = ObjectAddress("Cart", text)
        writes.invocations[n] = new(n, key=text)
        writes.values[(address, text)] = text.encode()
        writes.locks[address] = invocation_id(n)
        writes.journal.append((n, 0, Run(name=text, branch=text, completion=1), T0))
        writes.journal.append((n, 1, ENTRIES["Call"], T0))
    commit(home.store, writes)
    home.reopen()
    for n, text in enumerate(texts, 1):
        address = ObjectAddress("Cart", text)
        found = home.store.invocation(invocation_id(n))
        assert found is not None and found.spec.target.key == text
        assert home.store.values(address) == {text: text.encode()}
        assert home.store.object(address) == ObjectState(invocation_id(n))
        assert home.store.journal(n) == [(0, Run(name=text, branch=text, completion=1)), (1, ENTRIES["Call"])]


def test_a_commit_is_what_was_there_when_it_was_prepared(home: Home) -> None:
    """The engine goes on collecting while the writer commits."""
    writes = Writes()
    writes.timers = {Timer(T0, 1, 1)}
    writes.invocations[1] = new(1)
    prepared = home.store.prepare(writes)
    writes.invocations[2] = new(2)
    writes.timers.clear()
    home.store.commit(prepared)
    assert home.store.timers(9) == [Timer(T0, 1, 1, invocation_id(1))]
    assert home.store.invocation(invocation_id(2)) is None


def test_nothing_is_seen_before_it_is_committed(home: Home) -> None:
    writes = Writes()
    writes.invocations[1] = new(1)
    home.store.prepare(writes)
    assert home.store.invocation(invocation_id(1)) is None
    assert home.store.next_seq() == 1
