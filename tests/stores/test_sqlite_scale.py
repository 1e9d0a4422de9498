"""A million parked invocations cost nothing: what recovery asks is answered from indexes.

Counted are steps of SQLite's machine, which are the same on every computer, and bytes held by Python.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentdur.core.ports import Filter
from agentdur.core.target import ObjectAddress
from agentdur.stores import SqliteStore
from tests.stores.homes import commit
from tests.stores.samples import T0, ended, invocation_id, new
from tests.stores.test_sqlite_faults import filled

RUNNING = 20
STEPS_PER_QUESTION_MAX = 60_000  # of which 1,000 timers with their ids are the most
BYTES_HELD_MAX = 4_000_000

SCANNED_NEVER = ("invocation", "journal", "state", "lock", "inbox", "promise", "i")

PARKED = """
insert into invocation (
    seq, id, service, handler, scope, service_kind, handler_kind, created_at, invoked_by,
    completion_retention_ms, journal_retention_ms, status, modified_at, attempt, failures, awaiting, seen,
    journal_kept
)
with recursive n(i) as (select 1 union all select i + 1 from n where i < ?)
select i, printf('inv_1%022x', (i * 2654435761) % 4294967296 * 1048576 + i), 'Agent', 'chat', '', 'Service',
    'Plain', 1790000000000 + i, 'ingress', 0, 0, 'suspended', 1790000000000 + i, 1, 0,
    '{"completions":[1],"signals":[],"nested":[],"combinator":1}', 0, 1
from n"""
TIMERS = "insert into timer select created_at + 86400000, seq, 1 from invocation where status = 'suspended'"


def parked(path: Path, count: int) -> SqliteStore:
    """A store with this many suspended invocations, each with a timer, and a few that run."""
    store = SqliteStore(str(path))
    store.open()
    assert store._writer is not None
    store._writer.execute(PARKED, (count,))
    store._writer.execute(TIMERS)
    for number in range(count + 1, count + 1 + RUNNING):
        commit(store, filled(number))
    store.close()
    return SqliteStore(str(path))


@contextmanager
def few_steps(store: SqliteStore) -> Iterator[None]:
    """Inside, no statement takes more than STEPS_PER_QUESTION_MAX."""
    assert store._reader is not None
    store._reader.set_progress_handler(lambda: 1, STEPS_PER_QUESTION_MAX)  # a true answer interrupts
    yield
    store._reader.set_progress_handler(None, 0)


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_recovery_costs_what_runs_and_not_what_is_parked(tmp_path: Path, count: int) -> None:
    store = parked(tmp_path / "a.db", count)
    tracemalloc.start()
    try:
        store.open()
        with few_steps(store):
            assert len(list(store.running())) == RUNNING
            assert [timer.seq for timer in store.timers(1000)] == list(range(1, 1001))
            assert store.next_seq() == count + 1 + RUNNING
            assert store.invocation(invocation_id(count + 1)) is not None
            assert store.expired(T0, 100) == ([], [])
            assert len(store.list(Filter(statuses=("running",)))) == RUNNING
            assert len(store.list(Filter(service="Agent", limit=50))) == 50
            assert store.list(Filter(service="Agent", key="ann")) == []
        _, held = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        store.close()
    assert held < BYTES_HELD_MAX


def test_a_question_that_looks_at_everything_is_noticed(tmp_path: Path) -> None:
    """The counting of steps would see a missing index."""
    store = parked(tmp_path / "a.db", 20_000)
    store.open()
    assert store._writer is not None
    for index in ("in_flight", "by_service", "by_key", "of_service_by_creation"):
        store._writer.execute(f"drop index invocation_{index}")
    questions: list[Callable[[], object]] = [
        lambda: list(store.running()),
        lambda: store.list(Filter(service="Nobody")),
        lambda: store.list(Filter(service="Agent", key="ann")),
    ]
    for question in questions:
        with pytest.raises(Exception, match="interrupted"), few_steps(store):
            question()
    store.close()


def test_every_question_has_its_index(tmp_path: Path) -> None:
    """As SQLite plans it: nothing but the timers, which are read in order, is scanned without an index."""
    store = SqliteStore(str(tmp_path / "a.db"))
    store.open()
    commit(store, filled(1))
    for number in range(2, 5):
        writes = filled(number)
        writes.invocations[number] = new(number, key="ann")
        commit(store, writes)
        writes = type(writes)()
        writes.invocations[number] = ended(number, "ann", expires_at=T0)
        commit(store, writes)
    asked = traced(store)
    assert len(asked) > 12
    assert store._reader is not None
    for sql in asked:
        plan = [row[3] for row in store._reader.execute(f"explain query plan {sql}")]
        scans = [line for line in plan if line.split()[0] == "SCAN" and line.split()[1] in SCANNED_NEVER]
        scans = [line for line in scans if "INDEX" not in line]
        assert scans == [] and "USE TEMP B-TREE FOR ORDER BY" not in plan, (sql, plan)
    store.close()


def traced(store: SqliteStore) -> list[str]:
    """The statements behind every question, with their parameters."""
    asked: list[str] = []
    assert store._reader is not None
    store._reader.set_trace_callback(asked.append)
    list(store.running())
    store.timers(10)
    store.expired(T0, 10)
    store.count()
    store.next_seq()
    store.invocation(invocation_id(1))
    store.journal(1)
    store.times(1)
    store.callees(1)
    store.object(ObjectAddress("Cart", "ann"))
    store.values(ObjectAddress("Cart", "ann"))
    store.list(Filter(service="Cart"))
    store.list(Filter(service="Cart", key="ann"))
    store.list(Filter(statuses=("running",)))
    store._reader.set_trace_callback(None)
    return asked
