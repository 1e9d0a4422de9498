"""agentdur's handlers, unchanged, in its own process and on a real Restate server; killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentdur.testing.scripted_llm import requests, scripted_llm_process
from examples.agents import demo_world
from tests.http.reference_server import find_binary, free_ports, stop, wait_until_up

BINARY = find_binary()
pytestmark = pytest.mark.slow
MODES = {
    "in process": ("60s", False, 0),
    "http2": ("60s", False, 1),
    "request and response": ("60s", True, 1),
    "always leaving": ("0s", False, 1),
    "three nodes": ("60s", False, 3),
}
"""(inactivity timeout, whether HTTP/1.1 is spoken, how many nodes the Restate server has).

No nodes: agentdur serves the file itself."""
ROOT = Path(__file__).resolve().parents[2]


class Cluster:
    """A server of one or more nodes, and an endpoint; each process can be killed and started again."""

    def __init__(
        self, folder: Path, inactivity: str, target: str, nodes: int = 1, **environment: str
    ) -> None:
        self.folder, self.target, self.environment = folder, target, os.environ | environment
        self.inactivity, self.nodes = inactivity, nodes
        (self.port,) = free_ports(1)
        ports = free_ports(3 * max(nodes, 1))
        self.ingress_ports, self.admin_ports, self.node_ports = ports[::3], ports[1::3], ports[2::3]
        self.log = (folder / "log").open("ab")
        self.servers = [self.start_node(node) for node in range(nodes)]
        self.endpoint = self.start()
        self.clients = [
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) for port in self.ingress_ports
        ]
        self.client = self.clients[0]
        self.admin = httpx.Client(base_url=f"http://127.0.0.1:{self.admin_ports[0]}", timeout=60)

    def start_node(self, node: int) -> subprocess.Popen[bytes]:
        """`restate-server`; the first node makes the cluster, the others find it."""
        addresses = [f"http://127.0.0.1:{port}" for port in self.node_ports]
        settings = {
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.ingress_ports[node]}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{self.admin_ports[node]}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{self.node_ports[node]}",
            "RESTATE_ADVERTISED_ADDRESS": addresses[node],
            "RESTATE_LISTEN_MODE": "tcp", "RESTATE_BASE_DIR": str(self.folder / f"restate{node}"),
            "RESTATE_DEFAULT_NUM_PARTITIONS": "2", "RESTATE_DEFAULT_REPLICATION": str(min(self.nodes, 2)),
            "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": self.inactivity,
            "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "256 MiB", "DO_NOT_TRACK": "1",
        }  # fmt: skip
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

    def start(self) -> subprocess.Popen[bytes]:
        """`agentdur endpoint`, or without a server of Restate `agentdur serve`."""
        command = [sys.executable, "-m", "agentdur.cli", "endpoint", self.target, "--port", str(self.port)]
        if not self.nodes:
            command = [
                sys.executable, "-m", "agentdur.cli", "serve", self.target,
                "--store", f"sqlite:///{self.folder}/store.db",
                "--set", f"inactivity-timeout={self.inactivity}",
                "--ingress-port", str(self.ingress_ports[0]), "--admin-port", str(self.admin_ports[0]),
            ]  # fmt: skip
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)

    def kill(self) -> None:
        """SIGKILL, and the same command again."""
        self.endpoint.send_signal(signal.SIGKILL)
        self.endpoint.wait()
        self.endpoint = self.start()
        if not self.nodes:
            self._wait()

    def _wait(self) -> None:
        wait_until_up(f"{self.admin.base_url}/health", f"{self.client.base_url}/restate/health")

    def register(self, *, http1: bool) -> None:
        """As an operator does."""
        admins = [f"http://127.0.0.1:{port}/health" for port in self.admin_ports]
        if not self.nodes:
            self._wait()
            return
        wait_until_up(*admins, f"http://127.0.0.1:{self.port}/health")
        body = {"uri": f"http://127.0.0.1:{self.port}", "use_http_11": http1}
        answer = self.admin.post("/deployments", json=body)
        assert answer.status_code == 201, answer.text
        wait_until_up(*(f"{client.base_url}/restate/health" for client in self.clients))

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
def cluster(folder: Path, mode: str, target: str, **environment: str) -> Iterator[Cluster]:
    inactivity, http1, nodes = MODES[mode]
    if nodes and BINARY is None:
        pytest.skip("RESTATE_SERVER names no restate-server")
    made = Cluster(folder, inactivity, target, nodes, **environment)
    try:
        made.register(http1=http1)
        yield made
    finally:
        stop(made.endpoint)
        for server in made.servers:
            stop(server)
        made.log.close()


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 180
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_operation_works_wherever_the_journal_is(mode: str, tmp_path: Path):
    """In agentdur's own process; over one stream, attempt by attempt over HTTP/1.1, with a server that lets
    nobody wait, and on three nodes."""
    with cluster(tmp_path, mode, "tests/endpoint/handlers.py") as c:
        assert c.call("/EpSvc/greet", "bob") == "bob!"
        assert c.call("/EpSvc/branches", 4) == [0, 10, 20, 30]
        assert c.call("/EpSvc/caller", "ann") == ["ann!", "ann!", 5, 7]
        assert c.client.post("/EpSvc/fails").status_code == 418
        assert c.call("/EpSvc/flaky", str(tmp_path / "tries")) == 3
        assert c.call("/EpSvc/racer") == "hare"
        number, uuid, now = c.call("/EpSvc/same_again")
        assert 0 <= number < 1
        assert len(uuid) == 36
        assert abs(now - time.time()) < 60
        assert [c.call("/EpLazy/k/ask", n) for n in (3, 4)] == [[3, 3, None, ["n"]], [7, 7, None, ["n"]]]
        assert c.call("/EpObj/called/recall") == {"n": 7}
        assert c.call("/EpObj/called/wipe") == []
        waiting = c.send("/EpSvc/waiter")
        name = until(lambda: c.call("/EpObj/awakeable/recall").get("name"), "the awakeable")
        assert c.client.post(f"/restate/awakeables/{name}/resolve", json="woken").status_code == 202
        assert c.result(waiting).json() == "woken"
        started = c.send("/EpWf/key/run", "from here ")
        c.call("/EpWf/key/finish", "to there")
        assert c.result(started).json() == "from here to there"
        listening = c.send("/EpSvc/signalled")
        until(lambda: c.entries(listening), "the listener")
        time.sleep(0.3)  # a signal to one that has not begun is dropped, by the server's rules
        c.call("/EpSvc/signals", listening)
        assert c.result(listening).json() == "gone"


def questions(c: Cluster) -> dict[str, Any]:
    """What waits for a person, by question: at our own door, or in the state of the object."""
    if not c.nodes:
        listed = c.client.get("/approvals").json()["approvals"]
    else:
        query = "select value_utf8 from state where service_name = 'agentdur.Approval' and key = 'pending'"
        listed = [json.loads(row["value_utf8"]) for row in c.sql(query)]
    return {one["question"]: one for one in listed}


def decide(c: Cluster, question: dict[str, Any], approved: bool, **more: Any) -> httpx.Response:
    """At our own door, or by the object's handler."""
    said = {"digest": question["digest"], **more}
    if not c.nodes:
        return c.client.post(f"/approvals/{question['id']}/{'approve' if approved else 'reject'}", json=said)
    edited = {"edited": True} if "payload" in more else {}
    body = {"approved": approved, **said, **edited}
    return c.client.post(f"/agentdur.Approval/{question['id']}/decide", json=body)


