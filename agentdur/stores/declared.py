"""What `tables` declares, as SQLite says it. `python -m agentdur.stores.declared` writes `schema.sql`.

The text is shipped, and a test compares it with the tables: an engine that starts after a crash has no time
to read SQLAlchemy only to make the same text again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import SQLModel

from agentdur.stores.tables import TABLES


def declared() -> Iterator[str]:
    """The statements that make an empty file one of today's version."""
    dialect = sqlite.dialect()
    for model in TABLES:
        table = SQLModel.metadata.tables[str(model.__tablename__)]
        yield str(CreateTable(table).compile(dialect=dialect))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            yield str(CreateIndex(index).compile(dialect=dialect))


def schema_text() -> str:
    """All of them, each ended by a semicolon at the end of a line."""
    lines = (line.rstrip() for statement in declared() for line in f"{statement.strip()};".splitlines())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("schema.sql").write_text(schema_text())
