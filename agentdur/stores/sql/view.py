"""What a table of the admin API is made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from agentdur.core.query import Kind
from agentdur.stores.sql.value import Value

CATALOG, SCHEMA, INFORMATION = "restate", "public", "information_schema"

T, U32, U64, B = Kind.TEXT, Kind.U32, Kind.U64, Kind.BOOL
AT, DUR, BIN = Kind.TIMESTAMP, Kind.DURATION, Kind.BINARY


class Compared(NamedTuple):
    """A column is one of these words, or (`negated`) none of them. `few`: whether few invocations are in
    these stored statuses, asked of the store."""

    words: list[str]
    negated: bool
    few: Callable[[list[str]], bool]


class Narrowed(NamedTuple):
    """What that says of the stored rows: a condition an index knows, if there is one. `pinned`: they are so
    few that they had better be sorted than looked for among all in their order."""

    sql: str | None = None
    pinned: bool = False


Narrow = Callable[[str, Compared], Narrowed]


class Col(NamedTuple):
    """A column. `packed`, `sure`: as in `Value`; `narrow` is told the table's alias and the words."""

    name: str
    kind: Kind
    sql: str = "null"
    packed: str = ""
    sure: bool = False
    narrow: Narrow | None = None


class View(NamedTuple):
    """A table of the admin API. `source`: its FROM; `behind`: columns for `narrow`, which have no name."""

    name: str
    source: str
    columns: tuple[Col, ...]
    behind: tuple[tuple[str, str], ...] = ()
    schema: str = SCHEMA

    @property
    def stored(self) -> str:
        """The name of the temporary view."""
        return f"{self.schema}.{self.name}"

    def values(self, ours: str) -> tuple[tuple[str, Value], ...]:
        """Its columns as they are said where it is called `ours`."""
        return tuple((col.name, _value(col, ours)) for col in self.columns)

    def statement(self) -> str:
        """The statement that makes the view."""
        given = [(col.name, col.sql) for col in self.columns]
        columns = ", ".join(f'{sql} as "{name}"' for name, sql in (*given, *self.behind))
        return f'create temp view "{self.stored}" as select {columns} from {self.source}'


def _value(col: Col, ours: str) -> Value:
    narrow = col.narrow
    bound = None if narrow is None else partial(narrow, ours)
    return Value(f'{ours}."{col.name}"', col.kind, col.packed, col.sure, narrow=bound)
