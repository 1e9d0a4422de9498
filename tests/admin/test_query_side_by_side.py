"""A real Restate server and ours are asked the same in SQL, about the same services and invocations: clients
must get the same rows, but for ids and times.

What is asked has the forms that the `restate` command and Restate's web pages send.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.admin.side_by_side import Both, Peer, Place, Side, agentdur, restate
from tests.admin.test_side_by_side import BINARY, manifest, serving
from tests.http.serving import lent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no restate-server: npm install @restatedev/restate-server"),
]
SERVICES = ("Work", "Room", "Signup")
HANDLERS = ("ok", "steps", "refuse", "fail", "pause", "wait", "hang")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    assert BINARY is not None
    peer = Peer()
    peer.places["desk"] = Place(
        manifest(
            serving("Work", *({"name": name} for name in HANDLERS)),
            serving("Room", {"name": "enter"}, {"name": "ok"}, ty="VIRTUAL_OBJECT"),
            serving("Signup", {"name": "run", "ty": "WORKFLOW"}, ty="WORKFLOW"),
            versions=(5, 6),
        )
    )
    folders: list[Path] = [tmp_path_factory.mktemp(name) for name in ("theirs", "ours")]
    with restate(BINARY, folders[0]) as theirs, agentdur(folders[1]) as ours, lent(peer) as port:
        endpoint = f"http://127.0.0.1:{port}"
        found = Both(Side(*theirs, endpoint), Side(*ours, endpoint), peer)
        for side in found:
            live(side)
        yield found


def live(side: Side) -> None:
    """What both have lived through."""
    side.register("desk", silent=True)
    for handler in HANDLERS:
        time.sleep(0.005)
        side.send(f"/Work/{handler}/send", json={"a": handler}, headers={"idempotency-key": handler})
    side.send("/Work/ok/send?delay=3600s", headers={"idempotency-key": "later"})
    for number in range(3):
        time.sleep(0.005)  # created at another millisecond: the order says nothing of the same one
        side.send("/Room/k1/enter/send", headers={"idempotency-key": f"enter{number}"})
    side.send("/Signup/w1/run/send")
    state = {"a": [34, 120, 34], "b": [255, 1], "c": "text"}
    side.admin.post("/services/Room/state", json={"object_key": "k2", "new_state": state}).raise_for_status()
    deadline = time.monotonic() + 60
    while rows(side, SETTLED) != [{"n": 12}] or len(rows(side, "SELECT 1 AS one FROM state")) < 3:
        assert time.monotonic() < deadline, rows(side, "SELECT target, status FROM sys_invocation")
        time.sleep(0.1)


SETTLED = """SELECT COUNT(*) AS n FROM sys_invocation WHERE
    (target = 'Work/fail' AND retry_count > 0) OR (target = 'Work/hang' AND status = 'running')
    OR (target = 'Work/pause' AND status = 'paused') OR (target = 'Work/wait' AND status = 'suspended')
    OR (target IN ('Work/ok', 'Work/steps', 'Work/refuse', 'Signup/w1/run')
        AND status IN ('completed', 'scheduled'))
    OR (target = 'Room/k1/enter' AND status IN ('suspended', 'pending'))"""


def query(side: Side, sql: str, accept: str = "application/json") -> httpx.Response:
    return side.admin.post("/query", json={"query": sql}, headers={"accept": accept})


def rows(side: Side, sql: str) -> list[dict[str, Any]]:
    answer = query(side, sql)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["rows"]
    return found


def compared(side: Side, sql: str) -> list[Any]:
    """The rows, with the names that the side gives to ids; in order, where an order is asked for."""
    side.seen = []
    in_words = [row["id"] for row in rows(side, "SELECT id FROM sys_invocation ORDER BY created_at, id")]
    side._named(json.dumps(in_words))
    found: list[Any] = json.loads(side._named(json.dumps(rows(side, sql))))
    return found if "ORDER BY" in sql.upper() else sorted(found, key=json.dumps)


QUESTIONS = (Path(__file__).parent / "questions.sql").read_text("utf-8").split("\n\n")[1:]


@pytest.mark.parametrize("sql", QUESTIONS, ids=range(len(QUESTIONS)))
def test_the_same_question_has_the_same_answer(both: Both, sql: str):
    theirs, ours = (compared(side, sql) for side in both)
    assert ours == theirs


REFUSED = """
SELEC 1
SELECT FROM
SELECT 'a
DELETE FROM state
INSERT INTO state VALUES (1)
UPDATE state SET key = 'a'
DROP TABLE state
CREATE TABLE a (b INT)
SELECT 1; SELECT 2
SELECT * FROM nowhere
SELECT * FROM sys_idempotency
SELECT nothing FROM state
SELECT s.nothing FROM state s
SELECT nothing(1)
SELECT * FROM sys_invocation a, sys_invocation b WHERE id = '1'
""".splitlines()


@pytest.mark.parametrize("sql", REFUSED)
def test_what_one_refuses_the_other_refuses_in_the_same_form(both: Both, sql: str):
    theirs, ours = (query(side, sql) for side in both)
    assert ours.status_code in (theirs.status_code, 400), (theirs.text, ours.text)
    assert ours.status_code >= 400
    assert ours.json()["message"] and theirs.json()["message"]


def test_the_tables_have_their_columns(both: Both):
    """Ours may have more, after them."""
    sql = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
    )
    theirs, ours = ({}, {})
    for side, found in zip(both, (theirs, ours), strict=True):
        for row in rows(side, sql):
            found.setdefault(row["table_name"], []).append((row["column_name"], row["data_type"]))
    assert theirs
    for name, columns in theirs.items():
        assert ours[name][: len(columns)] == columns, name


def test_the_same_answer_is_the_same_arrow_stream(both: Both):
    sql = (
        "SELECT id, created_at, completion_retention, journal_size, COUNT(*) OVER () AS n FROM sys_invocation"
    )
    schemas = []
    for side in both:
        answer = query(side, sql, accept="*/*")
        assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
        table = pa.ipc.open_stream(answer.content).read_all()
        assert table.num_rows == 12
        schemas.append([(field.name, field.type) for field in table.schema])
    assert schemas[0] == schemas[1]


COMMANDS = """
services list
services status
services status Room
invocations list
invocations list --all --limit 5
invocations list --service Work --status completed
invocations list --key k1
invocations list --virtual-objects-only --oldest-first
state get Room k2 --binary
deployments list
rules list
sql select target, status, created_at, completion_retention from sys_invocation order by target
sql --json select * from sys_service
""".strip().splitlines()


@pytest.mark.skipif("RESTATE_CLI" not in os.environ, reason="RESTATE_CLI names no restate command")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_restate_command_shows_as_many_lines_of_both(both: Both, command: str):
    shown = []
    for side in both:
        environment = os.environ | {
            "RESTATE_ADMIN_URL": str(side.admin.base_url),
            "DO_NOT_TRACK": "1",
            "CI": "1",
        }
        words = command.split(" ", 2) if command.startswith("sql --") else command.split()
        words = ["sql", command.removeprefix("sql ")] if command.startswith("sql select") else words
        done = subprocess.run(
            [os.environ["RESTATE_CLI"], *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        shown.append([line for line in done.stdout.splitlines() if not _OF_ITS_OWN.search(line)])
    assert len(shown[0]) == len(shown[1])


_OF_ITS_OWN = re.compile("Idempotency key|Deployment|Query took")
"""What one of them tells of more invocations than the other."""
