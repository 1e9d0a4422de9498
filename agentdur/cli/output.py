"""What the command prints: facts to stdout, trouble to stderr, and the exit code that says which it was."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agentdur.core.errors import AgentdurError, AppNotFound, BadSetting


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    CANNOT_CONNECT = 4


class Refused(Exception):
    """What was asked for could not be done; `code` says whether a server was there at all, `status` what it
    answered."""

    def __init__(self, message: str, code: Exit, status: int | None = None) -> None:
        super().__init__(message)
        self.code, self.status = code, status


def exit_code_of(error: AgentdurError) -> Exit:
    """USAGE for what was typed, FAILURE for all else."""
    return Exit.USAGE if isinstance(error, BadSetting | AppNotFound) else Exit.FAILURE


def say(text: str) -> None:
    """One line of text, as it is."""
    sys.stdout.write(text + "\n")


def say_json(value: Any) -> None:
    """JSON for programs."""
    say(msgspec.json.format(msgspec.json.encode(value)).decode())


def say_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A table as wide as it must be; piped, nothing is cut."""
    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console(soft_wrap=True) if sys.stdout.isatty() else Console(width=100_000)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def complain(error: Exception) -> None:
    """One line to stderr: the code and the cure, no traceback."""
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
