"""Runs a query on a connection of its own, which cannot write and does not hold up who does.

Rules of this file:
1. What runs was written by this package; should it ever say more than it may, SQLite asks `_Door` before it
   prepares anything, and refuses all but reading through a view, and the functions named here.
2. A query ends: by its time, which SQLite looks at every so many steps, by its rows, or by its bytes.
3. The whole answer is one text that SQLite builds: a row more costs no turn at the interpreter, for which a
   busy engine would let it wait.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlglot import exp

from agentdur.core.errors import (
    AgentdurError,
    AnswerTooLarge,
    NotRunning,
    QueryFailed,
    QueryTooComplex,
    QueryTooLong,
    TooManyRows,
)
from agentdur.core.ids import InvocationId
from agentdur.core.query import Column, Kind, Live, Question, Table
from agentdur.core.trace import trace_of
from agentdur.stores.sql.entry_json import doc_code
from agentdur.stores.sql.invocation_views import IN_FLIGHT
from agentdur.stores.sql.parse import parse
from agentdur.stores.sql.select import Query, Writer
from agentdur.stores.sql.unpack import UNPACK, failure_of
from agentdur.stores.sql.value import PACKED_PREFIX, WIDE, WIDE_DIGITS, Value, quoted
from agentdur.stores.sql.views import ALL_VIEWS

STEPS_BETWEEN_LOOKS = 20_000
"""Steps of SQLite's machine, about half a millisecond."""
LENGTH_MAX = 2**31 - 1
FEW_MAX = 20_000
"""So many invocations in flight are sorted in a few ms."""
CACHE_KIB = 16 * 1024
"""Memory for pages and sorting; what is more goes to a temporary file."""
JOINS_MAX = 32

_NATIVE = frozenset(
    {
        "abs", "avg", "char", "coalesce", "count", "dense_rank", "first_value", "group_concat", "hex", "iif",
        "instr", "json_array", "json_array_length", "json_extract", "json_group_array", "json_valid", "lag",
        "last_value", "lead", "length", "like", "lower", "ltrim", "max", "min", "ntile", "nullif", "printf",
        "rank", "replace", "round", "row_number", "rtrim", "strftime", "substr", "sum", "trim", "upper",
        "julianday", "->>", "->",
    }
)  # fmt: skip
_LIVE = (
    """create temp table live_attempt (
        seq integer primary key, in_flight int, begun_at int, deployment text, server text, awaiting text)""",
    """create temp table live_service (
        name text primary key, revision int, public int, ty text, deployment text, handlers text)""",
    """create temp table live_deployment (
        id text primary key, ty text, endpoint text, created_at int, min_version int, max_version int,
        services text)""",
    "create temp table known_table (schema text, name text)",
    """create temp table known_column (
        schema text, name text, col text, place int, nullable text, kind text)""",
)
_IN_FLIGHT = f"""create temp view "{IN_FLIGHT}" as
    select seq, status from main.invocation where status <> 'completed'"""
_KINDS = {
    Kind.TEXT: "LargeUtf8", Kind.INT: "Int64", Kind.U32: "UInt32", Kind.U64: "UInt64", Kind.FLOAT: "Float64",
    Kind.BOOL: "Boolean", Kind.TIMESTAMP: 'Timestamp(ms, "+00:00")', Kind.DURATION: "Duration(ms)",
    Kind.BINARY: "LargeBinary", Kind.NUMBERS: "List(UInt32)", Kind.TEXTS: "List(LargeUtf8)",
    Kind.NOTHING: "Null",
}  # fmt: skip


def answer(connect: Callable[[], sqlite3.Connection], question: Question) -> Table:
    """The answer. `connect` gives a connection to the stored tables, which is closed in the end."""
    deadline = time.monotonic() + question.limits.seconds
    tree = parse(question.sql)
    connection = connect()
    try:
        prepare(connection, question.live)
        return answer_on(connection, tree, question, deadline)
    finally:
        connection.close()


def answer_on(connection: sqlite3.Connection, tree: exp.Query, question: Question, deadline: float) -> Table:
    """The answer to a question that is parsed, on a connection that is prepared for it."""
    try:
        _limit(connection, question, deadline)
        writer = Writer(question.now, question.limits.rows + 1, partial(_few, connection))
        return _run(connection, writer.statement(tree), question)
    except RecursionError:
        raise QueryTooComplex("it is nested too deeply") from None
    except sqlite3.Error as error:
        raise _told(error, question) from error


