"""A server, our own or Restate's, and an endpoint, as processes that can be killed and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.reference_server import find_binary, free_ports, stop, wait_until_up
from tests.support import warm
from tests.support.patience import until

BINARY = find_binary()
PARTITIONS = 2
IMPATIENT = {
    "RESTATE_GOSSIP_SUSPECT_INTERVAL": "1500ms",
    "RESTATE_ADMIN__HEARTBEAT_INTERVAL": "500ms",
    "RESTATE_BIFROST__SEAL_RETRY_INTERVAL": "500ms",
    "RESTATE_BIFROST__REPLICATED_LOGLET__STORE_TIMEOUT": "500ms..5s",
    "RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL": "50ms",
    "RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL": "500ms",
}
"""How long a server waits before it believes in a node that has come, and tries an endpoint again: on one
machine seconds of that say nothing."""
PATIENT = {"RESTATE_GOSSIP_FAILURE_THRESHOLD": "100", "RESTATE_GOSSIP_TIME_SKEW_THRESHOLD": "20s"}
"""On a busy machine a node may be silent for seconds. Where none is killed, none is believed to be dead: each
time that the leaders change, the step under way runs again."""
MODES = {
    "in process": ("60s", False, 0),
    "http2": ("60s", False, 1),
    "request and response": ("60s", True, 1),
    "always leaving": ("0s", False, 1),
    "three nodes": ("60s", False, 3),
}
"""(inactivity timeout, whether HTTP/1.1 is spoken, how many nodes the Restate server has).

