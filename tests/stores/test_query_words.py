"""The dialect: what each form means, whatever database answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentdur.core.errors import AgentdurError, BadQuery, QueryNotAllowed, UnknownInQuery
from agentdur.core.query import Column, Kind, Live, Question, ServedService
from agentdur.stores import SqliteStore
from agentdur.stores.sql import page
from agentdur.stores.sql.parse import parse
from agentdur.stores.sql.sandbox import as_one_text, prepare
from agentdur.stores.sql.select import Writer
from agentdur.stores.sqlite_file import connect_to_read
from tests.stores.homes import commit
from tests.stores.samples import T0
from tests.stores.test_sqlite_faults import filled

SERVED = [("Cart", 1, "VirtualObject"), ("Mail", 3, "Service"), ("Pay", 2, "Service")]
LIVE = Live(
    services=tuple(
        ServedService(name=name, revision=revision, public=True, ty=ty, deployment="dp_1")
        for name, revision, ty in SERVED
    )
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    made = SqliteStore(str(tmp_path_factory.mktemp("words") / "a.db"))
    made.open()
    for number in range(1, 4):
        commit(made, filled(number))
    yield made
    made.close()


def rows(store: SqliteStore, sql: str) -> list[list[Any]]:
    return store.query(Question(sql=sql, now=T0, live=LIVE)).rows


AT = 5_400_123  # 01:30:00.123 of the first day
VALUES: list[tuple[str, Any]] = [
    ("7 / 2", 3),
    ("7 / 2.0", 3.5),
    ("7 % 3", 1),
    ("-(2 + 3) * 2", -10),
    ("'a' || 1 || 'b'", "a1b"),
    ("1 == 1", True),
    ("1 <> 1", False),
    ("NULL IS NOT TRUE", True),
    ("5 IS DISTINCT FROM NULL", True),
    ("NULL IS NOT DISTINCT FROM NULL", True),
    ("NOT 1 IN (1, 2)", False),
    ("3 BETWEEN 1 AND 3", True),
    ("2 NOT BETWEEN 1 AND 3", False),
    ("'Ab' LIKE 'a%'", False),
    ("'Ab' ILIKE 'a%'", True),
    ("'a_b' LIKE 'a\\_b'", True),
    ("'axb' LIKE 'a\\_b'", False),
    ("'a%b' LIKE 'a!%b' ESCAPE '!'", True),
    ("CASE WHEN 1 > 2 THEN 'x' ELSE 'y' END", "y"),
    ("CASE 2 WHEN 1 THEN 10 WHEN 2 THEN 20 END", 20),
    ("COALESCE(NULL, NULL, 3)", 3),
    ("NULLIF(1, 1)", None),
    ("CAST('12' AS INT) + 1", 13),
    ("12::TEXT", "12"),
    ("CAST(true AS VARCHAR)", "true"),
    ("split_part('a/b/c', '/', 2)", "b"),
    ("split_part('a/b/c', '/', -1)", "c"),
    ("substr('hello', 2, 3)", "ell"),
    ("left('hello', 2)", "he"),
    ("right('hello', 2)", "lo"),
    ("right('hello', 0)", ""),
    ("concat('a', NULL, 'b')", "ab"),
    ("ends_with('abc', 'bc')", True),
    ("starts_with('abc', 'b')", False),
    ("strpos('hello', 'l')", 3),
    ("length('äb')", 2),
    ("octet_length('äb')", 3),
    ("greatest(1, NULL, 3)", 3),
    ("least('b', 'a')", "a"),
    ("floor(-1.5)", -2.0),
    ("ceil(1.2)", 2.0),
    ("now() - INTERVAL '1 hour'", T0 - 3_600_000),
    ("INTERVAL '1 day 2 hours'", 93_600_000),
    (f"date_bin(INTERVAL '1 hour', to_timestamp_millis({AT}))", 3_600_000),
    (f"date_bin(INTERVAL '1 hour', to_timestamp_millis({AT}), TIMESTAMP '1970-01-01T00:15:00')", 4_500_000),
    ("date_trunc('week', TIMESTAMP '2026-11-27T08:00:00Z')", 1_795_392_000_000),
    ("date_trunc('month', TIMESTAMP '2026-11-27T08:00:00Z')", 1_793_491_200_000),
    (f"date_part('minute', to_timestamp_millis({AT}))", 30),
    (f"to_unixtime(to_timestamp_millis({AT}))", 5400),
    ("TIMESTAMP '2026-01-01' < '2026-01-02T00:00:00+01:00'", True),
    ("TIMESTAMP '2026-01-01' > '2025-12-31'", True),
    ("CAST(TIMESTAMP '2026-01-02T03:04:05.678Z' AS VARCHAR)", "2026-01-02T03:04:05.678Z"),
    ("'{\"a\": {\"b\": [1, 2]}}' ->> 'a'", '{"b":[1,2]}'),
    ("'no json' ->> 'a'", None),
    ("json_get('{\"a\": 1}', 'a')", "1"),
    ("18446744073709551615 > 3", True),
    ("EXISTS (SELECT 1 FROM sys_rules)", False),
    ("(SELECT MAX(revision) FROM sys_service)", 3),
    ("2 IN (SELECT revision FROM sys_service)", True),
]


@pytest.mark.parametrize(("sql", "value"), VALUES, ids=[sql for sql, _ in VALUES])
def test_an_expression_has_its_value(store: SqliteStore, sql: str, value: Any):
    ((found,),) = rows(store, f"SELECT {sql}")
    assert found == value and type(found) is type(value)


S = "sys_service"
SELECTS: list[tuple[str, list[list[Any]]]] = [
    (f"SELECT name FROM {S} ORDER BY ty DESC, revision", [["Cart"], ["Pay"], ["Mail"]]),
    (f"SELECT name AS n FROM {S} WHERE revision > 1 ORDER BY n DESC LIMIT 1 OFFSET 1", [["Mail"]]),
    (
        f"SELECT ty, COUNT(*), SUM(revision) FILTER (WHERE name <> 'Pay') FROM {S} GROUP BY ty ORDER BY 2",
        [["virtual_object", 1, 1], ["service", 2, 3]],
    ),
    (
        f"SELECT ty, first_value(name ORDER BY revision DESC), last_value(name ORDER BY name DESC) FROM {S} "
        "GROUP BY ty HAVING COUNT(*) > 1",
        [["service", "Mail", "Mail"]],
    ),
    (
        f"SELECT name, ROW_NUMBER() OVER (PARTITION BY ty ORDER BY name) AS nr FROM {S} ORDER BY ty, nr",
        [["Mail", 1], ["Pay", 2], ["Cart", 1]],
    ),
    (
        f"SELECT name, lag(name) OVER (ORDER BY name) FROM {S} ORDER BY name",
        [["Cart", None], ["Mail", "Cart"], ["Pay", "Mail"]],
    ),
    (
        f"SELECT a.name, b.name FROM {S} a LEFT JOIN {S} b ON b.revision = a.revision + 1 ORDER BY 1",
        [["Cart", "Pay"], ["Mail", None], ["Pay", "Mail"]],
    ),
    (f"SELECT name FROM {S} a JOIN (SELECT name FROM {S} WHERE revision = 2) b USING (name)", [["Pay"]]),
    (
        f"WITH a AS (SELECT name FROM {S}), b (x) AS (SELECT name FROM a WHERE name LIKE '%a%') "
        "SELECT x FROM b EXCEPT SELECT 'Pay' ORDER BY x",
        [["Cart"], ["Mail"]],
    ),
    ("SELECT 1 AS n UNION ALL SELECT 1 UNION SELECT 2 ORDER BY n", [[1], [2]]),
    (
        f"SELECT COUNT(1) FROM (SELECT * FROM {S} s LIMIT 2) WHERE s.name = 'Mail' OR s.ty LIKE 'v%'",
        [[2]],
    ),
    (
        f"SELECT bool_and(public), COUNT(DISTINCT ty), string_agg(name, '+') FROM {S} WHERE ty = 'service'",
        [[True, 1, "Mail+Pay"]],
    ),
    (f"SELECT x.k FROM (SELECT name AS k, revision AS r FROM {S}) AS x (k, v) WHERE v = 3", [["Mail"]]),
    (
        f"SELECT name FROM {S} s WHERE EXISTS (SELECT 1 FROM {S} t WHERE t.ty = s.ty AND t.name > s.name)",
        [["Mail"]],
    ),
    (f"SELECT name FROM {S} WHERE FALSE", []),
    (f"SELECT n FROM (SELECT name AS n, revision AS r FROM {S} ORDER BY r DESC LIMIT 1)", [["Mail"]]),
    (
        f"SELECT b.name FROM {S} a LEFT JOIN {S} b ON b.revision = a.revision + 1 ORDER BY b.name",
        [["Mail"], ["Pay"], [None]],
    ),
    (
        f"SELECT b.name FROM {S} a LEFT JOIN {S} b ON b.revision = a.revision + 1 ORDER BY 1 DESC NULLS LAST",
        [["Pay"], ["Mail"], [None]],
    ),
    ("SELECT completed_at FROM sys_invocation WHERE completed_at IS NULL GROUP BY 1", [[None]]),
]


@pytest.mark.parametrize(("sql", "found"), SELECTS, ids=range(len(SELECTS)))
def test_a_select_has_its_rows(store: SqliteStore, sql: str, found: list[list[Any]]):
    assert rows(store, sql) == found
    assert rows(store, sql) == found, "the tree of the first time is used again, and is as it was"


def test_columns_know_their_kind(store: SqliteStore):
    table = store.query(
        Question(
            sql="SELECT id, created_at, completed_at - created_at AS took, partition_key, COUNT(*) AS n FROM "
            "sys_invocation_status GROUP BY id, created_at, completed_at, partition_key", now=T0,
        )
    )  # fmt: skip
    assert table.columns == (
        Column("id", Kind.TEXT, False), Column("created_at", Kind.TIMESTAMP, False),
        Column("took", Kind.DURATION), Column("partition_key", Kind.U64, False), Column("n", Kind.INT, False),
    )  # fmt: skip


WRONG: list[tuple[str, type[AgentdurError]]] = [
    ("SELECT created_at + created_at FROM sys_invocation", QueryNotAllowed),
    ("SELECT created_at > 'yesterday' FROM sys_invocation", BadQuery),
    ("SELECT INTERVAL '1 month'", QueryNotAllowed),
    ("SELECT date_trunc('century', now())", BadQuery),
    ("SELECT lower()", BadQuery),
    ("SELECT name FROM sys_service GROUP BY 2", BadQuery),
    ("SELECT a.name FROM sys_service a, sys_service a", BadQuery),
    ("SELECT name FROM sys_service a, sys_service b", UnknownInQuery),
    ("SELECT 1 UNION SELECT 1, 2", BadQuery),
    ("SELECT * ", BadQuery),
    ("SELECT partition_key + 1 FROM state", QueryNotAllowed),
    ("SELECT CASE WHEN true THEN now() ELSE x'00' END", QueryNotAllowed),
]


@pytest.mark.parametrize(("sql", "error"), WRONG, ids=[sql for sql, _ in WRONG])
def test_what_makes_no_sense_is_said_so(store: SqliteStore, sql: str, error: type[AgentdurError]):
    with pytest.raises(error):
        rows(store, sql)


def test_each_question_is_told_what_memory_knows_then(store: SqliteStore):
    """Also where its connection has answered before."""
    for live in (LIVE, Live(), LIVE):
        question = Question(sql="SELECT COUNT(*) FROM sys_service", now=T0, live=live)
        assert store.query(question).rows == [[len(live.services)]]


# -- indexes


INDEXED = {
    "USING INDEX sqlite_autoindex_invocation_1": [
        "SELECT * FROM sys_invocation WHERE id = 'a'",
    ],
    "SEARCH j USING PRIMARY KEY": [
        "SELECT * FROM sys_journal WHERE id = 'a' ORDER BY index",
    ],
    "USING INDEX invocation_by_creation": [
        "SELECT id FROM sys_invocation ORDER BY created_at DESC, id LIMIT 50",
    ],
    "USING INDEX invocation_of_service_by_creation": [
        "SELECT id FROM sys_invocation WHERE target_service_name = 'A' ORDER BY created_at DESC LIMIT 50",
    ],
    "USING INDEX invocation_by_key": [
        "SELECT id FROM sys_invocation WHERE target_service_name = 'A' AND target_service_key = 'k' "
        "ORDER BY created_at",
        "SELECT id FROM sys_invocation_status WHERE target = 'A/k/h'",
    ],
    "INDEX invocation_in_flight": [
        "SELECT id FROM sys_invocation WHERE status IN ('running', 'paused') ORDER BY created_at DESC",
        "SELECT id FROM sys_invocation WHERE status != 'completed' ORDER BY created_at",
        "SELECT COUNT(*) FROM sys_invocation_state WHERE in_flight",
    ],
    "SEARCH s USING PRIMARY KEY": [
        "SELECT * FROM state WHERE service_name = 'A' AND service_key = 'k'",
    ],
    "SEARCH b USING PRIMARY KEY": [
        "SELECT * FROM sys_inbox WHERE service_name = 'A' AND service_key = 'k'",
    ],
    "INDEX journal_noted (at>?)": [
        "SELECT SUM(cost) FROM llm_calls WHERE at > now() - INTERVAL '1 day'",
    ],
}


@pytest.mark.parametrize(
    ("index", "sql"), [(index, sql) for index, questions in INDEXED.items() for sql in questions]
)
def test_what_is_asked_often_has_an_index(store: SqliteStore, index: str, sql: str):
    connection = connect_to_read(store.path)
    prepare(connection, Live())
    query = Writer(T0, 1000, lambda _: True).statement(parse(sql))
    connection.set_authorizer(None)
    plan = [str(row[3]) for row in connection.execute(f"explain query plan {as_one_text(query)}")]
    connection.close()
    assert any(index in line for line in plan), plan


def test_columns_that_nobody_reads_are_not_computed():
    """`SELECT *` in a query inside reads a journal for each row, if it is let."""
    query = Writer(T0, 1000, lambda _: True).statement(
        parse("SELECT COUNT(1) FROM (SELECT * FROM sys_invocation LIMIT 50000) WHERE status = 'paused'")
    )
    assert '"journal_size"' not in query.sql and '"status"' in query.sql


def test_the_reference_says_what_there_is():
    """Red after a change of the views: `python -m agentdur.stores.sql.page docs/reference/sql.md`."""
    path = Path(__file__).parents[2] / "docs/reference/sql.md"
    assert path.read_text("utf-8") == page.written(path.read_text("utf-8"))
