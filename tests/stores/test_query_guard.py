"""What may be asked in SQL, and what not: nothing that passes can write, read a file, or run on for ever."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentdur.core.errors import (
    AgentdurError,
    AnswerTooLarge,
    BadQuery,
    NotRunning,
    QueryNotAllowed,
    QueryTooComplex,
    QueryTooLong,
    TooManyRows,
    UnknownInQuery,
)
from agentdur.core.query import Live, QueryLimits, Question, Table
from agentdur.stores import SqliteStore
from agentdur.stores.sql import sandbox
from agentdur.stores.sql.pool import Pool
from agentdur.stores.sqlite_file import connect_to_read
from tests.stores.homes import commit
from tests.stores.samples import T0
from tests.stores.test_sqlite_faults import filled

SHORT = QueryLimits(seconds=0.3, rows=1000, bytes=200_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    made = SqliteStore(str(tmp_path_factory.mktemp("guard") / "a.db"))
    made.open()
    for number in range(1, 200):
        commit(made, filled(number))
    yield made
    made.close()


def ask(store: SqliteStore, sql: str, limits: QueryLimits = SHORT) -> Table:
    return store.query(Question(sql=sql, now=T0, limits=limits))


def everything(store: SqliteStore) -> tuple[Any, ...]:
    """All that a query could have changed: rows, schema, settings, the files beside the store's."""
    assert store._reader is not None
    tables = [
        name for (name,) in store._reader.execute("select name from sqlite_schema where type = 'table'")
    ]
    rows = tuple(
        (name, store._reader.execute(f'select count(*), * from "{name}"').fetchone()) for name in tables
    )
    schema = store._reader.execute("select group_concat(sql) from sqlite_schema").fetchone()
    version = store._reader.execute("pragma data_version").fetchone()
    folder = os.path.dirname(store.path)
    return rows, schema, version, sorted(os.listdir(folder)), os.stat(store.path).st_mtime_ns


NOT_QUERIES = r"""
DELETE FROM state
INSERT INTO state VALUES ('a', '', 'b', 'c', 'd')
UPDATE invocation SET status = 'x'
DROP TABLE invocation
CREATE TABLE a (b INT)
ALTER TABLE state RENAME TO s
CREATE INDEX i ON state (key)
REPLACE INTO state VALUES (1)
VACUUM
VACUUM INTO '/tmp/stolen.db'
REINDEX
ANALYZE
BEGIN
COMMIT
SAVEPOINT a
PRAGMA query_only = off
PRAGMA user_version
ATTACH '/etc/passwd' AS p
ATTACH DATABASE ':memory:' AS m
DETACH m
EXPLAIN SELECT 1
SET x = 1
SHOW TABLES
COPY state TO 'x'
GRANT ALL ON state TO me
MERGE INTO state USING state ON 1 = 1
TRUNCATE state
CALL f()
USE m
WITH a AS (DELETE FROM state RETURNING *) SELECT * FROM a
WITH a AS (SELECT 1) DELETE FROM state
WITH a AS (INSERT INTO state VALUES (1) RETURNING *) SELECT * FROM a
SELECT * INTO copy FROM state
SELECT * FROM (DELETE FROM state RETURNING *)
SELECT (DELETE FROM state RETURNING 1)
SELECT 1; DELETE FROM state
SELECT 1;;DELETE FROM state
SELECT 1 /* ; */ ; DROP TABLE state -- x
SELECT 1 FROM state FOR UPDATE
VALUES (1)
DO $$ x $$
""".strip().splitlines()

NOT_FUNCTIONS = r"""
load_extension('/tmp/x.so')
readfile('/etc/passwd')
writefile('/tmp/x', 'y')
edit('x')
fts3_tokenizer('simple')
sqlite_version()
sqlite_compileoption_get(1)
zeroblob(1000000000)
randomblob(1000000000)
random()
hex(randomblob(9))
printf('%1000000000d', 1)
format('%1000000000d', 1)
repeat('x', 1000000000)
lpad('x', 1000000000, 'y')
rpad('x', 9, 'y')
last_insert_rowid()
changes()
total_changes()
soundex('a')
unicode('a')
json_each('[1]')
ad_utf8('x')
ad_entry_json('x')
regexp_replace('a', 'b', 'c')
pg_sleep(10)
pg_read_file('x')
current_user
version()
likelihood(1, 0.5)
subtype('x')
generate_series(1, 1000000000)
""".strip().splitlines()

NOT_TABLES = r"""
sqlite_schema
sqlite_master
sqlite_temp_schema
main.invocation
temp.live_attempt
invocation
journal
message
pragma_table_info('state')
pragma_database_list
dbstat
sqlite_stmt
json_each('[1,2]')
json_tree('{}')
generate_series(1, 10)
read_csv('/etc/passwd')
'/etc/passwd'
live_service
"public.state"
temp."public.state"
in_flight
public.live_attempt
main.state
restate.main.state
other.public.state
""".strip().splitlines()


