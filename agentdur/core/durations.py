"""Durations as people write them: ISO 8601 (`PT1H30M`) and "friendly" (`1h 30m`, `10 days`, `00:00:05`).

Rules of this file:
1. The result is whole milliseconds; what is finer is counted, then cut.
2. A number needs its unit, except `0`. Units go from large to small, each at most once.
3. Years and months have no fixed length and are refused, unless there are zero of them.
4. One pass over the text, no backtracking; the longest number is NUMBER_DIGITS_MAX digits.
"""

from typing import Final

DURATION_DAYS_MAX: Final = 7_304_484
"""The longest duration: 19 998 years and a bit."""

NUMBER_DIGITS_MAX: Final = 20
FRACTION_DIGITS_MAX: Final = 9

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_NUMBER_MAX: Final = 2**63 - 1
_YEAR, _MONTH, _WEEK, _DAY, _HOUR, _MINUTE, _SECOND, _MILLI, _MICRO, _NANO = range(10)
_UNIT_NS: Final = (
    0,  # years and months: only zero of them can be said
    0,
    7 * 86_400 * _NS_PER_S,
    86_400 * _NS_PER_S,
    3_600 * _NS_PER_S,
    60 * _NS_PER_S,
    _NS_PER_S,
    _NS_PER_MS,
    1_000,
    1,
)
_UNIT_NAMES: Final = (
    "years year yrs yr y",
    "months month mos mo",
    "weeks week wks wk w",
    "days day d",
    "hours hour hrs hr h",
    "minutes minute mins min m",
    "seconds second secs sec s",
    "milliseconds millisecond millis milli msecs msec ms",
    "microseconds microsecond micros micro usecs usec us µsecs µsec µs",
    "nanoseconds nanosecond nanos nano nsecs nsec ns",
)
_UNITS: Final = {name: unit for unit, names in enumerate(_UNIT_NAMES) for name in names.split()}
_ISO_DATE: Final = {"Y": _YEAR, "M": _MONTH, "W": _WEEK, "D": _DAY}
_ISO_TIME: Final = {"H": _HOUR, "M": _MINUTE, "S": _SECOND}
_FRACTIONAL: Final = frozenset({_HOUR, _MINUTE, _SECOND, _MILLI, _MICRO})

_ASCII_DIGITS = frozenset("0123456789")
_ASCII_SPACE = frozenset(" \t\n\r\f")
_UNIT_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzµ")


class BadDuration(ValueError):
    """The text is not a duration. Write a number and a unit, such as `10s`, `1h 30m` or `PT10S`."""


def parse_duration(text: str) -> int:
    """The milliseconds `text` stands for; BadDuration when it is in neither grammar, negative or too long."""
    if text == "0":
        return 0
    if not text:
        raise BadDuration("an empty string is not a duration")
    scanner = _Scanner(text)
    negative = scanner.sign()
    total = _iso(scanner) if scanner.take_any("Pp") else _friendly(scanner)
    if negative or scanner.take_word("ago"):
        raise BadDuration("a duration cannot be negative")
    if not scanner.at_end:
        raise BadDuration(f"cannot read {scanner.rest()!r} at position {scanner.at}")
    milliseconds = total // _NS_PER_MS
    if milliseconds > DURATION_DAYS_MAX * 86_400_000:
        raise BadDuration(f"longer than {DURATION_DAYS_MAX} days")
    return milliseconds


def format_duration(ms: int) -> str:
    """The friendly form: `1d`, `10m`, `1m 3s`, `500ms`, `0s`. `parse_duration` reads it back."""
    if ms < 0:
        raise ValueError(f"a duration cannot be negative: {ms}")
    parts = []
    for unit_ms, name in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")):
        count, ms = divmod(ms, unit_ms)
        if count:
            parts.append(f"{count}{name}")
    return " ".join(parts) or "0s"


