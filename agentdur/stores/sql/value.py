"""An expression that is allowed: the SQL that was written for it, and what it holds.

Rules of this file:
1. SQL is only ever put together from text that this package wrote: what a query names is looked up, and what
   it quotes is quoted anew.
2. A timestamp and a duration are whole ms, a truth is 0 or 1. An unsigned number that SQLite cannot hold
   (`WIDE`) is text of 20 digits, so that it sorts as the number does.
3. A packed value is what its meaning is computed from: an answer unpacks it in Python, once for all rows; in
   an expression it goes through the function of the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from agentdur.core.errors import BadQuery, QueryNotAllowed
from agentdur.core.query import Kind

WIDE_DIGITS = 20
PACKED_PREFIX = "ad_"
WIDE = frozenset({"partition_of_id", "partition_of_key"})
"""What is packed so is WIDE when it is unpacked."""
_INT64_MAX = 2**63 - 1


class Value(NamedTuple):
    """`sure`: never null. `narrow`: for words it is compared with, a condition that an index knows and that
    those rows meet. `literal`: the text or number that was written there, None when it is computed.
    `table`: the one whose column it is, where it is a mere column."""

    sql: str
    kind: Kind
    packed: str = ""
    sure: bool = False
    wide: bool = False
    narrow: Callable[[Any], Any] | None = None
    literal: str | int | float | None = None
    table: str = ""


NULL = Value("null", Kind.NOTHING)
NUMERIC = frozenset({Kind.INT, Kind.U32, Kind.U64, Kind.FLOAT})
TIMES = frozenset({Kind.TIMESTAMP, Kind.DURATION})


def plain(value: Value) -> Value:
    """The same, to be computed with."""
    if not value.packed:
        return value
    return Value(f"{PACKED_PREFIX}{value.packed}({value.sql})", value.kind, wide=value.packed in WIDE)


def quoted(text: str) -> str:
    """As a literal of SQLite."""
    if "\0" in text:
        raise BadQuery("a text in the query has a NUL character")
    return "'" + text.replace("'", "''") + "'"


def text(value: str) -> Value:
    """A text that was written in the query."""
    return Value(quoted(value), Kind.TEXT, sure=True, literal=value)


def number(written: str) -> Value:
    """A number that was written in the query."""
    try:
        whole = int(written)
    except ValueError:
        try:
            return Value(repr(float(written)), Kind.FLOAT, sure=True, literal=float(written))
        except ValueError:
            raise BadQuery(f"{written} is no number") from None
    if whole > 2**64 - 1:
        raise BadQuery(f"{written} is more than any column holds")
    if whole > _INT64_MAX:
        return Value(f"'{whole:0{WIDE_DIGITS}}'", Kind.U64, sure=True, wide=True, literal=whole)
    return Value(str(whole), Kind.INT, sure=True, literal=whole)


def instant(written: str) -> int:
    """Ms since the epoch of an RFC 3339 time or date; without an offset it is UTC."""
    word = written.strip()
    try:
        at = datetime.fromisoformat(_six_digits(word))
    except ValueError:
        raise BadQuery(f"{written!r} is no timestamp such as 2026-01-31T12:00:00Z") from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _six_digits(word: str) -> str:
    """Nanoseconds are more than Python reads."""
    head, dot, rest = word.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return f"{head}.{digits[:6]:0<6}{rest[len(digits) :]}" if dot else word


def matched(left: Value, right: Value) -> tuple[str, str]:
    """Two values as SQL that compares as their kinds say."""
    a, b = plain(left), plain(right)
    return _towards(a, b), _towards(b, a)


def _towards(value: Value, other: Value) -> str:
    """`value`, as it is compared with `other`."""
    if other.wide and not value.wide and value.kind is not Kind.NOTHING:
        if value.kind is Kind.TEXT and isinstance(value.literal, str) and value.literal.isdecimal():
            return f"'{value.literal:0>{WIDE_DIGITS}}'"
        return f"printf('%0{WIDE_DIGITS}d', {value.sql})"
    if value.kind is Kind.TEXT:
        return _text_towards(value, other)
    if other.kind is Kind.TEXT and value.kind in NUMERIC and value.literal is not None:
        if isinstance(other.literal, str):
            return value.sql
        return quoted(str(value.literal))
    return value.sql


def _text_towards(value: Value, other: Value) -> str:
    if other.kind is Kind.TIMESTAMP:
        return str(instant(value.literal)) if isinstance(value.literal, str) else time_of_text(value.sql)
    if other.kind in NUMERIC and isinstance(value.literal, str):
        return number(value.literal.strip()).sql
    if other.kind is Kind.BINARY:
        return f"cast({value.sql} as blob)"
    if other.kind is Kind.BOOL and isinstance(value.literal, str):
        return {"true": "1", "false": "0"}.get(value.literal.lower(), "null")
    return value.sql


def time_of_text(sql: str) -> str:
    """Ms since the epoch of a computed text."""
    return f"cast(round((julianday({sql}) - 2440587.5) * 86400000) as integer)"


def text_of_time(sql: str) -> str:
    """RFC 3339 of ms since the epoch."""
    return f"(strftime('%Y-%m-%dT%H:%M:%S', ({sql}) / 1000, 'unixepoch') || printf('.%03dZ', ({sql}) % 1000))"


def common(values: list[Value], what: str) -> tuple[list[str], Kind, bool]:
    """Values of which one is taken: their SQL, the kind they share, and whether it is WIDE."""
    computed = [plain(value) for value in values]
    kinds = {value.kind for value in computed if value.kind is not Kind.NOTHING}
    wide = any(value.wide for value in computed)
    if len(kinds) <= 1:
        return [value.sql for value in computed], next(iter(kinds), Kind.NOTHING), wide
    if kinds <= NUMERIC:
        kind = Kind.FLOAT if Kind.FLOAT in kinds else Kind.INT
        return [value.sql for value in computed], kind, False
    times = kinds & TIMES
    if len(times) == 1 and kinds <= {*times, Kind.TEXT}:
        (kind,) = times
        like = Value("", kind)
        return [_towards(value, like) for value in computed], kind, False
    if Kind.TEXT in kinds and kinds <= {Kind.TEXT, *NUMERIC, Kind.BOOL}:
        return [as_text(value) for value in computed], Kind.TEXT, False
    names = ", ".join(sorted(kind.value for kind in kinds))
    raise QueryNotAllowed(f"{what} mixes {names}")


def as_text(value: Value) -> str:
    """What a cast to text makes of it."""
    value = plain(value)
    if value.wide:
        return f"ltrim({value.sql}, '0')"
    match value.kind:
        case Kind.TEXT | Kind.NOTHING:
            return value.sql
        case Kind.TIMESTAMP:
            return text_of_time(value.sql)
        case Kind.BOOL:
            return f"case {value.sql} when 1 then 'true' when 0 then 'false' end"
        case Kind.BINARY:
            return f"{PACKED_PREFIX}utf8({value.sql})"
        case _:
            return f"cast({value.sql} as text)"
