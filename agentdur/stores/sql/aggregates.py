"""Aggregates, windows, and the order of rows.

Rules of this file:
1. As in `expressions`: what is not read here is refused.
"""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from agentdur.core.errors import BadQuery, QueryNotAllowed
from agentdur.core.query import Kind
from agentdur.stores.sql.expressions import RULES, Expressions
from agentdur.stores.sql.functions import aggregate, checked_number, first_of
from agentdur.stores.sql.nodes import parts, said
from agentdur.stores.sql.scope import Scope
from agentdur.stores.sql.value import Value, as_text, plain


class Aggregates(Expressions):
    """Expressions over several rows."""

    def _count(self, node: exp.Count, scope: Scope) -> Value:
        parts(node, "this")
        if isinstance(node.this, exp.Star):
            return Value("count(*)", Kind.INT, sure=True)
        return self._aggregate(node, scope)

    def _aggregate(self, node: exp.AggFunc, scope: Scope) -> Value:
        parts(node, "this", "expressions")
        argument, distinct = node.this, ""
        if isinstance(argument, exp.Distinct):
            if len(argument.expressions) != 1 or argument.args.get("on"):
                raise QueryNotAllowed("DISTINCT inside an aggregate takes one expression")
            argument, distinct = argument.expressions[0], "distinct "
        if node.args.get("expressions"):
            raise QueryNotAllowed(f"{said(node)} takes one argument")
        value = plain(self.write(argument, scope))
        name = "count" if isinstance(node, exp.ApproxDistinct) else _AGGREGATES[type(node)]
        distinct = "distinct " if isinstance(node, exp.ApproxDistinct) else distinct
        found = aggregate(name, value)
        return found._replace(sql=found.sql.replace("(", f"({distinct}", 1)) if distinct else found

    def _first(self, node: exp.FirstValue | exp.LastValue, scope: Scope) -> Value:
        parts(node, "this")
        backwards = isinstance(node, exp.LastValue)
        if not isinstance(node.this, exp.Order):
            value = self.write(node.this, scope)
            # Columns that are not aggregated are those of one row of the group, all of the same.
            return plain(value)._replace(sure=False) if scope.grouped else first_of(value, None, backwards)
        order = node.this
        if len(order.expressions) != 1:
            raise QueryNotAllowed("ORDER BY inside an aggregate takes one expression")
        by: exp.Ordered = order.expressions[0]
        descending = bool(by.args.get("desc")) is not backwards
        return first_of(self.write(order.this, scope), self.write(by.this, scope), descending)

    def _joined_texts(self, node: exp.GroupConcat, scope: Scope) -> Value:
        parts(node, "this", "separator")
        value, by = as_text(self.write(node.this, scope)), node.args.get("separator")
        separator = "','" if by is None else as_text(self.write(by, scope))
        return Value(f"group_concat({value}, {separator})", Kind.TEXT)

    def _filter(self, node: exp.Filter, scope: Scope) -> Value:
        parts(node, "this", "expression")
        if not isinstance(node.this, exp.AggFunc) or isinstance(node.this, exp.FirstValue | exp.LastValue):
            raise QueryNotAllowed("FILTER belongs to an aggregate")
        value = self.write(node.this, scope)
        condition = self.sql(node.expression.this, scope)
        return value._replace(sql=f"{value.sql} filter (where {condition})")

    def _window(self, node: exp.Window, scope: Scope) -> Value:
        parts(node, "this", "partition_by", "order", "spec")
        value = self._windowed(node.this, scope)
        inner: list[str] = []
        if node.args.get("partition_by"):
            keys = ", ".join(self.sql(key, scope) for key in node.args["partition_by"])
            inner.append(f"partition by {keys}")
        if node.args.get("order") is not None:
            inner.append(self.order(node.args["order"], scope))
        if node.args.get("spec") is not None:
            inner.append(self._frame(node.args["spec"]))
        return value._replace(sql=f"{value.sql} over ({' '.join(inner)})")

    def _windowed(self, node: Any, scope: Scope) -> Value:
        if type(node) in _NUMBERING:
            parts(node, "this")
            arguments = ""
            if node.args.get("this") is not None:
                arguments = str(checked_number(self.write(node.this, scope), said(node)))
            return Value(f"{_NUMBERING[type(node)]}({arguments})", Kind.INT)
        if isinstance(node, exp.FirstValue | exp.LastValue):
            parts(node, "this")
            value = plain(self.write(node.this, scope))
            name = "first_value" if isinstance(node, exp.FirstValue) else "last_value"
            return Value(f"{name}({value.sql})", value.kind, wide=value.wide)
        if isinstance(node, exp.Lag | exp.Lead):
            parts(node, "this", "offset", "default")
            values = [plain(self.write(node.this, scope))]
            for name in ("offset", "default"):
                if node.args.get(name) is not None:
                    values.append(plain(self.write(node.args[name], scope)))
            return Value(
                f"{node.key}({', '.join(value.sql for value in values)})", values[0].kind, wide=values[0].wide
            )
        if isinstance(node, exp.AggFunc | exp.Filter):
            return self.write(node, scope)
        raise QueryNotAllowed(f"{said(node)} over a window is not supported")

    def _frame(self, node: exp.WindowSpec) -> str:
        parts(node, "kind", "start", "start_side", "end", "end_side")
        kind = str(node.args["kind"]).lower()
        if kind not in ("rows", "range", "groups"):
            raise QueryNotAllowed(f"a window of {kind} is not supported")
        ends = [_frame_end(node.args.get(end), node.args.get(f"{end}_side")) for end in ("start", "end")]
        return f"{kind} between {ends[0]} and {ends[1]}"

    def order(self, node: exp.Order, scope: Scope) -> str:
        """An ORDER BY inside an expression."""
        keys = [self.ordered(one, self.write(one.this, scope)) for one in node.expressions]
        return f"order by {', '.join(keys)}"

    def ordered(self, node: exp.Ordered, value: Value) -> str:
        """One key of an ORDER BY. What is never null needs no word about nulls: so an index is used."""
        parts(node, "this", "desc", "nulls_first")
        descending = bool(node.args.get("desc"))
        word = f"{plain(value).sql}{' desc' if descending else ''}"
        first = bool(node.args.get("nulls_first"))
        if (value.sure and not value.packed) or first is not descending:
            return word
        return f"{word} nulls {'first' if first else 'last'}"


