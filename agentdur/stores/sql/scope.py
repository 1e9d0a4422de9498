"""What names mean at a place in a query: the tables of its FROM, and those of the queries around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agentdur.core.errors import UnknownInQuery
from agentdur.stores.sql.value import Value


class Source(NamedTuple):
    """A table of a FROM: the name it has there, and its columns in order. `hidden`: columns that are reached
    through another table's of the same name (USING), or by no name at all."""

    name: str
    columns: dict[str, Value]
    hidden: frozenset[str] = frozenset()

    def shown(self) -> Iterator[tuple[str, Value]]:
        """What `*` stands for."""
        for name, value in self.columns.items():
            if name not in self.hidden:
                yield name, self.said(value)

    def said(self, value: Value) -> Value:
        """A column, with the table it is of."""
        return value._replace(table=self.name) if self.name else value

    def unsure(self) -> Source:
        """The same where it may have no row."""
        columns = {name: value._replace(sure=False) for name, value in self.columns.items()}
        return self._replace(columns=columns)


class Named(NamedTuple):
    """A query that a WITH has given a name: as what it is written, and its columns."""

    sql: str
    columns: tuple[tuple[str, Value], ...]


class Scope:
    """The tables that can be named here; `outer` is the query around this one, `named` what WITH says.
    `aliases`: what the SELECT calls its own columns, for clauses that come after it. `grouped`: it has a
    GROUP BY. `pinned`: as in `Narrowed`. `read`: told of each column of an inner query that is named."""

    def __init__(self, outer: Scope | None, named: Mapping[str, Named], read: set[str]) -> None:
        self.sources: list[Source] = []
        self.outer, self.named, self._read = outer, named, read
        self.aliases: dict[str, Value] = {}
        self.grouped = self.pinned = False

    def column(self, name: str, table: str | None) -> Value:
        """What the name stands for; UnknownInQuery when it stands for nothing, or for several things."""
        scope: Scope | None = self
        while scope is not None:
            found = [
                source.said(source.columns[name]) for source in scope.sources if _has(source, name, table)
            ]
            if len(found) > 1:
                raise UnknownInQuery(f"Schema error: Ambiguous reference to unqualified field {name}")
            if found:
                self._read.update(alias_of(found[0]))
                return found[0]
            if table is None and name in scope.aliases:
                return scope.aliases[name]
            scope = scope.outer
        raise UnknownInQuery(self._unknown(name, table))

    def _unknown(self, name: str, table: str | None) -> str:
        said = name if table is None else f"{table}.{name}"
        known = [column for source in self.sources for column, _ in source.shown()]
        valid = f". Valid fields are {', '.join(known[:60])}" if known else ""
        return f"Schema error: No field named {said}{valid}"

    def source(self, name: str) -> Source:
        """The table of that name in this FROM."""
        for source in self.sources:
            if source.name == name:
                return source
        raise UnknownInQuery(f"Error during planning: Invalid qualifier {name}")


def alias_of(value: Value) -> tuple[str, ...]:
    """The alias of an inner query's column, if it is one."""
    table, dot, alias = value.sql.partition(".")
    return (alias,) if dot and table[:1] == "t" and alias[:1] == "o" else ()


def _has(source: Source, name: str, table: str | None) -> bool:
    if name not in source.columns:
        return False
    if table is None:
        return name not in source.hidden
    # A query in parentheses without a name of its own: its tables are still known by theirs.
    return table == (source.name or source.columns[name].table)
