"""One thread commits while another reads, as the engine does it."""

from __future__ import annotations

import threading
from pathlib import Path

from agentdur.core.journal import Input
from agentdur.core.ports import Filter, Timer, Writes
from agentdur.core.state import Status
from agentdur.stores import SqliteStore
from tests.stores.homes import commit
from tests.stores.samples import CART, T0, new

COMMITS = 150


def writes_of(number: int) -> Writes:
    """Commit `number`: an invocation and all that speaks of it."""
    writes = Writes()
    writes.invocations[number] = new(number)
    writes.journal = [(number, index, Input(value=b"x" * 100), T0) for index in range(5)]
    writes.timers = {Timer(T0 + number, number, 1)}
    writes.values[(CART, "last")] = str(number).encode()
    return writes


def test_a_reader_sees_whole_commits_in_their_order(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "a.db"))
    store.open()
    batches = [store.prepare(writes_of(number)) for number in range(1, COMMITS + 1)]
    writer = threading.Thread(target=lambda: [store.commit(batch) for batch in batches])
    writer.start()
    seen = [0]
    while seen[-1] < COMMITS:
        assert writer.is_alive() or len(store.list(Filter(limit=COMMITS))) == COMMITS
        last = store.next_seq() - 1
        if last:
            assert len(store.journal(last)) == 5
            assert int(store.values(CART)["last"]) >= last
            assert len(store.timers(COMMITS)) >= last
        seen.append(last)
    writer.join()
    assert seen == sorted(seen)
    store.close()


def test_a_recovery_that_takes_long_holds_no_commit_up(tmp_path: Path) -> None:
    """Between two pages of a long read others commit, and the log can still be emptied."""
    store = SqliteStore(str(tmp_path / "a.db"))
    store.open()
    first = Writes()
    first.invocations = {number: new(number) for number in range(1, 1201)}
    commit(store, first)
    running = store.running()
    seen = [next(running).seq]
    more = Writes()
    more.invocations = {1201: new(1201), 2: new(2, Status.SUSPENDED), 1100: new(1100, Status.SUSPENDED)}
    more.invocations = {
        seq: saved if seq == 1201 else type(saved)(seq, saved.spec, saved.head, False, True)
        for seq, saved in more.invocations.items()
    }
    commit(store, more)
    assert store._writer is not None
    busy, _, _ = store._writer.execute("pragma wal_checkpoint(truncate)").fetchone()
    assert busy == 0
    seen += [row.seq for row in running]
    assert seen == [number for number in range(1, 1202) if number != 1100]
    store.close()
