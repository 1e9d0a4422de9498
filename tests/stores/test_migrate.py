"""Versions of the schema: an older file is moved forward, and ends as one that was made today."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from agentdur.core.errors import StoreTooNew
from agentdur.stores import SqliteStore
from agentdur.stores.declared import schema_text
from agentdur.stores.migrate import APPLICATION_ID, STEPS, VERSION, migrate

RELEASED = Path(__file__).parent


def schema(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Tables with their columns and keys, and indexes, however they came about."""
    found: set[tuple[str, ...]] = set()
    for kind, name, sql in connection.execute("select type, name, sql from sqlite_schema").fetchall():
        if kind == "index":
            found.add((kind, name, sql or ""))
            continue
        found.add((kind, name, "without rowid" if "WITHOUT ROWID" in sql else ""))
        columns = connection.execute(f"select name, type, \"notnull\", pk from pragma_table_info('{name}')")
        found |= {(name, *map(str, column)) for column in columns.fetchall()}
    return found


def database(path: Path | str = ":memory:", sql: str = "", version: int = 0) -> sqlite3.Connection:
    """A database in autocommit mode, with these tables."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(sql)
    if version:
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {version}")
    return connection


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_each_released_schema_becomes_todays(version: int) -> None:
    """Red after a change of the tables: add a step, raise VERSION, keep the released files as they are."""
    old = database(sql=(RELEASED / f"schema_{version}.sql").read_text("utf-8"), version=version)
    fresh = database()
    for connection in (old, fresh):
        migrate(connection)
        assert version_of(connection) == VERSION
    assert schema(old) == schema(fresh)
    assert set(STEPS) == set(range(1, VERSION))


NEXT = {
    VERSION: ("alter table timer add column note text", "update timer set note = 'old'"),
    VERSION + 1: ("create index timer_note on timer (note)",),
}


def test_steps_are_taken_in_order_and_once() -> None:
    connection = database()
    migrate(connection)
    connection.execute("insert into timer values (1, 2, 3)")
    migrate(connection, NEXT)
    migrate(connection, NEXT)
    assert version_of(connection) == VERSION + 2
    assert connection.execute("select * from timer").fetchall() == [(1, 2, 3, "old")]
    assert connection.execute("select 1 from sqlite_schema where name = 'timer_note'").fetchone()


def test_a_step_that_fails_leaves_the_file_as_it_was() -> None:
    connection = database()
    migrate(connection)
    before = schema(connection)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, {**NEXT, VERSION + 1: ("create index broken on nothing (x)",)})
    assert version_of(connection) == VERSION
    assert schema(connection) == before
    assert not connection.in_transaction


def test_a_store_that_went_forward_does_not_go_back(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    SqliteStore(str(path)).open()
    with database(path) as connection:
        migrate(connection, NEXT)
    with pytest.raises(StoreTooNew, match=str(VERSION + 2)):
        migrate(database(path))


def test_the_shipped_schema_is_what_the_tables_declare() -> None:
    """Whoever changes a table is told to run `python -m agentdur.stores.declared`."""
    shipped = files("agentdur.stores").joinpath("schema.sql").read_text()
    assert shipped == schema_text()


@pytest.mark.slow
def test_a_start_reads_neither_the_object_mapper_nor_a_model_client() -> None:
    """After a crash everybody waits for the imports of the process that comes back."""
    code = "import sys, agentdur; agentdur.App; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"sqlalchemy", "sqlmodel", "litellm", "httpx", "typer"}.isdisjoint(loaded.stdout.split())