@pytest.mark.parametrize("mode", MODES)
def test_a_person_decides_wherever_the_journal_is(mode: str, tmp_path: Path):
    """Killed while it waits; a deadline, an edit, a forgery, a second decision, an asker that is gone."""
    with cluster(tmp_path, mode, "tests/endpoint/handlers.py") as c:
        asking = c.send("/EpSvc/asks", 3000)
        found = until(lambda: (q := questions(c)) and len(q) == 2 and q, "both questions")
        c.kill()
        if c.nodes:
            wait_until_up(f"http://127.0.0.1:{c.port}/health")
        assert decide(c, found["first?"] | {"digest": "forged"}, True).status_code == 403
        assert decide(c, found["first?"], True, by="ada", payload={"n": 2}).status_code == 200
        assert decide(c, found["first?"], False, by="eve").status_code == 409
        assert c.result(asking).json() == "True ada 2, True True"
        gone = c.send("/EpSvc/asks", None)
        until(lambda: len(questions(c)) == 2, "both questions")
        c.admin.patch(f"/invocations/{gone}/kill")
        until(lambda: not questions(c), "their end")


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_saga_is_undone(mode: str, tmp_path: Path):
    """The cancellation arrives as a signal, whoever keeps the journal."""
    ledger = tmp_path / "ledger"
    with cluster(tmp_path, mode, "tests/endpoint/handlers.py", EP_LEDGER=str(ledger)) as c:
        running = c.send("/EpSvc/saga")
        until(lambda: ledger.exists() and "end book" in ledger.read_text(), "the booking")
        time.sleep(0.2)
        assert c.admin.patch(f"/invocations/{running}/cancel").status_code == 202
        assert c.result(running).status_code == 409
        assert ledger.read_text().splitlines().count("end unbook") == 1


