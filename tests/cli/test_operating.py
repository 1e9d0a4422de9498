"""Operating by the command: many at once, state, services, approvals, sessions; how each ends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentdur.cli.output import Exit
from tests.cli.conftest import Server, Told

Command = Callable[..., Told]


@pytest.fixture
def run(agentdur: Command, server: Server) -> Command:
    """The command with the server's address put where it belongs."""
    return lambda group, *arguments: agentdur(group, "--admin-url", server.url, *arguments)


def lines(told: Told) -> list[list[str]]:
    return [line.split() for line in told.out.splitlines()]


# Many invocations


def test_a_filter_is_shown_before_it_is_used(run: Command, server: Server):
    waiting = {server.send("wait") for _ in range(2)}
    server.finished("done")
    dry = run("invocations", "kill", "--handler", "wait", "--dry-run")
    assert dry.code == Exit.OK
    assert waiting <= {line[0] for line in lines(dry)[1:]}
    assert all(line[3:5] == ["would", "kill"] for line in lines(dry)[1:])
    unasked = run("invocations", "kill", "--handler", "wait")
    assert (unasked.code, unasked.out) == (Exit.USAGE, "")
    assert "[AD0214] kill" in unasked.err
    assert run("invocations", "list", "--status", "running", "--handler", "wait").out != "no invocations\n"
    done = run("invocations", "kill", "--handler", "wait", "--yes")
    assert done.code == Exit.OK
    assert {line[0] for line in lines(done)[1:]} == {line[0] for line in lines(dry)[1:]}
    assert run("invocations", "kill", "--handler", "wait", "--yes").out == "no invocations\n"