def _few(connection: sqlite3.Connection, statuses: list[str]) -> bool:
    """Whether few invocations are in these stored statuses."""
    listed = ", ".join(map(quoted, statuses))
    found = f'select 1 from temp."{IN_FLIGHT}" where "status" in ({listed}) limit {FEW_MAX + 1}'
    ((count,),) = connection.execute(f"select count(*) from ({found})").fetchall()
    return bool(count <= FEW_MAX)


def prepare(connection: sqlite3.Connection, live: Live) -> None:
    """The views, and the door that is shut behind them."""
    connection.execute("pragma temp_store = file")
    connection.execute(f"pragma cache_size = -{CACHE_KIB}")
    connection.execute("pragma case_sensitive_like = on")
    for name, unpack in UNPACK.items():
        connection.create_function(f"{PACKED_PREFIX}{name}", 1, _function(name, unpack), deterministic=True)
    connection.create_function("ad_doc_code", 1, _of_failure, deterministic=True)
    connection.create_function("ad_split_part", 3, _split_part, deterministic=True)
    connection.create_function("ad_trace_id", 2, _trace_id, deterministic=True)
    connection.execute("begin")
    for statement in _LIVE:
        connection.execute(statement)
    _fill(connection, live)
    _describe(connection)
    for view in ALL_VIEWS:
        connection.execute(view.statement())
    connection.execute(_IN_FLIGHT)
    connection.execute("select 1 from json_each('[]')")  # it is made at its first use, which may not be later
    connection.execute("commit")
    connection.execute("pragma query_only = on")
    connection.set_authorizer(_Door())


def refill(connection: sqlite3.Connection, live: Live) -> None:
    """Make a connection ready that has answered before: what only memory knows is another now."""
    connection.set_authorizer(None)
    connection.set_progress_handler(None, 0)
    connection.execute("pragma query_only = off")
    connection.execute("begin")
    for table in ("live_attempt", "live_service", "live_deployment"):
        connection.execute(f"delete from temp.{table}")
    _fill(connection, live)
    connection.execute("commit")
    connection.execute("pragma query_only = on")
    connection.set_authorizer(_Door())


def _trace_id(traceparent: str | None, invocation: str) -> str | None:
    return trace_of(traceparent, InvocationId(invocation)) if traceparent else None


def _fill(connection: sqlite3.Connection, live: Live) -> None:
    def rows(table: str, given: Sequence[tuple[Any, ...]]) -> None:
        if given:
            marks = ", ".join("?" * len(given[0]))
            connection.executemany(f"insert or ignore into temp.{table} values ({marks})", given)

    encode = msgspec.json.encode
    rows(
        "live_attempt",
        [
            (
                a.seq,
                a.in_flight,
                a.begun_at,
                a.deployment,
                a.server,
                None if a.awaiting is None else encode(a.awaiting).decode(),
            )
            for a in live.attempts
        ],
    )
    rows(
        "live_service",
        [
            (s.name, s.revision, s.public, s.ty, s.deployment, encode(s.handlers).decode())
            for s in live.services
        ],
    )
    rows(
        "live_deployment",
        [
            (d.id, d.ty, d.endpoint, d.created_at, d.min_version, d.max_version, encode(d.services).decode())
            for d in live.deployments
        ],
    )


def _describe(connection: sqlite3.Connection) -> None:
    """The tables of information_schema."""
    tables = [(view.schema, view.name) for view in ALL_VIEWS]
    connection.executemany("insert into temp.known_table values (?, ?)", tables)
    connection.executemany(
        "insert into temp.known_column values (?, ?, ?, ?, ?, ?)",
        [
            (view.schema, view.name, col.name, n, "NO" if col.sure else "YES", _KINDS[col.kind])
            for view in ALL_VIEWS
            for n, col in enumerate(view.columns)
        ],
    )


class _Door:
    """SQLite asks it about all that a statement would do."""

    def __init__(self) -> None:
        views = {view.stored for view in ALL_VIEWS} | {IN_FLIGHT}
        functions = {f"{PACKED_PREFIX}{name}" for name in (*UNPACK, "doc_code", "split_part", "trace_id")}
        self._views, self._functions = views, functions | _NATIVE

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, by: str | None
    ) -> int:
        match action:
            case sqlite3.SQLITE_SELECT:
                allowed = True
            case sqlite3.SQLITE_FUNCTION:
                allowed = second in self._functions
            case sqlite3.SQLITE_READ if database == "temp" and first in self._views:
                allowed = True
            case sqlite3.SQLITE_READ:  # a stored table is read by a view of ours; "" counts its rows only
                allowed = by in self._views or first == "json_each" or not second
            case _:
                allowed = False
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _limit(connection: sqlite3.Connection, question: Question, deadline: float) -> None:
    """From here on it may take so much."""

    def over() -> bool:
        return time.monotonic() > deadline or question.stopped()

    for what, most in (
        (sqlite3.SQLITE_LIMIT_LENGTH, min(question.limits.bytes, LENGTH_MAX)),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
        (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 10_000),
    ):
        connection.setlimit(what, most)
    connection.text_factory = bytes
    connection.set_progress_handler(over, STEPS_BETWEEN_LOOKS)


