"""Every store answers as the one in memory does, after any history, and again after it was opened anew."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stores.histories import History, answers
from tests.stores.homes import HOMES, Home, MemoryHome, commit

OTHERS = [kind for kind in HOMES if kind is not MemoryHome]


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
@given(random=st.randoms(use_true_random=False), commits=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_any_history(kind: type[Home], random: Random, commits: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        compare(kind, Path(folder), History(random), commits)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", OTHERS)
def test_a_long_history(kind: type[Home], seed: int, tmp_path: Path) -> None:
    compare(kind, tmp_path, History(Random(seed)), 60)


def compare(kind: type[Home], folder: Path, history: History, commits: int) -> None:
    """Both stores, commit by commit."""
    reference, other = MemoryHome(folder), kind(folder)
    try:
        for _ in range(commits):
            writes = history.commit()
            commit(reference.store, writes)
            commit(other.store, writes)
            if history.random.random() < 0.3:
                other.reopen()
            assert answers(other.store, history) == answers(reference.store, history)
    finally:
        other.store.close()


def test_histories_reach_every_field_of_a_commit() -> None:
    """A comparison of nothing would always hold."""
    history, reached = History(Random(1)), set()
    for _ in range(40):
        writes = history.commit()
        reached |= {name for name in writes.__slots__ if getattr(writes, name)}
        reached |= {f"invocation {'gone' if s is None else s.new}" for s in writes.invocations.values()}
    assert reached >= set(writes.__slots__) | {"invocation gone", "invocation True", "invocation False"}