def test_who_is_asked_may_say_no(run: Command, server: Server, monkeypatch: pytest.MonkeyPatch):
    waiting = server.send("wait")
    for answer, code in (("n\n", Exit.USAGE), ("\n", Exit.USAGE), ("y\n", Exit.OK)):
        person = io.StringIO(answer)
        monkeypatch.setattr(person, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", person)
        told = run("invocations", "cancel", "--handler", "wait", "--status", "running")
        assert told.code == code
        assert "cancel 1 invocations (Work/wait)? [y/N]" in told.err
    assert waiting in told.out


def test_one_of_many_that_is_refused_is_told(run: Command, server: Server):
    done = server.finished("many")
    told = run("invocations", "kill", "--service", "Work", "--status", "succeeded", "--yes", "--json")
    assert told.code == Exit.FAILURE
    answer = json.loads(told.out)
    assert answer["succeeded"] == []
    assert done in {one["invocation_id"] for one in answer["failed"]}


def test_many_are_restarted(run: Command, server: Server):
    done = server.finished("restarted")
    told = run("invocations", "restart", "--newer-than", "1 hour", "--status", "succeeded", "-y", "--json")
    new = {one["old_invocation_id"]: one["new_invocation_id"] for one in json.loads(told.out)["succeeded"]}
    assert new[done].startswith("inv_")


@pytest.mark.parametrize(
    "arguments",
    [
        ["kill"],
        ["kill", "inv_x", "--service", "Work"],
        ["kill", "inv_x", "--dry-run"],
        ["kill", "--older-than", "soon"],
        ["restart", "--service", "Work", "--from", "3"],
        ["resume"],
    ],
)
def test_a_selection_that_makes_no_sense_is_a_usage_error(run: Command, arguments: list[str]):
    told = run("invocations", *arguments)
    assert (told.code, told.out) == (Exit.USAGE, "")
    assert told.err.startswith("error: [AD0213]")
    assert told.err.count("\n") == 1


def test_a_status_that_is_none_is_refused_by_the_server(run: Command):
    for action in ("list", "kill"):
        told = run("invocations", action, "--status", "odd")
        assert (told.code, told.out) == (Exit.FAILURE, "")
        assert "[AD0212]" in told.err


# Watching


def test_a_watched_invocation_tells_how_it_ended(run: Command, server: Server):
    done, failed = server.finished("watched"), server.send("broken")
    assert run("invocations", "describe", "-w", done).code == Exit.OK
    told = run("invocations", "describe", "--watch", "--every", "0.1", "--json", failed)
    assert told.code == Exit.RUN_FAILED
    assert json.loads(told.out.splitlines()[-1])["completion_failure"] == "[418] no way"


def test_what_is_watched_is_said_again_when_it_has_changed(
    run: Command, server: Server, monkeypatch: pytest.MonkeyPatch
):
    """Three looks, one change between the second and the third."""
    looks: list[float] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            server.send("quick", "seen", delay="1h")
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("agentdur.cli.output.time.sleep", look)
    told = run("invocations", "list", "-w", "--every", "7", "--status", "scheduled", "--json")
    assert (told.code, looks) == (Exit.OK, [7, 7, 7])
    before, after = (json.loads(line) for line in told.out.splitlines())
    assert len(after) == len(before) + 1


# State


def state(run: Command, key: str) -> Any:
    return json.loads(run("state", "get", "Room", key, "--json").out)


def test_state_is_read_edited_and_cleared(run: Command, server: Server, monkeypatch: pytest.MonkeyPatch):
    server.post("Room/s/enter", 5)
    assert run("state", "get", "Room", "s").out.splitlines()[1].split() == ["n", "5"]
    assert run("state", "get", "Room", "s", "n").out == "5\n"
    assert run("state", "edit", "Room", "s", "--set", "n=6", "--set", 'o={"a": [1]}').out == "Room/s: done\n"
    assert state(run, "s") == {"n": 6, "o": {"a": [1]}}
    run("state", "edit", "Room", "s", "--unset", "o")
    assert run("state", "edit", "Room", "s", "--set", "n=6").out == "Room/s: nothing changes\n"
    monkeypatch.setattr("sys.stdin", io.StringIO('{"m": {"$bytes": "ff00"}, "t": {"$text": "plain"}}'))
    run("state", "edit", "Room", "s", "--file", "-")
    assert state(run, "s") == {"m": {"$bytes": "ff00"}, "t": {"$text": "plain"}}
    assert run("state", "clear", "Room", "s").code == Exit.USAGE
    assert run("state", "clear", "Room", "s", "--yes").code == Exit.OK
    assert run("state", "get", "Room", "s").out == "no state\n"


def test_an_edit_behind_a_handler_that_runs_says_that_it_waits(
    run: Command, server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agentdur.cli.state.WAIT_S", 0.1)
    holder = server.post("Room/held/stay/send")["invocationId"]
    told = run("state", "edit", "Room", "held", "--set", "n=1", "--json")
    assert json.loads(told.out) == {"service": "Room", "object_key": "held", "done": False}
    run("invocations", "kill", holder)
    assert state(run, "held") == {"n": 1}


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, editor: str) -> None:
    """Somebody who edits by this program: it is given the file's name."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setenv("VISUAL", editor)


def test_state_is_edited_in_an_editor(run: Command, server: Server, monkeypatch: pytest.MonkeyPatch):
    server.post("Room/editor/enter", 1)
    at_a_terminal(monkeypatch, "sed -i s/1/3/")
    assert run("state", "edit", "Room", "editor").out == "Room/editor: done\n"
    assert state(run, "editor") == {"n": 3}
    at_a_terminal(monkeypatch, "false")
    told = run("state", "edit", "Room", "editor")
    assert (told.code, "'false' failed" in told.err) == (Exit.USAGE, True)


def test_who_was_overtaken_is_told(run: Command, server: Server, monkeypatch: pytest.MonkeyPatch):
    server.post("Room/race/enter", 1)
    call = f"curl -s -H content-type:application/json -d 2 {server.url}/ingress/Room/race/enter"
    at_a_terminal(monkeypatch, f"sh -c '{call}; sed -i s/1/3/ $0'")  # meanwhile, a handler
    told = run("state", "edit", "Room", "race")
    assert told.code == Exit.WRONG_STATE
    assert "[AD0216]" in told.err
    assert state(run, "race") == {"n": 2}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["get", "Nobody", "k"], Exit.NOT_FOUND),
        (["get", "Work", "k"], Exit.FAILURE),
        (["get", "Room", "bad", "no-such-value"], Exit.USAGE),
        (["edit", "Room", "bad", "--set", "n"], Exit.USAGE),
        (["edit", "Room", "bad", "--set", "n=nonsense"], Exit.USAGE),
        (["edit", "Room", "bad", "--unset", "m"], Exit.USAGE),
        (["edit", "Room", "bad", "--set", "n=1", "--file", "-"], Exit.USAGE),
        (["edit", "Room", "bad", "--file", "list.json"], Exit.USAGE),
        (["edit", "Room", "bad", "--file", "nowhere.json"], Exit.FAILURE),
        (["edit", "Room", "bad"], Exit.USAGE),
    ],
)
def test_an_edit_that_makes_no_sense_changes_nothing(
    run: Command,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    arguments: list[str],
    code: Exit,
):
    server.post("Room/bad/enter", 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[1]")
    told = run("state", *arguments)
    assert (told.code, told.out) == (code, "")
    assert told.err.count("\n") == 1
    assert state(run, "bad") == {"n": 1}


# Services


def test_services_are_listed_described_and_set(run: Command):
    rows = {line[0]: line[1:] for line in lines(run("services", "list"))}
    assert rows["Room"][:3] == ["VirtualObject", "1", "public"]
    told = run("services", "describe", "Desk")
    assert (
        "A person decides."
        in json.loads(run("services", "describe", "Desk", "--json").out)["handlers"][0].values()
    )
    assert lines(told)[-1][:4] == ["ask", "public", "JSON", "integer"]
    changed = run("services", "set", "Desk", "abort-timeout=3m", "public=true")
    assert ["abort_timeout", "3m"] in lines(changed)
    for arguments, code in (
        (["Desk", "nonsense=1"], Exit.USAGE), (["Desk", "abort-timeout"], Exit.USAGE),
        (["Desk", "abort-timeout=soon"], Exit.FAILURE), (["Nobody", "public=true"], Exit.NOT_FOUND),
    ):  # fmt: skip
        assert run("services", "set", *arguments).code == code
    assert json.loads(run("services", "describe", "Desk", "--json").out)["abort_timeout"] == "3m"
    assert run("services", "describe", "Nobody").code == Exit.NOT_FOUND


# Approvals


def asked(run: Command, server: Server, amount: int) -> tuple[str, str]:
    """(invocation, approval) of a question that waits."""
    invocation = server.post("Desk/ask/send", amount)["invocationId"]
    while True:
        for one in json.loads(run("approvals", "list", "--json").out):
            if one["invocation"] == invocation:
                return invocation, one["id"]


def output(run: Command, invocation: str) -> Any:
    told = run("invocations", "describe", "-w", "--every", "0.1", "--json", invocation)
    return json.loads(told.out.splitlines()[-1])["output"]


def test_a_question_is_seen_and_approved(run: Command, server: Server):
    invocation, id = asked(run, server, 25)
    assert '{"amount":25}' in run("approvals", "list").out
    digest = json.loads(run("approvals", "show", id, "--json").out)["digest"]
    told = run("approvals", "approve", id, "--digest", digest, "--by", "ada", "--reason", "fine")
    assert told.out == f"{id} is approved by ada\n"
    assert output(run, invocation) == {
        "approved": True, "payload": {"amount": 25}, "by": "ada", "reason": "fine",
    }  # fmt: skip
    again = run("approvals", "reject", id, "--yes")
    assert (again.code, "[AD0120]" in again.err) == (Exit.WRONG_STATE, True)
    assert run("approvals", "show", "-w", id).code == Exit.OK


def test_something_else_is_approved_in_its_place(run: Command, server: Server):
    invocation, id = asked(run, server, 1000)
    told = run("approvals", "approve", id, "--payload", '{"amount": 10}', "--by", "bo", "--yes")
    assert told.code == Exit.OK
    assert output(run, invocation)["payload"] == {"amount": 10}


def test_a_question_is_rejected(run: Command, server: Server):
    invocation, id = asked(run, server, 7)
    assert run("approvals", "reject", id, "--reason", "too much", "--yes").out.startswith(f"{id} is rejected")
    assert output(run, invocation)["reason"] == "too much"


def test_what_decides_nothing_is_refused(run: Command, server: Server):
    _, id = asked(run, server, 8)
    for arguments, code in (
        (["approve", id], Exit.USAGE), (["approve", id, "--payload", "{no", "--yes"], Exit.USAGE),
        (["approve", id, "--digest", "another"], Exit.FAILURE),
        (["approve", "nobody", "--yes"], Exit.NOT_FOUND), (["show", "nobody"], Exit.NOT_FOUND),
    ):  # fmt: skip
        assert run("approvals", *arguments).code == code, arguments
    assert json.loads(run("approvals", "show", id, "--json").out)["status"] == "pending"
    run("approvals", "reject", id, "--yes")


# Sessions


def test_sessions_and_what_was_said_in_them(run: Command, server: Server):
    assert run("sessions", "show", "Helper", "none").code == Exit.NOT_FOUND
    server.chat("Helper", "one", "good morning")
    (row,) = lines(run("sessions", "list"))[1:]
    assert row[:2] == ["Helper", "one"]
    text = run("sessions", "show", "Helper", "one").out
    assert "user: good morning\nassistant: heard good morning" in text
    whole = json.loads(run("sessions", "show", "Helper", "one", "--json").out)
    assert [one["role"] for one in whole["history"]] == ["user", "assistant"]
    assert run("sessions", "list", "--agent", "Nobody").code == Exit.NOT_FOUND
