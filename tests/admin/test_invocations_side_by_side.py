"""Operators act on a deployment's invocations, on a real Restate server and on ours: answers are the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.admin.side_by_side import Both, Place, Side
from tests.admin.test_side_by_side import BINARY, HOUR_MS, NOBODY, NOWHERE, both, manifest, serving, told_by

__all__ = ["both"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no restate-server: npm install @restatedev/restate-server"),
]
DOING = ("ok", "hang", "fail", "wait", "pause", "steps", "refuse")
STATUSES = (
    "scheduled", "pending", "running", "backing-off", "suspended", "paused", "completed", "failed",
    "workflow",
)  # fmt: skip
ACTIONS = (
    "cancel", "kill", "pause", "resume", "restart-as-new", "purge", "purge-journal",
    "resume?deployment=latest", "resume?deployment=keep", f"resume?deployment={NOWHERE}",
    "resume?deployment=dp_x", "resume?deployment=", "resume?deployment=OTHER",
    "restart-as-new?deployment=keep", f"restart-as-new?deployment={NOWHERE}",
    "restart-as-new?deployment=dp_x", "restart-as-new?from=1", "restart-as-new?from=2",
    "restart-as-new?from=99", "restart-as-new?from=-1", "restart-as-new?from=x",
)  # fmt: skip
ENDED = frozenset({"completed", "failed", "workflow"})


@pytest.fixture(scope="module")
def served(both: Both) -> Both:
    slow = {"retryPolicyInitialInterval": HOUR_MS, "retryPolicyMaxInterval": HOUR_MS}
    services = [
        serving("Op", *({"name": name} for name in DOING), **slow),
        serving("OpObj", {"name": "hang"}, ty="VIRTUAL_OBJECT"),
        serving("OpWf", {"name": "run", "ty": "WORKFLOW"}, ty="WORKFLOW"),
    ]
    both.peer.places["op"] = Place(manifest(*services))
    both.peer.places["other"] = Place(manifest(serving("Elsewhere"), versions=(5, 5)))
    for side in both:
        for place in ("op", "other"):
            assert side.register(place).status_code == 201
    return both


def status_of(side: Side, invocation: str) -> Any:
    """By SQL there, by a route of its own here."""
    if side.admin.get(f"/invocations/{NOBODY}").status_code == 405:
        query = {"query": f"select status from sys_invocation where id = '{invocation}'"}
        rows = side.admin.post("/query", json=query, headers={"accept": "application/json"}).json()["rows"]
        return rows[0]["status"] if rows else None
    return side.admin.get(f"/invocations/{invocation}").json().get("status")


def begun(side: Side, status: str, keys: list[int]) -> str:
    """The id of a new invocation in this status."""
    keys.append(len(keys))
    paths = {
        "scheduled": "/Op/ok/send?delay=1h", "pending": f"/OpObj/{len(keys)}/hang/send",
        "running": "/Op/hang/send", "backing-off": "/Op/fail/send", "suspended": "/Op/wait/send",
        "paused": "/Op/pause/send", "completed": "/Op/steps/send", "failed": "/Op/refuse/send",
        "workflow": f"/OpWf/{len(keys)}/run/send",
    }  # fmt: skip
    if status == "pending":
        side.send(paths[status])
    invocation = side.send(paths[status])
    wanted = "completed" if status in ENDED else status
    deadline = time.monotonic() + 30
    while (found := status_of(side, invocation)) != wanted:
        assert time.monotonic() < deadline, f"{status} did not happen, it is {found}"
        time.sleep(0.01)
    return invocation


@pytest.mark.parametrize("status", STATUSES)
def test_every_action_on_every_status(served: Both, status: str):
    others = {
        side: next(one["id"] for one in side.admin.get("/deployments").json()["deployments"]
                   if one["uri"].endswith("/other"))
        for side in served
    }  # fmt: skip
    keys: dict[Side, list[int]] = {side: [len(status) * 1000] for side in served}

    def story(side: Side) -> None:
        for action in ACTIONS:
            invocation = begun(side, status, keys[side])
            side.ask("PATCH", f"/invocations/{invocation}/{action.replace('OTHER', others[side])}")
            side.admin.patch(f"/invocations/{invocation}/kill")
        for mode in ("", "?mode=cancel", "?mode=kill", "?mode=purge", "?mode=x"):
            invocation = begun(side, status, keys[side])
            side.ask("DELETE", f"/invocations/{invocation}{mode}")
            side.admin.patch(f"/invocations/{invocation}/kill")

    told_by(served, story)


def test_ids_of_nobody_and_routes_to_nowhere(served: Both):
    def story(side: Side) -> None:
        for invocation in (NOBODY, "inv_nonsense", "x"):
            for action in (*ACTIONS, "nope"):
                if "OTHER" not in action:
                    side.ask("PATCH", f"/invocations/{invocation}/{action}")
            for mode in ("", "?mode=kill", "?mode=purge", "?mode=x"):
                side.ask("DELETE", f"/invocations/{invocation}{mode}")
            for method in ("POST", "PUT", "GET"):
                side.ask(method, f"/invocations/{invocation}/cancel")

    told_by(served, story)


def test_batches(served: Both):
    keys: dict[Side, list[int]] = {side: [90_000] for side in served}
    batches = "/internal/invocations_batch_operations"

    def story(side: Side) -> None:
        suspended, done, later, running, stopped = (
            begun(side, status, keys[side])
            for status in ("suspended", "completed", "scheduled", "running", "paused")
        )
        for action in ("pause", "resume", "purge", "purge-journal", "restart-as-new", "cancel", "kill", "no"):
            for ids in ([NOBODY], [later, done]):
                side.ask("POST", f"{batches}/{action}", json={"invocation_ids": ids})
        for action in ("restart-as-new", "resume"):
            for body in (
                {}, {"invocation_ids": []}, {"invocation_ids": ["x"]}, {"invocation_ids": [NOBODY] * 1001},
                {"invocation_ids": [done], "deployment": "dp_x"}, {"invocation_ids": [NOBODY], "unknown": 1},
                {"invocation_ids": [NOBODY], "deployment": "latest"},
            ):  # fmt: skip
                side.ask("POST", f"{batches}/{action}", json=body)
        side.ask("POST", f"{batches}/resume", content=b"{}")
        everyone = [suspended, done, later, running, stopped, NOBODY]
        answer = side.ask("POST", f"{batches}/kill", json={"invocation_ids": everyone}, silent=True).json()
        side.story.append(sorted(side._named(each) for each in answer["succeeded"]))
        side.story.append(sorted(side._named(each["error"]) for each in answer["failed"]))

    told_by(served, story)
