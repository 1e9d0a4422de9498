"""agentdur's own handlers at an endpoint that agentdur drives: both have the internal services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http.reference_server import stop
from tests.remote.test_python_sdk import MODES, World, until
from tests.support import warm

pytestmark = pytest.mark.slow


class OwnWorld(World):
    """`agentdur serve` and `agentdur endpoint`."""

    def start_handlers(self) -> warm.Process:
        arguments = ["endpoint", "tests/endpoint/handlers.py", "--port", str(self.port)]
        return warm.start(arguments, self.log, self.environment)


@pytest.mark.parametrize("mode", MODES)
def test_what_handlers_elsewhere_ask_is_decided_at_the_server(mode: str, tmp_path: Path):
    """The deployment is registered though the server has services of the same names; they are not listed."""
    inactivity, http1 = MODES[mode]
    w = OwnWorld(tmp_path, inactivity)
    try:
        w.up()
        body = {"uri": f"http://127.0.0.1:{w.port}", "use_http_11": http1}
        registered = w.admin.post("/deployments", json=body)
        assert registered.status_code == 201, registered.text
        asking = w.send("/EpSvc/asks", 3000)
        found = until(lambda: (q := w.client.get("/approvals").json()["approvals"])[1:] and q, "questions")
        w.kill("handlers")
        w.kill("server")
        first = next(one for one in found if one["question"] == "first?")
        answer = w.client.post(f"/approvals/{first['id']}/approve", json={"digest": first["digest"]})
        assert answer.status_code == 200, answer.text
        assert w.result(asking).json() == "True  1, True True"
        run = w.client.post("/EpSvc/converse", json=3).json()
        query = "select key, value_utf8 from state where service_name = 'agentdur.Conversation'" \
            f" and service_key = '{run}' and key like 'message:%' order by key"  # fmt: skip
        asked = {"json": {"query": query}, "headers": {"accept": "application/json"}}
        rows = until(lambda: (r := w.admin.post("/query", **asked).json()["rows"])[2:] and r, "messages")
        assert [row["value_utf8"] for row in rows] == ['"question"', '"answer 1"', '"answer 2"']
        names = {service["name"] for service in w.admin.get("/services").json()["services"]}
        assert names == {"EpSvc", "EpObj", "EpWf", "EpLazy", "Native"}
        shown = w.admin.get("/invocations").json()["invocations"]
        assert {one["target_service_name"] for one in shown} == {"EpSvc"}
    finally:
        stop(w.handlers)
        w.close()
