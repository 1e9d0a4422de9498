"""Query parameters of submissions: `delay` and `limit-key`."""

from __future__ import annotations

import re
import time
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from agentdur.core.durations import DURATION_DAYS_MAX, BadDuration, parse_duration
from agentdur.ingress.errors import LIMIT_KEY_ALONE, IngressError

LABEL_BYTES_MAX: Final = 36
LIMIT_KEY_LEVELS_MAX: Final = 2
YEAR_10000_MS: Final = 253_402_300_800_000
_BARE_DIGITS_MAX: Final = 18

_LABEL = re.compile(r"[a-zA-Z0-9_.-]+\Z")


class Parameters(NamedTuple):
    """What the query says; None where it says nothing."""

    delay: str | None = None
    limit_key: str | None = None


def read_query(query: bytes) -> Parameters:
    """The first `delay` and the first `limit-key`, in any case; the rest of the query is the handler's."""
    delay = limit_key = None
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        lowered = name.lower()
        if lowered == "delay" and delay is None:
            delay = value
        elif lowered == "limit-key" and limit_key is None:
            limit_key = value
    return Parameters(delay, limit_key)


def delay_ms(text: str) -> int:
    """Milliseconds from now; a bare number counts as milliseconds. Refuses what ends after the year 9999."""
    try:
        delay = _bare_or_duration(text)
    except BadDuration as error:
        raise IngressError(400, f"bad delay query parameter, must be a ISO8601 duration: {error}") from error
    if time.time() * 1000 + delay >= YEAR_10000_MS:
        raise IngressError(
            400, "bad delay query parameter, must be a ISO8601 duration: it ends after the year 9999"
        )
    return delay


def _bare_or_duration(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        return parse_duration(text)
    if len(text) > _BARE_DIGITS_MAX:
        raise BadDuration(f"longer than {DURATION_DAYS_MAX} days")
    return int(text)


def refuse_limit_key(limit_key: str) -> None:
    """A limit key needs a scope, and scopes are off: says what is wrong with this one first."""
    levels = limit_key.removesuffix("/").split("/")
    if len(levels) > LIMIT_KEY_LEVELS_MAX:
        raise IngressError(
            400,
            "invalid limit-key: too many path components in the given limit-key "
            f"(max {LIMIT_KEY_LEVELS_MAX})",
        )
    for level in levels:
        if problem := label_problem(level):
            raise IngressError(400, f"invalid limit-key: invalid limit-key component: {problem}")
    raise IngressError(400, LIMIT_KEY_ALONE)


def label_problem(label: str) -> str | None:
    """Why this is no scope or limit-key level, or None."""
    if not label:
        return "value cannot be empty"
    if (size := len(label.encode())) > LABEL_BYTES_MAX:
        return f"value too long: {size} bytes (max {LABEL_BYTES_MAX})"
    if not _LABEL.match(label):
        return "value contains characters outside the allowed set [a-zA-Z0-9_.-]"
    return None
