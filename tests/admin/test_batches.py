"""One action on many invocations at once, chosen by what they have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentdur.approvals.links import KEEPER, LINK_SECRET
from agentdur.core.ids import InvocationId
from tests.admin.conftest import World, quick

ACTIONS = ("cancel", "kill", "pause", "resume", "purge", "purge-journal", "restart-as-new")
ALL = ("scheduled", "pending", "running", "backing-off", "paused", "completed")


async def batch(world: World, action: str, **body: Any) -> Any:
    """What the batch route answers; `filter` is everything that exists unless it is said."""
    given = {"action": action, "filter": {"status": list(ALL)}, **body}
    answer = await world.http.post("/invocations/batch", json=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def statuses(world: World) -> dict[str, str]:
    shown = (await world.http.get("/invocations", params={"limit": 1000})).json()["invocations"]
    return {one["id"]: one["status"] for one in shown}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.slow
async def test_a_dry_run_says_what_the_real_run_then_does(world: World, action: str):
    for status in ALL:
        await world.started(status)
    before = await statuses(world)
    dry = await batch(world, action, dry_run=True)
    assert await statuses(world) == before
    real = await batch(world, action)
    olds = [one["old_invocation_id"] if isinstance(one, dict) else one for one in real["succeeded"]]
    dry_olds = [one["old_invocation_id"] if isinstance(one, dict) else one for one in dry["succeeded"]]
    assert (dry_olds, dry["failed"], dry["matched"]) == (olds, real["failed"], real["matched"])
    assert {one["id"]: one["status"] for one in dry["matched"]} == before
    assert len(olds) + len(real["failed"]) == len(before)
    assert olds
    assert await statuses(world) != before or action == "purge-journal"


async def test_without_a_status_an_action_means_those_it_is_for(world: World):
    made = {status: await world.started(status) for status in ALL}
    cancelled = await batch(world, "cancel", filter={"service": "Work"}, dry_run=True)
    assert cancelled["failed"] == []
    assert made["completed"] not in cancelled["succeeded"]
    assert {made["scheduled"], made["running"], made["backing-off"], made["paused"]} == set(
        cancelled["succeeded"]
    )
    resumed = await batch(world, "resume", filter={"service": "Work"}, dry_run=True)
    assert set(resumed["succeeded"]) == {made["backing-off"], made["paused"]}


@pytest.mark.parametrize("wanted", ["running", "backing-off", "paused", "succeeded", "failed"])
async def test_a_status_means_what_is_shown(world: World, wanted: str):
    for status in ALL:
        await world.started(status)
    killed = await world.started("running")
    await world.http.patch(f"/invocations/{killed}/kill")
    found = (await batch(world, "kill", filter={"status": wanted}, dry_run=True))["matched"]
    listed = (await world.http.get("/invocations", params={"status": wanted})).json()["invocations"]
    assert {one["id"] for one in found} == {one["id"] for one in listed}
    assert {one["status"] for one in found} == {"completed" if wanted in ("succeeded", "failed") else wanted}
    if wanted == "failed":
        assert [one["id"] for one in found] == [killed]


async def test_a_time_leaves_out_what_is_not_within(world: World):
    old = await world.started("running")
    listed = (await world.http.get("/invocations")).json()["invocations"]
    made = datetime.fromisoformat(next(one["created_at"] for one in listed if one["id"] == old))
    for filter, count in (
        ({"created_before": made.isoformat()}, 0),
        ({"created_before": (made + timedelta(milliseconds=1)).isoformat()}, 1),
        ({"created_after": made.isoformat()}, 0),
        ({"created_after": (made - timedelta(milliseconds=1)).isoformat()}, 1),
        ({"created_after": "2020-01-01T00:00:00+05:30", "created_before": "2030-01-01T00:00:00Z"}, 1),
    ):
        found = await batch(world, "kill", filter=filter, dry_run=True)
        assert len(found["matched"]) == count, filter


async def test_many_are_taken_some_at_a_time_and_each_once(world: World):
    sent = [(await world.client.service_send(quick, str(n))).invocation_id for n in range(7)]
    for one in sent:
        await world.client.attach(InvocationId(one))
    taken: list[str] = []
    after = None
    while True:
        page = await batch(world, "restart-as-new", filter={"service": "Work"}, limit=3, after=after)
        taken += [one["old_invocation_id"] for one in page["succeeded"]]
        after = page["after"]
        if after is None:
            break
    assert taken == sent[::-1]


async def test_agentdurs_own_are_left_alone_unless_they_are_named(world: World):
    await world.client.generic_send(KEEPER, "get", b"", LINK_SECRET, timedelta(hours=1))
    everything = await batch(world, "cancel", filter={"status": "scheduled"}, dry_run=True)
    assert everything["matched"] == []
    named = await batch(world, "cancel", filter={"service": KEEPER}, dry_run=True)
    assert len(named["succeeded"]) == 1


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"filter": {}}, 422),
        ({"filter": {"status": []}}, 422),
        ({"filter": {"service": ""}}, 422),
        ({"filter": {"status": "odd"}}, 422),
        ({"filter": {"servcie": "Work"}}, 422),
        ({"filter": {"created_after": "yesterday"}}, 422),
        ({"filter": {"created_after": "2026-01-01T00:00:00"}}, 422),
        ({"filter": None}, 422),
        ({"action": "explode"}, 422),
        ({"limit": 0}, 422),
        ({"limit": 1001}, 422),
        ({"after": -1}, 422),
        ({"after": 2**70}, 422),
        ({"dry-run": True}, 422),
        ({"deployment": "dp_x"}, 400),
    ],
)
async def test_a_filter_that_makes_no_sense_changes_nothing(
    world: World, change: dict[str, Any], answer: int
):
    await world.started("running")
    before = await statuses(world)
    body = {"action": "kill", "filter": {"status": "running"}, **change}
    given = await world.http.post("/invocations/batch", json=body)
    assert given.status_code == answer, given.text
    assert await statuses(world) == before


async def test_a_filter_that_nobody_fits_does_nothing(world: World):
    since = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for filter in ({"service": "Nobody"}, {"key": "nowhere"}, {"created_after": since}):
        found = await batch(world, "kill", filter=filter)
        assert (found["matched"], found["succeeded"], found["failed"], found["after"]) == ([], [], [], None)
