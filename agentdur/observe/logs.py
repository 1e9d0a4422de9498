"""Log lines: text for people, or one JSON object per line for machines."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec

TALKATIVE = ("uvicorn", "httpx", "LiteLLM", "LiteLLM Router")
"""Libraries that tell of each of their own steps: only who debugs wants to hear that."""


class JsonLines(logging.Formatter):
    """`{"at", "level", "logger", "message", …}`; facts of a line are fields, a traceback is one field. Lines
    of handlers have `invocation`, `handler` and `attempt`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif trace := getattr(record, "trace", ""):
            line["exception"] = trace
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextLines(logging.Formatter):
    """One line, and below it the traceback that was given as text."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several."""
        trace = getattr(record, "trace", "")
        facts = getattr(record, "facts", {})
        whose = (
            "" if not facts or hasattr(record, "fields") else f" [{facts['invocation']} #{facts['attempt']}]"
        )
        first, newline, rest = super().format(record).partition("\n")
        return first + whose + newline + rest + (f"\n{trace.rstrip()}" if trace else "")


def configure_logging(level: str, style: str, *filters: logging.Filter) -> None:
    """Log to standard error from now on; `style` is text or json. `filters`: see every line."""
    handler = logging.StreamHandler(sys.stderr)
    text = TextLines("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if style == "json" else text)
    for one in filters:
        handler.addFilter(one)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in TALKATIVE:
        logger = logging.getLogger(name)
        logger.handlers.clear()  # its lines would come twice, and not in our style
        logger.setLevel(logging.WARNING if root.level > logging.DEBUG else logging.NOTSET)