def _frame_end(given: Any, side: Any) -> str:
    word = "current row" if given is None else str(given).lower()
    if isinstance(given, exp.Literal) and not given.is_string and str(given.this).isdecimal():
        word = str(int(given.this))
    elif word not in ("unbounded", "current row"):
        raise QueryNotAllowed("a window's frame has whole numbers")
    if word == "current row":
        return word
    if str(side).lower() not in ("preceding", "following"):
        raise BadQuery("a window's frame is PRECEDING or FOLLOWING")
    return f"{word} {str(side).lower()}"


_AGGREGATES: dict[type, str] = {
    exp.Count: "count", exp.Sum: "sum", exp.Min: "min", exp.Max: "max", exp.Avg: "avg",
    exp.LogicalAnd: "bool_and", exp.LogicalOr: "bool_or",
}  # fmt: skip
_NUMBERING: dict[type, str] = {
    exp.RowNumber: "row_number", exp.Rank: "rank", exp.DenseRank: "dense_rank", exp.Ntile: "ntile",
}  # fmt: skip

Aggregates.rules = {
    **RULES,
    exp.Count: Aggregates._count, exp.FirstValue: Aggregates._first, exp.LastValue: Aggregates._first,
    exp.GroupConcat: Aggregates._joined_texts, exp.ApproxDistinct: Aggregates._aggregate,
    exp.Filter: Aggregates._filter, exp.Window: Aggregates._window,
    **{kind: Aggregates._aggregate for kind in _AGGREGATES if kind is not exp.Count},
}  # fmt: skip
