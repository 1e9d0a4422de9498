"""The store in one SQLite file.

Rules of this file:
1. Two connections: the writer's is used by `commit` only, on the writer thread; the reader's by everything
   else, on the engine's loop.
2. A commit is durable when `commit` returns: write-ahead log, synced before each answer.
"""

from __future__ import annotations

import os
import sqlite3
from importlib import import_module
from threading import Lock
from typing import Any

from agentdur.core.errors import StoreError, StoreFailed
from agentdur.core.ports import Writes
from agentdur.core.query import Question, Table
from agentdur.core.search import Findings, Search
from agentdur.stores.batch import Batch, make_batch
from agentdur.stores.migrate import migrate, require_known
from agentdur.stores.search import search
from agentdur.stores.sqlite_file import (
    FAILURES,
    FileLock,
    connect,
    connect_to_read,
    file_identity,
    require_writable,
    told,
)
from agentdur.stores.sqlite_reads import SqliteReads
from agentdur.stores.statements import DOOR, by_row, doors


class SqliteStore(SqliteReads):
    """A `Store` in the file `path`, made when it is not there; while it is open, no other store is."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._lock = FileLock(self.path + ".lock")
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._failed: Batch | None = None
        self._pool: Any = None
        self._asking = Lock()
        self._file: tuple[int, int] | None = None

    def open(self) -> None:
        """Create or migrate; nothing when it is open. A StoreError says why it cannot be opened."""
        if self._writer is not None:
            return
        try:
            self._lock.take()
            require_writable(self.path)
            self._require_same_file()
            self._look()
            self._writer = connect(self.path)
            migrate(self._writer)
            self._file = file_identity(self.path)
            for statement in doors():
                self._writer.execute(statement)
            self._reader = connect(self.path)
            self._reader.execute("pragma query_only = on")
        except FAILURES as error:
            self.close()
            raise told(error, self.path) from error
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        """Refuses a file that is not ours, or too new, before anything of it is changed."""
        if not os.path.isfile(self.path):
            return
        reader = connect_to_read(self.path)
        try:
            require_known(reader)
        except StoreError as error:
            raise type(error)(f"{self.path}: {error.detail}") from error
        finally:
            reader.close()

    def _require_same_file(self) -> None:
        """What is written to a file that was removed is gone when the process ends: nothing more may be
        acknowledged, and an empty file must not take its place unnoticed."""
        if self._file is not None and file_identity(self.path) != self._file:
            raise StoreFailed(
                f"{self.path} was removed or replaced while it was open: put a copy there and start again"
            )

    def close(self) -> None:
        """Let go of the file. No commit may be under way."""
        try:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
        finally:
            if self._pool is not None:
                self._pool.close()
            self._reader = self._writer = self._failed = self._pool = None
            self._lock.release()

    def query(self, question: Question) -> Table:
        """Answer a question in SQL; on any thread, and without a word to the writer."""
        with self._asking:
            if self._reader is None:
                raise StoreFailed(f"{self.path} is not open")
            if self._pool is None:
                self._pool = import_module("agentdur.stores.sql.pool").Pool(self.path)
            pool = self._pool
        table: Table = pool.answer(question)
        return table

    def search(self, what: Search) -> Findings:
        """Look for text; on any thread, and without a word to the writer."""
        if self._reader is None:
            raise StoreFailed(f"{self.path} is not open")
        try:
            connection = connect_to_read(self.path)
            try:
                return search(connection, what)
            finally:
                connection.close()
        except FAILURES as error:
            raise told(error, self.path) from error

    def prepare(self, writes: Writes) -> Batch:
        """All that needs Python, so that `commit` needs it as little as possible."""
        try:
            return make_batch(writes)
        except FAILURES as error:
            raise told(error, self.path) from error

    def commit(self, prepared: Batch) -> None:
        """One statement, one transaction, one sync.

        After a commit that failed only the same one is accepted: a later one stands on it.
        """
        writer = self._writer
        if writer is None:
            raise StoreFailed(f"{self.path} is not open")
        if self._failed is not None and self._failed is not prepared:
            raise StoreFailed(f"{self.path}: the commit before this one failed. Open the store again")
        self._require_same_file()
        self._failed = prepared
        try:
            if prepared.by_row:
                _commit_by_row(writer, prepared)
            else:
                writer.execute(DOOR[prepared.door], prepared.parameters)
        except FAILURES as error:
            raise told(error, self.path) from error
        self._failed = None


def _commit_by_row(writer: sqlite3.Connection, batch: Batch) -> None:
    """What the door does, with every value as a parameter of its own."""
    writer.execute("begin immediate")
    try:
        for part, rows in batch.by_row:
            writer.executemany(by_row(part), rows)
        writer.execute("commit")
    except BaseException:
        if writer.in_transaction:
            writer.execute("rollback")
        raise
