"""Expressions: what a query may compute, written anew for SQLite.

Rules of this file:
1. Each kind of node that may occur has a function here, and says which of its parts it reads; another node,
   or another part, is refused. So nothing passes because nobody thought of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from sqlglot import exp

from agentdur.core.errors import BadQuery, QueryNotAllowed
from agentdur.core.query import Kind
from agentdur.stores.sql import value as v
from agentdur.stores.sql.functions import (
    FUNCTIONS,
    as_time,
    countable,
    date_part,
    date_trunc,
    json_path,
)
from agentdur.stores.sql.nodes import call, identifier, parts, said
from agentdur.stores.sql.scope import Scope
from agentdur.stores.sql.value import Value, as_text, common, matched, plain

_INTERVALS_MS = {
    "millisecond": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000,
    "week": 7 * 86_400_000,
}  # fmt: skip
Rule: TypeAlias = Callable[[Any, Any, Scope], Value]


class Expressions:
    """Writes expressions."""

    rules: ClassVar[dict[type, Rule]]

    def __init__(self, now: int) -> None:
        self.now = now

    def inner(self, node: Any, scope: Scope) -> tuple[str, list[Value]]:
        """The SQL of a query inside an expression, and its columns, which are computed with."""
        raise NotImplementedError

    def write(self, node: Any, scope: Scope) -> Value:
        """One expression."""
        rule = self.rules.get(type(node))
        if rule is not None:
            return rule(self, node, scope)
        if isinstance(node, exp.Func):
            return self._function(node, scope)
        raise QueryNotAllowed(f"{said(node)} is not supported")

    def sql(self, node: Any, scope: Scope) -> str:
        """One expression that is computed with."""
        return plain(self.write(node, scope)).sql

    # -- names and values

    def _column(self, node: exp.Column, scope: Scope) -> Value:
        parts(node, "this", "table", "db", "catalog")
        table = node.args.get("table")
        return scope.column(identifier(node.this), None if table is None else identifier(table))

    def _paren(self, node: exp.Paren, scope: Scope) -> Value:
        parts(node, "this")
        value = self.write(node.this, scope)
        return value._replace(sql=f"({value.sql})", narrow=None)

    def _literal(self, node: exp.Literal, scope: Scope) -> Value:
        return v.text(str(node.this)) if node.is_string else v.number(str(node.this))

    def _boolean(self, node: exp.Boolean, scope: Scope) -> Value:
        return Value("1" if node.this else "0", Kind.BOOL, sure=True)

    def _null(self, node: exp.Null, scope: Scope) -> Value:
        return v.NULL

    def _neg(self, node: exp.Neg, scope: Scope) -> Value:
        value = countable(self.write(node.this, scope))
        literal = -value.literal if isinstance(value.literal, int | float) else None
        return Value(f"(-{value.sql})", value.kind, literal=literal)

    def _interval(self, node: exp.Interval, scope: Scope) -> Value:
        parts(node, "this", "unit")
        unit = node.args.get("unit")
        if not isinstance(node.this, exp.Literal) or not isinstance(unit, exp.Var | None):
            raise BadQuery("an interval is written such as INTERVAL '1 hour'")
        words = str(node.this.this).split() + ([] if unit is None else [str(unit.this)])
        if not words or len(words) % 2:
            raise BadQuery(f"INTERVAL '{' '.join(words)}' needs a number and a unit")
        ms = sum(_interval_ms(*words[n : n + 2]) for n in range(0, len(words), 2))
        return Value(str(ms), Kind.DURATION, sure=True, literal=ms)

    def _now(self, node: Any, scope: Scope) -> Value:
        return Value(str(self.now), Kind.TIMESTAMP, sure=True)

    # -- truth

    def _both(self, node: Any, scope: Scope) -> Value:
        """AND and OR; a long row of them is no deep nest."""
        word, terms = node.key, list(node.flatten(unnest=False))
        return Value(f"({f' {word} '.join(self.sql(term, scope) for term in terms)})", Kind.BOOL)

    def _not(self, node: exp.Not, scope: Scope) -> Value:
        parts(node, "this")
        return Value(f"(not {self.sql(node.this, scope)})", Kind.BOOL)

    def _comparison(self, node: exp.Binary, scope: Scope) -> Value:
        parts(node, "this", "expression")
        left, right = matched(self.write(node.this, scope), self.write(node.expression, scope))
        return Value(f"({left} {_COMPARISONS[type(node)]} {right})", Kind.BOOL)

    def _is(self, node: exp.Is, scope: Scope) -> Value:
        parts(node, "this", "expression", "negate")
        if not isinstance(node.expression, exp.Null | exp.Boolean):
            raise QueryNotAllowed("IS takes NULL, TRUE or FALSE")
        word = "null" if isinstance(node.expression, exp.Null) else str(node.expression.this).lower()
        negated = " not" if node.args.get("negate") else ""
        return Value(f"({self.sql(node.this, scope)} is{negated} {word})", Kind.BOOL, sure=True)

    def _in(self, node: exp.In, scope: Scope) -> Value:
        parts(node, "this", "expressions", "query", "negate")
        value = self.write(node.this, scope)
        word = "not in" if node.args.get("negate") else "in"
        query = node.args.get("query")
        if query is not None:
            sql, columns = self.inner(query, scope)
            _one_column(columns)
            return Value(f"({plain(value).sql} {word} ({sql}))", Kind.BOOL)
        items = [self.write(item, scope) for item in node.expressions]
        if not items:
            raise BadQuery("IN takes at least one value")
        pairs = [matched(value, item) for item in items]
        if len({left for left, _ in pairs}) == 1:
            return Value(f"({pairs[0][0]} {word} ({', '.join(right for _, right in pairs)}))", Kind.BOOL)
        any_of = " or ".join(f"{left} = {right}" for left, right in pairs)
        return Value(f"({'not ' if word != 'in' else ''}({any_of}))", Kind.BOOL)

    def _between(self, node: exp.Between, scope: Scope) -> Value:
        parts(node, "this", "low", "high", "negate")
        value = self.write(node.this, scope)
        low, high = (self.write(node.args[name], scope) for name in ("low", "high"))
        (above, least), (below, most) = matched(value, low), matched(value, high)
        negated = "not " if node.args.get("negate") else ""
        return Value(f"({negated}({above} >= {least} and {below} <= {most}))", Kind.BOOL)

    def _like(self, node: exp.Like | exp.ILike, scope: Scope, escape: str = "") -> Value:
        parts(node, "this", "expression", "negate")
        left, right = (as_text(self.write(part, scope)) for part in (node.this, node.expression))
        if isinstance(node, exp.ILike):
            left, right = f"lower({left})", f"lower({right})"
        word = "not like" if node.args.get("negate") else "like"
        return Value(f"({left} {word} {right}{escape or _BACKSLASH})", Kind.BOOL)

    def _escape(self, node: exp.Escape, scope: Scope) -> Value:
        parts(node, "this", "expression")
        mark = node.expression
        if not isinstance(node.this, exp.Like | exp.ILike) or not isinstance(mark, exp.Literal):
            raise BadQuery("ESCAPE takes one character")
        if len(str(mark.this)) != 1:
            raise BadQuery("ESCAPE takes one character")
        return self._like(node.this, scope, f" escape {v.quoted(str(mark.this))}")

    def _exists(self, node: exp.Exists, scope: Scope) -> Value:
        parts(node, "this")
        return Value(f"exists ({self.inner(node.this, scope)[0]})", Kind.BOOL, sure=True)

    def _subquery(self, node: exp.Subquery, scope: Scope) -> Value:
        sql, columns = self.inner(node, scope)
        _one_column(columns)
        return Value(f"({sql})", columns[0].kind, wide=columns[0].wide)

    # -- arithmetic, choices

    def _arithmetic(self, node: exp.Binary, scope: Scope) -> Value:
        parts(node, "this", "expression", "typed")
        left, right = (countable(self.write(part, scope)) for part in (node.this, node.expression))
        kind = _arithmetic_kind(type(node), left.kind, right.kind)
        return Value(f"({left.sql} {_ARITHMETIC[type(node)]} {right.sql})", kind)

    def _joined(self, node: exp.DPipe, scope: Scope) -> Value:
        parts(node, "this", "expression")
        left, right = (as_text(self.write(part, scope)) for part in (node.this, node.expression))
        return Value(f"({left} || {right})", Kind.TEXT)

    def _case(self, node: exp.Case, scope: Scope) -> Value:
        parts(node, "this", "ifs", "default")
        subject = None if node.args.get("this") is None else self.write(node.this, scope)
        conditions: list[str] = []
        for one in node.args["ifs"]:
            parts(one, "this", "true")
            when = self.write(one.this, scope)
            left, right = ("", plain(when).sql) if subject is None else matched(subject, when)
            conditions.append(right if subject is None else f"{left} = {right}")
        results = [self.write(one.args["true"], scope) for one in node.args["ifs"]]
        default = node.args.get("default")
        otherwise = v.NULL if default is None else self.write(default, scope)
        words, kind, wide = common([*results, otherwise], "CASE")
        cases = " ".join(f"when {when} then {then}" for when, then in zip(conditions, words, strict=False))
        return Value(f"(case {cases} else {words[-1]} end)", kind, wide=wide)

    def _coalesce(self, node: exp.Coalesce, scope: Scope) -> Value:
        values = [self.write(item, scope) for item in (node.this, *node.expressions)]
        words, kind, wide = common(values, "coalesce")
        return Value(f"coalesce({', '.join(words)})" if len(words) > 1 else words[0], kind, wide=wide)

    def _nullif(self, node: exp.Nullif, scope: Scope) -> Value:
        value = self.write(node.this, scope)
        left, right = matched(value, self.write(node.expression, scope))
        return Value(f"nullif({left}, {right})", value.kind, wide=plain(value).wide)

    def _cast(self, node: exp.Cast, scope: Scope) -> Value:
        parts(node, "this", "to")
        return cast(self.write(node.this, scope), str(node.to.this.value))

    # -- functions

    def _function(self, node: exp.Func, scope: Scope) -> Value:
        if isinstance(node, exp.AggFunc):
            raise QueryNotAllowed(f"{said(node)} is not supported")
        name, arguments = call(node)
        if name not in FUNCTIONS:
            raise QueryNotAllowed(f"{said(node)} is not supported")
        return FUNCTIONS[name]([self.write(argument, scope) for argument in arguments])

    def _named(self, node: exp.Anonymous, scope: Scope) -> Value:
        parts(node, "this", "expressions")
        name = str(node.this).lower()
        arguments = [self.write(argument, scope) for argument in node.expressions]
        if name == "arrow_cast" and len(arguments) == 2:
            return cast(arguments[0], str(arguments[1].literal).partition("(")[0].upper())
        if name not in FUNCTIONS:
            raise QueryNotAllowed(f"{said(node)} is not supported")
        return FUNCTIONS[name](arguments)

    def _json(self, node: exp.Expression, scope: Scope) -> Value:
        parts(node, "this", "expression")
        path = node.expression
        steps: list[str | int] = []
        for step in path.expressions if isinstance(path, exp.JSONPath) else ():
            if isinstance(step, exp.JSONPathKey | exp.JSONPathSubscript):
                steps.append(step.this)
            elif not isinstance(step, exp.JSONPathRoot):
                raise QueryNotAllowed("a JSON path has keys and numbers only")
        if not steps or not all(isinstance(step, str | int) for step in steps):
            raise QueryNotAllowed("a JSON path is a text or a number that stands in the query")
        return json_path(self.write(node.this, scope), steps)

    def _trunc(self, node: exp.TimestampTrunc, scope: Scope) -> Value:
        parts(node, "this", "unit")
        return date_trunc(str(node.args["unit"].name).lower(), self.write(node.this, scope))

    def _extract(self, node: exp.Extract, scope: Scope) -> Value:
        parts(node, "this", "expression")
        return date_part(str(node.this.name).lower(), self.write(node.expression, scope))

    def _trim(self, node: exp.Trim, scope: Scope) -> Value:
        parts(node, "this", "expression", "position")
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position")), "trim")
        given = [node.this, *([node.expression] if node.args.get("expression") else [])]
        return FUNCTIONS[name]([self.write(argument, scope) for argument in given])


def cast(value: Value, to: str) -> Value:
    """A value as another kind."""
    value = plain(value)
    if to in _TEXTS:
        return Value(as_text(value), Kind.TEXT)
    if to in _WHOLE:
        return Value(f"cast({value.sql} as integer)", Kind.INT)
    if to in _FLOATS:
        return Value(f"cast({value.sql} as real)", Kind.FLOAT)
    if to in ("TIMESTAMP", "TIMESTAMPTZ", "DATETIME", "TIMESTAMPNTZ", "TIMESTAMPLTZ"):
        if value.kind in v.NUMERIC:
            return Value(value.sql, Kind.TIMESTAMP)
        return as_time(value)
    if to == "DATE":
        return date_trunc("day", as_time(value))
    if to in ("BOOLEAN", "BOOL"):
        return Value(f"({matched(value, Value('', Kind.BOOL))[0]} <> 0)", Kind.BOOL)
    raise QueryNotAllowed(f"a cast to {to.lower()} is not supported")


def _interval_ms(count: str, unit: str) -> int:
    name = unit.lower().rstrip("s") or unit
    name = {"min": "minute", "sec": "second", "m": "minute", "h": "hour", "d": "day", "": "second"}.get(
        name, name
    )
    if name not in _INTERVALS_MS:
        raise QueryNotAllowed(
            f"an interval in {unit.lower()} is not supported: say {', '.join(_INTERVALS_MS)}"
        )
    try:
        return round(float(count) * _INTERVALS_MS[name])
    except (ValueError, OverflowError):
        raise BadQuery(f"{count!r} is no number of {unit.lower()}") from None


def _one_column(columns: list[Value]) -> None:
    if len(columns) != 1:
        raise BadQuery(f"a query inside an expression has one column, not {len(columns)}")


def _arithmetic_kind(node: type, left: Kind, right: Kind) -> Kind:
    pair = {left, right}
    if Kind.TIMESTAMP in pair:
        if node is exp.Sub and left is right:
            return Kind.DURATION
        if (
            node in (exp.Add, exp.Sub)
            and pair == {Kind.TIMESTAMP, Kind.DURATION}
            and (node is exp.Add or left is Kind.TIMESTAMP)
        ):
            return Kind.TIMESTAMP
        raise QueryNotAllowed("with a timestamp only an interval is added, or another one subtracted")
    if Kind.DURATION in pair:
        return Kind.DURATION if node is not exp.Div or left is not right else Kind.INT
    return Kind.FLOAT if Kind.FLOAT in pair else Kind.INT


_BACKSLASH = " escape '\\'"
_COMPARISONS: dict[type, str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=",
    exp.NullSafeEQ: "is", exp.NullSafeNEQ: "is not",
}  # fmt: skip
_ARITHMETIC: dict[type, str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%"}
_TEXTS = frozenset(
    {"TEXT", "VARCHAR", "CHAR", "NVARCHAR", "NCHAR", "STRING", "UTF8", "LARGEUTF8", "UTF8VIEW"}
)
_WHOLE = frozenset(
    {
        "INT", "BIGINT", "SMALLINT", "TINYINT", "UINT", "UBIGINT", "USMALLINT", "UTINYINT", "INT32", "INT64",
        "UINT32", "UINT64", "INTEGER",
    }
)  # fmt: skip
_FLOATS = frozenset({"FLOAT", "DOUBLE", "DECIMAL", "REAL", "FLOAT64", "FLOAT32"})
RULES: dict[type, Rule] = {
    exp.Column: Expressions._column, exp.Paren: Expressions._paren, exp.Literal: Expressions._literal,
    exp.Boolean: Expressions._boolean, exp.Null: Expressions._null, exp.Neg: Expressions._neg,
    exp.Interval: Expressions._interval, exp.CurrentTimestamp: Expressions._now, exp.And: Expressions._both,
    exp.Or: Expressions._both, exp.Not: Expressions._not, exp.Is: Expressions._is, exp.In: Expressions._in,
    exp.Between: Expressions._between, exp.Like: Expressions._like, exp.ILike: Expressions._like,
    exp.Escape: Expressions._escape, exp.Exists: Expressions._exists, exp.Subquery: Expressions._subquery,
    exp.DPipe: Expressions._joined, exp.Case: Expressions._case, exp.Coalesce: Expressions._coalesce,
    exp.Nullif: Expressions._nullif, exp.Cast: Expressions._cast, exp.TryCast: Expressions._cast,
    exp.Anonymous: Expressions._named, exp.JSONExtract: Expressions._json,
    exp.JSONExtractScalar: Expressions._json, exp.TimestampTrunc: Expressions._trunc,
    exp.Extract: Expressions._extract, exp.Trim: Expressions._trim, 
     
     
     
    **dict.fromkeys(_COMPARISONS, Expressions._comparison),
    **dict.fromkeys(_ARITHMETIC, Expressions._arithmetic),
    
}  # fmt: skip
Expressions.rules = RULES