class _Scanner:
    """A place in the text; each `take` moves it forward or leaves it."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    @property
    def at_end(self) -> bool:
        return self.at >= len(self.text)

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def rest(self) -> str:
        return self.text[self.at : self.at + 20]

    def take_any(self, characters: str) -> str:
        found = self.peek()
        if found and found in characters:
            self.at += 1
            return found
        return ""

    def take_run(self, characters: frozenset[str], limit: int) -> str:
        start = self.at
        while self.at - start < limit and self.peek() in characters:
            self.at += 1
        return self.text[start : self.at]

    def take_word(self, word: str) -> bool:
        found = self.text[self.at :] == word
        if found:
            self.at = len(self.text)
        return found

    def sign(self) -> bool:
        """Takes a sign; true when it is a minus."""
        return self.take_any("+-") == "-"

    def spaces(self) -> bool:
        return bool(self.take_run(_ASCII_SPACE, len(self.text)))

    def number(self) -> int | None:
        digits = self.take_run(_ASCII_DIGITS, NUMBER_DIGITS_MAX)
        if not digits:
            return None
        if (value := int(digits)) > _NUMBER_MAX:
            raise BadDuration(f"number too big: {digits}")
        return value

    def fraction(self) -> int | None:
        """Billionths after a decimal sign, or None when there is no decimal sign."""
        if not self.take_any(".,"):
            return None
        digits = self.take_run(_ASCII_DIGITS, FRACTION_DIGITS_MAX)
        if not digits:
            raise BadDuration(f"no digits after the decimal sign at position {self.at}")
        return int(digits.ljust(FRACTION_DIGITS_MAX, "0"))


def _length(unit: int, count: int, billionths: int | None) -> int:
    """Nanoseconds of one component."""
    if unit <= _MONTH and count:
        raise BadDuration("please use units of days or smaller")
    length = _UNIT_NS[unit]
    if billionths is None:
        return count * length
    if unit not in _FRACTIONAL:
        raise BadDuration(f"fractional {_UNIT_NAMES[unit].split()[0]} are not supported")
    return count * length + billionths * length // _NS_PER_S


def _in_order(unit: int, last: int) -> int:
    if unit <= last:
        raise BadDuration("units must be written from largest to smallest, each at most once")
    return unit


def _iso(scanner: _Scanner) -> int:
    """What follows the `P`."""
    total, components, last = 0, 0, -1
    in_time = False
    while not scanner.at_end:
        if not in_time and scanner.take_any("Tt"):
            in_time, components = True, 0
        count = scanner.number()
        if count is None:
            break
        fraction = scanner.fraction() if in_time else None
        unit = (_ISO_TIME if in_time else _ISO_DATE).get(scanner.peek().upper())
        if unit is None:
            raise BadDuration(f"expected a unit after the number at position {scanner.at}")
        scanner.at += 1
        last = _in_order(unit, last)
        total += _length(unit, count, fraction)
        components += 1
        if fraction is not None:
            break
    if not components:
        raise BadDuration("no components after the P" if not in_time else "no components after the T")
    return total


def _friendly(scanner: _Scanner) -> int:
    total, last = 0, -1
    expected = True
    while expected or scanner.peek() in _ASCII_DIGITS:
        count = scanner.number()
        if count is None:
            raise BadDuration(f"expected a number at position {scanner.at}")
        if scanner.take_any(":"):
            if last >= _HOUR:
                raise BadDuration("HH:MM:SS can only stand alone or after weeks or days")
            total += _clock(count, scanner)
            scanner.spaces()
            break
        fraction = scanner.fraction()
        scanner.spaces()
        name = scanner.take_run(_UNIT_LETTERS, len(scanner.text))
        unit = _UNITS.get(name)
        if unit is None:
            raise BadDuration(f"expected a unit (such as 'ms' or 'days') after the number, found {name!r}")
        last = _in_order(unit, last)
        total += _length(unit, count, fraction)
        expected = fraction is None and bool(scanner.take_any(","))
        if not scanner.spaces() and expected:
            raise BadDuration("expected a space after the comma")
        if fraction is not None:
            break
    return total


def _clock(hours: int, scanner: _Scanner) -> int:
    """`HH:MM:SS`, from the minutes on."""
    minutes = scanner.number()
    if minutes is None or not scanner.take_any(":"):
        raise BadDuration("expected HH:MM:SS")
    seconds = scanner.number()
    if seconds is None:
        raise BadDuration("expected HH:MM:SS")
    return (
        _length(_HOUR, hours, None)
        + _length(_MINUTE, minutes, None)
        + _length(_SECOND, seconds, scanner.fraction())
    )
