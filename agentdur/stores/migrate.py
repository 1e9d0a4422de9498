"""The schema's version: kept in the file, moved forward when the store is opened.

Rules of this file:
1. A new file gets the tables as `tables` declares them (`schema.sql`, written by `declared`). An older file
   is moved by STEPS, one version after the other, in one transaction; both ways lead to the same schema.
2. A released step is never changed.
3. A file of a newer version, or of another program, is refused and left as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from importlib.resources import files

from agentdur.core.errors import StoreFailed, StoreTooNew

VERSION = 6
STEPS: Mapping[int, tuple[str, ...]] = {
    1: ("CREATE TABLE deployment (id TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY (id)) WITHOUT ROWID",),
    2: (
        'CREATE INDEX state_of_internal ON state (service, scope, name, "key") '
        "WHERE service >= 'agentdur.' and service < 'agentdur/'",
    ),
    3: (
        """CREATE TABLE message (
            hash TEXT NOT NULL, parent TEXT NOT NULL, used_at BIGINT NOT NULL, value BLOB NOT NULL,
            PRIMARY KEY (hash)) WITHOUT ROWID""",
        "CREATE INDEX message_by_parent ON message (parent)",
        "CREATE INDEX message_by_use ON message (used_at)",
    ),
    4: (
        "CREATE INDEX invocation_of_service_by_creation ON invocation (service, created_at)",
        "CREATE INDEX invocation_by_creation ON invocation (created_at)",
        "CREATE INDEX journal_noted ON journal (at) WHERE kind = 'RunCompletion' and detail is not null",
    ),
    5: (
        """CREATE TABLE attempt (
            seq BIGINT NOT NULL, number BIGINT NOT NULL, attempt BIGINT NOT NULL, started_at BIGINT,
            ended_at BIGINT NOT NULL, code BIGINT NOT NULL, message TEXT NOT NULL, reason TEXT, entry BIGINT,
            length BIGINT NOT NULL, deployment TEXT, node TEXT NOT NULL, retry_at BIGINT,
            PRIMARY KEY (seq, number)) WITHOUT ROWID""",
    ),
}
"""By version: the statements that lead from it to the next."""
APPLICATION_ID = 0x61676475  # "agdu": tells our files from those of other programs


def migrate(connection: sqlite3.Connection, steps: Mapping[int, tuple[str, ...]] = STEPS) -> None:
    """Bring a file that can be written to the newest version; StoreTooNew when it is beyond it."""
    newest = VERSION if steps is STEPS else max(steps) + 1
    connection.execute("begin immediate")
    try:
        version = require_known(connection, newest)
        statements = declared() if version == 0 else (sql for v in range(version, newest) for sql in steps[v])
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {newest}")  # also when it is: proves that we may write
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def require_known(connection: sqlite3.Connection, newest: int = VERSION) -> int:
    """The schema's version, 0 for an empty file; refuses a newer one, and the file of another program."""
    (application,) = connection.execute("pragma application_id").fetchone()
    (version,) = connection.execute("pragma user_version").fetchone()
    (tables,) = connection.execute("select count(*) from sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise StoreFailed("the file is the database of another program")
    if version > newest:
        raise StoreTooNew(f"its schema has version {version}, this agentdur knows up to {newest}")
    return int(version)


def declared() -> list[str]:
    """The statements that make an empty file one of today's version."""
    text = files("agentdur.stores").joinpath("schema.sql").read_text()
    return [statement for statement in text.split(";\n") if statement]
