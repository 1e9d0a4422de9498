"""What the command prints: facts to stdout, trouble to stderr, and the exit code that says which it was.

Rules of this file:
1. A command makes a View, and this file shows it: once or until somebody looks no longer, as text or as JSON.
2. What is watched is printed when it has changed; a server that is away is waited for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agentdur.cli.errors import (
    BadArgument,
    MissingExtra,
    NoServer,
    NotAnAdminApi,
    NotConfirmed,
    Overtaken,
    Refused,
)
from agentdur.core.errors import AgentdurError, AppNotFound, BadSetting

CELL_LENGTH_MAX = 100
CLEAR = "\x1b[H\x1b[2J"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Look again and again, and print what has changed.")
]
Every = Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks of --watch.")]
EVERY = 1.0


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    CANNOT_CONNECT = 4
    WRONG_STATE = 5
    RUN_FAILED = 6


MEANING = {
    Exit.OK: "done",
    Exit.FAILURE: "it failed, or the server refused it; or several failed in different ways",
    Exit.USAGE: "it was asked for in the wrong way: an unknown option, a bad setting, no App in the file",
    Exit.NOT_FOUND: "there is no such invocation, service, approval, session or deployment",
    Exit.CANNOT_CONNECT: "no server answers, or what answers is no admin API",
    Exit.WRONG_STATE: "its state does not allow this: completed, still running, decided, overtaken",
    Exit.RUN_FAILED: "the invocation that was watched has ended in a failure",
}
"""As the page of the command says it."""

_OF_CLASS: tuple[tuple[tuple[type[AgentdurError], ...], Exit], ...] = (
    ((NoServer, NotAnAdminApi), Exit.CANNOT_CONNECT),
    ((Overtaken,), Exit.WRONG_STATE),
    ((BadSetting, AppNotFound, BadArgument, NotConfirmed), Exit.USAGE),
    ((MissingExtra,), Exit.FAILURE),
)
_OF_STATUS = {404: Exit.NOT_FOUND, 409: Exit.WRONG_STATE, 410: Exit.WRONG_STATE, 425: Exit.WRONG_STATE}


def exit_code_of(error: AgentdurError) -> Exit:
    """By what the server answered, or whose fault it was."""
    if isinstance(error, Refused):
        return _OF_STATUS.get(error.status, Exit.FAILURE)
    return next((code for kinds, code in _OF_CLASS if isinstance(error, kinds)), Exit.FAILURE)


def together(codes: Iterable[Exit]) -> Exit:
    """Of several: what all failures have in common."""
    failures = set(codes) - {Exit.OK}
    return Exit.OK if not failures else failures.pop() if len(failures) == 1 else Exit.FAILURE


class View(NamedTuple):
    """What there is to see. `over`: nothing more can change; `code`: how the command ends then."""

    data: Any
    text: str
    over: bool = False
    code: Exit = Exit.OK


def present(look: Callable[[], View], *, as_json: bool, watch: bool = False, every: float = EVERY) -> None:
    """Show it once, or until it is over or somebody presses Ctrl-C."""
    if not watch:
        view = look()
        say_json(view.data) if as_json else say(view.text)
        return
    try:
        _watch(look, as_json, every)
    except KeyboardInterrupt:
        return


def _watch(look: Callable[[], View], as_json: bool, every: float) -> None:
    shown: str | None = None
    away = False
    while True:
        try:
            view = look()
        except NoServer as error:
            if shown is None:
                raise
            if not away:
                complain(error)
            away = True
        else:
            away = False
            line = msgspec.json.encode(view.data).decode() if as_json else view.text
            if line != shown:
                say(f"{CLEAR}{line}" if sys.stdout.isatty() and not as_json else line)
                sys.stdout.flush()
            shown = line
            if view.over:
                if view.code:
                    raise typer.Exit(view.code)
                return
        time.sleep(every)


def say(text: str) -> None:
    """Lines of text, as they are."""
    sys.stdout.write(text + "\n")


def say_json(value: Any) -> None:
    """JSON for programs."""
    say(msgspec.json.format(msgspec.json.encode(value)).decode())


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], none: str = "") -> str:
    """A table as wide as it must be; piped, nothing is cut. `none`: what is said when there are no rows."""
    shown = list(rows)
    if not shown and none:
        return none
    made = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in shown:
        made.add_row(*(escape(cell) for cell in row))
    console = Console(soft_wrap=True) if sys.stdout.isatty() else Console(width=100_000)
    with console.capture() as captured:
        console.print(made)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def say_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """The same, said."""
    say(table(head, rows))


def pairs(facts: dict[str, Any]) -> str:
    """One fact a line."""
    width = max((len(name) for name in facts), default=0)
    return "\n".join(f"{name:<{width}}  {shown(value)}" for name, value in facts.items())


def shown(value: Any) -> str:
    """A value as text for people."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return msgspec.json.encode(value).decode()  # as everything else that came from a journal
    if isinstance(value, dict):
        if set(value) >= {"code", "message"}:
            return f"[{value['code']}] {value['message']}"
        return msgspec.json.encode(value).decode()
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return str(value) if not isinstance(value, list) else msgspec.json.encode(value).decode()


def short(text: str, most: int = CELL_LENGTH_MAX) -> str:
    """One line of it."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def confirmed(question: str, *, yes: bool) -> None:
    """Ask the person who is there; NotConfirmed when nobody is, or says no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed(f"{question} Nobody is here to ask")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed(question)


def complain(error: Exception) -> None:
    """One line to stderr: the code and the cure, no traceback."""
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
