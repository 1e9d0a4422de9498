"""The SQL of a commit, generated from the parts of a batch.

Rules of this file:
1. One statement per part, fed by `json_each`; parts of one table share a trigger and run in their order,
   a trigger without parts is skipped.
2. The view and its triggers are temporary: they belong to the writer's connection, not to the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from agentdur.stores.batch import PARTS, Part

DOOR = f"insert into door values ({', '.join('?' * (len(PARTS) + 1))})"
"""Takes the parts of a `Batch` and its blob."""


def door() -> Iterator[str]:
    """What the writer's connection needs before DOOR."""
    columns = ", ".join(f"null as {name}" for name in (*(part.name for part in PARTS), "blob"))
    yield f"create temp view door as select {columns}"
    for table, group in groupby(PARTS, key=lambda part: part.table):
        parts = list(group)
        given = " or ".join(f"new.{part.name} is not null" for part in parts)
        body = "; ".join(_from_json(part) for part in parts)
        yield f"create temp trigger door_{table} instead of insert on door when {given} begin {body}; end"


def by_row(part: Part) -> str:
    """The statement for one row, with its values as parameters: the columns, then the payload if any."""
    columns = _columns(part)
    marks = ", ".join("?" * len(columns))
    return _statement(part, f"values ({marks})", [f"?{n + 1}" for n in range(len(columns))], "")


def _from_json(part: Part) -> str:
    """The statement for all rows of the part at once."""
    values = [f"value->>{n}" for n in range(len(part.columns))]
    if part.payload:
        at = len(values)
        values.append(f"substr(new.blob, value->>{at}, value->>{at + 1})")
    rows = f"from json_each(new.{part.name})"
    return _statement(part, f"select {', '.join(values)} {rows}", values, rows)


def _statement(part: Part, source: str, values: list[str], rows: str) -> str:
    columns = _columns(part)
    match part.verb:
        case "insert":
            return f"insert into {part.table} ({', '.join(columns)}) {source}"
        case "replace":
            return f"insert or replace into {part.table} ({', '.join(columns)}) {source}"
        case "delete":
            return f"delete from {part.table} where ({', '.join(columns)}) in ({source})"
        case "update":
            sets = ", ".join(f"{c} = {v}" for c, v in zip(columns[1:], values[1:], strict=True))
            return f"update {part.table} set {sets} {rows} where {part.table}.{columns[0]} = {values[0]}"


def _columns(part: Part) -> list[str]:
    return [f'"{name}"' for name in (*part.columns, *([part.payload] if part.payload else []))]
