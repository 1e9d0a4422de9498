"""The SQL of a commit, generated from the parts of a batch.

Rules of this file:
1. One statement per part, fed by `json_each`; parts of one table share a trigger and run in their order,
   a trigger without parts is skipped.
2. The views and their triggers are temporary: they belong to the writer's connection, not to the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from agentdur.stores.batch import DOORS, PARTS, Part, place_sql

DOOR = tuple(
    f"insert into door_{n} values ({', '.join('?' * (len(names) + 1))})" for n, names in enumerate(DOORS)
)
"""By door: takes the parameters of a `Batch`."""


def doors() -> Iterator[str]:
    """What the writer's connection needs before DOOR."""
    for n, names in enumerate(DOORS):
        columns = ", ".join(f"null as {name}" for name in (*names, "blob"))
        yield f"create temp view door_{n} as select {columns}"
        admitted = [part for part in PARTS if part.name in names]
        for table, group in groupby(admitted, key=lambda part: part.table):
            parts = list(group)
            given = " or ".join(f"new.{part.name} is not null" for part in parts)
            body = "; ".join(_from_json(part) for part in parts)
            name = f"door_{n}_{table}"
            yield f"create temp trigger {name} instead of insert on door_{n} when {given} begin {body}; end"


def by_row(part: Part) -> str:
    """The statement for one row, with its values as parameters: columns, members, payload."""
    columns = _columns(part)
    marks = [f"?{n + 1}" for n in range(len(columns))]
    return _statement(part, f"values ({', '.join(marks)})", marks, "")


def _from_json(part: Part) -> str:
    """The statement for all rows of the part at once."""
    given = [f"value->>{n}" for n in range(len(part.columns))]
    last = f"value->>{len(given)}"
    if not part.members:
        values, rows = given, f"from json_each(new.{part.name})"
        place = f"({last})"
    else:
        # With a limit SQLite computes the group's columns once, not once per member.
        names = ", ".join(f'{value} as "{column}"' for value, column in zip(given, part.columns, strict=True))
        group = f"(select {names}, {last} as members from json_each(new.{part.name}) limit -1) g"
        rows = f"from {group}, json_each(g.members) m"
        values = [f'g."{column}"' for column in part.columns] + [member.sql for member in part.members]
        place = f"({part.place.sql})"
    if part.payload:
        values.append(place_sql(place))
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
            pairs = dict(zip(columns, values, strict=True))
            seq = pairs.pop('"seq"')
            sets = ", ".join(f"{column} = {value}" for column, value in pairs.items())
            return f"update {part.table} set {sets} {rows} where {part.table}.seq = {seq}"


def _columns(part: Part) -> list[str]:
    """In the order of the values: those of the row, those of a member, the payload."""
    payload = [part.payload] if part.payload else []
    return [f'"{name}"' for name in (*part.columns, *(member.column for member in part.members), *payload)]