What each proves that no other does: over HTTP/2 results are acknowledged and signals heard within an attempt;
by request and response every result begins an attempt, so every place of a handler is replayed; a server that
lets nobody wait closes its side while steps run; of three nodes the one that is asked leads some keys only.
No nodes: agentdur serves the file itself."""
ROOT = Path(__file__).resolve().parents[2]


class Cluster:
    """A server of one or more nodes, and an endpoint; each process can be killed and started again."""

    def __init__(
        self,
        folder: Path,
        inactivity: str,
        target: str,
        nodes: int = 1,
        *,
        imported: Iterable[str] | None = None,
        nodes_die: bool = False,
        **environment: str,
    ) -> None:
        self.folder, self.target, self.environment = folder, target, os.environ | environment
        self.inactivity, self.nodes = inactivity, nodes
        self.imported, self.nodes_die = imported, nodes_die
        (self.port,) = free_ports(1)
        ports = free_ports(3 * max(nodes, 1))
        self.ingress_ports, self.admin_ports, self.node_ports = ports[::3], ports[1::3], ports[2::3]
        self.log = (folder / "log").open("ab")
        self.servers: list[subprocess.Popen[bytes]] = []
        self.endpoint: warm.Process | None = None
        self.clients = [
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) for port in self.ingress_ports
        ]
        self.client = self.clients[0]
        self.admin = httpx.Client(base_url=f"http://127.0.0.1:{self.admin_ports[0]}", timeout=60)

    def up(self, *, http1: bool) -> None:
        """Start everything."""
        for node in range(self.nodes):
            self.servers.append(self.start_node(node))
        self.endpoint = self.start()
        self.register(http1=http1)

    def down(self) -> None:
        """Whatever was started. What servers keep is not needed any more, and a node waits for the others."""
        if self.endpoint is not None:
            stop(self.endpoint)
        for server in self.servers:
            server.kill()
            server.wait()
        self.log.close()

    def start_node(self, node: int) -> subprocess.Popen[bytes]:
        """`restate-server`; the first node makes the cluster, the others find it."""
        addresses = [f"http://127.0.0.1:{port}" for port in self.node_ports]
        settings = {
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.ingress_ports[node]}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{self.admin_ports[node]}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{self.node_ports[node]}",
            "RESTATE_ADVERTISED_ADDRESS": addresses[node],
            "RESTATE_LISTEN_MODE": "tcp", "RESTATE_BASE_DIR": str(self.folder / f"restate{node}"),
            "RESTATE_DEFAULT_NUM_PARTITIONS": str(PARTITIONS),
            "RESTATE_DEFAULT_REPLICATION": str(min(self.nodes, 2)),
            "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": self.inactivity,
            "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "256 MiB", "DO_NOT_TRACK": "1",
        } | IMPATIENT | ({} if self.nodes_die else PATIENT)  # fmt: skip
        if self.nodes > 1:
            settings |= {
                "RESTATE_AUTO_PROVISION": "true" if node == 0 else "false",
                "RESTATE_METADATA_CLIENT__ADDRESSES": json.dumps(addresses),
            }
        assert BINARY is not None
        command = [BINARY, "--node-name", f"node{node}"]
        return subprocess.Popen(command, env=os.environ | settings, stdout=self.log, stderr=self.log)

    def kill_node(self, node: int) -> None:
        """SIGKILL, and no new one."""
        self.servers[node].send_signal(signal.SIGKILL)
        self.servers[node].wait()

    def start(self) -> warm.Process:
        """`agentdur endpoint`, or without a server of Restate `agentdur serve`."""
        arguments = ["endpoint", self.target, "--port", str(self.port)]
        if not self.nodes:
            arguments = [
                "serve", self.target, "--store", f"sqlite:///{self.folder}/store.db",
                "--set", f"inactivity-timeout={self.inactivity}",
                "--ingress-port", str(self.ingress_ports[0]), "--admin-port", str(self.admin_ports[0]),
            ]  # fmt: skip
        if self.imported is None:
            command = [sys.executable, "-m", "agentdur.cli", *arguments]
            return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)
        return warm.start(arguments, self.log, self.environment, imported=self.imported)

    def kill(self) -> None:
        """SIGKILL, and the same command again; it is up when this returns."""
        assert self.endpoint is not None
        self.endpoint.send_signal(signal.SIGKILL)
        self.endpoint.wait()
        self.endpoint = self.start()
        self._wait()

    def _wait(self) -> None:
        if self.nodes:
            wait_until_up(f"http://127.0.0.1:{self.port}/health")
            return
        wait_until_up(f"{self.admin.base_url}/health", f"{self.client.base_url}/restate/health")

    def register(self, *, http1: bool) -> None:
        """As an operator does."""
        self._wait()
        if not self.nodes:
            return
        wait_until_up(*(f"http://127.0.0.1:{port}/health" for port in self.admin_ports))
        body = {"uri": f"http://127.0.0.1:{self.port}", "use_http_11": http1}
        answer = self.admin.post("/deployments", json=body)
        assert answer.status_code == 201, answer.text
        wait_until_up(*(f"{client.base_url}/restate/health" for client in self.clients))
        until(self._led, "a leader of every partition")

    def _led(self) -> bool:
        """All nodes are there, and each partition has its leader."""
        leaders = 0
        for port in self.node_ports:
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
            found = re.search(r"^restate_num_active_partition_leaders\{.*\} (\d+)", metrics, re.MULTILINE)
            leaders += int(found[1]) if found else 0
        members = self.admin.get("/cluster-health").json()["metadata_cluster_health"]
        return leaders == PARTITIONS and (members is None or len(members["members"]) == self.nodes)

    def call(self, path: str, body: Any = None) -> Any:
        """The answer of a handler."""
        answer = self.client.post(path, json=body) if body is not None else self.client.post(path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer.json() if answer.content else None

    def send(self, path: str, body: Any = None) -> str:
        """The id of what was started."""
        answer = (
            self.client.post(f"{path}/send", json=body)
            if body is not None
            else self.client.post(f"{path}/send")
        )
        return str(answer.json()["invocationId"])

    def result(self, invocation: str) -> httpx.Response:
        """Its end."""
        return self.client.get(f"/restate/invocation/{invocation}/attach")

    def entries(self, invocation: str) -> int:
        """How long its journal is."""
        if not self.nodes:
            return len(self.admin.get(f"/invocations/{invocation}").json()["journal"])
        return len(self.sql(f"select id from sys_journal where id = '{invocation}'"))

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows."""
        accept = {"accept": "application/json"}
        answer = self.admin.post("/query", json={"query": query}, headers=accept)
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows


@contextmanager
def cluster(
    folder: Path,
    mode: str,
    target: str,
    *,
    imported: Iterable[str] | None = None,
    nodes_die: bool = False,
    **environment: str,
) -> Iterator[Cluster]:
    """`imported`: what the handlers are going to import, so that their process starts with it; None: it
    starts cold. `nodes_die`: the story kills some."""
    inactivity, http1, nodes = MODES[mode]
    if nodes and BINARY is None:
        pytest.skip("RESTATE_SERVER names no restate-server")
    made = Cluster(folder, inactivity, target, nodes, imported=imported, nodes_die=nodes_die, **environment)
    try:
        made.up(http1=http1)
        yield made
    finally:
        made.down()
