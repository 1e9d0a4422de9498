"""Intervening: every action on an invocation in every status."""

from __future__ import annotations

import pytest

from agentdur.core.catalog import IN_PROCESS
from tests.admin.conftest import World, quick, run, step

UNKNOWN = "inv_1cixoeqOzcLa6IRaXfbBYPAiNxd2EKgA9a"

STATUSES = ("scheduled", "pending", "running", "backing-off", "paused", "completed")
TABLE = {
    "cancel":         (200, 200, 202, 202, 202, 409),
    "kill":           (200, 200, 200, 200, 200, 409),
    "pause":          (409, 409, 202, 202, 200, 409),
    "resume":         (425, 425, 200, 200, 200, 409),
    "restart-as-new": (425, 425, 409, 409, 409, 200),
    "purge":          (409, 409, 409, 409, 409, 200),
    "purge-journal":  (409, 409, 409, 409, 409, 200),
}  # fmt: skip


@pytest.mark.parametrize("action", TABLE)
@pytest.mark.slow
async def test_what_an_action_does_depends_on_the_status(world: World, action: str):
    for status, answer in zip(STATUSES, TABLE[action], strict=True):
        invocation = await world.started(status)
        given = await world.http.patch(f"/invocations/{invocation}/{action}")
        assert given.status_code == answer, (status, given.text)
        if answer >= 400:
            body = given.json()
            assert set(body) == {"message", "restate_code"}
            assert body["restate_code"] is None
            assert invocation in body["message"]


@pytest.mark.parametrize("action", list(TABLE))
async def test_no_action_knows_an_unknown_invocation(world: World, action: str):
    given = await world.http.patch(f"/invocations/{UNKNOWN}/{action}")
    assert given.status_code == 404
    assert f"The requested invocation '{UNKNOWN}' does not exist" in given.json()["message"]
    assert given.json()["restate_code"] is None


@pytest.mark.parametrize("action", list(TABLE))
async def test_an_id_that_is_none_is_refused(world: World, action: str):
    given = await world.http.patch(f"/invocations/inv_nonsense/{action}")
    assert (given.status_code, given.json()["restate_code"]) == (400, None)
    assert "bad invocation id" in given.json()["message"]


async def test_a_completed_invocation_says_so(world: World):
    invocation = await world.started("completed")
    given = await world.http.patch(f"/invocations/{invocation}/cancel")
    assert given.json()["message"] == f"The invocation '{invocation}' was already completed."


async def test_kill_ends_it_with_killed(world: World):
    invocation = await world.started("running")
    await world.http.patch(f"/invocations/{invocation}/kill")
    found = (await world.http.get(f"/invocations/{invocation}")).json()
    assert (found["status"], found["completion_failure"]) == ("completed", "[409] killed")


async def test_cancel_reaches_the_handler(world: World):
    invocation = await world.started("running")
    await world.http.patch(f"/invocations/{invocation}/cancel")
    await world.until(invocation, "completed")
    found = (await world.http.get(f"/invocations/{invocation}")).json()
    assert found["completion_failure"] == "[409] cancelled"


async def test_a_paused_one_goes_on_when_it_is_resumed(world: World):
    invocation = await world.started("paused")
    await world.http.patch(f"/invocations/{invocation}/resume?deployment=latest")
    await world.until(invocation, "running")


async def test_only_the_deployment_that_is_there_can_be_asked_for(world: World):
    paused, done = await world.started("paused"), await world.started("completed")
    for path in (f"/invocations/{paused}/resume", f"/invocations/{done}/restart-as-new"):
        assert (await world.http.patch(path, params={"deployment": "dp_other"})).status_code == 400
        for wanted in ("keep", IN_PROCESS):
            assert (await world.http.patch(path, params={"deployment": wanted})).status_code == 200