@pytest.mark.parametrize("sql", NOT_QUERIES)
def test_what_is_no_query_is_refused(store: SqliteStore, sql: str):
    before = everything(store)
    with pytest.raises((QueryNotAllowed, BadQuery, UnknownInQuery)):
        ask(store, sql)
    assert everything(store) == before


@pytest.mark.parametrize("call", NOT_FUNCTIONS)
def test_functions_that_are_not_on_the_list_are_refused(store: SqliteStore, call: str):
    with pytest.raises((QueryNotAllowed, BadQuery, UnknownInQuery)):
        ask(store, f"SELECT {call}")


@pytest.mark.parametrize("table", NOT_TABLES)
def test_tables_that_are_not_on_the_list_are_refused(store: SqliteStore, table: str):
    with pytest.raises((QueryNotAllowed, BadQuery, UnknownInQuery)):
        ask(store, f"SELECT * FROM {table}")


JOURNALS = "sys_journal a, sys_journal b, sys_journal c"
ALL = "string_agg(id, '')"
BOMBS: list[tuple[str, type[AgentdurError] | None]] = [
    (f"SELECT COUNT(*) FROM {JOURNALS}, sys_journal d", QueryTooLong),
    (f"SELECT COUNT(*) FROM {JOURNALS} WHERE a.name LIKE '%a%b%c%d%e%f%' OR b.name < c.name", QueryTooLong),
    (f"SELECT COUNT(*) FROM (SELECT DISTINCT a.id, b.id, c.id FROM {JOURNALS})", QueryTooLong),
    ("WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT 1 FROM n", QueryNotAllowed),
    ("WITH n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n", UnknownInQuery),
    ("WITH state AS (SELECT key FROM state UNION ALL SELECT 'a') SELECT COUNT(*) FROM state", None),
    ("SELECT a.id FROM sys_journal a, sys_journal b LIMIT 1000000", TooManyRows),
    ("SELECT * FROM sys_journal a, sys_invocation b LIMIT 900", AnswerTooLarge),
    ("SELECT string_agg(a.id, b.id) FROM sys_journal a, sys_journal b", AnswerTooLarge),
    (f"SELECT replace(replace({ALL}, 'i', {ALL}), 'n', {ALL}) FROM sys_invocation", AnswerTooLarge),
    ("SELECT " + "(" * 5000 + "1" + ")" * 5000, QueryTooComplex),
    ("SELECT " + "not " * 5000 + "true", QueryTooComplex),
    ("SELECT " + "1 + " * 5000 + "1", QueryTooComplex),
    ("SELECT * FROM " + "(SELECT * FROM " * 300 + "state" + ")" * 300, QueryTooComplex),
    ("SELECT '" + "x" * 300_000 + "'", QueryTooComplex),
    ("SELECT 1" + " UNION ALL SELECT 1" * 2000, QueryTooComplex),
    ("SELECT 1 FROM " + ", ".join(f"state s{n}" for n in range(200)), QueryTooComplex),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "error"), BOMBS, ids=range(len(BOMBS)))
@pytest.mark.slow
def test_a_bomb_is_defused(store: SqliteStore, sql: str, error: type[AgentdurError] | None):
    """And it takes no longer than it may: to the limit some work in one piece is added."""
    began = time.monotonic()
    if error is None:
        assert ask(store, sql).rows  # its own table is named in the query of that name: no recursion
    else:
        with pytest.raises(error):
            ask(store, sql)
    assert time.monotonic() - began < 30


def test_a_query_is_interrupted_when_nobody_waits_for_it_any_more(store: SqliteStore):
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    limits = QueryLimits(seconds=60)
    question = Question(
        sql="SELECT COUNT(*) FROM sys_journal a, sys_journal b, sys_journal c, sys_journal d", now=T0,
        limits=limits, stopped=stop.is_set,
    )  # fmt: skip
    with pytest.raises(NotRunning):
        store.query(question)


def test_names_and_texts_of_a_query_do_not_reach_the_database(store: SqliteStore):
    """They are what people give them to be, and nothing of them is run."""
    table = ask(
        store,
        """SELECT 'a''; DROP TABLE state; --' AS "x""; DELETE FROM state; --", "i""d".id AS "ü" """
        """FROM sys_invocation AS "i""d" WHERE "i""d".target_service_name <> '''' LIMIT 1""",
    )
    assert [column.name for column in table.columns] == ['x"; DELETE FROM state; --', "ü"]
    assert table.rows[0][0] == "a'; DROP TABLE state; --"


# -- the second door


WRITES = r"""
insert into state values ('a', '', 'b', 'c', 'd')
delete from invocation
update invocation set status = 1
drop table state
create table x (y)
create temp table x (y)
drop view "public.state"
attach ':memory:' as m
pragma query_only = off
pragma writable_schema = on
vacuum
insert into live_attempt values (1, 1, 1, '', '', '')
delete from temp.live_attempt
select * from journal
select * from sqlite_schema
select load_extension('x')
select randomblob(9)
begin
reindex
with recursive n(i) as (select 1 union all select i + 1 from n) select * from n
""".strip().splitlines()


