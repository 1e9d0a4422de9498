"""How values of settings are read and written, sort by sort."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from msgspec import Struct

from agentdur.core.durations import BadDuration, format_duration, parse_duration

UNLIMITED: Final = "unlimited"
MIB: Final = 1024 * 1024

_SIZE = re.compile(r"(\d{1,15})\s*(|B|KiB|MiB|GiB|KB|MB|GB)", re.IGNORECASE)
_SIZE_UNITS: Final = {
    "": 1, "b": 1, "kib": 1024, "mib": MIB, "gib": 1024 * MIB, "kb": 10**3, "mb": 10**6, "gb": 10**9,
}  # fmt: skip
_URL = re.compile(r"https?://[^\s/]+\S*")
_HOST = re.compile(r"\*|[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s*]+")
_ORIGIN_OR_ALL = re.compile(rf"\*|{_ORIGIN.pattern}")
_PASSWORD = re.compile(r"(://[^/@:]*:)[^/@]*@")


class Kind(Struct, frozen=True):
    """How values of one sort are read, in words for people and as a function. `read` raises ValueError."""

    takes: str
    read: Callable[[Any], Any]
    write: Callable[[Any], str] = str


class Setting(Struct, frozen=True):
    """What one setting means; its name, type and default are the field it annotates."""

    kind: Kind
    doc: str


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return value

    return read


def _read_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise ValueError("a duration cannot be negative")
        return value
    if not isinstance(value, str):
        raise ValueError("a number needs its unit")
    try:
        return timedelta(milliseconds=parse_duration(value.strip()))
    except OverflowError as error:
        raise BadDuration("longer than anything can last") from error


def _read_interval(value: Any) -> timedelta:
    found = _read_duration(value)
    if not found:
        raise ValueError("zero would mean without pause")
    return found


def _write_duration(value: timedelta) -> str:
    return format_duration(to_ms(value))


def _read_size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        found = int(match[1]) * _SIZE_UNITS[match[2].lower()]
    else:
        raise ValueError
    if not 1 <= found <= 2**40:
        raise ValueError("outside 1 B … 1024 GiB")
    return found


def _write_size(value: int) -> str:
    for unit, name in ((1024 * MIB, "GiB"), (MIB, "MiB"), (1024, "KiB")):
        if value % unit == 0:
            return f"{value // unit} {name}"
    return f"{value} B"


def _read_factor(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    found = float(value)
    if not 1 <= found <= 1000:
        raise ValueError("outside 1 … 1000")
    return found


def _read_attempts(value: Any) -> int | None:
    if value is None or (isinstance(value, str) and value.strip().lower() == UNLIMITED):
        return None
    return _whole(1, 2**31)(value)


def _read_text(value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not str(value).strip():
        raise ValueError
    return str(value).strip()


def one_of(*words: str) -> Kind:
    def read(value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            raise ValueError
        return word

    return Kind("one of " + ", ".join(words), read)


TEXT = Kind("text", _read_text)
STORE = Kind("sqlite:///FILE or memory://", _read_text, lambda url: _PASSWORD.sub(r"\1***@", url))
FILE = Kind(
    "a file name, or none", lambda value: None if value in (None, "none") else _read_text(value),
    lambda v: v or "none",
)  # fmt: skip


def _read_url(value: Any) -> str | None:
    if value is None or value == "none":
        return None
    found = _read_text(value)
    if not _URL.fullmatch(found):
        raise ValueError
    return found


URL = Kind(
    "an http:// or https:// address, or none", _read_url, lambda url: _PASSWORD.sub(r"\1***@", url or "none")
)
SECRET = Kind(
    "text that is not shown, or none", lambda value: None if value in (None, "none") else _read_text(value),
    lambda value: "***" if value else "none",
)  # fmt: skip
PORT = Kind("a port, 0 … 65535; 0 takes a free one", _whole(0, 65_535))
COUNT = Kind("a whole number from 1", _whole(1, 2**31))
COUNT_OR_ALL = Kind(
    "a whole number; 0 means unlimited", _whole(0, 2**31), lambda n: str(n) if n else "0 (unlimited)"
)
ATTEMPTS = Kind(
    f"a whole number from 1, or {UNLIMITED}", _read_attempts, lambda n: UNLIMITED if n is None else str(n)
)
FACTOR = Kind("a number from 1", _read_factor)
SIZE = Kind("a size such as 32 MiB, or bytes", _read_size, _write_size)
DURATION = Kind("a duration such as 500ms, 1m 30s or PT1H", _read_duration, _write_duration)
INTERVAL = Kind(DURATION.takes + ", more than 0", _read_interval, _write_duration)


def _read_ratio(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    found = float(value)
    if not 0 <= found <= 1:
        raise ValueError("outside 0 … 1")
    return found


def _read_switch(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}.get(
            value.strip().lower()
        )
    if not isinstance(value, bool):
        raise ValueError
    return value


RATIO = Kind("a number from 0 to 1", _read_ratio)
SWITCH = Kind("true or false", _read_switch, lambda on: "true" if on else "false")


def _listed(form: re.Pattern[str]) -> Callable[[Any], tuple[str, ...]]:
    def read(value: Any) -> tuple[str, ...]:
        if value is None or value == "none":
            return ()
        given = value.split(",") if isinstance(value, str) else value
        if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
            raise ValueError
        found = tuple(dict.fromkeys(one.strip().lower() for one in given if one.strip()))
        for one in found:
            if not form.fullmatch(one):
                raise ValueError(f"{one!r} is none")
        return found

    return read


def _write_list(given: tuple[str, ...]) -> str:
    return ", ".join(given) or "none"


HOSTS = Kind("names of hosts (example.com), separated by commas, `*`, or none", _listed(_HOST), _write_list)
ORIGINS = Kind(
    "web origins (https://example.com), separated by commas, or none", _listed(_ORIGIN), _write_list
)
ORIGINS_OR_ALL = Kind(
    "web origins, separated by commas, `*` for all, or none", _listed(_ORIGIN_OR_ALL), _write_list
)
NAME = Kind(
    "text, or none",
    lambda value: None if value in (None, "none") else _read_text(value),
    lambda v: v or "none",
)


def to_ms(value: timedelta) -> int:
    """Whole milliseconds."""
    return value // timedelta(milliseconds=1)
