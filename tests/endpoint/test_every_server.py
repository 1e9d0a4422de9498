"""agentdur's handlers, unchanged, in its own process and on a real Restate server; killed in the middle."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentdur.testing.scripted_llm import requests, scripted_llm_process
from examples.agents import demo_world
from tests.endpoint.cluster import MODES, Cluster, cluster
from tests.support import warm
from tests.support.patience import until

pytestmark = pytest.mark.slow
RESEARCH = "examples/agents/research.py"


@pytest.fixture(scope="module", params=MODES)
def c(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all stories of a mode; whoever kills something starts it again. The processes start cold: what
    goes on after a kill does so with another hash seed."""
    folder = tmp_path_factory.mktemp("server")
    with cluster(
        folder, request.param, "tests/endpoint/handlers.py", EP_LEDGER=str(folder / "ledger")
    ) as made:
        yield made


@pytest.fixture
def ledger(c: Cluster) -> Path:
    """What steps do, from now on."""
    path = c.folder / "ledger"
    path.write_text("")
    return path


def test_every_operation_works_wherever_the_journal_is(c: Cluster, tmp_path: Path):
    """In agentdur's own process; over one stream, attempt by attempt over HTTP/1.1, with a server that lets
    nobody wait, and on three nodes."""
    assert c.call("/EpSvc/greet", "bob") == "bob!"
    assert c.call("/EpSvc/branches", {"count": 4, "seconds": 0.02}) == [0, 10, 20, 30]
    assert c.call("/EpSvc/caller", "ann") == ["ann!", "ann!", 5, 7]
    assert c.client.post("/EpSvc/fails").status_code == 418
    tries = c.call("/EpSvc/flaky", str(tmp_path / "tries"))
    assert tries == 3 or (c.nodes > 1 and tries > 3)  # a new leader begins the try that is under way again
    assert c.call("/EpSvc/racer") == "hare"
    number, uuid, now = c.call("/EpSvc/same_again")
    assert 0 <= number < 1
    assert len(uuid) == 36
    assert abs(now - time.time()) < 60
    assert [c.call("/EpLazy/k/ask", n) for n in (3, 4)] == [[3, 3, None, ["n"]], [7, 7, None, ["n"]]]
    assert c.call("/EpObj/called/recall") == {"n": 7}
    assert c.call("/EpObj/called/wipe") == []


def test_what_waits_is_woken_wherever_the_journal_is(c: Cluster):
    """By an awakeable, a promise, a signal."""
    waiting = c.send("/EpSvc/waiter")
    name = until(lambda: c.call("/EpObj/awakeable/recall").get("name"), "the awakeable")
    assert c.client.post(f"/restate/awakeables/{name}/resolve", json="woken").status_code == 202
    assert c.result(waiting).json() == "woken"
    started = c.send("/EpWf/key/run", "from here ")
    c.call("/EpWf/key/finish", "to there")
    assert c.result(started).json() == "from here to there"
    listening = c.send("/EpSvc/signalled")

    def heard() -> bool:  # a signal to one that has not begun is dropped, by the server's rules
        c.call("/EpSvc/signals", listening)
        return c.client.get(f"/restate/invocation/{listening}/output").status_code == 200

    until(heard, "the signal")
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


def test_a_person_decides_wherever_the_journal_is(c: Cluster):
    """Killed while it waits; a deadline, an edit, a forgery, a second decision, an asker that is gone."""
    asking = c.send("/EpSvc/asks", 3000)
    found = until(lambda: (q := questions(c)) and len(q) == 2 and q, "both questions")
    c.kill()
    assert decide(c, found["first?"] | {"digest": "forged"}, True).status_code == 403
    assert decide(c, found["first?"], True, by="ada", payload={"n": 2}).status_code == 200
    assert decide(c, found["first?"], False, by="eve").status_code == 409
    assert c.result(asking).json() == "True ada 2, True True"
    gone = c.send("/EpSvc/asks", None)
    until(lambda: len(questions(c)) == 2, "both questions")
    c.admin.patch(f"/invocations/{gone}/kill")
    until(lambda: not questions(c), "their end")


def test_a_cancelled_saga_is_undone(c: Cluster, ledger: Path):
    """The cancellation arrives as a signal, whoever keeps the journal."""
    running = c.send("/EpSvc/saga")
    until(lambda: c.entries(running) > 3, "the sleep after the booking")
    assert c.admin.patch(f"/invocations/{running}/cancel").status_code == 202
    assert c.result(running).status_code == 409
    assert ledger.read_text().splitlines() == ["begin book", "end book", "begin unbook", "end unbook"]


@pytest.mark.parametrize("c", ["in process", "http2", "three nodes"], indirect=True)
def test_branches_of_a_killed_process_go_on_where_they_were(c: Cluster, ledger: Path):
    """Only steps that were under way run again; the branches are found by the names of their entries."""
    running = c.send("/EpSvc/branches", {"count": 5, "seconds": 0.3})
    until(lambda: "begin 0" in ledger.read_text().splitlines()[5:], "the second round")
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
    with cluster(tmp_path, "http2", str(app), imported=warm.ENDPOINT) as c:
        running = c.send("/Changing/run")
        until(lambda: c.entries(running) > 1, "the sleep")
        # Of another length: a compiled file is told from its source by size and second only.
        app.write_text(text.replace('name="first"', 'name="another"'))
        c.kill()
        paused = f"select id from sys_invocation where id = '{running}' and status = 'paused'"
        until(lambda: c.sql(paused), "the pause")
        events = c.sql(f"select event_json from sys_journal_events where id = '{running}'")
        assert any("made: Sleep 'another'" in event["event_json"] for event in events)
        app.write_text(text)
        c.kill()
        assert c.admin.patch(f"/invocations/{running}/resume").status_code == 200
        assert c.result(running).json() == "done"


def test_the_research_agent_moves_to_a_server_unchanged_and_survives_being_killed(tmp_path: Path):
    """Killed while it reads pages: no finished tool call runs again, each turn of the model is paid once. Of
    one process tests/agents/test_research_killed.py tells it."""
    pytest.importorskip("litellm")
    ledger = tmp_path / "tools.jsonl"
    with (
        demo_world.pages_served({"bergen": 0.2, "lisbon": 0.0, "cherrapunji": 2.0}) as pages,
        scripted_llm_process(demo_world.script(pages)) as llm,
    ):
        environment = demo_world.environment_for("openai/scripted", llm.base_url, ledger)
        with cluster(tmp_path, "http2", RESEARCH, imported=warm.MODELS, **environment) as c:
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