async def test_a_completed_one_is_restarted_as_new_from_an_entry(world: World):
    first = (await world.client.service_send(step)).invocation_id
    await world.until(first, "completed")
    given = await world.http.patch(f"/invocations/{first}/restart-as-new", params={"from": 1})
    new = given.json()["new_invocation_id"]
    assert new != first
    assert await world.client.attach(new) == "one"
    assert (await world.http.get(f"/invocations/{new}")).json()["restarted_from"] == first


@pytest.mark.parametrize("entry", ["99", "-1", "x"])
async def test_an_entry_that_is_not_there_is_refused(world: World, entry: str):
    invocation = await world.started("completed")
    given = await world.http.patch(f"/invocations/{invocation}/restart-as-new", params={"from": entry})
    assert given.status_code == 400


async def test_a_workflow_is_not_restarted(world: World):
    invocation = (await world.client.workflow_send(run, "ada")).invocation_id
    await world.until(invocation, "completed")
    assert (await world.http.patch(f"/invocations/{invocation}/restart-as-new")).status_code == 422


async def test_without_its_journal_nothing_is_restarted(world: World):
    invocation = await world.started("completed")
    assert (await world.http.patch(f"/invocations/{invocation}/purge-journal")).status_code == 200
    assert (await world.http.patch(f"/invocations/{invocation}/restart-as-new")).status_code == 410
    assert await world.client.attach(invocation) == "x"


async def test_what_is_purged_is_gone(world: World):
    invocation = await world.started("completed")
    await world.http.patch(f"/invocations/{invocation}/purge")
    assert await world.status(invocation) is None


# DELETE


@pytest.mark.parametrize(
    ("query", "status", "after"),
    [
        ("", "running", "completed"),
        ("?mode=kill", "running", "completed"),
        ("?mode=purge", "completed", None),
    ],
)
async def test_delete_does_what_its_mode_says(world: World, query: str, status: str, after: str | None):
    invocation = await world.started(status)
    assert (await world.http.delete(f"/invocations/{invocation}{query}")).status_code == 202
    await world.until(invocation, after)


async def test_delete_accepts_also_what_it_cannot_do(world: World):
    done = await world.started("completed")
    assert (await world.http.delete(f"/invocations/{UNKNOWN}")).status_code == 202
    assert (await world.http.delete(f"/invocations/{done}?mode=kill")).status_code == 202
    assert (await world.http.delete(f"/invocations/{done}?mode=explode")).status_code == 400
    assert (await world.http.delete("/invocations/inv_nonsense")).status_code == 400


# Batches


@pytest.mark.slow
async def test_a_batch_tells_what_went_well_and_what_did_not(world: World):
    running, done = await world.started("running"), await world.started("completed")
    given = await world.http.post(
        "/internal/invocations_batch_operations/kill", json={"invocation_ids": [running, done]}
    )
    assert given.status_code == 200
    assert given.json()["succeeded"] == [running]
    assert [one["invocation_id"] for one in given.json()["failed"]] == [done]
    assert "already completed" in given.json()["failed"][0]["error"]


async def test_a_batch_restarts(world: World):
    done = await world.started("completed")
    given = await world.http.post(
        "/internal/invocations_batch_operations/restart-as-new", json={"invocation_ids": [done]}
    )
    (pair,) = given.json()["succeeded"]
    assert pair["old_invocation_id"] == done
    assert await world.client.attach(pair["new_invocation_id"], quick) == "x"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"invocation_ids": ["inv_nonsense"]}', 422),
        (b'{"invocation_ids": 3}', 422),
        (b"{}", 422),
        (b"{nope", 400),
        (b'{"invocation_ids": [%s]}' % b",".join([b'"%s"' % UNKNOWN.encode()] * 1001), 400),
    ],
)
async def test_a_batch_that_makes_no_sense_changes_nothing(world: World, body: bytes, answer: int):
    given = await world.http.post(
        "/internal/invocations_batch_operations/cancel",
        content=body,
        headers={"content-type": "application/json"},
    )
    assert given.status_code == answer
