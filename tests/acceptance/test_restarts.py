"""Stopping, killing and starting again, as whoever is on call does it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.server import Server, serving, until

pytestmark = pytest.mark.slow

TRIP = """
from agentdur import App, Context, Service

trip = Service("Trip")

@trip.handler()
async def book(ctx: Context) -> str:
    await ctx.run("reserve", lambda: 1)
    name, answer = ctx.awakeable(type_hint=str)
    await ctx.run("ask", lambda: name)
    return await answer

app = App([trip])
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    options = ("--set=log-format=json", "--set=default-retry-policy-initial-interval=5ms",
               "--set=default-retry-policy-max-attempts=3", "--set=shutdown-timeout=20s")  # fmt: skip
    with serving(tmp_path, *options) as server:
        yield server


def lines(server: Server, words: str) -> list[dict[str, object]]:
    """The lines of the log with these words."""
    read = [json.loads(line) for line in server.said().splitlines() if line.startswith("{")]
    return [line for line in read if words in line["message"]]


def steps_begun(server: Server, invocation: str) -> bool:
    return any(entry["kind"] == "Run" for entry in server.look(invocation)["journal"])


def test_a_step_that_runs_is_finished_before_the_server_ends(server: Server):
    with ThreadPoolExecutor() as callers:
        rests = callers.submit(server.post, "/Desk/slow", b"1.0")
        waits = callers.submit(server.post, "/Desk/wait")
        until(lambda: len(server.operator.get("/invocations").json()["invocations"]) == 2)
        time.sleep(0.2)  # the step has begun
        server.signal()
        assert rests.result().json() == "rested"
        assert waits.result().status_code == 503
        assert "[AD0023] the engine stopped; the invocation goes on" in waits.result().json()["message"]
    assert server.ended() == 0
    assert not lines(server, "stopped while")


def test_who_asks_twice_does_not_wait(server: Server):
    invocation = server.send("/Desk/slow", b"60")
    until(lambda: steps_begun(server, invocation))
    server.signal()
    until(lambda: lines(server, "stopping: what runs is given 20 s"))
    began = time.monotonic()
    server.signal()
    assert server.ended() == 0
    assert time.monotonic() - began < 15
    assert invocation in str(lines(server, "stopped while 1 attempts ran")[0]["message"])


def test_a_killed_server_goes_on_where_it_was(server: Server):
    asked, rested = server.send("/Desk/wait"), server.send("/Desk/slow", b"0.3")
    awakeable = server.awakeable(asked)
    server.signal(signal.SIGKILL)
    assert server.ended() == -signal.SIGKILL
    server.start()
    assert server.post(f"/restate/awakeables/{awakeable}/resolve", b'"yes"').status_code == 202
    assert server.http.get(f"/restate/attach/{asked}").json() == "yes"
    assert server.http.get(f"/restate/attach/{rested}").json() == "rested"


def test_a_failing_attempt_is_one_line_and_a_replay_is_none(server: Server):
    invocation = server.send("/Desk/fails")
    server.becomes(invocation, "paused")
    told = lines(server, invocation)
    assert [line["attempt"] for line in told] == [1, 2, 3]
    assert [line["level"] for line in told] == ["warning", "warning", "error"]
    assert {line["handler"] for line in told} == {"Desk/fails"}
    assert {line["error"] for line in told} == {"no such luck"}
    assert "the next one is in 0.0" in str(told[0]["message"])
    assert "paused, until `agentdur invocations resume" in str(told[2]["message"])
    assert "next_attempt_at" in told[0] and "next_attempt_at" not in told[2]
    assert ["ValueError: no such luck" in str(line.get("exception")) for line in told] == [True, False, False]

    asked = server.send("/Desk/wait")
    server.awakeable(asked)
    server.restart()
    server.post(f"/restate/awakeables/{server.awakeable(asked)}/resolve", b'"yes"')
    assert server.http.get(f"/restate/attach/{asked}").json() == "yes"
    assert not lines(server, asked)
    assert len(lines(server, invocation)) == 3


def test_an_operator_at_work(server: Server):
    asked = server.send("/Desk/wait")
    server.awakeable(asked)
    for action, words in (
        ("pause", ("paused", "is asked to pause")), ("resume", ("resumed",)),
        ("cancel", ("is asked to cancel",)),
    ):  # fmt: skip
        done = server.command("invocations", action, asked)
        assert (done.returncode, done.stdout.strip()) in [(0, f"{asked} {word}") for word in words]
        if action == "pause":
            server.becomes(asked, "paused")
    found = server.becomes(asked, "completed")
    assert found["completion_failure"] == "[409] cancelled"
    described = server.command("invocations", "describe", asked)
    assert "Run 'ask'" in described.stdout
    listed = server.command("invocations", "list")
    assert asked in listed.stdout
    refused = server.command("invocations", "kill", asked, "nope")
    assert refused.returncode == 1
    assert refused.stderr.count("error: ") == 2
    assert "was already completed" in refused.stderr and "bad invocation id 'nope'" in refused.stderr


def test_code_that_changed_under_an_invocation(tmp_path: Path):
    """It is paused with the entry, the command and the line; with the code put right it goes on."""
    agent = tmp_path / "trip_agent.py"
    agent.write_text(TRIP)
    with serving(tmp_path, agent=agent) as server:
        invocation = server.send("/Trip/book")
        awakeable = until(lambda: [e for e in server.look(invocation)["journal"] if e.get("of") == "Run"][1:])
        agent.write_text(TRIP.replace('"reserve"', '"pay in advance"'))
        server.restart()
        server.post(f"/restate/awakeables/{awakeable[0]['value']}/resolve", b'"booked"')
        told = server.becomes(invocation, "paused")["last_failure"]["message"]
        assert told.startswith("[AD0031] entry 1 is Run 'reserve', but the code made Run 'pay in advance'")
        assert f"{agent}:8 in book" in told
        assert told in server.said()

        agent.write_text(TRIP + "# right again\n")
        server.restart()
        assert server.command("invocations", "resume", invocation).returncode == 0
        assert server.http.get(f"/restate/attach/{invocation}").json() == "booked"


@pytest.mark.parametrize(
    ("options", "toml", "words"),
    [
        ("--ingress-port 99999", "", "ingress_port = 99999 (argument): takes a port"),
        ("--set entry-size-limits=1", "", "did you mean 'entry_size_limit'?"),
        ("--set log-level", "", "--set takes NAME=VALUE, not 'log-level'"),
        ("AGENTDUR_SHUTDOWN_TIMEOUT=10", "", "(AGENTDUR_SHUTDOWN_TIMEOUT): takes a duration such as"),
        ("", "ingress-prt = 1", "'ingress-prt' (agentdur.toml); did you mean 'ingress-port'?"),
        ("", "host = [", "agentdur.toml cannot be read: "),
    ],
)
def test_a_setting_that_is_none(tmp_path: Path, options: str, toml: str, words: str):
    (tmp_path / "agentdur.toml").write_text(toml)
    variable, _, value = options.partition("=") if options.startswith("AGENTDUR") else ("", "", "")
    given = [] if variable else options.split()
    ended = Server(tmp_path).command("serve", "nothing.py", *given, **({variable: value} if variable else {}))
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: [AD0060] ")
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
