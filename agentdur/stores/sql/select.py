"""Queries: SELECT and what is made of several, written anew for SQLite.

Rules of this file:
1. A table is one of the views, a query that WITH has named, or a query in parentheses; it gets a name of
   ours, and so does each column that is selected: no name of the query reaches SQLite.
2. An index knows what a row is stored as, not what it is shown as. Where the WHERE compares a shown word,
   what that says of the stored one is said beside it (`narrow`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, NamedTuple

from sqlglot import exp

from agentdur.core.errors import BadQuery, QueryNotAllowed, UnknownInQuery
from agentdur.stores.sql.aggregates import Aggregates
from agentdur.stores.sql.functions import checked_number
from agentdur.stores.sql.naming import shown_name
from agentdur.stores.sql.nodes import identifier, parts, said
from agentdur.stores.sql.scope import Named, Scope, Source, alias_of
from agentdur.stores.sql.value import Value, common, plain
from agentdur.stores.sql.view import CATALOG, SCHEMA, Compared, Narrowed, View
from agentdur.stores.sql.views import VIEWS

_SET_OPERATIONS: dict[type, str] = {exp.Union: "union", exp.Except: "except", exp.Intersect: "intersect"}
_MARK = "\0"
"""Stands around an alias until it is known whether that column is read; it can be nowhere else."""
_JOINS = {
    ("", ""): "join", ("", "INNER"): "join", ("", "CROSS"): "cross join", ("LEFT", ""): "left join",
    ("LEFT", "OUTER"): "left join", ("RIGHT", ""): "right join", ("RIGHT", "OUTER"): "right join",
    ("FULL", ""): "full join", ("FULL", "OUTER"): "full join",
}  # fmt: skip


class Query(NamedTuple):
    """A query that is written: its SQL, and by name its columns, each as who selects from it may say it."""

    sql: str
    columns: tuple[tuple[str, Value], ...]


class Writer(Aggregates):
    """Writes a whole query. `rows_max`: more than these are not even looked for; `few`: as in `Compared`."""

    def __init__(self, now: int, rows_max: int, few: Callable[[list[str]], bool]) -> None:
        super().__init__(now)
        self.read: set[str] = set()
        """Aliases of columns of inner queries that are named somewhere."""
        self._rows_max, self._few = rows_max, few
        self._numbers = count()
        self._later: dict[str, str] = {}
        """By alias: a column that is computed only if somebody reads it."""
        self._passed_on: dict[str, tuple[str, ...]] = {}
        """By alias: the column of an inner query that `*` has passed on."""

    def statement(self, node: exp.Query) -> Query:
        """The query that was asked, with at most `rows_max` rows."""
        query = self._query(node, None, {}, rows_max=self._rows_max)
        todo = [*self.read, *(value.sql for _, value in query.columns)]
        read: set[str] = set()
        while todo:
            alias = todo.pop()
            if alias not in read:
                read.add(alias)
                todo += self._passed_on.get(alias, ())
        pieces = query.sql.split(_MARK)
        while len(pieces) > 1:  # what stands for one column may hold others
            pieces[1::2] = [self._later[alias] if alias in read else "null" for alias in pieces[1::2]]
            pieces = "".join(pieces).split(_MARK)
        return query._replace(sql=pieces[0])

    def inner(self, node: Any, scope: Scope) -> tuple[str, list[Value]]:
        """A query inside an expression."""
        query = self._query(node, scope, scope.named, computed=True)
        return query.sql, [value for _, value in query.columns]

    def _query(
        self,
        node: Any,
        outer: Scope | None,
        named: Mapping[str, Named],
        *,
        computed: bool = False,
        rows_max: int | None = None,
    ) -> Query:
        while isinstance(node, exp.Subquery) and not any(
            node.args.get(part) for part in ("with_", "order", "limit", "offset")
        ):
            parts(node, "this", "alias")
            node = node.this
        named, head = self._with(node, outer, named)
        if isinstance(node, exp.Select):
            query = self._select(node, Scope(outer, named, self.read), computed, rows_max)
        elif type(node) in _SET_OPERATIONS:
            query = self._set_operation(node, outer, named, rows_max)
        else:
            raise QueryNotAllowed(f"{said(node)} is not a query")
        return query._replace(sql=head + query.sql)

    def _with(
        self, node: Any, outer: Scope | None, named: Mapping[str, Named]
    ) -> tuple[Mapping[str, Named], str]:
        given = node.args.get("with_") if isinstance(node, exp.Expression) else None
        if given is None:
            return named, ""
        parts(given, "expressions")
        known, written = dict(named), []
        for one in given.expressions:
            parts(one, "this", "alias")
            query = self._query(one.this, outer, known)
            alias = f"q{next(self._numbers)}"
            known[identifier(one.args["alias"].this)] = Named(
                alias, _renamed(query.columns, one.args["alias"])
            )
            written.append(f"{alias} as ({query.sql})")
        return known, f"with {', '.join(written)} "

    # -- one SELECT

    def _select(self, node: exp.Select, scope: Scope, computed: bool, rows_max: int | None) -> Query:
        parts(
            node, "with_", "expressions", "from_", "joins", "where", "group", "having", "order", "limit",
            "offset", "distinct", "kind",
        )  # fmt: skip
        if node.args.get("kind"):
            raise QueryNotAllowed(f"SELECT AS {node.args['kind']} is not supported")
        source = self._from(node, scope)
        distinct = node.args.get("distinct")
        if distinct is not None:
            parts(distinct)
        where = node.args.get("where")
        condition = "" if where is None else f" where {self._where(where.this, scope)}"
        scope.grouped = node.args.get("group") is not None
        selected = self._selected(node, scope)
        if computed or distinct is not None:
            selected = [(name, plain(value)) for name, value in selected]
        prefix = f"o{next(self._numbers)}_"
        outputs = [(name, value, f"{prefix}{n}") for n, (name, value) in enumerate(selected)]
        scope.aliases = {name: value._replace(sql=f"({value.sql})", narrow=None) for name, value in selected}
        lazy = distinct is None and not computed and not _aggregates(node)
        words = ", ".join(f"{self._column_sql(value, alias, lazy)} as {alias}" for _, value, alias in outputs)
        sql = f"select {'distinct ' if distinct is not None else ''}{words}{source}{condition}"
        sql += self._grouped(node, scope, outputs)
        sql += self._ordered(node, scope, outputs)
        sql += self._limited(node, scope, rows_max)
        return Query(sql, tuple((name, value._replace(sql=alias)) for name, value, alias in outputs))

    def _column_sql(self, value: Value, alias: str, lazy: bool) -> str:
        """A column of a SELECT. Where nothing else hangs on it, it is left open whether it is computed."""
        passed_on = alias_of(value)
        if not lazy:
            self.read.update(passed_on)
            return value.sql
        self._passed_on[alias] = passed_on
        self._later[alias] = value.sql
        return f"{_MARK}{alias}{_MARK}"

    def _selected(self, node: exp.Select, scope: Scope) -> list[tuple[str, Value]]:
        found: list[tuple[str, Value]] = []
        for item in node.expressions:
            if isinstance(item, exp.Star):
                parts(item)
                if not scope.sources:
                    raise BadQuery("SELECT * with no tables specified is not valid")
                found += [pair for source in scope.sources for pair in source.shown()]
            elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                parts(item, "this", "table")
                parts(item.this)
                found += scope.source(identifier(item.args["table"])).shown()
            elif isinstance(item, exp.Alias):
                parts(item, "this", "alias")
                found.append((identifier(item.args["alias"]), self.write(item.this, scope)))
            else:
                found.append((shown_name(item), self.write(item, scope)))
        if not found:
            raise BadQuery("a SELECT selects at least one column")
        return found

    def _where(self, node: Any, scope: Scope) -> str:
        """The condition, and what it says of how the rows are stored."""
        terms = list(node.flatten(unnest=False)) if isinstance(node, exp.And) else [node]
        words = [self.sql(term, scope) for term in terms]
        for term in terms:
            narrowed = self._narrowed(term, scope)
            scope.pinned = scope.pinned or narrowed.pinned
            if narrowed.sql is not None:
                words.append(narrowed.sql)
        return " and ".join(words)

    def _narrowed(self, term: Any, scope: Scope) -> Narrowed:
        negated = False
        while isinstance(term, exp.Paren | exp.Not):
            negated = negated is not isinstance(term, exp.Not)
            term = term.this
        if isinstance(term, exp.EQ | exp.NEQ):
            column, item = term.this, term.expression
            if isinstance(column, exp.Literal):
                column, item = item, column
            items = [item]
            negated = negated is not isinstance(term, exp.NEQ)
        elif isinstance(term, exp.In) and term.args.get("query") is None:
            column, items = term.this, term.expressions
            negated = negated is not bool(term.args.get("negate"))
        else:
            return Narrowed()
        if not isinstance(column, exp.Column) or not all(isinstance(item, exp.Literal) for item in items):
            return Narrowed()
        narrow = self.write(column, scope).narrow
        if narrow is None:
            return Narrowed()
        found: Narrowed = narrow(Compared([str(item.this) for item in items], negated, self._few))
        return found

    def _grouped(self, node: exp.Select, scope: Scope, outputs: list[tuple[str, Value, str]]) -> str:
        group, having, sql = node.args.get("group"), node.args.get("having"), ""
        if group is not None:
            parts(group, "expressions")
            keys = [self._output(key, outputs) or self.write(key, scope) for key in group.expressions]
            sql += f" group by {', '.join(plain(key).sql for key in keys)}"
        if having is not None:
            sql += f" having {self.sql(having.this, scope)}"
        return sql

    def _output(self, key: Any, outputs: list[tuple[str, Value, str]]) -> Value | None:
        """The selected column that an ordinal says."""
        if not isinstance(key, exp.Literal) or key.is_string:
            return None
        place = str(key.this)
        if not place.isdecimal() or not 1 <= int(place) <= len(outputs):
            raise BadQuery(
                f"Error during planning: Cannot find column with position {place} in SELECT clause"
            )
        value = outputs[int(place) - 1][1]
        return value._replace(sql=f"({value.sql})")

    def _ordered(self, node: Any, scope: Scope, outputs: list[tuple[str, Value, str]]) -> str:
        order = node.args.get("order")
        if order is None:
            return ""
        parts(order, "expressions")
        keys = []
        for one in order.expressions:
            value = self._output(one.this, outputs) or self._aliased(one.this, outputs)
            value = self.write(one.this, scope) if value is None else value
            if scope.pinned:
                value = value._replace(sql=f"+{value.sql}")
            keys.append(self.ordered(one, value))
        return f" order by {', '.join(keys)}"

    def _aliased(self, key: Any, outputs: list[tuple[str, Value, str]]) -> Value | None:
        """The selected column of that name."""
        if not isinstance(key, exp.Column) or key.args.get("table") is not None:
            return None
        name = identifier(key.this)
        found = [(value, alias) for shown, value, alias in outputs if shown == name]
        if len(found) != 1:
            return None
        value, alias = found[0]
        self.read.add(alias)
        return plain(value._replace(sql=alias if not value.packed else value.sql))

    def _limited(self, node: Any, scope: Scope, rows_max: int | None) -> str:
        given = [node.args.get(name) for name in ("limit", "offset")]
        limit, offset = (None if one is None else self._number(one, scope) for one in given)
        if rows_max is not None:
            limit = rows_max if limit is None else min(limit, rows_max)
        if limit is None and offset is not None:
            limit = -1
        sql = "" if limit is None else f" limit {limit}"
        return sql if offset is None else f"{sql} offset {offset}"

    def _number(self, node: Any, scope: Scope) -> int:
        if not isinstance(node, exp.Limit | exp.Offset):
            raise QueryNotAllowed(f"{said(node)} is not supported: use LIMIT")
        parts(node, "expression")
        return min(checked_number(self.write(node.expression, scope), said(node)), 2**62)

    # -- FROM

    def _from(self, node: exp.Select, scope: Scope) -> str:
        given = node.args.get("from_")
        if given is None:
            return ""
        parts(given, "this")
        sql, source = self._source(given.this, scope)
        scope.sources.append(source)
        sql = f" from {sql}"
        for join in node.args.get("joins") or ():
            sql += self._join(join, scope)
        return sql

    def _source(self, node: Any, scope: Scope) -> tuple[str, Source]:
        """What stands in a FROM, under a name of ours."""
        ours = f"t{next(self._numbers)}"
        alias = node.args.get("alias") if isinstance(node, exp.Expression) else None
        if isinstance(node, exp.Table):
            parts(node, "this", "db", "catalog", "alias")
            name, sql, columns = self._table(node, scope, ours)
        elif isinstance(node, exp.Subquery):
            query = self._query(node, scope.outer, scope.named)
            name, sql = "", f"({query.sql})"
            columns = _placed(query.columns, ours)
        else:
            raise QueryNotAllowed(f"{said(node)} is not supported in FROM")
        if alias is not None:
            parts(alias, "this", "columns")
            name = name if alias.this is None else identifier(alias.this)
            columns = _renamed(columns, alias)
        if any(source.name == name for source in scope.sources if name):
            raise BadQuery(f"two tables of one FROM are called {name}")
        return f"{sql} as {ours}", Source(name, dict(columns))

    def _table(
        self, node: exp.Table, scope: Scope, ours: str
    ) -> tuple[str, str, tuple[tuple[str, Value], ...]]:
        name = identifier(node.this)
        schema, catalog = node.args.get("db"), node.args.get("catalog")
        if schema is None and name in scope.named:
            known = scope.named[name]
            return name, known.sql, _placed(known.columns, ours)
        where = [identifier(part) for part in (catalog, schema) if part is not None]
        full = ".".join([*where, name])
        view = _view(where, name)
        if view is None:
            shown = full if len(where) == 2 else ".".join([CATALOG, *(where or [SCHEMA]), name])
            raise UnknownInQuery(f"Error during planning: table '{shown}' not found")
        return name, f'temp."{view.stored}"', view.values(ours)

    def _join(self, node: exp.Join, scope: Scope) -> str:
        parts(node, "this", "side", "kind", "on", "using")
        side, kind = str(node.args.get("side") or "").upper(), str(node.args.get("kind") or "").upper()
        word = _JOINS.get((side, kind))
        if word is None:
            raise QueryNotAllowed(f"a {side or kind} JOIN of this kind is not supported")
        sql, source = self._source(node.this, scope)
        if side in ("RIGHT", "FULL"):
            scope.sources = [one.unsure() for one in scope.sources]
        if side in ("LEFT", "FULL"):
            source = source.unsure()
        using = [identifier(name) for name in node.args.get("using") or ()]
        if using:
            pairs = [(scope.column(name, None), _of(source, name)) for name in using]
            self.read.update(alias for _, value in pairs for alias in alias_of(value))
            condition = " and ".join(f"{plain(a).sql} = {plain(b).sql}" for a, b in pairs)
            scope.sources.append(source._replace(hidden=source.hidden | set(using)))
            return f" {word} {sql} on {condition}"
        scope.sources.append(source)
        on = node.args.get("on")
        if on is None:
            return f" cross join {sql}" if word in ("join", "cross join") else f" {word} {sql} on 1"
        return f" {word} {sql} on {self._where(on, scope) if not side else self.sql(on, scope)}"

    # -- several queries

    def _set_operation(
        self, node: Any, outer: Scope | None, named: Mapping[str, Named], rows_max: int | None
    ) -> Query:
        parts(node, "this", "expression", "distinct", "with_", "order", "limit", "offset")
        word = _SET_OPERATIONS[type(node)]
        if not node.args.get("distinct"):
            if word != "union":
                raise QueryNotAllowed(f"{word.upper()} ALL is not supported")
            word = "union all"
        left, right = (
            self._query(part, outer, named, computed=True) for part in (node.this, node.expression)
        )
        if len(left.columns) != len(right.columns):
            raise BadQuery(f"{word.upper()} takes as many columns on both sides")
        prefix = f"o{next(self._numbers)}_"
        sides: list[list[str]] = [[], []]
        columns: list[tuple[str, Value]] = []
        for n, ((name, a), (_, b)) in enumerate(zip(left.columns, right.columns, strict=True)):
            words, kind, wide = common([a, b], word.upper())
            for side, one in zip(sides, words, strict=True):
                side.append(f"{one} as {prefix}{n}")
            columns.append((name, Value(f"{prefix}{n}", kind, sure=a.sure and b.sure, wide=wide)))
        both = [
            f"select {', '.join(side)} from ({query.sql})"
            for side, query in zip(sides, (left, right), strict=True)
        ]
        sql = f"select {', '.join(value.sql for _, value in columns)} from ({f' {word} '.join(both)})"
        scope = Scope(outer, named, self.read)
        scope.sources = [Source("", dict(columns))]
        outputs = [(name, value, value.sql) for name, value in columns]
        sql += self._ordered(node, scope, outputs) + self._limited(node, scope, rows_max)
        return Query(sql, tuple(columns))


def _aggregates(node: exp.Select) -> bool:
    """Whether its number of rows may depend on what it selects."""
    if node.args.get("group") is not None or node.args.get("having") is not None:
        return True
    return any(item.find(exp.AggFunc) is not None for item in node.expressions)


def _of(source: Source, name: str) -> Value:
    if name not in source.columns:
        raise UnknownInQuery(f"Schema error: No field named {source.name}.{name}")
    return source.columns[name]


def _placed(columns: tuple[tuple[str, Value], ...], ours: str) -> tuple[tuple[str, Value], ...]:
    """Columns of a query, as they are said under the name it got."""
    return tuple((name, value._replace(sql=f"{ours}.{value.sql}", narrow=None)) for name, value in columns)


def _renamed(columns: tuple[tuple[str, Value], ...], alias: Any) -> tuple[tuple[str, Value], ...]:
    given = [identifier(one) for one in alias.args.get("columns") or ()]
    if given and len(given) != len(columns):
        raise BadQuery(f"{len(given)} names for {len(columns)} columns")
    return tuple(zip(given, (value for _, value in columns), strict=True)) if given else columns


def _view(where: list[str], name: str) -> View | None:
    schema = where[-1] if where else SCHEMA
    if len(where) == 2 and where[0] != CATALOG:
        return None
    return VIEWS.get((schema, name))
