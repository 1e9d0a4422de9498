"""What an HTTP answer of a provider means for a retry: one rule for every client and framework.

Rules of this file:
1. Worth another try: 408, 409, 429 (but no spent quota), 5xx; what the provider says itself
   (`x-should-retry`) counts more.
2. Not worth it: other 4xx. Asking again would not help.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_RETRIED = frozenset({408, 409, 429})
_SPENT = "insufficient_quota"


def worth_another_try(status: int, headers: Mapping[str, str], said: str = "") -> bool:
    """Whether the same request may succeed later. `said`: the error's text and body."""
    advice = headers.get("x-should-retry")
    if advice in ("true", "false"):
        return advice == "true"
    if status == 429:
        return _SPENT not in said
    return status in _RETRIED or status >= 500


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Retry-After in its three spellings: milliseconds, seconds, a date. None when it says nothing
    readable."""
    try:
        if headers.get("retry-after-ms"):
            return timedelta(milliseconds=float(headers["retry-after-ms"]))
        text = headers.get("retry-after") or ""
        if not text:
            return None
        if text.replace(".", "", 1).isdigit():
            return timedelta(seconds=float(text))
        return max(timedelta(0), parsedate_to_datetime(text) - datetime.now(UTC))
    except (ValueError, TypeError, OverflowError):
        return None  # a header nobody can read asks for nothing
