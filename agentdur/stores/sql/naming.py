"""What a column is called that has no name of its own: as DataFusion calls it, which clients may look for."""

from __future__ import annotations

from typing import Any

from sqlglot import exp


def shown_name(node: Any) -> str:
    """The name of a selected expression."""
    if isinstance(node, exp.Column):
        return _identifier(node.this)
    return _said(node)[:200]


def _identifier(node: Any) -> str:
    return str(node.this) if node.args.get("quoted") else str(node.this).lower()


def _said(node: Any) -> str:
    match node:
        case exp.Column():
            table = node.args.get("table")
            name = _identifier(node.this)
            return name if table is None else f"{_identifier(table)}.{name}"
        case exp.Literal():
            if node.is_string:
                return f'Utf8("{node.this}")'
            return f"{'Int64' if str(node.this).isdecimal() else 'Float64'}({node.this})"
        case exp.Star():
            return "*"
        case exp.Paren():
            return _said(node.this)
        case exp.Count():
            return f"count({_said(node.this)})"
        case exp.Anonymous():
            return f"{str(node.this).lower()}({', '.join(_said(one) for one in node.expressions)})"
        case exp.CurrentTimestamp():
            return "now()"
        case _:
            return str(node.sql(dialect="postgres")).lower()