@pytest.mark.parametrize("sql", WRITES)
def test_even_sql_of_ours_could_not_do_more(store: SqliteStore, sql: str):
    """As if the first door stood open: this goes to the database as it is."""
    before = everything(store)
    connection = connect_to_read(store.path)
    sandbox.prepare(connection, Live())
    with pytest.raises(sqlite3.DatabaseError, match=r"not authorized|prohibited|denied"):
        connection.execute(sql).fetchall()
    connection.close()
    assert everything(store) == before


@pytest.mark.parametrize("sql", NOT_QUERIES[:12])
def test_without_the_second_door_the_first_one_is_shut(
    store: SqliteStore, sql: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sandbox._Door, "__call__", lambda *_: sqlite3.SQLITE_OK)
    test_what_is_no_query_is_refused(store, sql)


def test_a_commit_does_not_wait_for_a_query(tmp_path: Path):
    store = SqliteStore(str(tmp_path / "a.db"))
    store.open()
    for number in range(1, 100):
        commit(store, filled(number))
    stop, ended = threading.Event(), threading.Event()
    sql = "SELECT COUNT(*) FROM sys_journal a, sys_journal b, sys_journal c, sys_journal d, sys_journal e"

    def long_query() -> None:
        limits = QueryLimits(seconds=60)
        with pytest.raises(NotRunning):
            store.query(Question(sql=sql, now=T0, limits=limits, stopped=stop.is_set))
        ended.set()

    thread = threading.Thread(target=long_query)
    thread.start()
    time.sleep(0.05)
    for number in range(100, 150):
        commit(store, filled(number))
    assert not ended.is_set()
    assert ask(store, "SELECT COUNT(*) FROM sys_invocation").rows == [[149]]
    stop.set()
    thread.join()
    store.close()


# -- whatever is said

VOCABULARY = r"""
SELECT FROM WHERE GROUP BY ORDER LIMIT OFFSET JOIN LEFT ON USING AS WITH RECURSIVE UNION ALL EXCEPT
IN NOT EXISTS CASE WHEN THEN ELSE END AND OR IS NULL LIKE ILIKE BETWEEN DISTINCT OVER PARTITION
FILTER CAST INTERVAL INSERT INTO VALUES UPDATE SET DELETE DROP CREATE TABLE VIEW INDEX TRIGGER
ATTACH DATABASE PRAGMA VACUUM REPLACE RETURNING BEGIN COMMIT sys_invocation sys_journal state
invocation main temp sqlite_schema live_attempt id status key value "id" x a.id a.* * ( ) ( ) , , ;
= <> < > + - || -> ->> :: . 1 2.5 'text' '' 'a''b' -- /* */ count(*) max(id) first_value(id
load_extension('x') readfile('/etc/passwd') now() $1 ? @a :b x'00' e'\n' COPY EXPLAIN CALL
query_only user_version
"""
WORDS = st.sampled_from(VOCABULARY.split())
SENTENCES = st.lists(WORDS, min_size=1, max_size=25).map(" ".join)
QUERIES = [
    "SELECT id, status FROM sys_invocation WHERE status = 'completed' ORDER BY created_at DESC LIMIT 5",
    "SELECT a.id, COUNT(*) FROM sys_journal a LEFT JOIN sys_invocation b ON a.id = b.id GROUP BY a.id",
    "WITH a AS (SELECT key FROM state) SELECT * FROM a UNION SELECT id FROM sys_inbox",
]


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    """A query with words put in, taken out, or put in another place."""
    words = draw(st.sampled_from(QUERIES)).split()
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(words)))
        match draw(st.integers(0, 2)):
            case 0:
                words.insert(place, draw(WORDS))
            case 1:
                del words[place : place + 1]
            case _:
                words[place : place + 1] = [draw(WORDS)]
    return " ".join(words)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(sql=st.one_of(SENTENCES, spoiled(), st.text(max_size=40)))
def test_whatever_is_said_is_answered_or_refused_and_changes_nothing(store: SqliteStore, sql: str):
    before = everything(store)
    try:
        ask(store, sql)
    except AgentdurError as error:
        assert error.code.startswith("AD02")
    assert everything(store) == before


@pytest.mark.slow
@settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck))
@given(sql=st.one_of(SENTENCES, spoiled(), st.text(max_size=80)))
def test_whatever_is_said_for_longer(store: SqliteStore, sql: str):
    test_whatever_is_said_is_answered_or_refused_and_changes_nothing.hypothesis.inner_test(store, sql)


# -- these tests would see a hole


def test_a_hole_in_both_doors_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Planted: the query's own text reaches a connection that may write, and nobody is asked."""
    store = SqliteStore(str(tmp_path / "a.db"))
    store.open()
    commit(store, filled(1))
    before = everything(store)

    def open_door(pool: Any, question: Question) -> Table:
        connection = sqlite3.connect(store.path, isolation_level=None)
        connection.execute(question.sql)
        connection.close()
        return Table((), [])

    monkeypatch.setattr(Pool, "answer", open_door)
    ask(store, "DELETE FROM invocation")
    assert everything(store) != before
    store.close()