@pytest.mark.parametrize("mode", ["in process", "http2", "three nodes"])
def test_branches_of_a_killed_process_go_on_where_they_were(mode: str, tmp_path: Path):
    """Only steps that were under way run again; the branches are found by the names of their entries."""
    ledger = tmp_path / "ledger"
    environment = {"EP_LEDGER": str(ledger), "EP_SECONDS": "0.3"}
    with cluster(tmp_path, mode, "tests/endpoint/handlers.py", **environment) as c:
        running = c.send("/EpSvc/branches", 5)
        until(
            lambda: ledger.exists() and "begin 0" in ledger.read_text().splitlines()[5:], "the second round"
        )
        c.kill()
        assert c.result(running).json() == [0, 10, 20, 30, 40]
    lines = Counter(ledger.read_text().splitlines())
    assert all(lines[f"end {i}"] >= 1 for i in range(1, 5))
    assert all(lines[f"begin {i}"] == 1 for i in range(1, 5)), "a finished step ran again"


def test_code_that_was_changed_under_a_running_invocation_pauses_it(tmp_path: Path):
    """The server shows which entry does not fit."""
    app = tmp_path / "changing.py"
    text = """
from datetime import timedelta
from agentdur import App, Context, Service
svc = Service("Changing")
@svc.handler()
async def run(ctx: Context) -> str:
    await ctx.sleep(timedelta(seconds=2), name="first")
    await ctx.sleep(timedelta(milliseconds=1), name="last")
    return "done"
app = App([svc])
"""
    app.write_text(text)
    with cluster(tmp_path, "http2", str(app)) as c:
        running = c.send("/Changing/run")
        until(lambda: c.entries(running) > 1, "the sleep")
        app.write_text(text.replace('name="first"', 'name="other"'))
        c.kill()
        paused = f"select id from sys_invocation where id = '{running}' and status = 'paused'"
        until(lambda: c.sql(paused), "the pause")
        events = c.sql(f"select event_json from sys_journal_events where id = '{running}'")
        assert any("made: Sleep 'other'" in event["event_json"] for event in events)
        app.write_text(text)
        c.kill()
        wait_until_up(f"http://127.0.0.1:{c.port}/health")
        assert c.admin.patch(f"/invocations/{running}/resume").status_code == 200
        assert c.result(running).json() == "done"


@pytest.mark.parametrize("mode", ["in process", "http2", "three nodes"])
def test_the_research_agent_moves_to_a_server_unchanged_and_survives_being_killed(mode: str, tmp_path: Path):
    """Killed while it reads pages: no finished tool call runs again, each turn of the model is paid once."""
    pytest.importorskip("litellm")
    ledger = tmp_path / "tools.jsonl"
    with (
        demo_world.pages_served({"bergen": 0.2, "lisbon": 0.0, "cherrapunji": 2.0}) as pages,
        scripted_llm_process(demo_world.script(pages)) as llm,
    ):
        environment = demo_world.environment_for("openai/scripted", llm.base_url, ledger)
        with cluster(tmp_path, mode, "examples/agents/research.py", **environment) as c:
            running = c.send("/Research/run", {"text": demo_world.question(pages)})

            def lines() -> list[dict[str, Any]]:
                return (
                    [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
                )

            def reads_the_slow_page() -> bool:
                ended = [line["what"] for line in lines() if line["event"] == "end"]
                begun = [line["what"] for line in lines() if line["event"] == "begin"]
                return any(what.endswith("cherrapunji") and what not in ended for what in begun)

            until(reads_the_slow_page, "the slow page")
            time.sleep(0.5)  # its siblings have ended
            c.kill()
            answer = c.result(running)
            assert answer.status_code == 200, answer.text
            assert answer.json()["answer"] == demo_world.ANSWER
            assert Counter(entry.turn for entry in requests(llm.ledger())).most_common(1)[0][1] == 1
        begun = Counter((line["tool"], line["what"]) for line in lines() if line["event"] == "begin")
        assert [what for (_, what), count in begun.items() if count > 1] == [f"{pages}/cherrapunji"]
