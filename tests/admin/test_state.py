"""State of a key: read, and replaced when nobody holds it."""

from __future__ import annotations

from typing import Any

import pytest

from agentdur.core.target import ObjectAddress
from tests.admin.conftest import World, enter

PATH = "/services/Room/state"


async def shown(world: World, key: str = "k") -> Any:
    return (await world.http.get(PATH, params={"object_key": key})).json()


async def edit(world: World, state: dict[str, Any], **more: Any) -> int:
    given = await world.http.post(PATH, json={"object_key": "k", "new_state": state, **more})
    return given.status_code


async def test_what_is_read_can_be_changed_and_sent_back(world: World):
    await edit(world, {"n": "7", "raw": [255, 0]})
    read = await shown(world)
    assert (read["object_key"], read["state"]) == ("k", {"n": "7", "raw": [255, 0]})
    assert await edit(world, {**read["state"], "n": "8"}, version=read["version"]) == 202
    assert (await shown(world))["state"] == {"n": "8", "raw": [255, 0]}


async def test_who_was_overtaken_changes_nothing(world: World):
    await edit(world, {"n": "7"})
    read = await shown(world)
    await edit(world, {"n": "8"})
    assert await edit(world, {"n": "9"}, version=read["version"]) == 202
    assert (await shown(world))["state"] == {"n": "8"}


async def test_an_edit_waits_for_who_holds_the_key(world: World):
    holder = (await world.client.object_send(enter, "k")).invocation_id
    await world.until(holder, "running")
    assert await edit(world, {"n": "1"}) == 202
    assert (await shown(world))["state"] == {}
    await world.http.patch(f"/invocations/{holder}/kill")
    assert (await shown(world))["state"] == {"n": "1"}


async def test_a_key_nobody_has_used_is_empty(world: World):
    assert (await shown(world, "new"))["state"] == {}


async def test_state_is_where_there_is_a_key(world: World):
    for service, answer in (("Work", 400), ("Nobody", 404)):
        read = await world.http.get(f"/services/{service}/state", params={"object_key": "k"})
        body = {"object_key": "k", "new_state": {"n": "1"}}
        edited = await world.http.post(f"/services/{service}/state", json=body)
        assert (read.status_code, edited.status_code) == (answer, answer)
        assert (
            f"The {'service' if answer == 400 else 'requested service'} '{service}'" in read.json()["message"]
        )
    assert (await world.http.get(PATH)).status_code == 400


async def test_what_a_service_has_left_that_is_gone_can_be_cleared(world: World):
    engine = world.client._engine
    gone = ObjectAddress("Gone", "k")
    await engine.edit_state(gone, {"n": b"1"}, None)
    given = await world.http.post("/services/Gone/state", json={"object_key": "k", "new_state": {}})
    assert given.status_code == 202
    assert (await engine.values(gone))[1] == {}


@pytest.mark.parametrize("state", [{"n": [256]}, {"n": None}, {"n": {"a": 1}}, None, "x"])
async def test_a_state_that_is_none_changes_nothing(world: World, state: Any):
    await edit(world, {"n": "1"})
    assert await edit(world, state) == 422
    assert (await shown(world))["state"] == {"n": "1"}


async def test_a_value_over_the_limit_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch):
    await edit(world, {"n": "1"})
    monkeypatch.setattr("agentdur.runtime.owner.Engine.entry_size", 10)
    given = await world.http.post(PATH, json={"object_key": "k", "new_state": {"n": "x" * 11}})
    assert (given.status_code, "entry-size-limit" in given.json()["message"]) == (413, True)
    assert (await shown(world))["state"] == {"n": "1"}
