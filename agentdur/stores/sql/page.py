"""The reference of tables and columns. `python -m agentdur.stores.sql.page docs/reference/sql.md` writes it
between the marks of that page; a test compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from agentdur.core.query import Kind
from agentdur.stores.sql.view import INFORMATION, Col, View
from agentdur.stores.sql.views import ALL_VIEWS, EMPTY_VIEWS

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
_KINDS = {Kind.TEXT: "", Kind.NUMBERS: "list of uint32", Kind.TEXTS: "list of text"}


def tables() -> str:
    """All tables with their columns, in Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| table | columns |"
    yield "|---|---|"
    for view in ALL_VIEWS:
        if view not in EMPTY_VIEWS:
            yield f"| `{_name(view)}` | {', '.join(map(_column, view.columns))} |"
    yield ""
    empty = ", ".join(f"`{view.name}`" for view in EMPTY_VIEWS)
    yield f"There, but always empty: {empty}."


def _name(view: View) -> str:
    return f"{INFORMATION}.{view.name}" if view.schema == INFORMATION else view.name


def _column(col: Col) -> str:
    kind = _KINDS.get(col.kind, col.kind.value)
    return f"`{col.name}`{f' {kind}' if kind else ''}"


def written(page: str) -> str:
    """The page with the tables of today."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written(path.read_text()))
