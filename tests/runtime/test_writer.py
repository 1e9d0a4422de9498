"""How the writer shares commits among those who wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentdur.core.ids import InvocationId
from agentdur.core.ports import Writes
from agentdur.runtime.writer import Pace, Writer
from agentdur.stores.memory import MemoryStore
from tests.support.stage import InlineCommitter

CROWD = 40


class Always(Pace):
    """Commits and the loop's work overlap."""

    together = 4

    def overlapping(self) -> bool:
        return True


class Log(InlineCommitter):
    """Notes when a commit starts."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def submit(self, prepared: Any) -> None:
        self.lines.append("commit")
        super().submit(prepared)


def writer_of(committer: InlineCommitter) -> Writer:
    store = MemoryStore()
    store.open()

    def collect(writes: Writes) -> None:
        writes.journal_drops.add(1)  # any row: an empty commit is not made

    return Writer(store, committer, collect, lambda error: pytest.fail(str(error)))


async def crowd(writer: Writer, lines: list[str], rounds: int) -> None:
    """Callers in lockstep, each with one commit after another."""

    async def caller(name: InvocationId) -> None:
        for turn in range(rounds):
            writer.touch()
            future = writer.durable(writer.number)
            assert future is not None
            await future
            lines.append(f"{turn}")

    await asyncio.gather(*(caller(InvocationId(str(n))) for n in range(CROWD)))
    await writer.close()


async def test_a_crowd_in_lockstep_is_told_in_two_halves_with_a_commit_between_them():
    """So the loop works for one half while the commit of the other runs, and both stay in balance."""
    lines: list[str] = []
    committer = Log(lines)
    committer.pace = Always()
    await crowd(writer_of(committer), lines, rounds=4)
    assert [lines.count(str(turn)) for turn in range(4)] == [CROWD] * 4
    told = [len(group) for group in "".join("|" if x == "commit" else "x" for x in lines).split("|")]
    assert told[:2] == [0, CROWD // 2]
    assert max(told) < CROWD  # never again in lockstep


async def test_without_overlap_all_of_a_commit_are_told_before_the_next_one_starts():
    """Where the disk is slow, everybody shares one commit."""
    lines: list[str] = []
    await crowd(writer_of(Log(lines)), lines, rounds=3)
    assert lines == [x for turn in range(3) for x in ("commit", *[str(turn)] * CROWD)]


def test_the_pace_follows_what_commits_and_work_take():
    """Short commits overlap, long ones do not, and in between nothing changes to and fro."""
    pace = Pace()
    for commit, work, expected in ((0.001, 0.002, True), (0.0016, 0.001, True), (0.02, 0.001, False)):
        for _ in range(40):
            pace.committed(commit)
            pace.worked(work)
        assert pace.overlapping() is expected
    for _ in range(40):
        pace.committed(0.0016)
        pace.worked(0.001)
    assert not pace.overlapping()