def _run(connection: sqlite3.Connection, query: Query, question: Question) -> Table:
    ((text,),) = connection.execute(as_one_text(query)).fetchall()
    rows = msgspec.json.decode(text)
    if len(rows) > question.limits.rows:
        raise TooManyRows(f"more than {question.limits.rows} rows")
    return _table(query, rows)


def as_one_text(query: Query) -> str:
    """A statement whose only value is all rows as JSON."""
    shown = ", ".join(_shown(value) for _, value in query.columns)
    return f"select json_group_array(json_array({shown})) from ({query.sql})"


def _shown(value: Value) -> str:
    """How a value travels in JSON."""
    sql = value.sql
    if (value.kind is Kind.BINARY and not value.packed) or value.packed == "utf8":
        return f"iif({sql} is null, null, hex({sql}))"
    if value.kind is Kind.FLOAT:
        return f"iif({sql} is null, null, printf('%!.17g', {sql}))"
    if value.packed or value.wide or value.kind in (Kind.TEXT, Kind.NUMBERS, Kind.TEXTS):
        return f"{sql} || ''"  # what is JSON already stays a text
    return sql


def _table(query: Query, rows: list[list[Any]]) -> Table:
    columns = []
    for n, (name, value) in enumerate(query.columns):
        read = _reader(value)
        if read is not None:
            for row in rows:
                if row[n] is not None:
                    row[n] = read(row[n])
        columns.append(Column(name, value.kind, not value.sure))
    return Table(tuple(columns), rows)


def _reader(value: Value) -> Callable[[Any], Any] | None:
    """What turns the JSON value into the column's; None when it is that already."""
    if value.packed == "utf8":
        return lambda found: UNPACK["utf8"](bytes.fromhex(found))
    if value.packed:
        return UNPACK[value.packed]
    if value.wide:
        return int
    match value.kind:
        case Kind.BINARY:
            return bytes.fromhex
        case Kind.FLOAT:
            return float
        case Kind.BOOL:
            return bool
        case Kind.NUMBERS | Kind.TEXTS:
            return msgspec.json.decode
        case Kind.INT | Kind.U32 | Kind.U64 | Kind.TIMESTAMP | Kind.DURATION:
            return _whole
        case _:
            return None


def _whole(found: Any) -> Any:
    """An average of times is none."""
    return int(found)


def _function(name: str, unpack: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same for a row, with values that SQLite has."""

    def function(packed: Any) -> Any:
        if packed is None:
            return None
        found = unpack(packed)
        if isinstance(found, list):
            return msgspec.json.encode(found).decode()
        if name in WIDE:
            return f"{found:0{WIDE_DIGITS}}"
        return found

    return function


def _of_failure(packed: Any) -> str | None:
    return None if packed is None else doc_code(failure_of(packed))


def _split_part(word: Any, by: Any, place: Any) -> str | None:
    if word is None or by is None or not isinstance(place, int):
        return None
    found = word.split(by) if by else [word]
    if place < 0:
        place += len(found) + 1
    return str(found[place - 1]) if 1 <= place <= len(found) else ""


def _told(error: sqlite3.Error, question: Question) -> AgentdurError:
    code = getattr(error, "sqlite_errorcode", -1) & 0xFF
    limits = question.limits
    if code == sqlite3.SQLITE_INTERRUPT and question.stopped():
        return NotRunning("the query was ended, as nobody waits for it or the engine stops")
    if code == sqlite3.SQLITE_INTERRUPT:
        return QueryTooLong(f"more than {limits.seconds:g} seconds")
    if code == sqlite3.SQLITE_TOOBIG or isinstance(error, sqlite3.DataError):
        return AnswerTooLarge(f"more than {limits.bytes} bytes")
    if any(words in str(error) for words in ("too deep", "too large", "too many", "at most")):
        return QueryTooComplex(str(error))
    return QueryFailed(str(error))
