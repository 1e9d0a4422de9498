"""One run is one trace, wherever the process dies: the spans of the dead and of its successor are one
tree."""

from __future__ import annotations

import asyncio

import pytest

from agentdur.core.journal import Completion
from agentdur.core.ports import Filter
from agentdur.core.state import Status
from agentdur.core.trace import span_of, span_of_entry
from agentdur.telemetry.pipeline import Telemetry
from tests.support.boundaries import every_boundary
from tests.support.fixtures import IN_MEMORY_AT_ONCE
from tests.support.stage import InlineCommitter, Stage
from tests.support.stories import just
from tests.telemetry.world import ORDER, Kept, all_ended, by_id, keeping, shapes, shop, told_of


async def undisturbed(stage: Stage) -> Kept:
    telemetry, kept = keeping()
    await stage.start(shop(), observer=telemetry)
    await ordered(stage)
    telemetry.drain()
    await stage.close()
    assert shapes(kept.spans) == [ORDER]
    return kept


async def ordered(stage: Stage) -> str:
    order = stage.app.services[0].handlers["order"].fn
    answer = await stage.client.service_call(order, "lamp", idempotency_key="one lamp")
    await all_ended(stage)
    return answer


@IN_MEMORY_AT_ONCE
@pytest.mark.parametrize(
    "sent", [True, False], ids=["what was committed has left", "what was committed was lost"]
)
@pytest.mark.slow
async def test_at_every_commit_both_lives_together_say_one_tree(stage: Stage, sent: bool):
    """What ended in the dead process and had not left is missing, and nothing else: whoever goes on tells
    all of it again, under the same ids."""
    whole = by_id((await undisturbed(stage)).spans)
    lives: list[tuple[Telemetry, Kept]] = []

    def observe() -> Telemetry:
        lives.append(keeping())
        return lives[-1][0]

    crashes = 0
    async for crashed in every_boundary(stage, [shop()], lambda: ordered(stage), lives.clear, observe):
        assert crashed.answer == "lamp: 4"
        crashes += 1
        (dead, before), (alive, after) = lives
        if sent:
            dead.drain()
        alive.drain()
        assert len({span.span_id for span in after.spans}) == len(after.spans), "one life tells nothing twice"
        together = by_id([*before.spans, *after.spans])
        goes_on = {told_of(span) for span in after.spans}
        missing = {whole[lost].name for lost in set(whole) - set(together) if told_of(whole[lost]) in goes_on}
        assert not missing, f"{crashed}: {missing}"
        assert set(together) <= set(whole), crashed
        for name, span in together.items():
            assert (span.trace_id, span.parent_id, span.name) == (
                whole[name].trace_id, whole[name].parent_id, whole[name].name,
            )  # fmt: skip
        if not crashed.after and sent:
            assert shapes(together.values()) == [ORDER], crashed
    assert crashes >= 8


async def test_nothing_is_told_before_it_is_committed(stage: Stage):
    """The process dies at each commit in turn, before it is made; what was told is in the journals."""
    told = 0
    for limit in range(1, 9):
        stage.fresh()
        telemetry, kept = keeping()
        committer = InlineCommitter(limit)
        await stage.start(shop(), observer=telemetry, committer=just(committer))
        asking = asyncio.ensure_future(ordered(stage))
        crashed = asyncio.ensure_future(committer.crashed.wait())
        await asyncio.wait({asking, crashed}, return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        telemetry.drain()
        await stage.crash()
        stage.store.open()
        stored = {
            span_of_entry(row.spec.id, entry.id)
            for row in stage.store.list(Filter())
            for _, entry in stage.store.journal(row.seq)
            if isinstance(entry, Completion)
        }
        ended = {
            span_of(row.spec.id) for row in stage.store.list(Filter()) if row.head.status is Status.COMPLETED
        }
        stage.store.close()
        crashed.cancel()
        told += len(kept.spans)
        assert {span.span_id for span in kept.spans} <= stored | ended, limit
    assert told > 5
