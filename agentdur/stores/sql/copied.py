"""Questions to a store that has no tables: its data is copied into tables first."""

from __future__ import annotations

import sqlite3

from agentdur.core.ports import Writes
from agentdur.core.query import Question, Table
from agentdur.stores.batch import make_batch
from agentdur.stores.migrate import declared
from agentdur.stores.sql.sandbox import answer as answer_from
from agentdur.stores.statements import DOOR, by_row, doors


def answer(everything: Writes, question: Question) -> Table:
    """The answer of a store that has committed this, and nothing else."""
    return answer_from(lambda: tables(everything), question)


def tables(everything: Writes) -> sqlite3.Connection:
    """In memory, with this in them."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (*declared(), *doors()):
        connection.execute(statement)
    batch = make_batch(everything)
    if batch.by_row:
        for part, rows in batch.by_row:
            connection.executemany(by_row(part), rows)
    else:
        connection.execute(DOOR[batch.door], batch.parameters)
    return connection
