"""What a question in SQL is, and what answers it: columns with their kinds, and rows of plain values."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from msgspec import Struct

from agentdur.core.journal import Awaiting


class Kind(Enum):
    """What a column holds, and as which Python value: int unless said otherwise.

    TIMESTAMP: ms since the epoch. DURATION: ms. TEXT: str. FLOAT: float. BOOL: bool. BINARY: bytes.
    NUMBERS: list[int]. TEXTS: list[str]. NOTHING: only None.
    """

    TEXT = "text"
    INT = "int64"
    U32 = "uint32"
    U64 = "uint64"
    FLOAT = "float64"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    DURATION = "duration"
    BINARY = "binary"
    NUMBERS = "list<uint32>"
    TEXTS = "list<text>"
    NOTHING = "null"


class Column(Struct, frozen=True):
    """One column of an answer. `nullable` False: every row has a value."""

    name: str
    kind: Kind
    nullable: bool = True


class Table(Struct, frozen=True):
    """An answer. Names may come twice, as they were asked for."""

    columns: tuple[Column, ...]
    rows: list[list[Any]]


class QueryLimits(Struct, frozen=True, kw_only=True):
    """What one query may cost, and how many there may be. `rows`, `bytes`: of its answer. `search_seconds`:
    how long a search for text looks; it counts as a query."""

    seconds: float = 10.0
    rows: int = 100_000
    bytes: int = 32 * 1024 * 1024
    running: int = 4
    waiting: int = 64
    search_seconds: float = 2.0


class LiveAttempt(Struct, frozen=True, gc=False):
    """An invocation whose attempts this process makes. `in_flight`: one is in memory; `awaiting`: what that
    waits for, None: it works. `begun_at`: when the last one began, ms since the epoch."""

    seq: int
    in_flight: bool
    begun_at: int
    deployment: str
    server: str | None = None
    awaiting: Awaiting | None = None


class ServedAt(Struct, frozen=True, kw_only=True):
    """A deployment; `services` are names, `created_at` is in ms since the epoch."""

    id: str
    ty: str
    endpoint: str
    created_at: int
    min_version: int
    max_version: int
    services: tuple[str, ...]


class ServedService(Struct, frozen=True, kw_only=True):
    """A service in its newest revision. `handlers`: their names."""

    name: str
    revision: int
    public: bool
    ty: str
    deployment: str
    handlers: tuple[str, ...] = ()


class Live(Struct, frozen=True, kw_only=True):
    """What only the engine's memory knows."""

    attempts: tuple[LiveAttempt, ...] = ()
    services: tuple[ServedService, ...] = ()
    deployments: tuple[ServedAt, ...] = ()


class Question(Struct, frozen=True, kw_only=True):
    """A query. `now`: ms since the epoch; `stopped`: asked from time to time whether it shall end."""

    sql: str
    now: int
    live: Live = Live()
    limits: QueryLimits = QueryLimits()
    stopped: Callable[[], bool] = bool
