"""The functions that a query may call, and the SQL each becomes.

Rules of this file:
1. What is not here is not called. Nothing here reads a file, changes anything, or tells one run from another.
2. What could take long inside one call of SQLite (a regular expression, a text made of a number) is not here:
   a time limit is looked at between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from agentdur.core.errors import BadQuery, QueryNotAllowed
from agentdur.core.query import Kind
from agentdur.stores.sql.value import Value, as_text, common, number, plain

Function: TypeAlias = Callable[[Sequence[Value]], Value]
DAY_MS = 86_400_000
WHOLE = frozenset({Kind.INT, Kind.U32, Kind.U64, Kind.TIMESTAMP, Kind.DURATION, Kind.BOOL})


def _takes(least: int, most: int, make: Function) -> Function:
    def checked(values: Sequence[Value]) -> Value:
        if not least <= len(values) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise BadQuery(f"a function takes {wanted} arguments, not {len(values)}")
        return make(values)

    return checked


def _texts(template: str, kind: Kind = Kind.TEXT, least: int = 1, most: int = 0) -> Function:
    """Of arguments that are taken as text; `{0}` is the first, `{all}` all of them."""

    def make(values: Sequence[Value]) -> Value:
        words = [as_text(v) if n == 0 or v.kind is not Kind.INT else v.sql for n, v in enumerate(values)]
        return Value(template.format(*words, all=", ".join(words)), kind)

    return _takes(least, most or least, make)


def _length(values: Sequence[Value]) -> Value:
    value = plain(values[0])
    return Value(f"length({value.sql if value.kind is Kind.BINARY else as_text(value)})", Kind.INT)


def _split(values: Sequence[Value]) -> Value:
    word, by, place = (plain(value) for value in values)
    return Value(f"ad_split_part({as_text(word)}, {as_text(by)}, {place.sql})", Kind.TEXT)


def _ends(values: Sequence[Value]) -> Value:
    word, end = as_text(values[0]), as_text(values[1])
    return Value(f"(length({end}) = 0 or substr({word}, -length({end})) = {end})", Kind.BOOL)


def _right(values: Sequence[Value]) -> Value:
    word, count = as_text(values[0]), plain(values[1]).sql
    return Value(f"case when {count} > 0 then substr({word}, -({count})) else '' end", Kind.TEXT)


def _concat(values: Sequence[Value]) -> Value:
    return Value("(" + " || ".join(f"coalesce({as_text(v)}, '')" for v in values) + ")", Kind.TEXT)


def _encode(values: Sequence[Value]) -> Value:
    if values[1].literal != "hex":
        raise QueryNotAllowed("encode(…) knows 'hex' only")
    value = plain(values[0]).sql
    return Value(f"iif({value} is null, null, lower(hex({value})))", Kind.TEXT)


def _same_kind(name: str) -> Function:
    def make(values: Sequence[Value]) -> Value:
        words, kind, wide = common(list(values), name)
        if len(words) == 1:
            return Value(words[0], kind, wide=wide)
        words = [
            f"coalesce({', '.join([word, *words[:n], *words[n + 1 :]])})" for n, word in enumerate(words)
        ]
        return Value(f"{name}({', '.join(words)})", kind, wide=wide)

    return make


def _numeric(template: str, kind: Kind | None = None) -> Function:
    def make(values: Sequence[Value]) -> Value:
        computed = [countable(value) for value in values]
        words = [one.sql for one in computed]
        return Value(template.format(*words, all=", ".join(words)), kind or computed[0].kind)

    return make


def countable(value: Value) -> Value:
    """A value that can be computed with as a number."""
    value = plain(value)
    if value.wide or value.kind in (Kind.TEXT, Kind.BINARY, Kind.NUMBERS, Kind.TEXTS):
        raise QueryNotAllowed(f"arithmetic with {value.kind.value} is not supported")
    return value


def _to_unixtime(values: Sequence[Value]) -> Value:
    return Value(f"({_time(values[0])} / 1000)", Kind.INT)


def _time(value: Value) -> str:
    return as_time(value).sql


def as_time(value: Value) -> Value:
    """A timestamp, from a timestamp or a text that is one."""
    words, kind, _ = common([value, Value("0", Kind.TIMESTAMP)], "a time function")
    if kind is not Kind.TIMESTAMP:
        raise QueryNotAllowed(f"{value.kind.value} is no timestamp")
    return Value(words[0], Kind.TIMESTAMP)


def _to_timestamp(unit_ms: float) -> Function:
    def make(values: Sequence[Value]) -> Value:
        value = plain(values[0])
        if value.kind in (Kind.TEXT, Kind.TIMESTAMP):
            return as_time(value)
        return Value(f"cast({countable(value).sql} * {unit_ms!r} as integer)", Kind.TIMESTAMP)

    return _takes(1, 1, make)


def _date_bin(values: Sequence[Value]) -> Value:
    width = plain(values[0])
    if width.kind is not Kind.DURATION or not isinstance(width.literal, int) or width.literal <= 0:
        raise BadQuery("date_bin takes an interval such as INTERVAL '60 seconds' first")
    at = _time(values[1])
    origin = _time(values[2]) if len(values) > 2 else "0"
    step = width.literal
    return Value(f"({at} - ((({at} - {origin}) % {step}) + {step}) % {step})", Kind.TIMESTAMP)


_TRUNCATED = {"second": 1000, "minute": 60_000, "hour": 3_600_000, "day": DAY_MS}
_STARTS = {
    "month": "'start of month'",
    "year": "'start of year'",
    "week": "'weekday 0', '-6 days', 'start of day'",
}


def date_trunc(unit: str, at: Value) -> Value:
    """The beginning of the unit that `at` is in; weeks begin on Monday."""
    sql = _time(at)
    if unit in _TRUNCATED:
        return Value(f"({sql} - {sql} % {_TRUNCATED[unit]})", Kind.TIMESTAMP)
    if unit not in _STARTS:
        raise BadQuery(f"date_trunc knows {', '.join([*_TRUNCATED, *_STARTS])}, not {unit!r}")
    whole = f"strftime('%s', {sql} / 1000, 'unixepoch', {_STARTS[unit]})"
    return Value(f"(cast({whole} as integer) * 1000)", Kind.TIMESTAMP)


_PARTS = {
    "year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "doy": "%j", "dow": "%w",
}  # fmt: skip


def date_part(unit: str, at: Value) -> Value:
    """A number out of a timestamp, or the seconds of a duration."""
    value = plain(at)
    if unit == "epoch":
        sql = value.sql if value.kind is Kind.DURATION else _time(value)
        return Value(f"({sql} / 1000.0)", Kind.FLOAT)
    sql = _time(value)
    if unit in ("second", "seconds"):
        return Value(f"({sql} % 60000 / 1000)", Kind.INT)
    if unit in ("millisecond", "milliseconds"):
        return Value(f"({sql} % 60000)", Kind.INT)
    if unit not in _PARTS:
        raise BadQuery(f"date_part knows epoch, second, millisecond, {', '.join(_PARTS)}, not {unit!r}")
    return Value(f"cast(strftime('{_PARTS[unit]}', {sql} / 1000, 'unixepoch') as integer)", Kind.INT)


def _array_length(values: Sequence[Value]) -> Value:
    return Value(f"json_array_length({_list(values[0])})", Kind.INT)


def _array_has(values: Sequence[Value]) -> Value:
    wanted = plain(values[1])
    found = f"exists (select 1 from json_each({_list(values[0])}) e where e.value = {wanted.sql})"
    return Value(found, Kind.BOOL)


def _array_to_string(values: Sequence[Value]) -> Value:
    by = as_text(values[1])
    return Value(f"(select group_concat(e.value, {by}) from json_each({_list(values[0])}) e)", Kind.TEXT)


def _list(value: Value) -> str:
    value = plain(value)
    if value.kind not in (Kind.NUMBERS, Kind.TEXTS):
        raise QueryNotAllowed(f"{value.kind.value} is no list")
    return value.sql


def _json_get(values: Sequence[Value]) -> Value:
    key = values[1].literal
    if not isinstance(key, str | int):
        raise QueryNotAllowed("a JSON path is a text or a number that stands in the query")
    return json_path(values[0], [key])


def json_path(value: Value, steps: Sequence[str | int]) -> Value:
    """What is at that place of a JSON text, as text; null where it is no JSON."""
    path = "$"
    for step in steps:
        if isinstance(step, str) and ('"' in step or "\\" in step or "\0" in step):
            raise QueryNotAllowed("a key of a JSON path has no quotes")
        path += f"[{step}]" if isinstance(step, int) else f'."{step}"'
    sql, place = as_text(value), path.replace("'", "''")
    return Value(f"iif(json_valid({sql}), {sql} ->> '{place}', null)", Kind.TEXT)


FUNCTIONS: dict[str, Function] = {
    "lower": _texts("lower({0})"),
    "upper": _texts("upper({0})"),
    "length": _takes(1, 1, _length),
    "octet_length": _texts("length(cast({0} as blob))", Kind.INT),
    "substring": _texts("substr({all})", least=2, most=3),
    "trim": _texts("trim({all})", most=2),
    "ltrim": _texts("ltrim({all})", most=2),
    "rtrim": _texts("rtrim({all})", most=2),
    "replace": _texts("replace({all})", least=3),
    "concat": _takes(1, 100, _concat),
    "starts_with": _texts("(substr({0}, 1, length({1})) = {1})", Kind.BOOL, 2),
    "ends_with": _takes(2, 2, _ends),
    "contains": _texts("(instr({0}, {1}) > 0)", Kind.BOOL, 2),
    "strpos": _texts("instr({0}, {1})", Kind.INT, 2),
    "left": _texts("substr({0}, 1, {1})", least=2),
    "right": _takes(2, 2, _right),
    "split_part": _takes(3, 3, _split),
    "encode": _takes(2, 2, _encode),
    "abs": _takes(1, 1, _numeric("abs({0})")),
    "round": _takes(1, 2, _numeric("round({all})", Kind.FLOAT)),
    "floor": _takes(1, 1, _numeric("(cast({0} as integer) - ({0} < cast({0} as integer)))", Kind.FLOAT)),
    "ceil": _takes(1, 1, _numeric("(cast({0} as integer) + ({0} > cast({0} as integer)))", Kind.FLOAT)),
    "greatest": _takes(1, 20, _same_kind("max")),
    "least": _takes(1, 20, _same_kind("min")),
    "to_unixtime": _takes(1, 1, _to_unixtime),
    "to_timestamp": _to_timestamp(1000.0),
    "to_timestamp_seconds": _to_timestamp(1000.0),
    "from_unixtime": _to_timestamp(1000.0),
    "to_timestamp_millis": _to_timestamp(1.0),
    "date_bin": _takes(2, 3, _date_bin),
    "array_length": _takes(1, 1, _array_length),
    "cardinality": _takes(1, 1, _array_length),
    "array_has": _takes(2, 2, _array_has),
    "array_to_string": _takes(2, 2, _array_to_string),
    "json_get": _takes(2, 2, _json_get),
}  # fmt: skip
"""By name; `now`, `coalesce`, casts, CASE and aggregates are written where they are read."""


def aggregate(name: str, value: Value) -> Value:
    """An aggregate of one argument that is counted with or compared."""
    value = plain(value)
    match name:
        case "count":
            return Value(f"count({value.sql})", Kind.INT, sure=True)
        case "sum":
            value = countable(value)
            if value.kind is Kind.TIMESTAMP:
                raise QueryNotAllowed("timestamps cannot be added up")
            kind = value.kind if value.kind in (Kind.FLOAT, Kind.DURATION) else Kind.INT
            return Value(f"sum({value.sql})", kind)
        case "avg":
            value = countable(value)
            of_times = value.kind in (Kind.TIMESTAMP, Kind.DURATION)
            return Value(f"avg({value.sql})", value.kind if of_times else Kind.FLOAT)
        case "bool_and" | "bool_or":
            return Value(f"{'min' if name == 'bool_and' else 'max'}({value.sql})", Kind.BOOL)
        case _:
            return Value(f"{name}({value.sql})", value.kind, wide=value.wide)


def first_of(value: Value, by: Value | None, descending: bool) -> Value:
    """The value in the row where `by` is least (or most). SQLite's own aggregates take one argument: what
    decides is put before the value, as text that sorts the same."""
    value = plain(value)
    if by is None:
        return Value(f"min({value.sql})", value.kind, wide=value.wide)
    by = plain(by)
    if by.kind in (Kind.TEXT, Kind.BINARY) or by.wide:
        key = f"hex({by.sql})"
    elif by.kind is Kind.FLOAT:
        raise QueryNotAllowed("ORDER BY inside an aggregate takes text, whole numbers and timestamps")
    else:
        key = f"printf('%020d', {by.sql})"
    whole = value.kind in WHOLE and not value.wide
    shown = value.sql if whole else as_text(value)
    word = f"{'max' if descending else 'min'}({key} || ' ' || {shown})"
    found = f"substr({word}, instr({word}, ' ') + 1)"
    if whole:
        return Value(f"cast({found} as integer)", value.kind)
    if value.kind not in (Kind.TEXT, Kind.NOTHING):
        raise QueryNotAllowed(f"FIRST_VALUE(… ORDER BY …) of {value.kind.value} is not supported")
    return Value(found, Kind.TEXT)


def checked_number(value: Value, what: str) -> int:
    """A whole number that stands in the query."""
    found = value.literal
    if isinstance(found, str) and found.strip().isdecimal():
        found = number(found.strip()).literal
    if not isinstance(found, int) or found < 0:
        raise BadQuery(f"{what} takes a whole number")
    return found
