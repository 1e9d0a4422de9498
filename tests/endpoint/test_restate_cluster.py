"""agentdur's handlers, unchanged, on a Restate cluster of three nodes, one of which is killed."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.endpoint.cluster import BINARY, Cluster, cluster
from tests.http.reference_server import wait_until_up
from tests.support.patience import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="RESTATE_SERVER names no restate-server"),
]
RUNS, STEPS = 20, 6
TRIES_SECONDS_MAX = 60


def ask(c: Cluster, number: int) -> list[int]:
    """Through any node that answers, as often as it takes: the idempotency key makes it one invocation."""
    deadline = time.monotonic() + TRIES_SECONDS_MAX
    tries = number
    while True:
        tries += 1
        port = c.ingress_ports[tries % len(c.ingress_ports)]
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/EpSvc/counted_steps", json={"run": number, "steps": STEPS},
                headers={"idempotency-key": f"run {number}"}, timeout=20,
            )  # fmt: skip
            if answer.status_code == 200:
                found: list[int] = answer.json()
                return found
        except httpx.HTTPError:
            pass  # a node that is dead, or has lost the one it asked
        assert time.monotonic() < deadline, f"run {number} did not end"
        time.sleep(0.2)


@pytest.mark.parametrize("victim", [1, 2])
def test_a_node_is_killed_while_agents_work(victim: int, tmp_path: Path):
    """Every run ends, each adds to the counter once, and no step runs twice that had ended.

    Each time a partition finds another leader the step under way may run again; on a busy machine that is
    more than once. But a run whose next step has begun never goes back to the one before it."""
    ledger = tmp_path / "ledger"
    environment = {"EP_LEDGER": str(ledger), "EP_SECONDS": "0.3"}
    handlers = "tests/endpoint/handlers.py"
    with cluster(tmp_path, "three nodes", handlers, nodes_die=True, **environment) as c:
        for client in c.clients:  # each node finds the others' partitions
            assert client.post("/EpSvc/greet", json="bob").json() == "bob!"
        ledger.write_text("")
        with ThreadPoolExecutor(RUNS) as pool:
            runs = [pool.submit(ask, c, number) for number in range(RUNS)]
            until(lambda: ledger.read_text().count("end") > RUNS, "the first steps")
            c.kill_node(victim)
            assert [run.result() for run in runs] == [list(range(STEPS))] * RUNS
        count = c.call("/EpObj/counted/recall")["n"]
        assert count == RUNS, count
        lines = ledger.read_text().splitlines()
        steps = {f"{number}.{step}" for number in range(RUNS) for step in range(STEPS)}
        assert {line for line in lines if line.startswith("end ")} == {f"end {step}" for step in steps}
        for number in range(RUNS):
            begun = [int(line.split(".")[1]) for line in lines if line.startswith(f"begin {number}.")]
            assert begun == sorted(begun), f"run {number} went back behind a step that had ended: {begun}"
        c.servers[victim] = c.start_node(victim)
        wait_until_up(f"{c.clients[victim].base_url}/restate/health")
        back = until(lambda: json.loads(_answer(c.clients[victim]) or "null"), "the node that came back")
        assert back == "bob!"


def _answer(client: httpx.Client) -> str | None:
    try:
        answer = client.post("/EpSvc/greet", json="bob", timeout=10)
    except httpx.HTTPError:
        return None
    return answer.text if answer.status_code == 200 else None
