"""From text to a tree: one statement, and that a query.

Rules of this file:
1. The parser's own errors, whatever they are, are the query's fault, never ours.
"""

from __future__ import annotations

from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from agentdur.core.errors import BadQuery, QueryNotAllowed, QueryTooComplex

TEXT_BYTES_MAX = 256 * 1024
"""A list of a thousand ids has 45,000."""
KEPT_LENGTH_MAX = 4096


def parse(sql: str) -> exp.Query:
    """The tree of the one query in the text; it is shared, and not to be changed."""
    return _kept(sql) if len(sql) <= KEPT_LENGTH_MAX else _parsed(sql)


@lru_cache(maxsize=128)
def _kept(sql: str) -> exp.Query:
    """Pages ask the same again and again."""
    return _parsed(sql)


def _parsed(sql: str) -> exp.Query:
    if len(sql.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
        raise QueryTooComplex(f"it has more than {TEXT_BYTES_MAX} bytes")
    try:
        found = [tree for tree in sqlglot.parse(sql, read="postgres") if tree is not None]
    except RecursionError:
        raise QueryTooComplex("it is nested too deeply") from None
    except SqlglotError as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadQuery(f"SQL error: {_plain(first)}") from None
    except Exception as error:  # a parser that fails otherwise has met something that is no SQL
        raise BadQuery(f"SQL error: {type(error).__name__}") from None
    if not found:
        raise BadQuery("SQL error: there is no statement")
    if len(found) > 1:
        raise QueryNotAllowed("the context currently only supports a single SQL statement", 500)
    (tree,) = found
    if not isinstance(tree, exp.Query):
        raise QueryNotAllowed(f"{str(tree.key).upper()} is not a query")
    return tree


def _plain(message: str) -> str:
    """Without the terminal's underlining."""
    return message.replace("\033[4m", "").replace("\033[0m", "")
