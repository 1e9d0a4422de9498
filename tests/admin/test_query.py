"""Questions in SQL over HTTP: what is answered, in which form, and what is refused with which code."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tests.admin.conftest import World, quick, step

JSON = {"accept": "application/json"}


async def ask(world: World, sql: str) -> list[dict[str, Any]]:
    """The rows."""
    answer = await world.http.post("/query", json={"query": sql}, headers=JSON)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


async def refused(world: World, sql: str) -> tuple[int, str]:
    """(status, error code)."""
    answer = await world.http.post("/query", json={"query": sql}, headers=JSON)
    body = answer.json()
    assert set(body) == {"message", "restate_code"} and body["restate_code"] is None
    return answer.status_code, body["message"].partition("]")[0].strip("[")


async def test_each_status_is_shown_as_the_admin_api_says_it(world: World):
    """Also those that only memory tells apart."""
    ids = {s: await world.started(s) for s in ("scheduled", "pending", "running", "paused", "backing-off")}
    for status, id in ids.items():
        (row,) = await ask(world, f"SELECT status, target FROM sys_invocation WHERE id = '{id}'")
        assert row["status"] == status
        rows = await ask(world, f"SELECT id FROM sys_invocation WHERE status = '{status}'")
        assert id in [row["id"] for row in rows]


async def test_null_is_left_out_and_times_are_rfc_3339(world: World):
    await world.client.service_call(quick, "x")
    (row,) = await ask(
        world,
        "SELECT created_at, completed_at, journal_retention, target_service_key, completion_result "
        "FROM sys_invocation",
    )
    assert "target_service_key" not in row
    assert row["created_at"].endswith("Z") and "T" in row["created_at"]
    assert row["journal_retention"] == "PT86400S"
    assert row["completion_result"] == "success"


async def test_a_journal_is_read_entry_by_entry(world: World):
    await world.client.service_call(step)
    rows = await ask(
        world, 'SELECT "index", entry_type, name, entry_lite_json FROM sys_journal ORDER BY index'
    )
    assert [row["entry_type"] for row in rows] == [
        "Command: Input", "Command: Run", "Notification: Run", "Command: Output",
    ]  # fmt: skip
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert rows[1]["name"] == "first" and "name" not in rows[2]
    assert rows[1]["entry_lite_json"] == '{"Command":{"Run":{"completion_id":1,"name":"first"}}}'


async def test_without_the_word_json_the_answer_is_arrow(world: World):
    await world.client.service_call(quick, "x")
    answer = await world.http.post(
        "/query", json={"query": "SELECT id, created_at, COUNT(*) OVER () AS n FROM sys_invocation"},
        headers={"accept": "*/*"},
    )  # fmt: skip
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.field("created_at").type == pa.timestamp("ms", "+00:00")
    assert table.schema.field("n").type == pa.int64()
    assert table.num_rows == 1


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELEC 1", 400, "AD0200"),
        ("DELETE FROM state", 400, "AD0201"),
        ("SELECT 1; SELECT 2", 500, "AD0201"),
        ("SELECT * FROM nowhere", 500, "AD0202"),
        ("SELECT nothing FROM state", 500, "AD0202"),
        ("SELECT load_extension('x')", 400, "AD0201"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_its_code(world: World, sql: str, status: int, code: str):
    assert await refused(world, sql) == (status, code)
