"""A database as text that a person can read, and the text as a database of the version that wrote it.

Rules of this file:
1. It knows SQLite and no code of agentdur's: what is written today is read by the code of tomorrow alone.
2. Bytes are shown as the JSON they hold where they are JSON, and come back as they were.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from pathlib import Path
from typing import Any

APPLICATION_ID = 0x61676475
SCHEMAS = Path(__file__).parents[1] / "stores"
Row = dict[str, Any]


def read_rows(path: Path) -> dict[str, Any]:
    """The version of the schema, and the rows of each table that has some, without what is null."""
    with sqlite3.connect(path) as database:
        database.row_factory = sqlite3.Row
        (version,) = database.execute("pragma user_version").fetchone()
        names = database.execute("select name from sqlite_schema where type = 'table' order by name")
        tables = {name: _table(database, name) for (name,) in names.fetchall()}
    database.close()
    return {"schema": version, "rows": {name: rows for name, rows in tables.items() if rows}}


def write_rows(path: Path, kept: dict[str, Any]) -> None:
    """A database as it was."""
    with sqlite3.connect(path) as database:
        database.executescript((SCHEMAS / f"schema_{kept['schema']}.sql").read_text("utf-8"))
        database.execute(f"pragma application_id = {APPLICATION_ID}")
        database.execute(f"pragma user_version = {kept['schema']}")
        for table, rows in kept["rows"].items():
            for row in rows:
                names = ", ".join(f'"{name}"' for name in row)
                places = ", ".join("?" for _ in row)
                values = [_value(value) for value in row.values()]
                database.execute(f"insert into {table} ({names}) values ({places})", values)
    database.close()


def aged(kept: dict[str, Any], days: int) -> dict[str, Any]:
    """The same, written so much earlier: what was due since then is overdue."""
    rows = {table: [_earlier(row, days * 86_400_000) for row in rows] for table, rows in kept["rows"].items()}
    return {**kept, "rows": rows}


def _earlier(row: Row, ms: int) -> Row:
    return {
        name: value - ms if name == "at" or name.endswith("_at") else value for name, value in row.items()
    }


def _table(database: sqlite3.Connection, name: str) -> list[Row]:
    rows = [dict(row) for row in database.execute(f"select * from {name}").fetchall()]
    return [{key: _shown(value) for key, value in row.items() if value is not None} for row in rows]


def _shown(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
    try:
        found = json.loads(text)
    except ValueError:
        return {"text": text}
    return {"json": found} if _compact(found) == value else {"text": text}


def _value(shown: Any) -> Any:
    match shown:
        case {"base64": text}:
            return base64.b64decode(text)
        case {"text": text}:
            return text.encode()
        case {"json": found}:
            return _compact(found)
        case _:
            return shown


def _compact(found: Any) -> bytes:
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()
