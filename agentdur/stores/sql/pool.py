"""Connections for queries to a file. They rest between queries: making the views takes longer than most.

Rules of this file:
1. A connection answers one question at a time. One that failed to answer is closed.
2. While queries overlap without a pause, the write-ahead log cannot begin anew. When it has grown beyond its
   limit, no query begins beside another one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time

from agentdur.core.errors import QueriesBusy, StoreFailed
from agentdur.core.query import Question, Table
from agentdur.stores.sql.parse import parse
from agentdur.stores.sql.sandbox import answer_on, prepare, refill
from agentdur.stores.sqlite_file import FAILURES, connect_to_read, told

IDLE_MAX = 4
"""Connections that rest; each has its cache."""
LOG_BYTES_MAX = 256 * 1024 * 1024


class Pool:
    """Answers questions to the file `path`, on any thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._asked = 0
        self._closed = False

    def answer(self, question: Question) -> Table:
        """The answer; the errors are those of `sandbox`."""
        deadline = time.monotonic() + question.limits.seconds
        tree = parse(question.sql)
        with self._lock:
            if self._closed:
                raise StoreFailed(f"{self._path} is not open")
            if self._asked and _size(f"{self._path}-wal") > LOG_BYTES_MAX:
                raise QueriesBusy("the log waits for the queries that run to end")
            self._asked += 1
            connection = self._idle.pop() if self._idle else None
        try:
            connection = self._ready(connection, question)
            table = answer_on(connection, tree, question, deadline)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        finally:
            with self._lock:
                self._asked -= 1
        self._rest(connection)
        return table

    def _ready(self, connection: sqlite3.Connection | None, question: Question) -> sqlite3.Connection:
        try:
            if connection is None:
                connection = connect_to_read(self._path)
                prepare(connection, question.live)
            else:
                refill(connection, question.live)
        except FAILURES as error:
            raise told(error, self._path) from error
        return connection

    def _rest(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """No more questions; those that are under way are answered."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
