"""The parser's nodes: which of their parts are read, and what they are called.

Rules of this file:
1. A part that nobody reads is refused: it would change what the query means.
"""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from agentdur.core.errors import QueryNotAllowed

_UNREAD = frozenset(
    {"big_int", "safe", "coalesce", "ignore_nulls", "only_json_types", "_type", "over", "jdbc"}
)
"""What the parser notes about a node, and that says nothing about what it computes."""


def parts(node: Any, *wanted: str) -> None:
    """Refuse a node that has parts nobody reads."""
    for name, given in node.args.items():
        if given and name not in wanted and name not in _UNREAD:
            raise QueryNotAllowed(f"{name.strip('_')} of {said(node)} is not supported")


def said(node: Any) -> str:
    """A short name for what stands there."""
    if isinstance(node, exp.Anonymous):
        return f"the function {str(node.name)[:60]}"
    if isinstance(node, exp.Func):
        return f"the function {node.sql_name().lower()}"
    return str(getattr(node, "key", node)).upper()[:60]


def identifier(node: Any) -> str:
    """The name as it is meant: lower case unless it is quoted."""
    if not isinstance(node, exp.Identifier):
        raise QueryNotAllowed(f"{said(node)} is not supported as a name")
    return str(node.this) if node.args.get("quoted") else str(node.this).lower()


def call(node: exp.Func) -> tuple[str, list[Any]]:
    """(name, arguments) of a function that the parser knows."""
    name, wanted = _KNOWN.get(type(node), ("", ()))
    parts(node, *(wanted or node.args))
    arguments: list[Any] = []
    for part in wanted:
        given = node.args.get(part)
        arguments += given if isinstance(given, list) else [] if given is None else [given]
    return name, arguments


_KNOWN: dict[type, tuple[str, tuple[str, ...]]] = {
    exp.Lower: ("lower", ("this",)), exp.Upper: ("upper", ("this",)), exp.Length: ("length", ("this",)),
    exp.Substring: ("substring", ("this", "start", "length")),
    exp.Replace: ("replace", ("this", "expression", "replacement")), exp.Concat: ("concat", ("expressions",)),
    exp.StartsWith: ("starts_with", ("this", "expression")),
    exp.EndsWith: ("ends_with", ("this", "expression")),
    exp.Contains: ("contains", ("this", "expression")), exp.StrPosition: ("strpos", ("this", "substr")),
    exp.Left: ("left", ("this", "expression")), exp.Right: ("right", ("this", "expression")),
    exp.SplitPart: ("split_part", ("this", "delimiter", "part_index")),
    exp.Encode: ("encode", ("this", "charset")), exp.Abs: ("abs", ("this",)),
    exp.Round: ("round", ("this", "decimals")), exp.Floor: ("floor", ("this",)),
    exp.Ceil: ("ceil", ("this",)),
    exp.Greatest: ("greatest", ("this", "expressions")), exp.Least: ("least", ("this", "expressions")),
    exp.UnixToTime: ("to_timestamp", ("this",)), exp.ArraySize: ("array_length", ("this",)),
    exp.DateBin: ("date_bin", ("this", "expression", "unit")),
    exp.ArrayContains: ("array_has", ("this", "expression")),
}  # fmt: skip
