"""The commands: what they say, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agentdur.cli.output import Exit
from agentdur.cli.reference import cli_page
from agentdur.config import TABLE
from tests.cli.conftest import Server, Told

PAGE = Path(__file__).parents[2] / "docs/reference/cli.md"
UNKNOWN = "inv_1cixoeqOzcLa6IRaXfbBYPAiNxd2EKgA9a"
Command = Callable[..., Told]


def in_server(agentdur: Command, server: Server) -> Command:
    return lambda *arguments: agentdur("invocations", "--admin-url", server.url, *arguments)


# Without a server


def test_config_names_every_setting_its_value_and_its_source(
    agentdur: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTDUR_HOST", "0.0.0.0")
    monkeypatch.setenv("AGENTDUR_HOTS", "typo")
    (tmp_path / "agentdur.toml").write_text("ingress-port = 8181")
    told = agentdur("config")
    lines = {line.split()[0]: line for line in told.out.splitlines()[1:]}
    assert told.code == Exit.OK
    assert set(lines) == {name.replace("_", "-") for name in TABLE}
    assert lines["host"].split()[1:3] == ["0.0.0.0", "AGENTDUR_HOST"]
    assert lines["ingress-port"].split()[1:3] == ["8181", "agentdur.toml"]
    assert "AGENTDUR_HOTS is set, but is no setting" in told.err
    assert json.loads(agentdur("config", "--json").out)["ingress_port"] == {
        "value": "8181", "source": "agentdur.toml",
    }  # fmt: skip


def test_a_bad_setting_is_one_line_and_a_usage_error(
    agentdur: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agentdur.toml").write_text("ingres-port = 1")
    told = agentdur("config")
    assert told.code == Exit.USAGE
    assert told.err.startswith("error: [AD0060] no setting 'ingres-port' (agentdur.toml)")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "nowhere.py"],
        ["serve", "nowhere.py", "--ingress-port", "x"],
        ["serve", "nowhere.py", "--set", "nonsense"],
        ["serve", "nowhere.py", "--set", "nonsense=1"],
        ["dev", "nowhere.py"],
        ["dev", "nowhere.py", "--set", "cleanup-interval=1"],
        ["invocations", "list", "--limit", "0"],
        ["no-such-command"],
        ["config", "--no-such-option"],
    ],
)
def test_what_is_asked_in_the_wrong_way_ends_with_2_and_no_traceback(
    agentdur: Command, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    told = agentdur(*arguments)
    assert told.code == Exit.USAGE
    assert told.err
    assert "Traceback" not in told.err


def test_the_version_is_told(agentdur: Command):
    assert agentdur("version").out.startswith("agentdur ")


@pytest.mark.parametrize("arguments", [["status"], ["invocations", "list"], ["invocations", "kill", UNKNOWN]])
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
def test_without_a_server_it_ends_with_4_and_says_what_to_do(
    agentdur: Command, arguments: list[str], url: str
):
    at = [arguments[0], "--admin-url", url, *arguments[1:]]
    told = agentdur(*at)
    assert told.code == Exit.CANNOT_CONNECT
    assert f"no server answers at {url}" in told.err
    assert "agentdur serve FILE" in told.err


def test_the_page_of_commands_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == cli_page(), (
        "write it anew: python -m agentdur.cli.reference > docs/reference/cli.md"
    )


# With a server


def test_status_says_what_is_served(agentdur: Command, server: Server):
    told = agentdur("status", "--admin-url", server.url)
    assert told.code == Exit.OK
    assert f"agentdur 9.9 at {server.url}, ingress at http://ingress/" in told.out
    assert "Work     Service        broken, quick, wait" in told.out
    facts = json.loads(agentdur("status", "--admin-url", server.url, "--json").out)
    assert facts["services"][0]["name"] == "Work"


def test_an_address_that_is_no_admin_api_is_said_to_be_none(agentdur: Command, server: Server):
    """The ingress answers /restate/health, too, but in its own words."""
    told = agentdur("invocations", "--admin-url", f"{server.url}/ingress/restate/health", "list")
    assert told.code == Exit.CANNOT_CONNECT
    assert "is no admin API" in told.err


def test_invocations_are_listed_as_a_table_and_as_json(agentdur: Command, server: Server):
    told_in = in_server(agentdur, server)
    done, scheduled = server.finished("listed"), server.send("quick", "x", delay="1h")
    table = told_in("list").out.splitlines()
    assert table[0].split() == ["id", "target", "status", "created", "result"]
    row = next(line for line in table if line.startswith(done)).split()
    assert (row[1], row[2], row[4]) == ("Work/quick", "completed", "success")
    found = json.loads(told_in("list", "--json", "--status", "scheduled", "--service", "Work").out)
    assert scheduled in [one["id"] for one in found]
    assert done not in [one["id"] for one in found]
    assert told_in("list", "--service", "Nobody").out == "no invocations\n"
    assert json.loads(told_in("list", "--service", "Nobody", "--json").out) == []


def test_an_invocation_is_described_with_its_journal(agentdur: Command, server: Server):
    told_in = in_server(agentdur, server)
    done = server.finished("described")
    text = told_in("describe", done).out
    assert "target               Work/quick" in text
    assert "Input" in text
    assert "described" in text
    assert json.loads(told_in("describe", done, "--json").out)["journal"][0]["kind"] == "Input"


def test_what_is_not_there_ends_with_3(agentdur: Command, server: Server):
    told = in_server(agentdur, server)("describe", UNKNOWN)
    assert told.code == Exit.NOT_FOUND
    assert "does not exist" in told.err
    assert told.out == ""


def test_a_bad_id_ends_with_1(agentdur: Command, server: Server):
    told = in_server(agentdur, server)("describe", "inv_nonsense")
    assert told.code == Exit.FAILURE
    assert "bad invocation id" in told.err


def test_invocations_are_paused_resumed_and_killed(agentdur: Command, server: Server):
    told_in = in_server(agentdur, server)
    waiting = server.send("wait")
    assert told_in("pause", waiting).out == f"{waiting} is asked to pause\n"
    assert told_in("resume", waiting).out == f"{waiting} resumed\n"
    assert told_in("kill", waiting).out == f"{waiting} killed\n"
    assert "[409] killed" in told_in("describe", waiting).out


def test_a_cancelled_one_may_take_its_time(agentdur: Command, server: Server):
    told_in = in_server(agentdur, server)
    waiting, scheduled = server.send("wait"), server.send("quick", "x", delay="1h")
    assert told_in("cancel", waiting, scheduled).out == (
        f"{waiting} is asked to cancel\n{scheduled} cancelled\n"
    )


def test_one_that_fails_does_not_keep_the_others_from_being_tried(agentdur: Command, server: Server):
    told_in = in_server(agentdur, server)
    done, waiting = server.finished("x"), server.send("wait")
    told = told_in("kill", done, waiting)
    assert told.code == Exit.WRONG_STATE
    assert "already completed" in told.err
    assert told.out == f"{waiting} killed\n"
    assert told_in("kill", UNKNOWN, UNKNOWN).code == Exit.NOT_FOUND
    assert told_in("kill", done, UNKNOWN).code == Exit.FAILURE
    answers = json.loads(told_in("kill", done, "--json").out)
    assert answers[0]["id"] == done
    assert answers[0]["done"] is False
    assert "already completed" in answers[0]["error"]


def test_a_completed_one_is_restarted_and_purged(agentdur: Command, server: Server):
    told_in = in_server(agentdur, server)
    done = server.finished("again")
    new = told_in("restart", done).out.split()[-1]
    assert new.startswith("inv_")
    assert json.loads(told_in("restart-as-new", done, "--json").out)[0]["new_invocation_id"] != new
    assert told_in("restart", done, "--from", "99").code == Exit.FAILURE
    assert told_in("purge-journal", done).out == f"{done} its journal is purged\n"
    assert told_in("restart", done).code == Exit.WRONG_STATE
    assert told_in("purge", done).out == f"{done} purged\n"
    assert told_in("describe", done).code == Exit.NOT_FOUND
