"""`agentdur sql`: questions about everything that is stored."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from agentdur.cli.admin_api import AdminApi
from agentdur.cli.output import View, shown, table


def ask(api: AdminApi, query: str) -> View:
    """The rows, each an object by column."""
    text = sys.stdin.read() if query == "-" else query
    _, answer = api.post("/query", {"query": text})
    rows: list[dict[str, Any]] = answer["rows"]
    head = tuple(dict.fromkeys(name for row in rows for name in row))
    cells = [tuple("" if row.get(name) is None else shown(row[name]) for name in head) for row in rows]
    return View(rows, table(head, cells, none="no rows"))


Query = Annotated[
    str, typer.Argument(metavar="QUERY", help="One SELECT, in quotes; - reads it from standard input.")
]
