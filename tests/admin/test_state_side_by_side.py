"""State is edited on a real Restate server and on ours: the answers are the same, and so is what is kept."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentdur.runtime.names import Names
from agentdur.runtime.world import RealWorld
from tests.admin.side_by_side import Both, Place, Side
from tests.admin.test_invocations_side_by_side import status_of
from tests.admin.test_side_by_side import BINARY, NOBODY, both, manifest, serving, told_by

__all__ = ["both"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no restate-server: npm install @restatedev/restate-server"),
]
SETTLED = "settled"
"""A value that tells that the edit before it has happened."""

BODIES: list[Any] = [
    {}, [], {"object_key": "b"}, {"new_state": {}}, {"object_key": 5, "new_state": {}},
    *({"object_key": "b", "new_state": {"a": value}} for value in (
        "text", "", [1, 255], [256], [-1], ["x"], [1.5], [True], None, 1, {})),
    {"object_key": "b", "new_state": []}, {"object_key": "b", "new_state": {"": "x"}},
    {"object_key": "", "new_state": {"a": "b"}}, {"object_key": "b", "new_state": {}, "unknown": 1},
    *({"object_key": "b", "new_state": {}, "version": version} for version in (None, "no version", 5)),
]  # fmt: skip


@pytest.fixture(scope="module")
def served(both: Both) -> Both:
    services = [
        serving("StPlain"), serving("StObj", {"name": "enter"}, ty="VIRTUAL_OBJECT"),
        serving("StWf", {"name": "run", "ty": "WORKFLOW"}, ty="WORKFLOW"),
    ]  # fmt: skip
    both.peer.places["state"] = Place(manifest(*services))
    for side in both:
        assert side.register("state").status_code == 201
    return both


def is_theirs(side: Side) -> bool:
    """There is no such route at a Restate server."""
    return side.admin.get(f"/invocations/{NOBODY}").status_code == 405


def state_of(side: Side, service: str, key: str) -> dict[str, bytes]:
    """By SQL there, by a route of its own here."""
    if is_theirs(side):
        query = f"select key, value from state where service_name = '{service}' and service_key = '{key}'"
        asked = side.admin.post("/query", json={"query": query}, headers={"accept": "application/json"})
        return {row["key"]: bytes.fromhex(row["value"]) for row in asked.json()["rows"]}
    shown = side.admin.get(f"/services/{service}/state", params={"object_key": key}).json()["state"]
    return {name: v.encode() if isinstance(v, str) else bytes(v) for name, v in shown.items()}


def until(side: Side, service: str, key: str, values: dict[str, bytes]) -> None:
    deadline = time.monotonic() + 30
    while (found := state_of(side, service, key)) != values:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def edit(side: Side, service: str, *, silent: bool = False, **body: Any) -> None:
    side.ask("POST", f"/services/{service}/state", json=body, silent=silent)


def test_bodies_of_edits(served: Both):
    def story(side: Side) -> None:
        for service in ("StObj", "StWf", "StPlain", "Nobody"):
            for body in BODIES:
                side.ask("POST", f"/services/{service}/state", json=body)
        path = "/services/StObj/state"
        side.ask("POST", path)
        side.ask("POST", path, content=b"{no", headers={"content-type": "application/json"})
        side.ask("POST", path, content=b'{"object_key":"b","new_state":{}}')
        for method in ("PUT", "DELETE"):
            side.ask(method, path)

    told_by(served, story)


def test_what_an_edit_leaves(served: Both):
    def story(side: Side) -> None:
        for service in ("StObj", "StWf"):
            steps: list[tuple[dict[str, Any], dict[str, bytes]]] = [
                ({"a": "text", "b": [0, 255]}, {"a": b"text", "b": b"\x00\xff"}),
                ({"b": "é", "c": [], "": "x"}, {"b": "é".encode(), "c": b"", "": b"x"}),
                ({}, {}),
            ]
            for given, kept in steps:
                edit(side, service, object_key="left", new_state=given)
                until(side, service, "left", kept)

    told_by(served, story)


def test_an_edit_is_only_made_to_the_state_it_was_meant_for(served: Both):
    names = Names(RealWorld())
    for side in served:
        edit(side, "StObj", object_key="v", new_state={"n": "7", "é": [0, 255]}, silent=True)
        until(side, "StObj", "v", {"n": b"7", "é": b"\x00\xff"})
        version = names.version_of(state_of(side, "StObj", "v"))
        edit(side, "StObj", object_key="v", new_state={"n": "8"}, version="another", silent=True)
        edit(side, "StObj", object_key="v", new_state={SETTLED: "1"}, version=version, silent=True)
        until(side, "StObj", "v", {SETTLED: b"1"})
        if not is_theirs(side):
            shown = side.admin.get("/services/StObj/state", params={"object_key": "v"}).json()
            assert shown["version"] == names.version_of({SETTLED: b"1"})


def test_an_edit_waits_for_who_holds_the_key(served: Both):
    for side in served:
        holder = side.send("/StObj/held/enter/send")
        deadline = time.monotonic() + 30
        while status_of(side, holder) != "suspended":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        edit(side, "StObj", object_key="held", new_state={"n": "1"}, silent=True)
        edit(side, "StObj", object_key="free", new_state={"n": "1"}, silent=True)
        until(side, "StObj", "free", {"n": b"1"})
        assert state_of(side, "StObj", "held") == {}
        side.admin.patch(f"/invocations/{holder}/kill").raise_for_status()
        until(side, "StObj", "held", {"n": b"1"})
